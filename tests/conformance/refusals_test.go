package conformance_test

import (
	"os"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/spec"
)

// A refusal is a config.json that no runtime may take.
type refusal struct {
	section, text string
	edit          func(*specs.Spec)
}

func mutated(edit func(*specs.Mount)) func(*specs.Spec) {
	return func(s *specs.Spec) {
		idmap("/tmp", "bind", "idmap")(s)
		edit(&s.Mounts[len(s.Mounts)-1])
	}
}

func filtered(edit func(*specs.LinuxSeccomp, *specs.LinuxSyscall)) func(*specs.Spec) {
	return func(s *specs.Spec) {
		call := specs.LinuxSyscall{Names: []string{"swapon"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 1, Value: 5, Op: specs.OpEqualTo}}}
		filter(specs.ActAllow)(s)
		edit(s.Linux.Seccomp, &call)
		s.Linux.Seccomp.Syscalls = []specs.LinuxSyscall{call}
	}
}

func made(d specs.LinuxDevice) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{d} }
}

func limited(edit func(*specs.LinuxResources)) func(*specs.Spec) {
	return func(s *specs.Spec) { edit(s.Linux.Resources) }
}

func remembered(p specs.LinuxMemoryPolicy) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Linux.MemoryPolicy = &p }
}

// plainly are those that Go's types for config.json can say.
var plainly = []refusal{
	{"config.md, Specification version", "none is an error", func(s *specs.Spec) { s.Version = "" }},
	{"config.md, Specification version", "one that is not of Semantic Versioning is an error", func(s *specs.Spec) { s.Version = "1.x" }},
	{"config.md, Specification version", "one that is not 1.x is an error", func(s *specs.Spec) { s.Version = "2.0.0" }},
	{"config.md, Root", "none is an error", func(s *specs.Spec) { s.Root = nil }},
	{"config.md, Root", "no path is an error", func(s *specs.Spec) { s.Root.Path = "" }},
	{"config.md, Root", "a path where no directory is is an error", func(s *specs.Spec) { s.Root.Path = "nosuch" }},
	{"config.md, Mounts", "no destination is an error", mutated(func(m *specs.Mount) { m.Destination = "" })},
	{"config.md, Mounts", "uidMappings without gidMappings is an error", mutated(func(m *specs.Mount) { m.GIDMappings = nil })},
	{"config.md, Mounts", "gidMappings without uidMappings is an error", mutated(func(m *specs.Mount) { m.UIDMappings = nil })},
	{"config.md, Mounts", "idmap without any mappings is an error", bind("/tmp", "bind", "idmap")},
	{"config.md, Mounts", "ridmap without any mappings is an error", bind("/tmp", "bind", "ridmap")},
	{"config.md, Process", "args has at least one entry", func(s *specs.Spec) { s.Process.Args = nil }},
	{"config.md, Process", "no cwd is an error", func(s *specs.Spec) { s.Process.Cwd = "" }},
	{"config.md, Process", "a cwd that is not absolute is an error", func(s *specs.Spec) { s.Process.Cwd = "tmp" }},
	{"config.md, POSIX process", "an rlimit that the kernel does not know is an error", func(s *specs.Spec) {
		s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_TEST", Soft: 1, Hard: 1}}
	}},
	{"config.md, POSIX process", "an rlimit without a type is an error", func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Soft: 1, Hard: 1}} }},
	{"config.md, POSIX process", "an rlimit given twice is an error", func(s *specs.Spec) {
		s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}, {Type: "RLIMIT_CORE"}}
	}},
	{"config.md, Linux Process", "a scheduler without a policy is an error", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Nice: 5} }},
	{"config.md, Linux Process", "an unknown policy of a scheduler is an error", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: "SCHED_NOW"} }},
	{"config.md, Linux Process", "an unknown flag of a scheduler is an error", func(s *specs.Spec) {
		s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Flags: []specs.LinuxSchedulerFlag{"SCHED_FLAG_NOW"}}
	}},
	{"config.md, Linux Process", "an ioPriority without a class is an error", func(s *specs.Spec) { s.Process.IOPriority = &specs.LinuxIOPriority{Priority: 1} }},
	{"config.md, Linux Process", "an ioPriority below the lowest is an error", func(s *specs.Spec) {
		s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 8}
	}},
	{"config.md, Annotations", "a key that is empty is an error", func(s *specs.Spec) { s.Annotations = map[string]string{"": "x"} }},
	{"config.md, Valid values", "a profile without AppArmor", func(s *specs.Spec) { s.Process.ApparmorProfile = "x" }},
	{"config.md, Valid values", "a label without SELinux", func(s *specs.Spec) { s.Process.SelinuxLabel = "u:r:x" }},
	{"config-linux.md, Namespaces", "an unknown type is an error", with(specs.LinuxNamespace{Type: "moon"})},
	{"config-linux.md, Namespaces", "no type is an error", with(specs.LinuxNamespace{})},
	{"config-linux.md, User namespace mappings", "one without a size is an error", func(s *specs.Spec) {
		mapped(s)
		s.Linux.UIDMappings[0].Size = 0
	}},
	{"config-linux.md, Offset for Time Namespace", "an unknown clock is an error", func(s *specs.Spec) {
		with(specs.LinuxNamespace{Type: specs.TimeNamespace})(s)
		s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"sundial": {Secs: 1000}}
	}},
	{"config-linux.md, Devices", "no type is an error", made(device("/dev/one", "", 1, 5))},
	{"config-linux.md, Devices", "an unknown type is an error", made(device("/dev/one", "x", 1, 5))},
	{"config-linux.md, Devices", "no path is an error", made(device("", "c", 1, 5))},
	{"config-linux.md, Devices", "another file at its path is an error", made(device("/bin/busybox", "c", 1, 5))},
	{"config-linux.md, Devices", "two of one path are an error", func(s *specs.Spec) {
		s.Linux.Devices = []specs.LinuxDevice{device("/dev/one", "c", 1, 5), device("/dev/one", "c", 1, 3)}
	}},
	{"config-linux.md, Devices", "another than every container has at its path is an error", made(device("/dev/null", "c", 1, 5))},
	{"config-linux.md, CPU", "a burst above the quota is an error", limited(cpu(specs.LinuxCPU{Quota: new(int64(10000)), Burst: new(uint64(20000))}))},
	{"config-linux.md, Block IO", "weightDevice with neither weight nor leafWeight is an error", limited(blockIO(specs.LinuxBlockIO{WeightDevice: []specs.LinuxWeightDevice{{}}}))},
	{"config-linux.md, Block IO", "weightDevice of a device that has no such scheduler is an error", limited(func(r *specs.LinuxResources) {
		d := specs.LinuxWeightDevice{Weight: new(uint16(500))}
		d.Major, d.Minor = 4095, 0 // of nothing
		blockIO(specs.LinuxBlockIO{WeightDevice: []specs.LinuxWeightDevice{d}})(r)
	})},
	{"config-linux.md, Huge page limits", "a size that the kernel does not have is an error", limited(func(r *specs.LinuxResources) {
		r.HugepageLimits = []specs.LinuxHugepageLimit{{Pagesize: "3MB", Limit: 4 << 20}}
	})},
	{"config-linux.md, Network", "priorities of an interface that the host does not have are an error", limited(network(specs.LinuxNetwork{
		Priorities: []specs.LinuxInterfacePriority{{Name: "nosuch", Priority: 5}},
	}))},
	{"config-linux.md, RDMA", "neither hcaHandles nor hcaObjects is an error", limited(func(r *specs.LinuxResources) { r.Rdma = map[string]specs.LinuxRdma{"mlx5_1": {}} })},
	{"config-linux.md, IntelRdt", "without a mounted resctrl file system it is an error", func(s *specs.Spec) {
		s.Linux.IntelRdt = &specs.LinuxIntelRdt{ClosID: "x", Schemata: []string{"L3:0=f"}, EnableMonitoring: true}
	}},
	{"config-linux.md, Memory Policy", "no mode is an error", remembered(specs.LinuxMemoryPolicy{Nodes: "0"})},
	{"config-linux.md, Memory Policy", "an unknown mode is an error", remembered(specs.LinuxMemoryPolicy{Mode: "MPOL_NOW", Nodes: "0"})},
	{"config-linux.md, Memory Policy", "an unknown flag is an error", remembered(specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0", Flags: []specs.MemoryPolicyFlagType{"MPOL_F_NOW"}})},
	{"config-linux.md, Memory Policy", "nodes of MPOL_DEFAULT are an error", remembered(specs.LinuxMemoryPolicy{Mode: specs.MpolDefault, Nodes: "0"})},
	{"config-linux.md, Memory Policy", "MPOL_BIND without nodes is an error", remembered(specs.LinuxMemoryPolicy{Mode: specs.MpolBind})},
	{"config-linux.md, Seccomp", "no defaultAction is an error", filtered(func(s *specs.LinuxSeccomp, _ *specs.LinuxSyscall) { s.DefaultAction = "" })},
	{"config-linux.md, Seccomp", "an unknown defaultAction is an error", filtered(func(s *specs.LinuxSeccomp, _ *specs.LinuxSyscall) { s.DefaultAction = "SCMP_ACT_NOW" })},
	{"config-linux.md, Seccomp", "a defaultErrnoRet of an action that has none is an error", filtered(func(s *specs.LinuxSeccomp, _ *specs.LinuxSyscall) { s.DefaultErrnoRet = new(uint(5)) })},
	{"config-linux.md, Seccomp", "an unknown architecture is an error", filtered(func(s *specs.LinuxSeccomp, _ *specs.LinuxSyscall) { s.Architectures = []specs.Arch{"SCMP_ARCH_VAX"} })},
	{"config-linux.md, Seccomp", "an unknown flag is an error", filtered(func(s *specs.LinuxSeccomp, _ *specs.LinuxSyscall) {
		s.Flags = []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_NOW"}
	})},
	{"config-linux.md, Seccomp", "listenerMetadata is not set without listenerPath", filtered(func(s *specs.LinuxSeccomp, _ *specs.LinuxSyscall) { s.ListenerMetadata = "any" })},
	{"config-linux.md, Seccomp", "names must have an entry", filtered(func(_ *specs.LinuxSeccomp, c *specs.LinuxSyscall) { c.Names = nil })},
	{"config-linux.md, Seccomp", "no action is an error", filtered(func(_ *specs.LinuxSeccomp, c *specs.LinuxSyscall) { c.Action = "" })},
	{"config-linux.md, Seccomp", "an unknown action is an error", filtered(func(_ *specs.LinuxSeccomp, c *specs.LinuxSyscall) { c.Action = "SCMP_ACT_NOW" })},
	{"config-linux.md, Seccomp", "errnoRet of an action that has none is an error", filtered(func(_ *specs.LinuxSeccomp, c *specs.LinuxSyscall) {
		c.Action, c.ErrnoRet = specs.ActKill, new(uint(5))
	})},
	{"config-linux.md, Seccomp", "no op is an error", filtered(func(_ *specs.LinuxSeccomp, c *specs.LinuxSyscall) { c.Args[0].Op = "" })},
	{"config-linux.md, Seccomp", "an unknown op is an error", filtered(func(_ *specs.LinuxSeccomp, c *specs.LinuxSyscall) { c.Args[0].Op = "SCMP_CMP_NOW" })},
	{"config-linux.md, Seccomp", "an argument that no call has is an error", filtered(func(_ *specs.LinuxSeccomp, c *specs.LinuxSyscall) { c.Args[0].Index = 6 })},
	{"config-linux.md, Rootfs Mount Propagation", "an unknown one is an error", func(s *specs.Spec) { s.Linux.RootfsPropagation = "loud" }},
	{"config-linux.md, Masked Paths", "one that is not absolute is an error", func(s *specs.Spec) { s.Linux.MaskedPaths = []string{"etc"} }},
	{"config-linux.md, Readonly Paths", "one that is not absolute is an error", func(s *specs.Spec) { s.Linux.ReadonlyPaths = []string{"etc"} }},
	{"config-linux.md, Mount Label", "without SELinux it is an error", func(s *specs.Spec) { s.Linux.MountLabel = "u:r:x" }},
	{"config-linux.md, Personality", "no domain is an error", func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{} }},
	{"config-linux.md, Personality", "an unknown domain is an error", func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: "MOON"} }},
	{"config-linux.md, Personality", "a flag is an error", func(s *specs.Spec) {
		s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux, Flags: []specs.LinuxPersonalityFlag{"ADDR_NO_RANDOMIZE"}}
	}},
}

