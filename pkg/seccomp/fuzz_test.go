package seccomp_test

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/seccomp"
)

// x32Numbers finds the numbers of x32, for which Number has no Arch.
var x32Numbers = sync.OnceValue(func() map[string]uint32 {
	numbers := map[string]uint32{}
	for nr := uint32(0x40000000); nr < 0x40000400; nr++ {
		if name, ok := seccomp.Name(nr, seccomp.X86_64); ok {
			numbers[name] = nr
		}
	}
	return numbers
})

// reference says what a profile means for a call by reading it as the package comment does.
func reference(p *specs.LinuxSeccomp, host seccomp.Arch, d seccomp.Data) seccomp.Action {
	listed := func(a specs.Arch) bool { return slices.Contains(p.Architectures, a) }
	x32 := d.Arch == seccomp.X86_64 && d.NR >= 0x40000000
	switch {
	case x32 && host == seccomp.X86_64 && !listed(specs.ArchX32):
		return enosys
	case d.Arch == host:
	case d.Arch == seccomp.I386 && host == seccomp.X86_64 && listed(specs.ArchX86):
	case d.Arch == seccomp.ARM && host == seccomp.AArch64 && listed(specs.ArchARM):
	default:
		return seccomp.KillProcess
	}

	private := d.Arch == seccomp.ARM && d.NR >= 0xf0000
	newer, named := true, false // than all that the profile names
	for _, s := range p.Syscalls {
		for _, name := range s.Names {
			nr, ok := seccomp.Number(name, d.Arch)
			if x32 {
				nr, ok = x32Numbers()[name]
			}
			if !ok || private != (d.Arch == seccomp.ARM && nr >= 0xf0000) {
				continue
			}
			named = true
			newer = newer && d.NR > nr
			if d.NR == nr && matches(s.Args, d.Args) {
				return action(s.Action, s.ErrnoRet)
			}
		}
	}
	otherwise := action(p.DefaultAction, p.DefaultErrnoRet)
	lenient := slices.Contains([]specs.LinuxSeccompAction{specs.ActAllow, specs.ActLog, specs.ActTrace}, p.DefaultAction)
	if named && newer && !lenient {
		return enosys
	}
	return otherwise
}

func matches(conditions []specs.LinuxSeccompArg, args [6]uint64) bool {
	indices := map[uint]bool{}
	held := 0
	for _, c := range conditions {
		indices[c.Index] = true
		if holds(c, args) {
			held++
		}
	}
	if len(indices) < len(conditions) {
		return held > 0
	}
	return held == len(conditions)
}

func action(name specs.LinuxSeccompAction, ret *uint) seccomp.Action {
	datum := uint(unix.EPERM)
	if ret != nil {
		datum = *ret
	}
	switch name {
	case specs.ActKill, specs.ActKillThread:
		return seccomp.KillThread
	case specs.ActKillProcess:
		return seccomp.KillProcess
	case specs.ActTrap:
		return seccomp.Trap
	case specs.ActErrno:
		return seccomp.Errno(unix.Errno(datum))
	case specs.ActTrace:
		return seccomp.Trace(uint16(datum))
	case specs.ActAllow:
		return seccomp.Allow
	case specs.ActLog:
		return seccomp.Log
	case specs.ActNotify:
		return seccomp.Notify
	}
	panic(name)
}

// choices makes a profile from bytes.
type choices []byte

func (c *choices) below(n int) int {
	if len(*c) == 0 {
		return 0
	}
	b := int((*c)[0])
	*c = (*c)[1:]
	return b % n
}

func pick[T any](c *choices, from ...T) T { return from[c.below(len(from))] }

func (c *choices) action() (specs.LinuxSeccompAction, *uint) {
	a := pick(c, specs.ActErrno, specs.ActAllow, specs.ActTrace, specs.ActLog, specs.ActTrap, specs.ActKill,
		specs.ActKillProcess, specs.ActKillThread, specs.ActNotify)
	if (a == specs.ActErrno || a == specs.ActTrace) && c.below(2) == 1 {
		return a, new(uint(c.below(256)))
	}
	return a, nil
}

