package namespace

import (
	"errors"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// A shared namespace is one that the container joins by path.
type shared struct {
	kind
	input   plan.Reg
	path    string
	pointer string
}

// sharedOf lists the namespaces that the container joins, in the order of kinds.
func sharedOf(s *specs.Spec) (list []shared) {
	for _, k := range kinds {
		if n, i := find(s, k.name); i >= 0 && n.Path != "" {
			list = append(list, shared{k, plan.Reg("ns/" + string(k.name)), n.Path, pointer(i)})
		}
	}
	return list
}

// Open opens, in the parent, the namespaces that the container joins by path.
func Open(b *plan.Builder, s *specs.Spec, h Host) {
	list := sharedOf(s)
	if len(list) == 0 {
		return
	}
	b.Section(plan.Parent, "join", "open the namespaces to be shared")
	for _, n := range list {
		b.At(n.pointer + "/path")
		b.Act("the container shares "+n.why+" with others", fmt.Sprintf("%s = open(%q, O_RDONLY|O_CLOEXEC)", n.input, n.path), open(n.input, n.path))
		if n.flag == unix.CLONE_NEWPID && !bornTwice(s, h) {
			b.Act("a process is born into its PID namespace and can't move later",
				fmt.Sprintf("setns(%s, CLONE_NEWPID)", n.input), func(r *plan.Run) error {
					return unix.Setns(r.Fd[n.input], unix.CLONE_NEWPID)
				})
		}
	}
}

// open returns the action that opens a file as an input of the child.
func open(input plan.Reg, path string) func(*plan.Run) error {
	return func(r *plan.Run) error {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", path, err)
		}
		r.Fd[input] = fd
		return nil
	}
}

func ownPIDNamespace(*plan.Run) error {
	fd, err := unix.Open("/proc/self/ns/pid", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /proc/self/ns/pid: %w", err)
	}
	defer unix.Close(fd)
	return unix.Setns(fd, unix.CLONE_NEWPID)
}

// Join moves the child into the namespaces that it shares with others, except
// those which it was born in.
func Join(b *plan.Builder, s *specs.Spec) {
	list := sharedOf(s)
	if len(list) == 0 {
		return
	}
	b.Section(plan.Child, "join", "enter the namespaces that are shared")
	for _, n := range list {
		if n.flag&(unix.CLONE_NEWPID|unix.CLONE_NEWUSER) == 0 {
			b.At(n.pointer)
			b.Do("share "+n.why, plan.Setns(n.input, n.flag))
		}
	}
}

// birth makes a child without namespaces of its own: it enters some of others
// first, and is then born again.
func birth(b *plan.Builder, cgroup plan.Reg) {
	b.Section(plan.Parent, "clone", "make a process that will enter the container")
	b.At("/process")
	b.Clone("an ordinary process, whose own child is the one that stays", plan.Clone3(0, cgroup))
}

func joinsUser(s *specs.Spec) bool {
	n, _ := find(s, specs.UserNamespace)
	return n.Path != ""
}

// bornTwice says whether the child enters namespaces before it makes its own.
// Those belong to the user namespace that they are made in, so that is entered
// first. A runtime that is in a user namespace itself can enter a PID namespace,
// and not come back: so its child does.
func bornTwice(s *specs.Spec, h Host) bool {
	n, _ := find(s, specs.PIDNamespace)
	return joinsUser(s) || h.Nested && n.Path != "" && !IsNew(s, specs.UserNamespace)
}

// Again has the child enter those, and be born a second time. The label is for First; it is none where nothing of
// this is needed.
func Again(b *plan.Builder, s *specs.Spec, h Host) (first plan.Label) {
	if !bornTwice(s, h) {
		return plan.Next
	}
	b.Section(plan.Child, "again", "enter what is shared, and be born there")
	b.At("/linux/namespaces")
	b.Do("those who are there already may not look into this process", plan.NotDumpable())
	for _, n := range sharedOf(s) {
		if n.flag&(unix.CLONE_NEWPID|unix.CLONE_NEWUSER) != 0 {
			b.At(n.pointer)
			b.Do("share "+n.why, plan.Setns(n.input, n.flag))
		}
	}
	if joinsUser(s) {
		beRoot(b, s)
	}
	first = bornAgain(b, fresh(s))
	if synced(s, h) {
		b.At("/linux/namespaces")
		b.Do("the runtime alone holds the other end: should it die, the wait is over", plan.Close(sync+"/write"))
		b.Do("the runtime can tell that its namespaces are there", plan.Write(plan.Report, plan.Ready))
		takeSources(b, s, h)
	}
	return first
}

