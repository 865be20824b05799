package seccomp

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// The instructions that seccomp(2) takes, see Linux's Documentation/networking/filter.rst. A is the
// accumulator, X the other register, M are 16 words of memory, k is the instruction's constant.
const (
	load         = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS // A = word k of struct seccomp_data
	loadLength   = unix.BPF_LD | unix.BPF_W | unix.BPF_LEN // A = sizeof(struct seccomp_data)
	loadNumber   = unix.BPF_LD | unix.BPF_IMM
	loadMemory   = unix.BPF_LD | unix.BPF_MEM
	loadXLength  = unix.BPF_LDX | unix.BPF_W | unix.BPF_LEN
	loadXNumber  = unix.BPF_LDX | unix.BPF_IMM
	loadXMemory  = unix.BPF_LDX | unix.BPF_MEM
	storeMemory  = unix.BPF_ST
	storeXMemory = unix.BPF_STX
	toX          = unix.BPF_MISC | unix.BPF_TAX
	toA          = unix.BPF_MISC | unix.BPF_TXA

	add    = unix.BPF_ALU | unix.BPF_ADD | unix.BPF_K // A += k
	sub    = unix.BPF_ALU | unix.BPF_SUB | unix.BPF_K
	mul    = unix.BPF_ALU | unix.BPF_MUL | unix.BPF_K
	div    = unix.BPF_ALU | unix.BPF_DIV | unix.BPF_K
	and    = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	or     = unix.BPF_ALU | unix.BPF_OR | unix.BPF_K
	xor    = unix.BPF_ALU | unix.BPF_XOR | unix.BPF_K
	lsh    = unix.BPF_ALU | unix.BPF_LSH | unix.BPF_K
	rsh    = unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K
	negate = unix.BPF_ALU | unix.BPF_NEG

	jump     = unix.BPF_JMP | unix.BPF_JA               // skip k instructions
	ifEqual  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K // skip jt if A == k, else jf
	ifAbove  = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	ifAtOver = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	ifSet    = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K // if A & k != 0
	ret      = unix.BPF_RET | unix.BPF_K                 // k is the action
	retA     = unix.BPF_RET | unix.BPF_A

	fromX = unix.BPF_X // with arithmetic and comparisons: X in the place of k
	class = 0x07       // mask of LD, LDX, ST, STX, ALU, JMP, RET, MISC
)

// Offsets in struct seccomp_data. The low half of an argument comes first: all of these
// architectures are little-endian here.
const (
	offsetNR   = 0
	offsetArch = 4
	offsetIP   = 8
	offsetArgs = 16
	sizeofData = 64
)

// Check reports what the kernel would refuse the program for with EINVAL: an instruction that seccomp(2)
// has not, a jump, a load or a memory word out of bounds, a word of memory that is read before it is
// written on some way, a constant that is no divisor or no shift, a program without end, or more than
// 4096 instructions.
func (f Filter) Check() error {
	n := len(f.Program)
	if n == 0 {
		return fmt.Errorf("seccomp: program is empty")
	}
	if n > unix.BPF_MAXINSNS {
		return fmt.Errorf("%w: %d", ErrTooLong, n)
	}
	for i, in := range f.Program {
		if fault := fault(in, n-i-1); fault != "" {
			return fmt.Errorf("seccomp: instruction %d %s", i, fault)
		}
	}
	if last := f.Program[n-1].Code; last != ret && last != retA {
		return fmt.Errorf("seccomp: program does not end with a return")
	}
	return f.checkMemory()
}

// fault says what is wrong with an instruction that some others follow, "" for nothing.
func fault(in unix.SockFilter, follow int) string {
	switch in.Code {
	case load:
		if in.K%4 != 0 || in.K >= sizeofData {
			return fmt.Sprintf("loads offset %d of struct seccomp_data", in.K)
		}
	case loadMemory, loadXMemory, storeMemory, storeXMemory:
		if in.K >= unix.BPF_MEMWORDS {
			return fmt.Sprintf("uses word %d of memory", in.K)
		}
	case div:
		if in.K == 0 {
			return "divides by zero"
		}
	case lsh, rsh:
		if in.K >= 32 {
			return fmt.Sprintf("shifts by %d bits", in.K)
		}
	case jump:
		if uint64(in.K) >= uint64(follow) {
			return "jumps out of the program"
		}
	case ifEqual, ifAbove, ifAtOver, ifSet, ifEqual | fromX, ifAbove | fromX, ifAtOver | fromX, ifSet | fromX:
		if int(max(in.Jt, in.Jf)) >= follow {
			return "jumps out of the program"
		}
	case add, sub, mul, and, or, xor, negate,
		add | fromX, sub | fromX, mul | fromX, div | fromX, and | fromX, or | fromX, xor | fromX, lsh | fromX, rsh | fromX,
		loadLength, loadNumber, loadXLength, loadXNumber, toX, toA, ret, retA:
	default:
		return fmt.Sprintf("has the unknown code %#x", in.Code)
	}
	return ""
}

// checkMemory follows which words of memory are written, as the kernel does (check_load_and_stores in
// net/core/filter.c): it takes what follows a return for reachable from there.
func (f Filter) checkMemory() error {
	const every = 1<<unix.BPF_MEMWORDS - 1
	unwritten := make([]uint16, len(f.Program)) // on some jump to an instruction
	written := uint16(0)
	for i, in := range f.Program {
		written &^= unwritten[i]
		switch {
		case in.Code == storeMemory || in.Code == storeXMemory:
			written |= 1 << in.K
		case in.Code == loadMemory || in.Code == loadXMemory:
			if written>>in.K&1 == 0 {
				return fmt.Errorf("seccomp: instruction %d loads word %d of memory, which nothing has written", i, in.K)
			}
		case in.Code == jump:
			unwritten[i+1+int(in.K)] |= ^written
			written = every
		case in.Code&class == unix.BPF_JMP:
			unwritten[i+1+int(in.Jt)] |= ^written
			unwritten[i+1+int(in.Jf)] |= ^written
			written = every
		}
	}
	return nil
}
