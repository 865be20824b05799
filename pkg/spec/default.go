package spec

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Capabilities are the parts of root's power that a container has unless told
// otherwise: enough to install packages, change users and serve ports below
// 1024, and nothing that reaches the kernel's settings or other containers.
var Capabilities = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETFCAP",
	"CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

// defaultPids is the pids limit of a container unless told otherwise: plenty
// for programs, and an end to a fork bomb.
const defaultPids = 2048

// pingGroups is the kernel parameter that says which groups may ping.
const pingGroups = "net.ipv4.ping_group_range"

// terminals is the group of terminals, on every Linux.
const terminals = 5

// Default returns the default wall: a shell behind all the bricks, without a
// seccomp profile, which depends on the capabilities and so comes last.
func Default() *specs.Spec {
	caps := func() []string { return append([]string(nil), Capabilities[:]...) }
	pids := int64(defaultPids)
	return &specs.Spec{
		Version: specs.Version,
		Process: &specs.Process{
			Args:            []string{"sh"},
			Env:             []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Cwd:             "/",
			Capabilities:    &specs.LinuxCapabilities{Bounding: caps(), Effective: caps(), Permitted: caps()},
			Rlimits:         []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}},
			NoNewPrivileges: true,
		},
		Root: &specs.Root{Path: "rootfs"},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace},
				{Type: specs.NetworkNamespace},
				{Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace},
				{Type: specs.MountNamespace},
				{Type: specs.CgroupNamespace},
			},
			Resources: &specs.LinuxResources{
				Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
				Pids:    &specs.LinuxPids{Limit: &pids},
			},
			// ping(8) needs no capability in a network of its own.
			Sysctl: map[string]string{pingGroups: "0 2147483647"},
			MaskedPaths: []string{
				"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
				"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
				"/sys/devices/virtual/powercap", "/sys/firmware",
			},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
}

// Rootless changes the default wall into one that a user can ask for who has no
// privilege: user_namespaces(7). That user is root inside, and nobody else is
// there. The network is the host's, and so is sysfs, which only root of a
// network namespace can mount; no cgroup is the user's to set limits in.
func Rootless(s *specs.Spec, uid, gid uint32) {
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: uid, Size: 1}}
	s.Linux.GIDMappings = []specs.LinuxIDMapping{{HostID: gid, Size: 1}}
	s.Linux.Resources, s.Linux.Sysctl = nil, nil
	s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return strings.HasPrefix(m.Destination, "/sys") })
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys", Options: []string{"rbind", "nosuid", "noexec", "nodev", "rro"}})
	for i, m := range s.Mounts {
		s.Mounts[i].Options = withoutGroup(m.Options)
	}
}

// withoutGroup leaves the group of a mount to the kernel.
func withoutGroup(options []string) []string {
	return slices.DeleteFunc(options, func(o string) bool { return strings.HasPrefix(o, "gid=") })
}
