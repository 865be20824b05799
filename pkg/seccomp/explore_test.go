package seccomp_test

import (
	"maps"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/seccomp"
)

func explore(t *testing.T, filters []seccomp.Filter, nr uint32) seccomp.Outcome {
	t.Helper()
	o, err := seccomp.Explore(filters, nr, seccomp.Native())
	if err != nil {
		t.Fatal(err)
	}
	checkExamples(t, filters, seccomp.Native(), o)
	return o
}

func checkExamples(t *testing.T, filters []seccomp.Filter, arch seccomp.Arch, o seccomp.Outcome) {
	t.Helper()
	for _, c := range o.Cases {
		if c.Example == nil {
			continue
		}
		got, err := seccomp.Decide(filters, *c.Example)
		if err != nil || got != c.Action || c.Example.NR != o.Number || c.Example.Arch != arch {
			t.Fatalf("the example of %v, %+v, gives %v, %v", c.Action, *c.Example, got, err)
		}
	}
}

// has reports whether an outcome covers an action.
func has(o seccomp.Outcome, a seccomp.Action) bool {
	return o.Any || slices.ContainsFunc(o.Cases, func(c seccomp.Case) bool { return c.Action == a })
}

// Whatever filters together do with a call is among what Explore says, and of bitwise programs there is
// nothing more: each action has an example.
func TestExplore(t *testing.T) {
	nativeArch(t)
	for _, tt := range []struct {
		name  string
		kinds []uint16
		exact bool
	}{{"bitwise", bitwise, true}, {"any", slices.Concat(bitwise, others), false}} {
		c := randomChoices(7)
		kinds := slices.Concat(tt.kinds, slices.Repeat([]uint16{
			unix.BPF_LD | unix.BPF_ABS, unix.BPF_ALU | unix.BPF_AND, unix.BPF_JMP | unix.BPF_JEQ,
			unix.BPF_JMP | unix.BPF_JGE, unix.BPF_JMP | unix.BPF_JGT, unix.BPF_JMP | unix.BPF_JSET,
		}, 6), slices.Repeat([]uint16{unix.BPF_RET}, 8))
		cases, examples := 0, 0
		for i := range rounds(600) {
			var filters []seccomp.Filter
			for range 1 + c.below(3) {
				end := unix.SockFilter{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW}
				filters = append(filters, c.program(t, kinds, 10+c.below(50), end))
			}
			o := explore(t, filters, number(t, plainCalls[0], seccomp.Native()))
			for range 50 {
				d := c.plainCall(t, filters[c.below(len(filters))].Program)
				d.NR = o.Number
				if got, err := seccomp.Decide(filters, d); err != nil || !has(o, got) || o.Any {
					t.Fatalf("%s, %d: %+v: %v, %v, is not among %+v\n%v", tt.name, i, d, got, err, o, filters)
				}
			}
			for _, k := range o.Cases {
				if cases++; k.Example != nil {
					examples++
				} else if tt.exact {
					t.Errorf("%s, %d: %v has no example\n%v", tt.name, i, k.Action, filters)
				}
			}
		}
		t.Logf("%s: %d of %d cases have an example", tt.name, examples, cases)
		if cases < rounds(750) || examples < cases*9/10 {
			t.Errorf("%s: %d cases, %d examples", tt.name, cases, examples)
		}
	}
}

// Of the default profile, brute force finds the same: arguments at and beside all constants.
func TestOutcomesDefault(t *testing.T) {
	for arch, host := range map[seccomp.Arch]seccomp.Arch{
		seccomp.X86_64: seccomp.X86_64, seccomp.I386: seccomp.X86_64,
		seccomp.AArch64: seccomp.AArch64, seccomp.ARM: seccomp.AArch64,
	} {
		f := compileDefault(t, "", host)
		values := map[uint64]bool{0: true, ^uint64(0): true}
		for _, in := range f.Program {
			for _, k := range []uint64{uint64(in.K) - 1, uint64(in.K), uint64(in.K) + 1} {
				values[k], values[k<<32] = true, true
			}
		}
		grid := slices.Sorted(maps.Keys(values))
		all, err := seccomp.Outcomes([]seccomp.Filter{f}, arch)
		if err != nil {
			t.Fatal(err)
		}
		depend := map[string]bool{}
		for _, o := range all {
			checkExamples(t, []seccomp.Filter{f}, arch, o)
			if len(o.Cases) == 1 && !slices.Contains([]string{"mount", "read", "clone3"}, o.Name) {
				continue // TestExplore is about the rest
			}
			depend[o.Name] = len(o.Cases) > 1
			found := map[seccomp.Action]bool{}
			for index := range 3 {
				for _, v := range grid {
					d := seccomp.Data{NR: o.Number, Arch: arch}
					d.Args[index] = v
					found[eval(t, f, d)] = true
				}
			}
			if len(found) != len(o.Cases) || o.Any {
				t.Errorf("%v, %s: %+v, brute force finds %v", arch, o.Name, o.Cases, found)
			}
			for _, c := range o.Cases {
				if !found[c.Action] || c.Example == nil {
					t.Errorf("%v, %s: brute force does not find %v, which has the example %+v", arch, o.Name, c.Action, c.Example)
				}
			}
		}
		t.Logf("%v: %d calls, %v", arch, len(all), depend)
		if !depend["clone"] || !depend["personality"] || !depend["socket"] || depend["read"] || depend["mount"] {
			t.Errorf("%v: %v depend on their arguments", arch, depend)
		}
	}
}

