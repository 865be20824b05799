package spec

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// ours begins the names of annotations that tell this runtime what to do.
const ours = "org.minictr."

// Unlimited is the annotation of a container that has no cgroup of its own.
const Unlimited = ours + "unlimited"

// Init is the annotation of a container whose process 1 is not its program, but
// the parent of it, who reaps what else ends there.
const Init = ours + "init"

// SetInit asks for that.
func SetInit(s *specs.Spec) { Annotate(s, Init, "true") }

// HasInit says whether it is asked for.
func HasInit(s *specs.Spec) bool { return s.Annotations[Init] != "" }

// A Brick is a part of the wall that can be left out, to see what leaks.
type Brick struct {
	Name  string
	Leaks string // what the container sees or can do without it
	Leave func(*specs.Spec)
}

// String says that the brick is left out, and what leaks.
func (b Brick) String() string { return "WITHOUT the brick " + b.Name + ": " + b.Leaks }

// Bricks are all that can be left out. The mount namespace can't: without it
// the container's mounts, and its pivot_root(2), would be the host's.
func Bricks() []Brick {
	return []Brick{
		{"pid", "it sees the host's processes, and root in it can signal them", withoutNamespace(specs.PIDNamespace)},
		{"net", "it uses the host's network devices, addresses and ports", HostNetwork},
		{"ipc", "it sees the host's System V shared memory and message queues", withoutNamespace(specs.IPCNamespace)},
		{"uts", "it has the host's name", func(s *specs.Spec) {
			withoutNamespace(specs.UTSNamespace)(s)
			s.Hostname, s.Domainname = "", ""
			s.Process.Env = slices.DeleteFunc(s.Process.Env, func(e string) bool { return strings.HasPrefix(e, "HOSTNAME=") })
		}},
		{"user", "root in it is the host's root, as far as its capabilities reach", func(s *specs.Spec) {
			withoutNamespace(specs.UserNamespace)(s)
			s.Linux.UIDMappings, s.Linux.GIDMappings = nil, nil
		}},
		{"cgroup", "nothing of its own limits what it takes of memory, CPU and processes, or guards devices", withoutCgroup},
		{"seccomp", "it may try every system call of the kernel", func(s *specs.Spec) { s.Linux.Seccomp = nil }},
		{"masks", "it sees, and can partly write, what the kernel shows to all in /proc and /sys", func(s *specs.Spec) {
			s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
		}},
		{"root", "it reads the host's files: its root is the host's, made read-only", withoutRoot},
		{"nnp", "a setuid program in it can give privileges", func(s *specs.Spec) { s.Process.NoNewPrivileges = false }},
		// The last: what it gives back depends on what else is left out.
		{"caps", "root in it can also send raw packets, make device nodes and trace processes", withoutCaps},
	}
}

// Without leaves the bricks with those names out, and returns them.
func Without(s *specs.Spec, names ...string) (left []Brick, err error) {
	var known []string
	for _, b := range Bricks() {
		known = append(known, b.Name)
		if slices.Contains(names, b.Name) {
			b.Leave(s)
			left = append(left, b)
		}
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("no brick %q can be left out; there are %s", name, strings.Join(known, ", "))
		}
	}
	return left, nil
}

func withoutNamespace(t specs.LinuxNamespaceType) func(*specs.Spec) {
	return func(s *specs.Spec) {
		s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == t })
	}
}

// HostNetwork gives the container the host's network. Parameters of its own
// network go with it: they would be the host's.
func HostNetwork(s *specs.Spec) {
	withoutNamespace(specs.NetworkNamespace)(s)
	maps.DeleteFunc(s.Linux.Sysctl, func(key, _ string) bool { return strings.HasPrefix(key, "net") })
}

// withoutCgroup leaves out the rules for devices, too: so that the host's stay
// out of reach, nodes in the container's files are no devices.
func withoutCgroup(s *specs.Spec) {
	withoutNamespace(specs.CgroupNamespace)(s)
	s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Type == "cgroup" })
	for i, m := range s.Mounts {
		if m.Type == "bind" || m.Type == "overlay" {
			s.Mounts[i].Options = append(m.Options[:len(m.Options):len(m.Options)], "nodev")
		}
	}
	s.Linux.Resources = nil
	Annotate(s, Unlimited, "true")
}

// withoutCaps gives back capabilities, but none of those whose effect nothing
// holds: kernel modules, the clock, reboot, mount escapes; and where a
// namespace or the rules for devices are left out as well, what these hold.
func withoutCaps(s *specs.Spec) {
	all := append(Capabilities[:len(Capabilities):len(Capabilities)],
		"CAP_AUDIT_WRITE", "CAP_IPC_LOCK", "CAP_LEASE", "CAP_SYS_NICE", "CAP_SYS_TTY_CONFIG")
	for _, held := range []struct {
		by   specs.LinuxNamespaceType
		caps []string
	}{
		{specs.PIDNamespace, []string{"CAP_SYS_PTRACE"}},
		{specs.NetworkNamespace, []string{"CAP_NET_ADMIN", "CAP_NET_BROADCAST", "CAP_NET_RAW"}},
		{specs.IPCNamespace, []string{"CAP_IPC_OWNER"}},
	} {
		if slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == held.by }) {
			all = append(all, held.caps...)
		}
	}
	if s.Annotations[Unlimited] == "" {
		all = append(all, "CAP_MKNOD")
	}
	slices.Sort(all)
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
}

func withoutRoot(s *specs.Spec) {
	s.Root = &specs.Root{Path: "/", Readonly: true}
	s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return path.Clean(m.Destination) == "/" })
}
