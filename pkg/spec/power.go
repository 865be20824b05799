package spec

import (
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// AllCaps leaves nothing of the brick caps: root has these capabilities, which
// are all that there are to give.
func AllCaps(caps []string) Brick {
	return Brick{
		Name:  "caps",
		Leaks: "root in it has all of root's power: it can load kernel modules, set the clock, and restart the machine",
		Leave: func(s *specs.Spec) {
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
		},
	}
}

// Privileged are the bricks that a container with root's whole power lacks,
// besides the capabilities. Its namespaces, its root and its limits stay.
func Privileged() []Brick {
	return []Brick{
		BrickOf("seccomp"), BrickOf("masks"), BrickOf("nnp"),
		{
			Name:  "devices",
			Leaks: "it can use every device of the host: root in it reads and writes the host's disks",
			Leave: func(s *specs.Spec) {
				s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
			},
		},
		{
			Name:  "sys",
			Leaks: "it can write to /sys: settings of the host's devices, and its own limits in /sys/fs/cgroup",
			Leave: func(s *specs.Spec) {
				for i, m := range s.Mounts {
					if m.Type == "sysfs" || m.Type == "cgroup" {
						s.Mounts[i].Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "ro" })
					}
				}
			},
		},
	}
}

// Shared is the brick that a container lacks which has the host's namespace of
// this kind in place of its own.
func Shared(kind specs.LinuxNamespaceType) Brick {
	name := string(kind)
	switch kind { //nolint:exhaustive // the others have the names of their bricks
	case specs.NetworkNamespace:
		name = "net"
	case specs.CgroupNamespace:
		return Brick{Name: "cgroupns", Leaks: "it sees where in the host's tree its cgroup is", Leave: withoutNamespace(kind)}
	case specs.IPCNamespace:
		return Brick{Name: "ipc", Leaks: "it sees the host's shared memory, System V and POSIX, and message queues", Leave: func(s *specs.Spec) {
			withoutNamespace(kind)(s)
			Mount(s, specs.Mount{Destination: "/dev/shm", Type: "bind", Source: "/dev/shm", Options: []string{"rbind", "rprivate", "nosuid", "noexec", "nodev"}})
		}}
	}
	return BrickOf(name)
}

// BrickOf is the brick that can be left out by this name.
func BrickOf(name string) Brick {
	bricks := Bricks()
	return bricks[slices.IndexFunc(bricks, func(b Brick) bool { return b.Name == name })]
}

// Mount adds a mount, in the place of one that has the same destination.
func Mount(s *specs.Spec, m specs.Mount) {
	dest := path.Clean(m.Destination)
	i := slices.IndexFunc(s.Mounts, func(have specs.Mount) bool { return path.Clean(have.Destination) == dest })
	if i < 0 {
		s.Mounts = append(s.Mounts, m)
	} else {
		s.Mounts[i] = m
	}
}

// Unmask shows some of the masked and read-only paths as they are: those that
// are, or lie below, a name; "ALL" is all.
func Unmask(s *specs.Spec, name string) {
	shown := func(p string) bool {
		return name == "ALL" || p == name || strings.HasPrefix(p, strings.TrimSuffix(name, "/")+"/")
	}
	s.Linux.MaskedPaths = slices.DeleteFunc(s.Linux.MaskedPaths, shown)
	s.Linux.ReadonlyPaths = slices.DeleteFunc(s.Linux.ReadonlyPaths, shown)
}
