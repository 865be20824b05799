package seccomp_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/seccomp"
)

func errno(n uint) *uint { return new(n) }

// profileOf allows what its rules do not name.
func profileOf(rules ...specs.LinuxSyscall) *specs.LinuxSeccomp {
	return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: rules}
}

func compile(t testing.TB, p *specs.LinuxSeccomp) seccomp.Filter {
	t.Helper()
	f, err := seccomp.Compile(p, seccomp.X86_64)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestActions(t *testing.T) {
	tests := []struct {
		action specs.LinuxSeccompAction
		errno  *uint
		want   seccomp.Action
		text   string
	}{
		{specs.ActKill, nil, seccomp.KillThread, "kill thread"},
		{specs.ActKillThread, nil, seccomp.KillThread, "kill thread"},
		{specs.ActKillProcess, nil, seccomp.KillProcess, "kill process"},
		{specs.ActTrap, nil, seccomp.Trap, "trap"},
		{specs.ActErrno, nil, seccomp.Errno(unix.EPERM), "errno EPERM"},
		{specs.ActErrno, errno(0), seccomp.Errno(0), "errno 0"},
		{specs.ActErrno, errno(38), seccomp.Errno(unix.ENOSYS), "errno ENOSYS"},
		{specs.ActErrno, errno(4095), seccomp.Errno(4095), "errno 4095"},
		{specs.ActTrace, nil, seccomp.Trace(1), "trace 1"},
		{specs.ActTrace, errno(65535), seccomp.Trace(65535), "trace 65535"},
		{specs.ActAllow, nil, seccomp.Allow, "allow"},
		{specs.ActLog, nil, seccomp.Log, "log"},
		{specs.ActNotify, nil, seccomp.Notify, "notify"},
	}
	for _, tt := range tests {
		p := profileOf(specs.LinuxSyscall{Names: []string{"getpid"}, Action: tt.action, ErrnoRet: tt.errno})
		p.ListenerPath = "/run/agent.sock"
		f := compile(t, p)
		got := eval(t, f, seccomp.Data{NR: unix.SYS_GETPID, Arch: seccomp.X86_64})
		if got != tt.want || got.String() != tt.text {
			t.Errorf("%s: %#x %v, want %#x %s", tt.action, uint32(got), got, uint32(tt.want), tt.text)
		}
		if notify := tt.want == seccomp.Notify; f.Listener != notify || (f.Flags == unix.SECCOMP_FILTER_FLAG_NEW_LISTENER) != notify {
			t.Errorf("%s: listener %v, flags %#x", tt.action, f.Listener, f.Flags)
		}
		if tt.action == specs.ActNotify {
			continue // no default action
		}
		f = compile(t, &specs.LinuxSeccomp{DefaultAction: tt.action, DefaultErrnoRet: tt.errno})
		if got := eval(t, f, seccomp.Data{NR: unix.SYS_GETPPID, Arch: seccomp.X86_64}); got != tt.want {
			t.Errorf("%s by default: %v", tt.action, got)
		}
	}
}

// edges are where a comparison of two halves can go wrong.
var edges = []uint64{
	0, 1, 2, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff, 1 << 32, 1<<32 | 1, 1<<32 | 0xffffffff,
	2 << 32, 0x7fffffff_ffffffff, 1 << 63, 0xfffffffe_ffffffff, 0xffffffff_00000000, ^uint64(0) - 1, ^uint64(0),
}

// holds is what a condition means.
func holds(c specs.LinuxSeccompArg, args [6]uint64) bool {
	a := args[c.Index]
	switch c.Op {
	case specs.OpNotEqual:
		return a != c.Value
	case specs.OpLessThan:
		return a < c.Value
	case specs.OpLessEqual:
		return a <= c.Value
	case specs.OpEqualTo:
		return a == c.Value
	case specs.OpGreaterEqual:
		return a >= c.Value
	case specs.OpGreaterThan:
		return a > c.Value
	case specs.OpMaskedEqual:
		return a&c.Value == c.ValueTwo
	}
	panic(c.Op)
}

var operators = []specs.LinuxSeccompOperator{
	specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo,
	specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual,
}

func TestOperators(t *testing.T) {
	for _, op := range operators {
		for index := range uint(6) {
			for i, value := range edges {
				c := specs.LinuxSeccompArg{Index: index, Value: value, ValueTwo: value & edges[len(edges)-1-i], Op: op}
				f := compile(t, profileOf(specs.LinuxSyscall{
					Names: []string{"getpid"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{c},
				}))
				for _, a := range edges {
					d := seccomp.Data{NR: unix.SYS_GETPID, Arch: seccomp.X86_64}
					d.Args = [6]uint64{^a, ^a, ^a, ^a, ^a, ^a}
					d.Args[index] = a
					want := allow
					if holds(c, d.Args) {
						want = eperm
					}
					if got := eval(t, f, d); got != want {
						t.Errorf("%#x %s %#x,%#x: %v", a, op, c.Value, c.ValueTwo, got)
					}
				}
			}
		}
	}
}

func TestRules(t *testing.T) {
	equal := func(index uint, value uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: index, Value: value, Op: specs.OpEqualTo}
	}
	rule := func(n uint, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: []string{"getpid"}, Action: specs.ActErrno, ErrnoRet: new(n), Args: args}
	}
	e := func(n int) seccomp.Action { return seccomp.Errno(unix.Errno(n)) }
	tests := []struct {
		name  string
		rules []specs.LinuxSyscall
		args  [6]uint64
		want  seccomp.Action
	}{
		{"both conditions hold", []specs.LinuxSyscall{rule(2, equal(0, 1), equal(1, 2))}, [6]uint64{1, 2}, e(2)},
		{"one of two holds", []specs.LinuxSyscall{rule(2, equal(0, 1), equal(1, 2))}, [6]uint64{1, 3}, allow},
		{"same argument twice, first", []specs.LinuxSyscall{rule(2, equal(0, 1), equal(0, 2))}, [6]uint64{1}, e(2)},
		{"same argument twice, second", []specs.LinuxSyscall{rule(2, equal(0, 1), equal(0, 2))}, [6]uint64{2}, e(2)},
		{"same argument twice, neither", []specs.LinuxSyscall{rule(2, equal(0, 1), equal(0, 2))}, [6]uint64{3}, allow},
		{
			"same argument twice, a third alone",
			[]specs.LinuxSyscall{rule(2, equal(0, 1), equal(0, 2), equal(1, 7))},
			[6]uint64{9, 7},
			e(2),
		},
		{"first rule", []specs.LinuxSyscall{rule(2, equal(0, 1)), rule(3, equal(1, 1))}, [6]uint64{1, 1}, e(2)},
		{"second rule", []specs.LinuxSyscall{rule(2, equal(0, 1)), rule(3, equal(1, 1))}, [6]uint64{0, 1}, e(3)},
		{"then without condition", []specs.LinuxSyscall{rule(2, equal(0, 1)), rule(3)}, [6]uint64{0}, e(3)},
		{"never after one without condition", []specs.LinuxSyscall{rule(3), rule(2, equal(0, 1))}, [6]uint64{1}, e(3)},
		{"one that always holds", []specs.LinuxSyscall{rule(2, specs.LinuxSeccompArg{Op: specs.OpMaskedEqual})}, [6]uint64{5}, e(2)},
		{
			"one that never holds",
			[]specs.LinuxSyscall{rule(2, specs.LinuxSeccompArg{Op: specs.OpMaskedEqual, Value: 1, ValueTwo: 2})},
			[6]uint64{3},
			allow,
		},
	}
	for _, tt := range tests {
		f := compile(t, profileOf(tt.rules...))
		if got := eval(t, f, seccomp.Data{NR: unix.SYS_GETPID, Arch: seccomp.X86_64, Args: tt.args}); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestArchitectures(t *testing.T) {
	const x32 = 0x40000000
	kill := seccomp.KillProcess
	tests := []struct {
		listed []specs.Arch
		host   seccomp.Arch
		arch   seccomp.Arch
		nr     uint32
		want   seccomp.Action
	}{
		{nil, seccomp.X86_64, seccomp.X86_64, 39, eperm},
		{nil, seccomp.X86_64, seccomp.X86_64, 40, allow},
		{nil, seccomp.X86_64, seccomp.X86_64, x32 | 39, enosys},
		{nil, seccomp.X86_64, seccomp.X86_64, x32 | 40, enosys},
		{nil, seccomp.X86_64, seccomp.I386, 20, kill},
		{[]specs.Arch{specs.ArchX32}, seccomp.X86_64, seccomp.X86_64, 39, eperm},
		{[]specs.Arch{specs.ArchX32}, seccomp.X86_64, seccomp.X86_64, x32 | 39, eperm},
		{[]specs.Arch{specs.ArchX32}, seccomp.X86_64, seccomp.X86_64, x32 | 40, allow},
		{[]specs.Arch{specs.ArchX32}, seccomp.X86_64, seccomp.X86_64, x32 | 520, eperm}, // execve
		{[]specs.Arch{specs.ArchX32}, seccomp.X86_64, seccomp.X86_64, x32 | 59, allow},  // not execve there
		{[]specs.Arch{specs.ArchX86}, seccomp.X86_64, seccomp.I386, 20, eperm},
		{[]specs.Arch{specs.ArchX86}, seccomp.X86_64, seccomp.I386, 39, allow}, // mkdir
		{[]specs.Arch{specs.ArchX86}, seccomp.AArch64, seccomp.I386, 20, kill},
		{nil, seccomp.AArch64, seccomp.AArch64, 172, eperm},
		{nil, seccomp.AArch64, seccomp.ARM, 20, kill},
		{[]specs.Arch{specs.ArchARM, specs.ArchS390X}, seccomp.AArch64, seccomp.ARM, 20, eperm},
		{[]specs.Arch{specs.ArchARM}, seccomp.AArch64, seccomp.ARM, 0xf0005, eperm}, // set_tls
	}
	for _, tt := range tests {
		p := profileOf(specs.LinuxSyscall{Names: []string{"getpid", "execve", "set_tls"}, Action: specs.ActErrno})
		p.Architectures = tt.listed
		f, err := seccomp.Compile(p, tt.host)
		if err != nil {
			t.Fatal(err)
		}
		if got := eval(t, f, seccomp.Data{NR: tt.nr, Arch: tt.arch}); got != tt.want {
			t.Errorf("%v on %v, %v %#x: %v, want %v", tt.listed, tt.host, tt.arch, tt.nr, got, tt.want)
		}
	}
}

func TestNewerCalls(t *testing.T) {
	tests := []struct {
		action specs.LinuxSeccompAction
		names  []string
		nr     uint32
		want   seccomp.Action
	}{
		{specs.ActErrno, []string{"read", "getpid"}, 38, eperm},
		{specs.ActErrno, []string{"read", "getpid"}, 39, allow},
		{specs.ActErrno, []string{"read", "getpid"}, 40, enosys},
		{specs.ActErrno, []string{"read", "getpid"}, 0x3fffffff, enosys},
		{specs.ActKillProcess, []string{"getpid"}, 40, enosys},
		{specs.ActTrap, []string{"getpid"}, 40, enosys},
		{specs.ActLog, []string{"getpid"}, 40, seccomp.Log},
		{specs.ActTrace, []string{"getpid"}, 40, seccomp.Trace(1)},
		{specs.ActErrno, []string{"getpgrp", "chown32"}, 500, enosys},
		{specs.ActErrno, []string{"chown32"}, 500, eperm}, // it names no call of x86-64
	}
	for _, tt := range tests {
		f := compile(t, &specs.LinuxSeccomp{
			DefaultAction: tt.action,
			Syscalls:      []specs.LinuxSyscall{{Names: tt.names, Action: specs.ActAllow}},
		})
		if got := eval(t, f, seccomp.Data{NR: tt.nr, Arch: seccomp.X86_64}); got != tt.want {
			t.Errorf("%s %v: %d: %v, want %v", tt.action, tt.names, tt.nr, got, tt.want)
		}
	}
}

func TestCompileErrors(t *testing.T) {
	good := specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActAllow}
	with := func(edit func(*specs.LinuxSyscall)) []specs.LinuxSyscall {
		bad := good
		edit(&bad)
		return []specs.LinuxSyscall{good, bad}
	}
	withArg := func(a specs.LinuxSeccompArg) []specs.LinuxSyscall {
		return with(func(s *specs.LinuxSyscall) { s.Args = []specs.LinuxSeccompArg{{Op: specs.OpEqualTo}, a} })
	}
	const deny = specs.ActErrno
	tests := []struct {
		profile specs.LinuxSeccomp
		want    string
	}{
		{specs.LinuxSeccomp{}, `/linux/seccomp/defaultAction: unknown action ""`},
		{specs.LinuxSeccomp{DefaultAction: "ALLOW"}, `/linux/seccomp/defaultAction: unknown action "ALLOW"`},
		{
			specs.LinuxSeccomp{DefaultAction: specs.ActNotify, ListenerPath: "/x"},
			"/linux/seccomp/defaultAction: SCMP_ACT_NOTIFY would stop the calls that hand the listener over, too",
		},
		{specs.LinuxSeccomp{DefaultAction: deny, DefaultErrnoRet: errno(4096)}, "/linux/seccomp/defaultErrnoRet: 4096 is larger than 4095"},
		{specs.LinuxSeccomp{DefaultAction: deny, DefaultErrnoRet: errno(1 << 40)}, "/linux/seccomp/defaultErrnoRet: 1099511627776 is larger than 4095"},
		{specs.LinuxSeccomp{DefaultAction: specs.ActKill, DefaultErrnoRet: errno(1)}, "/linux/seccomp/defaultErrnoRet: SCMP_ACT_KILL takes no errno"},
		{specs.LinuxSeccomp{DefaultAction: deny, Architectures: []specs.Arch{specs.ArchX86, "amd64"}}, `/linux/seccomp/architectures/1: unknown architecture "amd64"`},
		{specs.LinuxSeccomp{DefaultAction: deny, Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, "X"}}, `/linux/seccomp/flags/1: unknown flag "X"`},
		{specs.LinuxSeccomp{DefaultAction: deny, ListenerMetadata: "x"}, "/linux/seccomp/listenerMetadata: is set without listenerPath"},
		{
			specs.LinuxSeccomp{DefaultAction: deny, Syscalls: with(func(s *specs.LinuxSyscall) { s.Action = specs.ActNotify })},
			"/linux/seccomp/listenerPath: is missing, and an action is SCMP_ACT_NOTIFY",
		},
		{
			specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: "/x", Syscalls: []specs.LinuxSyscall{{Names: []string{"read", "write"}, Action: specs.ActNotify}}},
			"/linux/seccomp/syscalls/0/names/1: SCMP_ACT_NOTIFY cannot be used for the write syscall, by which a process tells of its listener",
		},
		{
			specs.LinuxSeccomp{DefaultAction: deny, ListenerPath: "/x", Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActNotify}}},
			"/linux/seccomp: an action is SCMP_ACT_NOTIFY, and write does not pass, by which a process tells of its listener",
		},
		{
			specs.LinuxSeccomp{DefaultAction: deny, Syscalls: with(func(s *specs.LinuxSyscall) { s.Action = "X" })},
			`/linux/seccomp/syscalls/1/action: unknown action "X"`,
		},
		{
			specs.LinuxSeccomp{DefaultAction: deny, Syscalls: with(func(s *specs.LinuxSyscall) { s.ErrnoRet = errno(1) })},
			"/linux/seccomp/syscalls/1/errnoRet: SCMP_ACT_ALLOW takes no errno",
		},
		{
			specs.LinuxSeccomp{DefaultAction: deny, Syscalls: with(func(s *specs.LinuxSyscall) { s.Action, s.ErrnoRet = specs.ActTrace, errno(65536) })},
			"/linux/seccomp/syscalls/1/errnoRet: 65536 is larger than 65535",
		},
		{
			specs.LinuxSeccomp{DefaultAction: deny, Syscalls: with(func(s *specs.LinuxSyscall) { s.Names = nil })},
			"/linux/seccomp/syscalls/1/names: is empty",
		},
		{
			specs.LinuxSeccomp{DefaultAction: deny, Syscalls: with(func(s *specs.LinuxSyscall) { s.Names = []string{"a", ""} })},
			"/linux/seccomp/syscalls/1/names/1: is empty",
		},
		{
			specs.LinuxSeccomp{DefaultAction: deny, Syscalls: withArg(specs.LinuxSeccompArg{Index: 6, Op: specs.OpEqualTo})},
			"/linux/seccomp/syscalls/1/args/1/index: 6: a system call has 6 arguments",
		},
		{
			specs.LinuxSeccomp{DefaultAction: deny, Syscalls: withArg(specs.LinuxSeccompArg{Op: "=="})},
			`/linux/seccomp/syscalls/1/args/1/op: unknown operator "=="`,
		},
	}
	for _, tt := range tests {
		_, err := seccomp.Compile(&tt.profile, seccomp.X86_64)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%v, want %s", err, tt.want)
		}
		var field *seccomp.FieldError
		if !errors.As(err, &field) {
			t.Errorf("%v is no FieldError", err)
		}
	}
	if _, err := seccomp.Compile(profileOf(), seccomp.ARM); err == nil {
		t.Error("a filter for an ARM kernel")
	}
}

