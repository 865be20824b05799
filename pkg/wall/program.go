package wall

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// A deviceProgram guards the devices of a cgroup of version 2: an array of
// struct bpf_insn (bpf(2), and the kernel's
// bpf/standardization/instruction-set.rst). The kernel calls it with the address
// of a struct bpf_cgroup_dev_ctx.
type deviceProgram []byte

// allows runs the program: kind is a BPF_DEVCG_DEV_* and access a
// BPF_DEVCG_ACC_*. The verdict is not known if the program does more than
// compute with these: if it calls functions, or reads maps.
func (p deviceProgram) allows(kind, access, major, minor uint32) (yes, known bool) {
	const address = 1 << 32 // of the context: any number that is none of its words
	var context []byte
	for _, word := range [...]uint32{kind | access<<16, major, minor} {
		context = binary.NativeEndian.AppendUint32(context, word)
	}
	var registers [16]uint64
	registers[1] = address
	for at := 0; at >= 0 && at+8 <= len(p); at += 8 { // the verifier lets no program of these instructions run for ever
		code, dst, src := p[at], p[at+1]&0xf, p[at+1]>>4
		if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
			dst, src = src, dst
		}
		offset := int(int16(binary.NativeEndian.Uint16(p[at+2:])))
		a, b := registers[dst], uint64(int32(binary.NativeEndian.Uint32(p[at+4:])))
		if code&unix.BPF_X != 0 {
			b = registers[src]
		}
		var ok bool
		switch class := code & 7; class {
		case unix.BPF_LDX:
			registers[dst], ok = loadContext(context, code, int64(registers[src]-address)+int64(offset))
		case unix.BPF_ALU:
			registers[dst], ok = compute(code&0xf0, uint64(uint32(a)), uint64(uint32(b)), 31)
			registers[dst] &= 1<<32 - 1
			ok = ok && offset == 0
		case unix.BPF_ALU64:
			registers[dst], ok = compute(code&0xf0, a, b, 63)
			ok = ok && offset == 0
		case unix.BPF_JMP, unix.BPF_JMP32:
			if class == unix.BPF_JMP32 {
				a, b = uint64(uint32(a)), uint64(uint32(b))
			}
			if code == unix.BPF_JMP|unix.BPF_EXIT {
				return uint32(registers[0]) != 0, true
			}
			var jump bool
			if jump, ok = compare(code&0xf0, a, b); code == unix.BPF_JMP32|unix.BPF_JA {
				ok = false // gotol: it jumps by the immediate
			} else if jump {
				at += 8 * offset
			}
		default:
			return false, false
		}
		if !ok {
			return false, false
		}
	}
	return false, false
}

// loadContext reads a word, a half or a byte of the context.
func loadContext(context []byte, code byte, at int64) (uint64, bool) {
	size, ok := map[byte]int64{unix.BPF_W: 4, unix.BPF_H: 2, unix.BPF_B: 1}[code&0x18]
	if !ok || code&0xe0 != unix.BPF_MEM || at < 0 || at+size > int64(len(context)) {
		return 0, false
	}
	switch size {
	case 4:
		return uint64(binary.NativeEndian.Uint32(context[at:])), true
	case 2:
		return uint64(binary.NativeEndian.Uint16(context[at:])), true
	}
	return uint64(context[at]), true
}

func compute(operation byte, a, b, shifts uint64) (uint64, bool) {
	switch operation {
	case unix.BPF_MOV:
		return b, true
	case unix.BPF_ADD:
		return a + b, true
	case unix.BPF_SUB:
		return a - b, true
	case unix.BPF_AND:
		return a & b, true
	case unix.BPF_OR:
		return a | b, true
	case unix.BPF_XOR:
		return a ^ b, true
	case unix.BPF_LSH:
		return a << (b & shifts), true
	case unix.BPF_RSH:
		return a >> (b & shifts), true
	}
	return 0, false
}

func compare(operation byte, a, b uint64) (jump, ok bool) {
	switch operation {
	case unix.BPF_JA:
		return true, true
	case unix.BPF_JEQ:
		return a == b, true
	case unix.BPF_JNE:
		return a != b, true
	case unix.BPF_JGT:
		return a > b, true
	case unix.BPF_JGE:
		return a >= b, true
	case unix.BPF_JLT:
		return a < b, true
	case unix.BPF_JLE:
		return a <= b, true
	case unix.BPF_JSET:
		return a&b != 0, true
	}
	return false, false
}
