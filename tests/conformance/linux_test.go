package conformance_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/seccomp"
	"github.com/minictr/minictr/tests/agent"
)

func limits(set func(*specs.LinuxResources)) func(*specs.Spec) {
	return func(s *specs.Spec) {
		set(s.Linux.Resources)
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro"}})
	}
}

func without(name specs.LinuxNamespaceType) func(*specs.Spec) {
	return func(s *specs.Spec) {
		var kept []specs.LinuxNamespace
		for _, n := range s.Linux.Namespaces {
			if n.Type != name {
				kept = append(kept, n)
			}
		}
		s.Linux.Namespaces = kept
	}
}

func with(n ...specs.LinuxNamespace) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Linux.Namespaces = append(s.Linux.Namespaces, n...) }
}

func mapped(s *specs.Spec) {
	with(specs.LinuxNamespace{Type: specs.UserNamespace})(s)
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 1000}}
	s.Linux.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 200000, Size: 1000}}
}

// isOwn tells whether a namespace of the container differs from ours.
func isOwn(file string, want bool) func(*box) error {
	return func(b *box) error {
		if err := b.create(); err != nil {
			return err
		}
		own, err := os.Readlink("/proc/self/ns/" + file)
		other, e := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", b.pid, file))
		if (own != other) != want {
			return fmt.Errorf("%s is %s here and %s there", file, own, other)
		}
		return errors.Join(err, e)
	}
}

func device(path, kind string, major, minor int64) specs.LinuxDevice {
	return specs.LinuxDevice{Path: path, Type: kind, Major: major, Minor: minor, FileMode: new(os.FileMode(0o640)), UID: new(uint32(5)), GID: new(uint32(6))}
}

func filter(action specs.LinuxSeccompAction, syscalls ...specs.LinuxSyscall) func(*specs.Spec) {
	return func(s *specs.Spec) {
		s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: action, Syscalls: syscalls}
	}
}

// callsBut are all system calls, but some.
func callsBut(names ...string) (list []string) {
	const most = 600 // no number is as high
	for nr := range uint32(most) {
		if name, ok := seccomp.Name(nr, seccomp.Native()); ok && !slices.Contains(names, name) {
			list = append(list, name)
		}
	}
	return list
}

// listener has an agent asked about directories that are made.
func listener(check func(*box, *agent.Agent) error) func(*box) error {
	return func(b *box) (err error) {
		a, err := agent.Listen(b.dir, func(string) unix.Errno { return unix.EXDEV })
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, b.run("delete", "--force", b.id()), a.Close()) }()
		s := base(b)
		s.Process.Args = []string{"mkdir", "/tmp/x"}
		filter(specs.ActAllow, specs.LinuxSyscall{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActNotify})(s)
		s.Linux.Seccomp.ListenerPath, s.Linux.Seccomp.ListenerMetadata = a.Path, "any"
		b.write(s)
		return check(b, a)
	}
}