// written is a config.json with something else in the place of a text.
func written(section, text, from, to string) must {
	return must{section: section, text: text, check: func(b *box) error {
		config, err := os.ReadFile(b.dir + "/config.json")
		if err == nil {
			err = os.WriteFile(b.dir+"/config.json", []byte(strings.Replace(string(config), from, to, 1)), 0o600)
		}
		return all(err, notCreated(b))
	}}
}

// refusals are all that must be an error as it stands in config.json.
func refusals() (list []must) {
	for _, r := range plainly {
		list = append(list, must{section: r.section, text: r.text, edit: r.edit, check: notCreated})
	}
	for _, h := range spec.HooksOf(&specs.Spec{Hooks: new(specs.Hooks)}) {
		for _, bad := range []struct {
			what string
			hook specs.Hook
		}{
			{"with no path is an error", specs.Hook{}},
			{"with a path that is not absolute is an error", specs.Hook{Path: "bin/true"}},
			{"with a timeout that is not above zero is an error", specs.Hook{Path: "/bin/true", Timeout: new(0)}},
		} {
			list = append(list, must{section: "config.md, POSIX-platform Hooks", text: h.Kind + " " + bad.what, edit: func(s *specs.Spec) {
				s.Hooks = new(specs.Hooks)
				for _, own := range spec.HooksOf(s) {
					if own.Kind == h.Kind {
						*own.Hooks = []specs.Hook{bad.hook}
					}
				}
			}, check: notCreated})
		}
	}
	return append(list,
		must{section: "bundle.md, Container Format", text: "one without a config.json is an error", check: func(b *box) error {
			return all(os.Remove(b.dir+"/config.json"), notCreated(b))
		}},
		written("glossary.md, JSON", "a name that is there twice is an error", `{`, `{"ociVersion":"1.0.0",`),
		written("config.md, Annotations", "they are a map", `{`, `{"annotations":["x"],`),
		written("config.md, Annotations", "a value that is no string is an error", `{`, `{"annotations":{"a":1},`),
		written("config.md, User", "a uid that is no number is an error", `"uid":0`, `"uid":"root"`),
		written("config.md, User", "a gid below zero is an error", `"gid":0`, `"gid":-1`),
		written("config-linux.md, Allowed Device list", "allow is a boolean", `"allow":false`, `"allow":"no"`),
	)
}