func TestFlags(t *testing.T) {
	const killable = specs.LinuxSeccompFlagWaitKillableRecv
	p := profileOf(specs.LinuxSyscall{Names: []string{"mount"}, Action: specs.ActNotify})
	p.ListenerPath = "/run/agent.sock"
	p.Flags = []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_TSYNC", specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow, killable}
	want := uint32(unix.SECCOMP_FILTER_FLAG_LOG | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW |
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
	if f := compile(t, p); f.Flags != want {
		t.Errorf("flags %#x, want %#x", f.Flags, want)
	}
	p = profileOf()
	p.Flags = []specs.LinuxSeccompFlag{killable}
	if f := compile(t, p); f.Flags != 0 {
		t.Errorf("flags %#x without a listener", f.Flags)
	}
}

func TestUnknownNames(t *testing.T) {
	f := compile(t, profileOf(
		specs.LinuxSyscall{Names: []string{"warp", "getpid", "chown32"}, Action: specs.ActErrno},
		specs.LinuxSyscall{Names: []string{"GETPPID"}, Action: specs.ActErrno},
	))
	if !slices.Equal(f.Unknown, []string{"warp", "GETPPID"}) {
		t.Errorf("unknown %q", f.Unknown)
	}
}

// longProfile has a rule with n conditions for each of many calls, so that jumps are far.
func longProfile(calls, n int) *specs.LinuxSeccomp {
	p := profileOf()
	for nr := range uint32(calls) {
		name, ok := seccomp.Name(nr, seccomp.X86_64)
		if !ok {
			continue
		}
		for i := range n {
			p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{
				Names: []string{name}, Action: specs.ActErrno, ErrnoRet: new(uint(i + 1)),
				Args: []specs.LinuxSeccompArg{{Index: 1, Value: uint64(nr)<<32 | uint64(i), Op: specs.OpEqualTo}},
			})
		}
	}
	return p
}

