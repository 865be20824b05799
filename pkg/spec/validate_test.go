package spec

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// namespaces replaces those of the spec.
func namespaces(list ...specs.LinuxNamespace) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Linux.Namespaces = list }
}

var mountNS, userNS = specs.LinuxNamespace{Type: specs.MountNamespace}, specs.LinuxNamespace{Type: specs.UserNamespace}

// TestValidate edits the default spec. An error begins with the pointer of
// the field; want is all of it, and empty where the spec is good.
func TestValidate(t *testing.T) {
	mapping := func(container, host, size uint32) []specs.LinuxIDMapping {
		return []specs.LinuxIDMapping{{ContainerID: container, HostID: host, Size: size}}
	}
	mapped := func(fstype string, users, groups []specs.LinuxIDMapping, options ...string) func(*specs.Spec) {
		return func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/a", Type: fstype, Source: "/", UIDMappings: users, GIDMappings: groups, Options: options}}
		}
	}
	for _, c := range []struct {
		name string
		edit func(*specs.Spec)
		want string
	}{
		{"default", func(*specs.Spec) {}, ""},
		{"version 1.0.2", func(s *specs.Spec) { s.Version = "1.0.2" }, ""},
		{"version 1.0.2-dev", func(s *specs.Spec) { s.Version = "1.0.2-dev" }, ""},
		{"no version", func(s *specs.Spec) { s.Version = "" }, `/ociVersion: this runtime knows versions 1.x, not ""`},
		{"version 1", func(s *specs.Spec) { s.Version = "1" }, `/ociVersion: this runtime knows versions 1.x, not "1"`},
		{"version 1.0.x", func(s *specs.Spec) { s.Version = "1.0.x" }, `/ociVersion: this runtime knows versions 1.x, not "1.0.x"`},
		{"version 1.2.3-rc.1+build", func(s *specs.Spec) { s.Version = "1.2.3-rc.1+build" }, ""},
		{"version 10", func(s *specs.Spec) { s.Version = "10.0.0" }, `/ociVersion: this runtime knows versions 1.x, not "10.0.0"`},
		{"not Linux", func(s *specs.Spec) { s.Linux = nil }, "/linux: missing; this runtime makes Linux containers"},

		{"no process", func(s *specs.Spec) { s.Process = nil }, "/process: missing"},
		{"no arguments", func(s *specs.Spec) { s.Process.Args = nil }, "/process/args: must name a program"},
		{"no program", func(s *specs.Spec) { s.Process.Args = []string{"", "x"} }, "/process/args: must name a program"},
		{"an empty argument", func(s *specs.Spec) { s.Process.Args = []string{"x", ""} }, ""},
		{"no directory", func(s *specs.Spec) { s.Process.Cwd = "" }, `/process/cwd: Cwd must be an absolute path, not ""`},
		{"a variable without a value", func(s *specs.Spec) { s.Process.Env = []string{"A=", "B=="} }, ""},
		{"a variable without a name", func(s *specs.Spec) { s.Process.Env = []string{"=A"} }, `/process/env/0: "=A" is not NAME=VALUE`},
		{"the lowest score", func(s *specs.Spec) { s.Process.OOMScoreAdj = new(-1000) }, ""},
		{"a lower score", func(s *specs.Spec) { s.Process.OOMScoreAdj = new(-1001) }, "/process/oomScoreAdj: -1001 is not from -1000 to 1000"},
		{"a large terminal", func(s *specs.Spec) { s.Process.ConsoleSize = &specs.Box{Height: 1, Width: 65536} }, "/process/consoleSize: a terminal has at most 65535 rows and columns"},

		{"the highest user", func(s *specs.Spec) { s.Process.User.UID = maxID }, ""},
		{"a higher user", func(s *specs.Spec) { s.Process.User.UID = maxID + 1 }, "/process/user/uid: 2147483648 is above 2147483647"},
		{"user -1", func(s *specs.Spec) { s.Process.User.UID = 1<<32 - 1 }, "/process/user/uid: 4294967295 is above 2147483647"},
		{"group -1", func(s *specs.Spec) { s.Process.User.GID = 1<<32 - 1 }, "/process/user/gid: 4294967295 is above 2147483647"},
		{"another group -1", func(s *specs.Spec) { s.Process.User.AdditionalGids = []uint32{5, 1<<32 - 1} }, "/process/user/additionalGids/1: 4294967295 is above 2147483647"},
		{"a wide umask", func(s *specs.Spec) { s.Process.User.Umask = new(uint32(0o1000)) }, "/process/user/umask: 01000 is above 0777"},

		{"soft above hard", func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 2, Hard: 1}}
		}, "/process/rlimits/0/soft: wrong rlimit value: RLIMIT_CORE: 2 is above the hard limit 1"},
		{"a limit twice", func(s *specs.Spec) {
			s.Process.Rlimits = append(s.Process.Rlimits, s.Process.Rlimits...)
		}, "/process/rlimits/1/type: a second RLIMIT_CORE"},

		{"no root", func(s *specs.Spec) { s.Root = nil }, "/root/path: missing"},
		{"any propagation", func(s *specs.Spec) { s.Linux.RootfsPropagation = "rshared" }, ""},
		{"no propagation", func(s *specs.Spec) { s.Linux.RootfsPropagation = "none" }, `/linux/rootfsPropagation: unknown propagation "none"`},

		{"a long name", func(s *specs.Spec) { s.Hostname = strings.Repeat("x", 64) }, ""},
		{"a longer domain", func(s *specs.Spec) { s.Domainname = strings.Repeat("x", 65) }, `/domainname: "` + strings.Repeat("x", 65) + `" is longer than 64 bytes`},
		{"a name for the host", func(s *specs.Spec) {
			s.Hostname = "x"
			s.Linux.Namespaces = []specs.LinuxNamespace{mountNS}
		}, "/hostname: without a uts namespace it would be the host's"},

		{"only a mount namespace", namespaces(mountNS), ""},
		{"no mount namespace", namespaces(specs.LinuxNamespace{Type: specs.PIDNamespace}), "/linux/namespaces: no mount namespace: the container's mounts would be the host's"},
		{"unknown", namespaces(specs.LinuxNamespace{Type: "mnt"}), `/linux/namespaces/0/type: unknown namespace "mnt"`},
		{"twice", namespaces(mountNS, mountNS), `/linux/namespaces/1/type: a second namespace "mount"`},
		{"joined", namespaces(mountNS, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: "/run/netns/x"}), ""},
		{"joined by a relative path", namespaces(mountNS, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: "x"}), `/linux/namespaces/1/path: "x" is not absolute`},
		{"another's mounts", namespaces(specs.LinuxNamespace{Type: specs.MountNamespace, Path: "/proc/1/ns/mnt"}), "/linux/namespaces/0/path: a container needs a mount namespace of its own; to enter another's is exec"},
		{"a clock", func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1}}
		}, ""},
		{"a clock of the host", func(s *specs.Spec) {
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1}}
		}, "/linux/timeOffsets: without a time namespace there is no clock to shift"},

		{"mapped", func(s *specs.Spec) {
			namespaces(mountNS, userNS)(s)
			s.Linux.UIDMappings, s.Linux.GIDMappings = mapping(0, 100000, 65536), mapping(0, 100000, 65536)
		}, ""},
		{"only users are mapped", func(s *specs.Spec) {
			namespaces(mountNS, userNS)(s)
			s.Linux.UIDMappings = mapping(0, 100000, 65536)
		}, "/linux/gidMappings: a user namespace without it has nobody in it"},
		{"a joined user namespace", namespaces(mountNS, specs.LinuxNamespace{Type: specs.UserNamespace, Path: "/proc/1/ns/user"}), ""},
		{"mapped in vain", func(s *specs.Spec) { s.Linux.GIDMappings = mapping(0, 0, 1) }, "/linux/gidMappings: without a user namespace nothing is mapped"},
		{"a range too long", func(s *specs.Spec) {
			namespaces(mountNS, userNS)(s)
			s.Linux.UIDMappings = mapping(0, 1, 1<<32-1)
		}, "/linux/uidMappings/0: 4294967295 ids from 0 on, as 1 on the host, is no range of ids"},

		{"a bind mount by its option", func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/a", Source: "/", Options: []string{"rbind"}}}
		}, ""},
		{"layers", func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "/", Type: "overlay"}} }, ""},
		{"layers on top", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/.", Type: "overlay"})
		}, "/mounts/7/destination: only the first mount can be the root, and only an overlay"},
		{"a mount with maps", mapped("bind", mapping(0, 5, 1), mapping(0, 5, 1)), ""},
		{"a mount with half a map", mapped("bind", mapping(0, 5, 1), nil, "idmap"), "/mounts/0/gidMappings: missing, where uidMappings are given"},
		{"a mount with the other half", mapped("bind", nil, mapping(0, 5, 1)), "/mounts/0/uidMappings: missing, where gidMappings are given"},
		{"a mount that maps nobody", mapped("bind", mapping(0, 5, 1), mapping(0, 5, 0)), "/mounts/0/gidMappings/0: 0 ids from 0 on, as 5 on the host, is no range of ids"},
		{"a new file system with maps", mapped("tmpfs", mapping(0, 5, 1), mapping(0, 5, 1)), "/mounts/0: only a bind mount can map ids"},
		{"cgroups with maps", mapped("cgroup", mapping(0, 5, 1), mapping(0, 5, 1), "bind"), "/mounts/0: only a bind mount can map ids"},
		{"maps of no user namespace", mapped("bind", nil, nil, "ridmap"), "/mounts/0/options: idmap without uidMappings takes the container's, which has no user namespace"},
		{"maps of the user namespace", func(s *specs.Spec) {
			mapped("bind", nil, nil, "idmap")(s)
			namespaces(mountNS, specs.LinuxNamespace{Type: specs.UserNamespace, Path: "/proc/1/ns/user"})(s)
		}, ""},
		{"copied up", func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/a", Type: "tmpfs", Options: []string{"tmpcopyup"}}}
		}, ""},

		{"a pipe", func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/p", Type: "p"}} }, ""},
		{"the highest device", func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/d", Type: "c", Major: 4095, Minor: 1048575}}
		}, ""},
		{"a device below 0", func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/d", Type: "b", Major: 1, Minor: -1}}
		}, "/linux/devices/0: no device has the numbers 1:-1"},
		{"a device of -1", func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/d", Type: "p", UID: new(uint32(1<<32 - 1))}}
		}, "/linux/devices/0: its owner is above 2147483647"},
		{"the root as a device", func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/.", Type: "p"}} }, `/linux/devices/0/path: "/." is not the absolute path of a device`},

		{"sysctl of a namespace", func(s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "kernel/shmmax": "1", "fs.mqueue.msg_max": "1", "kernel.domainname": "x"}
		}, ""},
		{"sysctl of the host", func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"kernel.panic": "1"} }, `/linux/sysctl: "kernel.panic" belongs to no namespace: it would change the host`},
		{"sysctl of the host's network", func(s *specs.Spec) {
			namespaces(mountNS)(s)
			s.Linux.Sysctl = map[string]string{"net/core/somaxconn": "1"}
		}, `/linux/sysctl: "net/core/somaxconn" belongs to the network namespace, which is the host's here`},
		{"sysctl above", func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"net/../kernel/panic": "1"} }, `/linux/sysctl: "net/../kernel/panic" is no parameter`},
		{"sysctl without proc", func(s *specs.Spec) {
			s.Mounts = nil
			s.Linux.Sysctl = map[string]string{"net.core.somaxconn": "1"}
		}, "/linux/sysctl: parameters are written through /proc, and no proc is mounted there"},

		{"no hooks", func(s *specs.Spec) { s.Hooks = &specs.Hooks{} }, ""},
		{"hooks", func(s *specs.Spec) { s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/x"}}} }, ""},
		{"a relative hook", func(s *specs.Spec) { s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/x"}, {Path: "x"}}} }, `/hooks/poststop/1/path: "x" is not absolute`},
		{"a hook without time", func(s *specs.Spec) {
			s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/x", Timeout: new(int)}}}
		}, "/hooks/createRuntime/0/timeout: 0 is not above zero"},
		{"network devices", devices("a~b", "", "eth0", "eth%d", "eth1", "eth%d"), ""},
		{"network devices of the host's network", func(s *specs.Spec) {
			namespaces(mountNS)(s)
			devices("eth0", "")(s)
		}, "/linux/netDevices: without a network namespace there is nowhere to move them to"},
		{"a long network device", devices("eth0", "sixteen-of-bytes"), `/linux/netDevices/eth0/name: "sixteen-of-bytes" is no name of a network interface`},
		{"a network device with a space", devices("a b", "c"), `/linux/netDevices/a b: "a b" is no name of a network interface`},
		{"a network device of a path", devices("a/b~", "c"), `/linux/netDevices/a~1b~0: "a/b~" is no name of a network interface`},
		{"a network device without a name", devices("", "c"), `/linux/netDevices/: "" is no name of a network interface`},
		{"a network device with two numbers", devices("eth0", "a%d%d"), `/linux/netDevices/eth0/name: "a%d%d" is no name of a network interface`},
		{"a host's network device with a number", devices("eth%d", ""), `/linux/netDevices/eth%d: "eth%d" is no name of a network interface`},
		{"loopback as a network device", devices("lo", "other"), "/linux/netDevices/lo: every network has a loopback interface of its own"},
		{"two network devices of one name", devices("a", "b", "b", ""), `/linux/netDevices/b/name: "b" is what a is to be called`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Default()
			s.Linux.Sysctl = nil // of a namespace that a case may leave out
			c.edit(s)
			got := ""
			if err := Validate(s); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// devices asks for network devices, each with a name inside.
func devices(names ...string) func(*specs.Spec) {
	return func(s *specs.Spec) {
		s.Linux.NetDevices = make(map[string]specs.LinuxNetDevice)
		for pair := range slices.Chunk(names, 2) {
			s.Linux.NetDevices[pair[0]] = specs.LinuxNetDevice{Name: pair[1]}
		}
	}
}
