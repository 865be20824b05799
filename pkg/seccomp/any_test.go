package seccomp_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/seccomp"
)

// Kinds of instructions. What bitwise ones make of a word can be told bit by bit.
var (
	bitwise = []uint16{
		unix.BPF_LD | unix.BPF_ABS, unix.BPF_LD | unix.BPF_ABS, unix.BPF_LD | unix.BPF_ABS,
		unix.BPF_LD | unix.BPF_LEN, unix.BPF_LD | unix.BPF_IMM, unix.BPF_LD | unix.BPF_MEM, unix.BPF_LDX | unix.BPF_LEN,
		unix.BPF_LDX | unix.BPF_IMM, unix.BPF_ST, unix.BPF_STX, unix.BPF_MISC | unix.BPF_TXA,
		unix.BPF_ALU | unix.BPF_AND, unix.BPF_ALU | unix.BPF_OR, unix.BPF_ALU | unix.BPF_XOR, unix.BPF_ALU | unix.BPF_LSH,
		unix.BPF_ALU | unix.BPF_RSH, unix.BPF_ALU | unix.BPF_AND | unix.BPF_X, unix.BPF_ALU | unix.BPF_OR | unix.BPF_X,
		unix.BPF_ALU | unix.BPF_XOR | unix.BPF_X, unix.BPF_ALU | unix.BPF_LSH | unix.BPF_X, unix.BPF_ALU | unix.BPF_RSH | unix.BPF_X,
		unix.BPF_JMP | unix.BPF_JA, unix.BPF_JMP | unix.BPF_JEQ, unix.BPF_JMP | unix.BPF_JGE, unix.BPF_JMP | unix.BPF_JGT,
		unix.BPF_JMP | unix.BPF_JSET, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_X, unix.BPF_JMP | unix.BPF_JGE | unix.BPF_X,
		unix.BPF_JMP | unix.BPF_JGT | unix.BPF_X, unix.BPF_JMP | unix.BPF_JSET | unix.BPF_X, unix.BPF_RET,
	}
	others = []uint16{
		unix.BPF_LDX | unix.BPF_MEM, unix.BPF_MISC | unix.BPF_TAX, unix.BPF_ALU | unix.BPF_NEG,
		unix.BPF_ALU | unix.BPF_ADD, unix.BPF_ALU | unix.BPF_SUB, unix.BPF_ALU | unix.BPF_MUL, unix.BPF_ALU | unix.BPF_DIV,
		unix.BPF_ALU | unix.BPF_ADD | unix.BPF_X, unix.BPF_ALU | unix.BPF_SUB | unix.BPF_X,
		unix.BPF_ALU | unix.BPF_MUL | unix.BPF_X, unix.BPF_ALU | unix.BPF_DIV | unix.BPF_X,
	}
)

// number makes a constant at which something may change.
func (c *choices) number() uint32 {
	switch c.below(3) {
	case 0:
		return uint32(c.below(8))
	case 1:
		return uint32(pick(c, edges...))
	}
	return uint32(c.below(256))<<24 | uint32(c.below(256))<<16 | uint32(c.below(256))<<8 | uint32(c.below(256))
}

// instruction makes one of a kind that can jump over as many others as room.
func (c *choices) instruction(kind uint16, room int) unix.SockFilter {
	in := unix.SockFilter{Code: kind, K: c.number()}
	switch kind {
	case unix.BPF_LD | unix.BPF_ABS:
		in.K = uint32(16 + 4*c.below(12)) // an argument
	case unix.BPF_LD | unix.BPF_MEM, unix.BPF_LDX | unix.BPF_MEM, unix.BPF_ST, unix.BPF_STX:
		in.K %= words
	case unix.BPF_ALU | unix.BPF_DIV:
		in.K = max(in.K, 1)
	case unix.BPF_ALU | unix.BPF_LSH, unix.BPF_ALU | unix.BPF_RSH:
		in.K %= 32
	case unix.BPF_JMP | unix.BPF_JA:
		in.K = uint32(c.below(min(room, 8) + 1))
	case unix.BPF_RET:
		in.K = pick[uint32](c, unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_ERRNO, unix.SECCOMP_RET_TRACE) | uint32(c.below(40))
	}
	if kind&7 == unix.BPF_JMP {
		in.Jt, in.Jf = uint8(c.below(min(room, 8)+1)), uint8(c.below(min(room, 8)+1))
	}
	return in
}

// words is how many words of memory random programs use.
const words = 3

// program makes a program that lets pass what is no plain call, and ends with ends.
func (c *choices) program(t *testing.T, kinds []uint16, length int, ends ...unix.SockFilter) seccomp.Filter {
	t.Helper()
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_ABS}}
	for i, name := range plainCalls {
		nr, jt := number(t, name, seccomp.Native()), uint8(len(plainCalls)-i)
		program = append(program, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ, K: nr, Jt: jt})
	}
	program = append(program, unix.SockFilter{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW})
	for i := range uint32(words) {
		program = append(program, c.instruction(unix.BPF_LD|unix.BPF_ABS, 0), unix.SockFilter{Code: unix.BPF_ST, K: i})
	}
	for i := range length {
		program = append(program, c.instruction(pick(c, kinds...), length-1-i))
	}
	return seccomp.Filter{Program: append(program, ends...)}
}

