package conformance_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/seccomp"
	"github.com/minictr/minictr/tests/agent"
)

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
	{section: "config-linux.md, User namespace mappings", text: "are the kernel's", edit: mapped, script: "cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '", want: "0 100000 1000\n 0 200000 1000"},
	{
		section: "config-linux.md, Offset for Time Namespace", text: "is the kernel's", edit: func(s *specs.Spec) {
			with(specs.LinuxNamespace{Type: specs.TimeNamespace})(s)
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1000}, "monotonic": {Secs: 2000}}
		}, script: "cat /proc/self/timens_offsets | tr -s ' '", want: "monotonic 2000 0\nboottime 1000 0",
	},
	{
		section: "config-linux.md, Devices", text: "type, numbers, mode and owner", edit: func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{device("/dev/one", "c", 1, 5), device("/dev/two", "b", 7, 0), device("/dev/pipe", "p", 0, 0), device("/etc/three", "u", 1, 5)}
		}, script: "stat -c '%F %t:%T %a %u:%g' /dev/one /etc/three /dev/two /dev/pipe",
		want: "character special file 1:5 640 5:6\ncharacter special file 1:5 640 5:6\nblock special file 7:0 640 5:6\nfifo 0:0 640 5:6",
	},
	{
		section: "config-linux.md, Devices", text: "the device itself at its path is no error", check: func(b *box) error {
			for range 2 { // the second one finds what the first one has made
				s := base(b)
				s.Linux.Devices = []specs.LinuxDevice{device("/etc/one", "c", 1, 5), device("/etc/pipe", "p", 0, 0)}
				s.Process.Args = []string{"stat", "-c", "%t:%T", "/etc/one"}
				b.write(s)
				if out, err := b.toTheEnd(); err != nil || !strings.HasSuffix(out, "1:5\n") {
					return fmt.Errorf("it prints %q, %w", out, err)
				}
			}
			return nil
		},
	},
	{
		section: "config-linux.md, Sysctl", text: "is written", edit: func(s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "kernel.shmmax": "65536"}
		}, script: "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax", want: "1\n65536",
	},
	{section: "config-linux.md, Seccomp", text: "a call of the list fails as it says", edit: filter(specs.ActAllow, specs.LinuxSyscall{Names: []string{"getcwd"}, Action: specs.ActErrno, ErrnoRet: new(uint(5))}), script: "cd /tmp; busybox pwd -P 2>&1 | grep -o 'Input/output error'; grep Seccomp: /proc/self/status | tr '\\t' ' '", want: "(Input/output error\n|.*)Seccomp: 2"},
	{section: "config-linux.md, Seccomp", text: "args: only with such arguments", edit: filter(specs.ActAllow, specs.LinuxSyscall{
		Names: []string{"mkdir"}, Action: specs.ActErrno, ErrnoRet: new(uint(5)), Args: []specs.LinuxSeccompArg{{Index: 1, Value: 0o777, ValueTwo: 0o700, Op: specs.OpMaskedEqual}},
	}), script: "mkdir -m 700 /tmp/a; busybox mkdir /tmp/b && ls /tmp", want: "(mkdir: .*Input/output error\n)?.*b"},
	{section: "config-linux.md, Seccomp", text: "an errno is EPERM unless said otherwise", edit: filter(specs.ActAllow, specs.LinuxSyscall{
		Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno,
	}), script: "mkdir /tmp/a 2>&1 | grep -o 'not permitted'", want: "not permitted"},
	{section: "config-linux.md, Seccomp", text: "defaultErrnoRet", edit: func(s *specs.Spec) {
		filter(specs.ActErrno, specs.LinuxSyscall{Names: callsBut("mkdir", "mkdirat"), Action: specs.ActAllow})(s)
		s.Linux.Seccomp.DefaultErrnoRet = new(uint(unix.EXDEV))
	}, script: "mkdir /tmp/x 2>&1 | grep -o 'cross-device link'", want: "cross-device link"},
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
	{
		section: "config-linux.md, Masked Paths", text: "can't be read", edit: func(s *specs.Spec) { s.Linux.MaskedPaths = []string{"/etc/masked", "/proc/version", "/nosuch"} },
		script: "cat /proc/version | wc -c", want: "0",
	},
	{section: "config-linux.md, Readonly Paths", text: "can't be written to", edit: func(s *specs.Spec) { s.Linux.ReadonlyPaths = []string{"/tmp", "/nosuch"} }, script: "touch /tmp/x 2>&1 | grep -o Read-only", want: "Read-only"},
	{section: "config-linux.md, Rootfs Mount Propagation", text: "slave", edit: func(s *specs.Spec) { s.Linux.RootfsPropagation = "rslave" }, script: "head -n 1 /proc/self/mountinfo | grep -c shared", want: "0"},
	{section: "config-linux.md, Rootfs Mount Propagation", text: "shared", edit: func(s *specs.Spec) { s.Linux.RootfsPropagation = "shared" }, script: "grep ' / / ' /proc/self/mountinfo | grep -c shared || grep ' / ' /proc/self/mountinfo | grep -c shared:", want: "1|0\n1"},
	{section: "config-linux.md, Rootfs Mount Propagation", text: "unbindable", edit: func(s *specs.Spec) { s.Linux.RootfsPropagation = "unbindable" }, script: "grep ' / ' /proc/self/mountinfo | grep -c unbindable", want: "1"},
	{section: "config-linux.md, Rootfs Mount Propagation", text: "private", edit: func(s *specs.Spec) { s.Linux.RootfsPropagation = "private" }, script: "grep ' / ' /proc/self/mountinfo | grep -cE 'shared:|master:|unbindable'", want: "0"},
	{section: "config-linux.md, Personality", text: "LINUX", edit: func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux} }, script: "uname -m", want: "x86_64|aarch64"},
	{section: "config-linux.md, Personality", text: "LINUX32", edit: func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32} }, script: "uname -m", want: "i686"},
}