func TestFarJumps(t *testing.T) {
	sizes := [][2]int{{1, 200}, {2, 100}, {3, 130}, {10, 62}, {100, 7}, {300, 1}}
	for n := range 16 {
		sizes = append(sizes, [2]int{2, 55 + n}, [2]int{3, 55 + n}, [2]int{5, 25 + n}) // blocks of about 255
	}
	for _, size := range sizes {
		f := compile(t, longProfile(size[0], size[1]))
		for nr := range uint32(size[0] + 1) {
			for i := range size[1] + 1 {
				want := allow
				if nr < uint32(size[0]) && i < size[1] {
					want = seccomp.Errno(unix.Errno(i + 1))
				}
				d := seccomp.Data{NR: nr, Arch: seccomp.X86_64, Args: [6]uint64{0, uint64(nr)<<32 | uint64(i)}}
				if got := eval(t, f, d); got != want {
					t.Fatalf("%v: call %d with %d: %v, want %v", size, nr, i, got, want)
				}
			}
		}
	}
}

func TestTooLong(t *testing.T) {
	if _, err := seccomp.Compile(longProfile(300, 10), seccomp.X86_64); !errors.Is(err, seccomp.ErrTooLong) {
		t.Errorf("error %v", err)
	}
}

func TestCompileIsPure(t *testing.T) {
	a, b := compileDefault(t, everyCap, seccomp.X86_64), compileDefault(t, everyCap, seccomp.X86_64)
	if !slices.Equal(a.Program, b.Program) {
		t.Error("two programs for one profile")
	}
}