// shown ends a program so that 11 bits of A are seen as an errno. (Go takes 4095 for a result.)
func (c *choices) shown() []unix.SockFilter {
	return []unix.SockFilter{
		{Code: unix.BPF_ALU | unix.BPF_RSH, K: uint32(c.below(22))},
		{Code: unix.BPF_ALU | unix.BPF_AND, K: 0x7ff},
		{Code: unix.BPF_ALU | unix.BPF_OR, K: unix.SECCOMP_RET_ERRNO},
		{Code: unix.BPF_RET | unix.BPF_A},
	}
}

// plainCall makes a call whose arguments are like the program's constants.
func (c *choices) plainCall(t *testing.T, program []unix.SockFilter) seccomp.Data {
	t.Helper()
	d := seccomp.Data{NR: number(t, pick(c, plainCalls...), seccomp.Native()), Arch: seccomp.Native()}
	half := func() uint64 {
		if c.below(2) == 0 {
			return uint64(c.number())
		}
		return uint64(pick(c, program...).K + uint32(c.below(3)) - 1)
	}
	for i := range d.Args {
		d.Args[i] = half()<<32 | half()&0xffffffff
	}
	return d
}

// rounds is fewer than n where the processor may be emulated.
func rounds(n int) int {
	if testing.Short() {
		return n / 4
	}
	return n
}

func randomChoices(seed uint64) *choices {
	random := rand.New(rand.NewPCG(seed, seed))
	c := make(choices, 1<<20)
	for i := range c {
		c[i] = byte(random.Uint32())
	}
	return &c
}

func TestKernelAgreesOnAny(t *testing.T) {
	arch := nativeArch(t)
	c := randomChoices(5)
	kills := 0
	var trials []trial
	for range rounds(300) {
		f := c.program(t, slices.Concat(bitwise, others), 5+c.below(40), c.shown()...)
		tr := trial{Program: f.Program}
		for range 30 {
			d := c.plainCall(t, f.Program)
			if eval(t, f, d) == seccomp.KillThread {
				kills++ // TestKernelKillsDivision is about these
				continue
			}
			tr.Calls = append(tr.Calls, d)
		}
		trials = append(trials, tr)
	}
	results, err := inKernel(t, trials)
	if err != nil {
		t.Fatal(err)
	}
	errnos := map[unix.Errno]bool{}
	for i, r := range results {
		f := seccomp.Filter{Program: r.Program}
		outcomes := map[uint32]seccomp.Outcome{}
		for _, name := range plainCalls {
			outcomes[number(t, name, arch)] = explore(t, []seccomp.Filter{f}, number(t, name, arch))
		}
		for j, d := range r.Calls {
			action, err := seccomp.Decide([]seccomp.Filter{f}, d)
			if err != nil || !has(outcomes[d.NR], action) {
				t.Fatalf("filter %d: %+v: %v, %v, is not among %+v\n%v", i, d, action, err, outcomes[d.NR], f)
			}
			if want := expected(t, action); r.Results[j] != want {
				t.Fatalf("filter %d: %+v: errno %d, want %d by %v\n%v", i, d, r.Results[j], want, action, f)
			}
			errnos[r.Results[j]] = true
		}
	}
	if calls := 30 * len(trials); len(errnos) < rounds(100) || kills > calls/2 {
		t.Errorf("only %d errnos, and %d of %d calls divide by zero: the filters try too little", len(errnos), kills, calls)
	}
}

// What Check refuses and the kernel takes, or the other way round.
func TestKernelRefuses(t *testing.T) {
	nativeArch(t)
	c := randomChoices(6)
	var trials []trial
	for range rounds(2000) {
		f := c.program(t, slices.Concat(bitwise, others), 3+c.below(10), c.shown()...)
		for range c.below(3) {
			in := &f.Program[c.below(len(f.Program))]
			switch c.below(5) {
			case 0:
				in.Code = uint16(c.below(256))
			case 1:
				in.Code ^= 1 << c.below(16)
			case 2:
				in.Jt, in.Jf = uint8(c.below(24)), uint8(c.below(24))
			case 3:
				in.K = c.number()
			case 4:
				*in = unix.SockFilter{Code: pick[uint16](c, unix.BPF_LD, unix.BPF_LDX) | unix.BPF_MEM, K: uint32(c.below(words + 1))}
			}
		}
		trials = append(trials, trial{Program: f.Program, Flags: unix.SECCOMP_FILTER_FLAG_TSYNC})
	}
	for code := range uint16(512) { // every code there is
		in := unix.SockFilter{Code: code, K: 4}
		program := []unix.SockFilter{{Code: unix.BPF_ST, K: 4}, in, {Code: unix.BPF_RET}, {Code: unix.BPF_RET}, {Code: unix.BPF_RET}, {Code: unix.BPF_RET}, {Code: unix.BPF_RET}}
		trials = append(trials, trial{Program: program, Flags: unix.SECCOMP_FILTER_FLAG_TSYNC})
	}
	results, err := inKernel(t, trials)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for i, r := range results {
		if r.Failure != "" {
			refused++
		}
		err := seccomp.Filter{Program: r.Program}.Check()
		if r.Failure != "" && r.Failure != unix.EINVAL.Error() || (r.Failure != "") != (err != nil) {
			t.Errorf("program %d: the kernel says %q, Check %v\n%v", i, r.Failure, err, r.Program)
		}
	}
	if refused < rounds(500) || len(results)-refused < rounds(500) {
		t.Errorf("%d of %d are refused: one side is tried too little", refused, len(results))
	}
}