// What passes, what is refused, and what depends, on each way into the kernel.
func TestOutcomes(t *testing.T) {
	filters := []seccomp.Filter{compileDefault(t, "", seccomp.X86_64)}
	ask := func(all []seccomp.Outcome, err error) map[string]seccomp.Outcome {
		t.Helper()
		if err != nil || len(all) < 300 {
			t.Fatalf("%d calls, %v", len(all), err)
		}
		named := map[string]seccomp.Outcome{}
		for _, o := range all {
			named[o.Name] = o
		}
		return named
	}
	native := ask(seccomp.Outcomes(filters, seccomp.X86_64))
	for name, want := range map[string][2]bool{"read": {true, false}, "mount": {false, true}, "clone": {true, true}} {
		if o := native[name]; o.MayPass() != want[0] || o.MayFail() != want[1] {
			t.Errorf("%s: passes %v, fails %v: %+v", name, o.MayPass(), o.MayFail(), o)
		}
	}
	if o := ask(seccomp.Outcomes(filters, seccomp.I386))["read"]; !o.MayPass() || o.MayFail() || o.Number != 3 {
		t.Errorf("i386's read: %+v", o)
	}
	for name, o := range ask(seccomp.OutcomesX32(filters)) {
		if o.MayPass() || len(o.Cases) != 1 || o.Cases[0].Action != enosys {
			t.Errorf("x32's %s: %+v", name, o)
		}
	}
	for name, o := range ask(seccomp.Outcomes(filters, seccomp.AArch64)) {
		if len(o.Cases) != 1 || o.Cases[0].Action != seccomp.KillProcess {
			t.Errorf("aarch64's %s: %+v", name, o)
		}
	}
	for name, o := range ask(seccomp.Outcomes(nil, seccomp.X86_64)) {
		if len(o.Cases) != 1 || o.MayFail() {
			t.Errorf("without filters, %s: %+v", name, o)
		}
	}
}

func returns(a seccomp.Action) seccomp.Filter {
	return seccomp.Filter{Program: []unix.SockFilter{{Code: unix.BPF_RET, K: uint32(a)}}}
}

func TestDecide(t *testing.T) {
	order := []seccomp.Action{
		seccomp.KillProcess, seccomp.KillThread, seccomp.Trap, eperm, seccomp.Notify, seccomp.Trace(3), seccomp.Log, seccomp.Allow,
	}
	for i, strict := range order {
		for _, lenient := range order[i:] {
			for _, filters := range [][]seccomp.Filter{{returns(strict), returns(lenient)}, {returns(lenient), returns(strict)}} {
				if got, err := seccomp.Decide(filters, seccomp.Data{}); got != strict || err != nil {
					t.Errorf("%v and %v: %v, %v", strict, lenient, got, err)
				}
			}
		}
	}
	if got, _ := seccomp.Decide([]seccomp.Filter{returns(eperm), returns(enosys)}, seccomp.Data{}); got != enosys {
		t.Errorf("the newest of two errnos is not taken, but %v", got)
	}
	if _, err := seccomp.Decide([]seccomp.Filter{{}}, seccomp.Data{}); err == nil {
		t.Error("an empty program is interpreted")
	}
}

// A number made of an argument can be any action; and what is too much work is told: an action keeps
// its place, without an example.
func TestExploreLimits(t *testing.T) {
	nativeArch(t)
	argument := unix.SockFilter{Code: unix.BPF_LD | unix.BPF_ABS, K: 16}
	o := explore(t, []seccomp.Filter{{Program: []unix.SockFilter{argument, {Code: unix.BPF_RET | unix.BPF_A}}}}, 0)
	if !o.Any || !o.MayPass() || !o.MayFail() {
		t.Errorf("an argument is returned: %+v", o)
	}

	var program []unix.SockFilter // 2^40 ways, none of which a trap is reached on
	for bit := range 40 {
		program = append(program,
			unix.SockFilter{Code: unix.BPF_LD | unix.BPF_ABS, K: uint32(16 + 4*(bit/32))},
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET, K: 1 << (bit % 32), Jt: 1},
			unix.SockFilter{Code: unix.BPF_LD | unix.BPF_IMM, K: 1})
	}
	program = append(program, argument, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET, K: 1, Jf: 2},
		argument, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET, K: 1, Jf: 1},
		unix.SockFilter{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW}, unix.SockFilter{Code: unix.BPF_RET, K: unix.SECCOMP_RET_TRAP})
	o = explore(t, []seccomp.Filter{{Program: program}}, 0)
	if len(o.Cases) != 2 || o.Cases[0].Action != seccomp.Trap || o.Cases[0].Example != nil || o.Cases[1].Example == nil {
		t.Errorf("%+v", o)
	}
}