// second is the register of the second child's PID, which that one sees as 0.
const second plan.Reg = "second"

// bornAgain makes the second child, in which the plan goes on. The first one,
// who sees a PID, goes to the label.
func bornAgain(b *plan.Builder, flags uint64) (first plan.Label) {
	first = b.Label()
	b.Do("the runtime alone listens: should it die, the second one, who can't report then, ends", plan.Close(plan.ReportEnd))
	b.Get(second, "a process is born into its namespaces, and can't move into all of them later", plan.CloneAgain(flags))
	b.Do("the first process knows a PID that is not 0", plan.PidfdOpen(second)).Then(first).Allow(plan.Next, unix.EINVAL)
	return first
}

// First ends the first process, once the plan is done for the second.
func First(b *plan.Builder, first plan.Label) {
	if first == plan.Next {
		return
	}
	b.Section(plan.Child, "first", "the first process ends")
	b.At("/process")
	b.Place(first)
	b.Do("that was all it was for: the kernel has told the runtime of its second child", plan.Exit())
}

// Target is the input that is the pidfd of a container's first process.
const Target plan.Reg = "container"

// Attach has one more process enter a container, by all its namespaces at
// once, of the kinds that are not the runtime's own as well: setns(2) with a
// pidfd. The label is for First.
func Attach(b *plan.Builder, s *specs.Spec, kinds int) (first plan.Label) {
	b.Section(plan.Child, "join", "enter the container")
	b.At("/linux/namespaces")
	b.Do("all its namespaces, as its first process has them", plan.Setns(Target, kinds))
	if kinds&unix.CLONE_NEWUSER != 0 {
		beRoot(b, s)
	}
	if kinds&unix.CLONE_NEWPID == 0 {
		return plan.Next
	}
	first = bornAgain(b, 0)
	b.Do("the first one's session ends with it", plan.Setsid())
	return first
}

// AttachChild makes the process that will enter.
func AttachChild(b *plan.Builder, cgroup plan.Reg) { birth(b, cgroup) }

// Workdir is where a process that has entered begins. A magic link of
// proc(5) could lead out of the container, so none is followed.
func Workdir(b *plan.Builder, s *specs.Spec) {
	b.Section(plan.Child, "cwd", "where the program begins")
	b.At("/process/cwd")
	b.Get("cwd", "found in the container", plan.Openat2(plan.AtFdcwd, s.Process.Cwd, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_MAGICLINKS))
	b.Do("where the program begins", plan.Fchdir("cwd"))
}

// Other tells which namespaces of a process are not ours, as flags of setns(2).
// The error wraps ESRCH if it has none.
func Other(pid int) (flags int, err error) {
	for _, k := range kinds {
		var own, other unix.Stat_t
		file := k.file()
		switch err := unix.Stat("/proc/self/ns/"+file, &own); {
		case errors.Is(err, unix.ENOENT):
			continue // this kernel has no such namespaces
		case err != nil:
			return 0, fmt.Errorf("/proc/self/ns/%s: %w", file, err)
		}
		err := unix.Stat(fmt.Sprintf("/proc/%d/ns/%s", pid, file), &other)
		if errors.Is(err, unix.ENOENT) {
			err = unix.ESRCH // it is dead, or its leader is
		}
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/ns/%s: %w", pid, file, err)
		}
		if own.Ino != other.Ino {
			flags |= k.flag
		}
	}
	return flags, nil
}

// file is the name of a kind in /proc/PID/ns, namespaces(7).
func (k kind) file() string {
	switch k.flag {
	case unix.CLONE_NEWNET:
		return "net"
	case unix.CLONE_NEWNS:
		return "mnt"
	}
	return string(k.name)
}
