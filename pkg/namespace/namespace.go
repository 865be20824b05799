// Package namespace lays the bricks that decide what a container sees:
// namespaces(7), its mounts, its devices and its root.
//
// Every function adds steps to a plan and does nothing else; the names of the
// functions, in the order of package container's Compile, are the wall.
package namespace

import (
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// A Host is what compiling needs to know of the machine, so that compiling
// itself asks the machine nothing.
type Host struct {
	Bundle  string          // absolute path of the bundle
	Rootfs  string          // absolute path of the root file system, without symbolic links
	Files   map[string]bool // sources of bind mounts, resolved: true if it is no directory
	Nodes   []string        `json:",omitempty"` // devices that linux.devices asks for and that are there
	Cgroups []Cgroup        // hierarchies, for mounts of type cgroup
	Relay   bool            // the runtime itself stands between the terminal and the person
	Init    bool            // the terminal is to control the session of a child
	Owner   *Owner          `json:",omitempty"` // who the runtime is, without root's power
	Nested  bool            // the runtime is in a user namespace itself
	// Help runs a program that has more power than its caller.
	Help func(path string, args ...string) error `json:"-"`
	// Network, if not nil, is what its own network namespace is joined to.
	Network Network `json:"-"`
}

// An Owner is the unprivileged user who runs a runtime. A user namespace of its
// own gives him all that he can have.
type Owner struct{ UID, GID uint32 }

// A Cgroup is one cgroup hierarchy as a container may see it.
type Cgroup struct {
	Name   string // "memory", "cpu,cpuacct", "systemd"; "unified" for cgroup v2
	Source string // the container's own cgroup, as a path on the host
	V2     bool
}

// A kind is one type of namespace, namespaces(7).
type kind struct {
	name specs.LinuxNamespaceType
	flag int
	why  string
}

// kinds are in the order in which a process can join them: the user
// namespace first, since it gives the right to join the others.
var kinds = [...]kind{
	{specs.UserNamespace, unix.CLONE_NEWUSER, "its user and group ids"},
	{specs.PIDNamespace, unix.CLONE_NEWPID, "its process ids"},
	{specs.NetworkNamespace, unix.CLONE_NEWNET, "its network devices, addresses and ports"},
	{specs.IPCNamespace, unix.CLONE_NEWIPC, "its System V IPC and message queues"},
	{specs.UTSNamespace, unix.CLONE_NEWUTS, "its host name"},
	{specs.CgroupNamespace, unix.CLONE_NEWCGROUP, "its view of the cgroup tree"},
	{specs.TimeNamespace, unix.CLONE_NEWTIME, "its monotonic and boot clocks"},
	{specs.MountNamespace, unix.CLONE_NEWNS, "its mounts"},
}

// Kinds are the names of all types of namespace, sorted.
func Kinds() (names []string) {
	for _, k := range kinds {
		names = append(names, string(k.name))
	}
	slices.Sort(names)
	return names
}

// find returns the namespace of one kind that the spec asks for, and its
// index in the list; -1 is none.
func find(s *specs.Spec, name specs.LinuxNamespaceType) (specs.LinuxNamespace, int) {
	if s.Linux != nil {
		for i, n := range s.Linux.Namespaces {
			if n.Type == name {
				return n, i
			}
		}
	}
	return specs.LinuxNamespace{}, -1
}

// Has says whether the container leaves the runtime's namespace of that kind.
func Has(s *specs.Spec, name specs.LinuxNamespaceType) bool {
	_, i := find(s, name)
	return i >= 0
}

// IsNew says whether the container gets a namespace of that kind of its own.
func IsNew(s *specs.Spec, name specs.LinuxNamespaceType) bool {
	n, i := find(s, name)
	return i >= 0 && n.Path == ""
}

func pointer(i int) string { return fmt.Sprintf("/linux/namespaces/%d", i) }

// Clone makes the child, in its new namespaces. The cgroup namespace comes
// later, once the child is in its cgroup, and the time namespace once its
// offsets are written. A cgroup, if not "", is the input that holds the
// cgroup v2 directory the child is born in.
func Clone(b *plan.Builder, s *specs.Spec, h Host, cgroup plan.Reg) {
	if bornTwice(s, h) {
		birth(b, cgroup)
		return
	}
	b.Section(plan.Parent, "clone", "make the process, in namespaces of its own")
	b.At("/linux/namespaces")
	b.Clone("a container begins as an ordinary process that sees a world of its own", plan.Clone3(fresh(s), cgroup))
	if n, i := find(s, specs.PIDNamespace); n.Path != "" {
		b.At(pointer(i) + "/path")
		b.Act("the runtime's own children are born where they always were",
			`setns(open("/proc/self/ns/pid"), CLONE_NEWPID)`, ownPIDNamespace)
	}
}

// fresh are the flags of clone3(2) for the namespaces that are born with it.
func fresh(s *specs.Spec) (flags uint64) {
	for _, k := range kinds {
		if IsNew(s, k.name) && k.flag&(unix.CLONE_NEWCGROUP|unix.CLONE_NEWTIME) == 0 {
			flags |= uint64(k.flag)
		}
	}
	return flags
}

// CgroupRoot makes the cgroup that the child is in the root of all it can see.
func CgroupRoot(b *plan.Builder, s *specs.Spec) {
	if _, i := find(s, specs.CgroupNamespace); IsNew(s, specs.CgroupNamespace) {
		b.At(pointer(i))
		b.Do("the cgroup it is in looks like the root of all", plan.Unshare(unix.CLONE_NEWCGROUP))
	}
}

// UTS gives the container its host name and NIS domain name.
func UTS(b *plan.Builder, s *specs.Spec) {
	if s.Hostname == "" && s.Domainname == "" {
		return
	}
	b.Section(plan.Child, "hostname", "a name of its own")
	if s.Hostname != "" {
		b.At("/hostname")
		b.Do("the name it believes the machine to have", plan.Sethostname(s.Hostname))
	}
	if s.Domainname != "" {
		b.At("/domainname")
		b.Do("the NIS domain it believes to be in", plan.Setdomainname(s.Domainname))
	}
}

// Loopback brings the loopback interface of a new network namespace up. There
// is no other, unless the runtime brings some from the host.
func Loopback(b *plan.Builder, s *specs.Spec) {
	if _, i := find(s, specs.NetworkNamespace); IsNew(s, specs.NetworkNamespace) {
		b.Section(plan.Child, "network", "a network of its own, with only itself in it")
		b.At(pointer(i))
		fd := b.Get("net", "any socket reaches the network devices", plan.SocketInet())
		b.Do("127.0.0.1 answers, and it is not the host's", plan.InterfaceUp(fd, "lo"))
	}
}

// Time makes the time namespace, writes its offsets and enters it,
// time_namespaces(7). The offsets are written by who the child was before it
// changed its user, and only that one's file in /proc takes them.
func Time(b *plan.Builder, s *specs.Spec) error {
	_, i := find(s, specs.TimeNamespace)
	if !IsNew(s, specs.TimeNamespace) {
		return nil
	}
	if len(s.Linux.TimeOffsets) > 0 && joinsUser(s) {
		return errors.New("/linux/timeOffsets: clocks can't be shifted in a user namespace that is joined by its path")
	}
	b.Section(plan.Child, "time", "monotonic and boot clocks of its own")
	b.At(pointer(i))
	b.Do("the next process to be born gets clocks of its own", plan.Unshare(unix.CLONE_NEWTIME))
	for _, clock := range []string{"monotonic", "boottime"} {
		offset, ok := s.Linux.TimeOffsets[clock]
		if !ok {
			continue
		}
		b.At("/linux/timeOffsets/" + clock)
		fd := b.Get("file", "offsets can be set until someone is there",
			plan.Openat(plan.AtFdcwd, "/proc/self/timens_offsets", unix.O_WRONLY))
		b.Do("shift the "+clock+" clock", plan.Write(fd, fmt.Sprintf("%s %d %d", clock, offset.Secs, offset.Nanosecs)))
	}
	b.At(pointer(i))
	ns := b.Get("file", "the namespace by name", plan.Openat(plan.AtFdcwd, "/proc/self/ns/time_for_children", unix.O_RDONLY))
	b.Do("enter it without being born again", plan.Setns(ns, unix.CLONE_NEWTIME))
	return nil
}
