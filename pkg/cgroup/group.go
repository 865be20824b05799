package cgroup

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// A Group is one container's place in every hierarchy. It is plain data: kept
// as JSON in a container's state, it serves later commands without another
// look at what the host has mounted.
type Group struct {
	Path   string // cgroupsPath of config.json
	Places []Place
	// Pointer is what in config.json asks for the cgroup, as a JSON pointer.
	Pointer string
	// Unit is the scope of systemd's that the cgroup is, in a Slice.
	Unit, Slice string `json:",omitempty"`
}

// A Place is one directory of a Group.
type Place struct {
	Hierarchy
	Base string // what of Dir is the host's: never made or removed here
	Dir  string // "/sys/fs/cgroup/memory/minictr/web"
}

// Descriptor is the register that holds the descriptor of the version 2
// cgroup, for clone3(2) with CLONE_INTO_CGROUP. It is set by Create and Open
// if CloneInto says so.
const Descriptor plan.Reg = "cgroup"

// tasks is the register for the file by which the child enters a version 1
// hierarchy.
func (p Place) tasks() plan.Reg { return plan.Reg(p.Name + "/tasks") }

// ErrNotEmpty is wrapped by the error of Create for a cgroup in which there
// are processes already: limits for two containers would be mixed up.
var ErrNotEmpty = errors.New("container's cgroup is not empty")

// Create adds the parent's section: it makes the directories, sets the limits
// and the device rules in r, which may be nil, and after them the rules that
// hold always, and opens what the child needs to enter. An error names the field of config.json that cannot be had on
// this host; it is a *MissingError if a controller is not mounted.
func (g Group) Create(b *plan.Builder, r *specs.LinuxResources, always ...specs.LinuxDeviceCgroup) error {
	if r == nil {
		r = &specs.LinuxResources{}
	}
	limits, err := g.settings(r)
	if err != nil {
		return err
	}
	rules, err := parseRules(slices.Concat(r.Devices, always))
	if err != nil {
		return err
	}
	b.Section(plan.Parent, "cgroup", "make the cgroup and set its limits")
	b.At(g.Pointer)
	for _, p := range g.Places {
		act(b, "a directory here is a cgroup: the kernel fills it with files", callText("mkdir", p.Dir),
			func(run *plan.Run) error {
				if g.Unit != "" && p.trimmed() {
					return p.mkdirHeld(run.Lent[Keeper])
				}
				return p.mkdir(g.Unit != "")
			})
		switch {
		case p.V2:
			p.delegate(b, limits)
		case slices.Contains(p.Controllers, "cpuset"):
			p.inheritAll(b, limits)
		}
	}
	for _, s := range limits {
		b.At(s.pointer)
		act(b, s.why, s.String(), func(*plan.Run) error { return s.apply() })
	}
	b.At(g.Pointer)
	if len(r.Devices) > 0 {
		b.At(devicesPointer)
	}
	if err := g.devices(b, rules); err != nil {
		return err
	}
	g.open(b)
	return nil
}

// act adds an action whose error does not repeat the action's text.
func act(b *plan.Builder, why, text string, do func(*plan.Run) error) {
	b.Act(why, text, func(r *plan.Run) error {
		err := do(r)
		var f *FileError
		if errors.As(err, &f) && f.call() == text {
			return f.Err
		}
		return err
	})
}

// CloneInto tells whether the child is born in its version 2 cgroup: then
// clone3(2) takes CLONE_INTO_CGROUP and the register Descriptor.
func (g Group) CloneInto() bool { return g.unifiedPlace() != nil }

// BornIntoCpuset tells whether that cgroup says which processors the child may
// run on.
func (g Group) BornIntoCpuset() bool {
	p := g.unifiedPlace()
	return p != nil && slices.Contains(p.Controllers, "cpuset")
}

// unifiedPlace is the place in the version 2 hierarchy, nil without one.
func (g Group) unifiedPlace() *Place {
	for i, p := range g.Places {
		if p.V2 {
			return &g.Places[i]
		}
	}
	return nil
}

// Of is the group with the version 2 cgroup that a process of it is in now: a
// container that has handed controllers on to cgroups of its own has no
// process in its topmost one, and lets none in.
func (g Group) Of(pid int) Group {
	own, err := read("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return g // it has ended, which the next step will tell
	}
	g.Places = slices.Clone(g.Places)
	for i, p := range g.Places {
		for line := range strings.Lines(own) {
			path, unified := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::")
			if dir := p.Mount + path; p.V2 && unified && strings.HasPrefix(dir, p.Dir+"/") {
				g.Places[i].Dir = dir
			}
		}
	}
	return g
}