func (c *choices) profile() *specs.LinuxSeccomp {
	p := &specs.LinuxSeccomp{ListenerPath: "/run/agent.sock"}
	p.DefaultAction, p.DefaultErrnoRet = c.action()
	for range c.below(4) {
		p.Architectures = append(p.Architectures, pick(c, specs.ArchX86, specs.ArchX32, specs.ArchARM, specs.ArchS390))
	}
	p.Syscalls = []specs.LinuxSyscall{{Names: []string{"write"}, Action: specs.ActAllow}} // for listeners
	for range c.below(40) {
		s := specs.LinuxSyscall{}
		s.Action, s.ErrnoRet = c.action()
		for range 1 + c.below(6) {
			s.Names = append(s.Names, pick(c, "read", "pwrite64", "getpid", "execve", "socket", "clone", "mseal", "ptrace",
				"set_tls", "socketcall", "chown32", "warp", "recvfrom", "getuid", "getgid", "geteuid"))
		}
		for range c.below(5) {
			s.Args = append(s.Args, specs.LinuxSeccompArg{
				Index: uint(c.below(6)), Op: pick(c, operators...), Value: pick(c, edges...), ValueTwo: pick(c, edges...),
			})
		}
		p.Syscalls = append(p.Syscalls, s)
	}
	return p
}

// calls returns calls at and beside every number that profile uses.
func (c *choices) calls() []seccomp.Data {
	var calls []seccomp.Data
	for _, arch := range []seccomp.Arch{seccomp.X86_64, seccomp.I386, seccomp.AArch64, seccomp.ARM, 0} {
		numbers := []uint32{0, 3, 39, 59, 462, 500, 0xf0004, 0xf0005, 0x3fffffff, 0x40000000, 0x40000000 | 520, 1 << 31, ^uint32(0)}
		for _, name := range []string{"getpid", "execve", "socket", "clone", "ptrace", "getuid"} {
			if nr, ok := seccomp.Number(name, arch); ok {
				numbers = append(numbers, nr-1, nr, nr+1)
			}
		}
		for _, nr := range numbers {
			d := seccomp.Data{NR: nr, Arch: arch}
			for i := range d.Args {
				d.Args[i] = pick(c, edges...)
			}
			calls = append(calls, d)
		}
	}
	return calls
}

func FuzzCompile(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		b := make([]byte, random.IntN(1200))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := choices(b)
		p := c.profile()
		for _, host := range []seccomp.Arch{seccomp.X86_64, seccomp.AArch64} {
			filter, err := seccomp.Compile(p, host)
			if p.DefaultAction == specs.ActNotify {
				if err == nil {
					t.Fatal("SCMP_ACT_NOTIFY by default")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			_ = filter.String()
			for _, d := range c.calls() {
				got := eval(t, filter, d)
				if want := reference(p, host, d); got != want {
					t.Fatalf("%+v: %v, want %v\n%+v\n%v", d, got, want, p, filter)
				}
			}
		}
	})
}

func FuzzEval(f *testing.F) {
	f.Add(compileDefault(f, "", seccomp.X86_64).Bytes(), uint32(41), uint64(38))
	f.Add([]byte{0x20, 0, 0, 0, 60, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0}, uint32(0), uint64(0))
	f.Fuzz(func(t *testing.T, program []byte, nr uint32, arg uint64) {
		var filter seccomp.Filter
		for b := range slices.Chunk(program[:len(program)/8*8], 8) {
			filter.Program = append(filter.Program, unix.SockFilter{
				Code: uint16(b[0]) | uint16(b[1])<<8, Jt: b[2], Jf: b[3],
				K: uint32(b[4]) | uint32(b[5])<<8 | uint32(b[6])<<16 | uint32(b[7])<<24,
			})
		}
		d := seccomp.Data{NR: nr, Arch: seccomp.X86_64, Args: [6]uint64{arg, arg}}
		got, err := seccomp.Decide([]seccomp.Filter{filter}, d)
		if (err == nil) != (filter.Check() == nil) {
			t.Errorf("Decide: %v", err)
		}
		o, err := seccomp.Explore([]seccomp.Filter{filter}, nr, seccomp.X86_64)
		if err == nil && !has(o, got) {
			t.Errorf("%v is not among %+v", got, o)
		}
		_ = filter.String()
	})
}