// linux is config-linux.md.
var linux = []must{
	{section: "config-linux.md, Default Devices", text: "are there", script: "stat -c '%t:%T' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty | tr '\\n' ' '", want: "1:3 1:5 1:7 1:8 1:9 5:0"},
	{section: "config-linux.md, Default Devices", text: "/dev/ptmx is the container's own", script: "readlink -f /dev/ptmx", want: "/dev/pts/ptmx"},
	{section: "config-linux.md, Namespaces", text: "a new pid namespace", check: isOwn("pid", true)},
	{section: "config-linux.md, Namespaces", text: "a new network namespace", check: isOwn("net", true)},
	{section: "config-linux.md, Namespaces", text: "a new ipc namespace", check: isOwn("ipc", true)},
	{section: "config-linux.md, Namespaces", text: "a new uts namespace", check: isOwn("uts", true)},
	{section: "config-linux.md, Namespaces", text: "a new mount namespace", check: isOwn("mnt", true)},
	{section: "config-linux.md, Namespaces", text: "a new cgroup namespace", edit: with(specs.LinuxNamespace{Type: specs.CgroupNamespace}), check: isOwn("cgroup", true)},
	{section: "config-linux.md, Namespaces", text: "a new user namespace", edit: mapped, check: isOwn("user", true)},
	{section: "config-linux.md, Namespaces", text: "a new time namespace", edit: with(specs.LinuxNamespace{Type: specs.TimeNamespace}), check: isOwn("time", true)},
	{section: "config-linux.md, Namespaces", text: "the pid namespace is inherited unless listed", edit: without(specs.PIDNamespace), check: isOwn("pid", false)},
	{section: "config-linux.md, Namespaces", text: "the network namespace is inherited unless listed", edit: without(specs.NetworkNamespace), check: isOwn("net", false)},
	{section: "config-linux.md, Namespaces", text: "the ipc namespace is inherited unless listed", edit: without(specs.IPCNamespace), check: isOwn("ipc", false)},
	{section: "config-linux.md, Namespaces", text: "the uts namespace is inherited unless listed", edit: without(specs.UTSNamespace), check: isOwn("uts", false)},
	{
		section: "config-linux.md, Namespaces", text: "one is joined by its path", script: "true",
		check: func(b *box) error {
			cmd := exec.Command("sleep", "1000")
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS, Pdeathsig: syscall.SIGKILL}
			if err := cmd.Start(); err != nil {
				return err
			}
			defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
			s := base(b)
			for i, n := range s.Linux.Namespaces {
				if file := map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts"}[n.Type]; file != "" {
					s.Linux.Namespaces[i].Path = fmt.Sprintf("/proc/%d/ns/%s", cmd.Process.Pid, file)
				}
			}
			b.write(s)
			if err := b.create(); err != nil {
				return err
			}
			for _, file := range []string{"net", "ipc", "uts"} {
				theirs, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", cmd.Process.Pid, file))
				if own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", b.pid, file)); err != nil || own != theirs {
					return fmt.Errorf("%s is %s, not %s, %w", file, own, theirs, err)
				}
			}
			return nil
		},
	},
	{
		section: "config-linux.md, Namespaces", text: "a path of another type is an error", edit: func(s *specs.Spec) {
			without(specs.NetworkNamespace)(s)
			with(specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: "/proc/self/ns/uts"})(s)
		}, check: func(b *box) error { return b.refuses("create", "--bundle", b.dir, b.id()) },
	},
	{
		section: "config-linux.md, Namespaces", text: "a type given twice is an error", edit: with(specs.LinuxNamespace{Type: specs.IPCNamespace}),
		check: func(b *box) error { return b.refuses("create", "--bundle", b.dir, b.id()) },
	},
	{section: "config-linux.md, User namespace mappings", text: "are the kernel's", edit: mapped, script: "cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '", want: "0 100000 1000\n 0 200000 1000"},
	{
		section: "config-linux.md, Offset for Time Namespace", text: "is the kernel's", edit: func(s *specs.Spec) {
			with(specs.LinuxNamespace{Type: specs.TimeNamespace})(s)
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1000}, "monotonic": {Secs: 2000}}
		}, script: "cat /proc/self/timens_offsets | tr -s ' '", want: "monotonic 2000 0\nboottime 1000 0",
	},
	{
		section: "config-linux.md, Devices", text: "type, numbers, mode and owner", edit: func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{device("/dev/one", "c", 1, 5), device("/dev/two", "b", 7, 0), device("/dev/pipe", "p", 0, 0)}
		}, script: "stat -c '%F %t:%T %a %u:%g' /dev/one /dev/two /dev/pipe",
		want: "character special file 1:5 640 5:6\nblock special file 7:0 640 5:6\nfifo 0:0 640 5:6",
	},
	{section: "config-linux.md, Cgroups Path", text: "absolute is below the mount of the hierarchy", script: "cat /proc/self/cgroup | cut -d: -f3 | sort | uniq | grep -c box-", want: "1"},
	{section: "config-linux.md, Memory", text: "limit", edit: limits(func(r *specs.LinuxResources) { r.Memory = &specs.LinuxMemory{Limit: new(int64(64 << 20))} }), script: "cat /sys/fs/cgroup/memory/memory.limit_in_bytes", want: "67108864"},
	{section: "config-linux.md, Memory", text: "reservation", edit: limits(func(r *specs.LinuxResources) { r.Memory = &specs.LinuxMemory{Reservation: new(int64(32 << 20))} }), script: "cat /sys/fs/cgroup/memory/memory.soft_limit_in_bytes", want: "33554432"},
	{section: "config-linux.md, Memory", text: "swap", edit: limits(func(r *specs.LinuxResources) {
		r.Memory = &specs.LinuxMemory{Limit: new(int64(64 << 20)), Swap: new(int64(96 << 20))}
	}), script: "cat /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", want: "100663296"},
	{section: "config-linux.md, CPU", text: "shares", edit: limits(func(r *specs.LinuxResources) { r.CPU = &specs.LinuxCPU{Shares: new(uint64(512))} }), script: "cat /sys/fs/cgroup/cpu/cpu.shares", want: "512"},
	{section: "config-linux.md, CPU", text: "quota and period", edit: limits(func(r *specs.LinuxResources) {
		r.CPU = &specs.LinuxCPU{Quota: new(int64(20000)), Period: new(uint64(50000))}
	}), script: "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us", want: "20000\n50000"},
	{section: "config-linux.md, CPU", text: "cpus and mems", edit: limits(func(r *specs.LinuxResources) { r.CPU = &specs.LinuxCPU{Cpus: "0", Mems: "0"} }), script: "cat /sys/fs/cgroup/cpuset/cpuset.cpus /sys/fs/cgroup/cpuset/cpuset.mems", want: "0\n0"},
	{section: "config-linux.md, PIDs", text: "limit", edit: limits(func(r *specs.LinuxResources) { r.Pids = &specs.LinuxPids{Limit: new(int64(33))} }), script: "cat /sys/fs/cgroup/pids/pids.max", want: "33"},
	{
		section: "config-linux.md, Allowed Device list", text: "what is not allowed can't be opened", edit: func(s *specs.Spec) {
			s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Access: "m"})
		}, script: "mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg 2>&1 | grep -o 'not permitted'", want: "not permitted",
	},
	{
		section: "config-linux.md, Sysctl", text: "is written", edit: func(s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "kernel.shmmax": "65536"}
		}, script: "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax", want: "1\n65536",
	},
	{section: "config-linux.md, Seccomp", text: "a call of the list fails as it says", edit: filter(specs.ActAllow, specs.LinuxSyscall{Names: []string{"getcwd"}, Action: specs.ActErrno, ErrnoRet: new(uint(5))}), script: "cd /tmp; busybox pwd -P 2>&1 | grep -o 'Input/output error'; grep Seccomp: /proc/self/status | tr '\\t' ' '", want: "(Input/output error\n|.*)Seccomp: 2"},
	{section: "config-linux.md, Seccomp", text: "the default action is for all others", edit: func(s *specs.Spec) {
		s.Process.Args = []string{"mkdir", "/tmp/x"}
		filter(specs.ActErrno, specs.LinuxSyscall{Names: callsBut("mkdir", "mkdirat"), Action: specs.ActAllow})(s)
	}, check: func(b *box) error {
		if _, err := b.toTheEnd(); err != nil {
			return err
		}
		if _, err := os.Stat(b.dir + "/rootfs/tmp/x"); err == nil {
			return errors.New("it has made a directory")
		}
		return nil
	}},
	{section: "config-linux.md, Seccomp", text: "an agent is sent one state, with one descriptor, and decides", check: listener(func(b *box, a *agent.Agent) error {
		if _, err := b.toTheEnd(); err != nil {
			return err
		}
		if _, err := os.Stat(b.dir + "/rootfs/tmp/x"); err == nil {
			return errors.New("it has made a directory")
		}
		all := a.States()
		if len(all) != 1 {
			return fmt.Errorf("%d states", len(all))
		}
		p := all[0]
		if p.Version == "" || !slices.Equal(p.Fds, []string{"seccompFd"}) || p.Pid == 0 || p.Pid != p.State.Pid || p.Metadata != "any" ||
			p.State.ID != b.id() || p.State.Bundle != b.dir || p.State.Status != specs.StateCreating {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})},
	{section: "config-linux.md, Seccomp", text: "a state that can't be sent is an error", check: listener(func(b *box, a *agent.Agent) error {
		if err := os.Remove(a.Path); err != nil {
			return err
		}
		return b.refuses("create", "--bundle", b.dir, b.id())
	})},
	{section: "config-linux.md, Seccomp", text: "listenerPath is ignored if nothing is asked", edit: func(s *specs.Spec) {
		filter(specs.ActAllow)(s)
		s.Linux.Seccomp.ListenerPath = "/nosuch"
	}, script: "echo ok", want: "ok"},
	{section: "config-linux.md, Seccomp", text: "listenerMetadata is not set without listenerPath", edit: func(s *specs.Spec) {
		filter(specs.ActAllow)(s)
		s.Linux.Seccomp.ListenerMetadata = "any"
	}, check: func(b *box) error { return b.refuses("create", "--bundle", b.dir, b.id()) }},
	{
		section: "config-linux.md, Masked Paths", text: "can't be read", edit: func(s *specs.Spec) { s.Linux.MaskedPaths = []string{"/etc/masked", "/proc/version", "/nosuch"} },
		script: "cat /proc/version | wc -c", want: "0",
	},
	{section: "config-linux.md, Readonly Paths", text: "can't be written to", edit: func(s *specs.Spec) { s.Linux.ReadonlyPaths = []string{"/tmp", "/nosuch"} }, script: "touch /tmp/x 2>&1 | grep -o Read-only", want: "Read-only"},
	{section: "config-linux.md, Rootfs Mount Propagation", text: "slave", edit: func(s *specs.Spec) { s.Linux.RootfsPropagation = "rslave" }, script: "head -n 1 /proc/self/mountinfo | grep -c shared", want: "0"},
	{section: "config-linux.md, Rootfs Mount Propagation", text: "shared", edit: func(s *specs.Spec) { s.Linux.RootfsPropagation = "shared" }, script: "grep ' / / ' /proc/self/mountinfo | grep -c shared || grep ' / ' /proc/self/mountinfo | grep -c shared:", want: "1|0\n1"},
	{section: "config-linux.md, Rootfs Mount Propagation", text: "unbindable", edit: func(s *specs.Spec) { s.Linux.RootfsPropagation = "unbindable" }, script: "grep ' / ' /proc/self/mountinfo | grep -c unbindable", want: "1"},
	{section: "config-linux.md, Personality", text: "LINUX32", edit: func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32} }, script: "uname -m", want: "i686"},
}