// Below is the group with the places that are asked for in the place of its
// own: "PATH", below the group in each hierarchy, or "memory,cpu:PATH" in those of
// these controllers. Top is the group as the container has it.
func (g Group) Below(top Group, asked []string) (Group, error) {
	g.Places = slices.Clone(g.Places)
	for _, a := range asked {
		list, path, some := strings.Cut(a, ":")
		if !some {
			list, path = "", a
		}
		if slices.Contains(strings.Split(path, "/"), "..") {
			return g, fmt.Errorf("%s is not a sub cgroup path", path)
		}
		for name := range strings.SplitSeq(list, ",") {
			found := false
			for i, p := range top.Places {
				if !some || slices.Contains(p.Controllers, name) {
					g.Places[i].Dir, found = filepath.Join(p.Dir, path), true
				}
			}
			if !found {
				return g, fmt.Errorf("%s: unknown controller %q", a, name)
			}
		}
	}
	return g, nil
}

// Open adds the parent's section by which one more process will enter a
// cgroup that is there already, as exec does.
func (g Group) Open(b *plan.Builder) {
	b.Section(plan.Parent, "cgroup", "open the container's cgroup")
	g.open(b)
}

func (g Group) open(b *plan.Builder) {
	b.At(g.Pointer)
	for _, p := range g.Places {
		path, flags, r, text := p.Dir+"/tasks", unix.O_WRONLY, p.tasks(), "O_WRONLY"
		why := "the child will enter through this file"
		if p.V2 {
			path, flags, r, text = p.Dir, unix.O_PATH|unix.O_DIRECTORY, Descriptor, "O_PATH|O_DIRECTORY"
			why = "the child will be born in this cgroup"
		}
		b.Act(why, r.String()+" = open("+quote(path)+", "+text+"|O_CLOEXEC)", func(run *plan.Run) error {
			fd, err := open(path, flags)
			if err != nil {
				return errors.Unwrap(err)
			}
			run.Fd[r] = fd
			return nil
		})
	}
}

// Enter adds the child's section: it moves itself into each version 1
// hierarchy. "0" is whoever writes; a single-threaded process that moves
// itself through tasks waits for nothing, while a parent that writes a pid
// waits some 10 ms for an RCU grace period. Where there is version 2 only,
// clone3(2) has done it, and nothing is added.
func (g Group) Enter(b *plan.Builder) {
	if !slices.ContainsFunc(g.Places, func(p Place) bool { return !p.V2 }) {
		return
	}
	b.Section(plan.Child, "cgroup", "enter the cgroup")
	b.At(g.Pointer)
	for _, p := range g.Places {
		if !p.V2 {
			b.Do(p.subject()+" for this process and all that it starts", plan.Write(p.tasks(), "0"))
		}
	}
}

// subjects say in words what the controllers of version 1 do.
var subjects = [...][2]string{
	{"cpu", "processor time is shared out and limited"},
	{"cpuacct", "processor time is counted"},
	{"cpuset", "processors and memory nodes are chosen"},
	{"memory", "memory is counted and limited"},
	{"pids", "processes and threads are counted and limited"},
	{"blkio", "disk traffic is counted and limited"},
	{"devices", "rules say which devices may be used"},
	{"freezer", "stopping and going on is one write"},
	{"name=systemd", "there is a place in systemd's tree"},
}

// subject says in words what a version 1 hierarchy does.
func (p Place) subject() string {
	words := make([]string, len(p.Controllers))
	for i, c := range p.Controllers {
		words[i] = "the " + c + " controller has a group"
		for _, s := range subjects {
			if s[0] == c {
				words[i] = s[1]
			}
		}
	}
	return strings.Join(words, ", and ")
}

// mkdir makes the directory, with its parents if the first try shows that
// they are missing. A directory that is there is taken if it is empty, or if
// systemd has made it for us. Others may prune the same parents meanwhile, so
// there are some tries.
func (p Place) mkdir(scope bool) error {
	for try := 0; ; try++ {
		err := unix.Mkdir(p.Dir, 0o755)
		switch {
		case err == nil, scope && errors.Is(err, unix.EEXIST):
			return nil
		case errors.Is(err, unix.EEXIST):
			return p.checkEmpty()
		case !errors.Is(err, unix.ENOENT) || try == 10:
			return &FileError{Op: "mkdir", Path: p.Dir, Err: err}
		}
		if err := p.mkdirParents(); err != nil {
			return err
		}
	}
}

// mkdirParents makes what is missing between Base and Dir, and fills the
// cpusets among it: an empty one would let no process into its children.
func (p Place) mkdirParents() error {
	for _, dir := range p.parents() {
		err := unix.Mkdir(dir, 0o755)
		switch {
		case errors.Is(err, unix.EEXIST):
			continue
		case gone(err):
			return nil // the next try will tell
		case err != nil:
			return &FileError{Op: "mkdir", Path: dir, Err: err}
		}
		if p.V2 || !slices.Contains(p.Controllers, "cpuset") {
			continue
		}
		err = errors.Join(inherit(dir, "cpuset.cpus"), inherit(dir, "cpuset.mems"))
		if err != nil && !gone(err) {
			return err
		}
	}
	return nil
}

// parents lists the directories between Base and Dir, topmost first.
func (p Place) parents() []string {
	var dirs []string
	for i := len(p.Base) + 1; ; {
		next := strings.IndexByte(p.Dir[i:], '/')
		if next < 0 {
			return dirs
		}
		i += next
		dirs = append(dirs, p.Dir[:i])
		i++
	}
}

// checkEmpty refuses a cgroup in which, or below which, others are at work.
func (p Place) checkEmpty() error {
	text, err := read(p.Dir + "/cgroup.procs")
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if n := strings.Count(text, "\n"); n > 0 {
		return fmt.Errorf("%w: %s: %d processes", ErrNotEmpty, p.Dir, n)
	}
	below, err := children(p.Dir)
	if err == nil && len(below) > 0 {
		err = fmt.Errorf("%w: %s: the cgroup %q is below it", ErrNotEmpty, p.Dir, below[0])
	}
	return err
}

// Vacant checks that no directory of the group is in use: what is made for a
// container is killed and removed with it, and must not be somebody else's.
// The error wraps ErrNotEmpty.
func (g Group) Vacant() error {
	for _, p := range g.Places {
		if err := p.checkEmpty(); err != nil {
			return err
		}
	}
	return nil
}

// inheritAll adds what a version 1 cpuset needs that no limit will set.
func (p Place) inheritAll(b *plan.Builder, limits []setting) {
	for _, file := range [...]string{"cpuset.cpus", "cpuset.mems"} {
		path := p.Dir + "/" + file
		if slices.ContainsFunc(limits, func(s setting) bool { return s.file == path }) {
			continue
		}
		b.Act("a cpuset is born empty and lets nobody in: take the parent's value",
			callText("copy", p.Dir[:strings.LastIndexByte(p.Dir, '/')]+"/"+file, path),
			func(*plan.Run) error { return inherit(p.Dir, file) })
	}
}

// delegate adds what gives a version 2 cgroup its controllers: each of its
// ancestors must hand them on, topmost first. Those that a limit needs must
// come; the ones that count for statistics come if they can.
func (p Place) delegate(b *plan.Builder, limits []setting) {
	var want []string
	need := make(map[string]string) // a file of the controller's that a limit is written to
	for _, s := range limits {
		if c := controllerOf(s.file); strings.HasPrefix(s.file, p.Dir+"/") && c != "cgroup" {
			need[c] = s.file
		}
	}
	for _, c := range p.Controllers {
		if need[c] != "" || slices.Contains([]string{"cpu", "io", "memory", "pids"}, c) {
			want = append(want, c)
		}
	}
	if len(want) == 0 {
		return
	}
	above := append([]string{p.Base}, p.parents()...)
	for i, dir := range above {
		path, nearest := dir+"/cgroup.subtree_control", i == len(above)-1
		b.Act("the cgroups below get these controllers only from above",
			callText("write", path, "+"+strings.Join(want, " +")),
			func(*plan.Run) error { return handOn(path, want, need, nearest) })
	}
}

// handOn enables the controllers that are not enabled yet, one by one:
// cgroupfs takes all names of one write(2) or none. One that somebody else is
// just enabling is told as enabled before its files are there, in the cgroups of
// the nearest one above; to enable it once more is to wait until they are.
func handOn(path string, want []string, need map[string]string, nearest bool) error {
	text, err := read(path)
	if err != nil {
		return err
	}
	enabled := strings.Fields(text)
	for _, c := range want {
		file := need[c]
		if slices.Contains(enabled, c) && (!nearest || file == "" || unix.Access(file, unix.F_OK) == nil) {
			continue
		}
		if err := write(path, "+"+c); err != nil && file != "" {
			return err
		}
	}
	return nil
}
