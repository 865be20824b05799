package cgroup

import (
	"encoding/binary"
	"maps"
	"reflect"
	"slices"

	"golang.org/x/sys/unix"
)

// Programs of type BPF_PROG_TYPE_CGROUP_DEVICE: bpf(2), and the kernel's
// bpf/standardization/instruction-set.rst.
//
// The program and the two calls are made by hand. A library for BPF in general
// would add 0.4 ms to the start of every command, also where no program is
// ever loaded.

// An instruction is struct bpf_insn.
type instruction struct {
	code uint8
	dst  uint8
	src  uint8
	off  int16
	imm  int32
}

// The instructions that the program needs. All comparisons are of 32 bits.
const (
	opLoad32 = unix.BPF_LDX | unix.BPF_W | unix.BPF_MEM // dst = *(u32 *)(src + off)
	opMove   = unix.BPF_ALU | 0xb0 | unix.BPF_K         // dst = imm
	opCopy   = unix.BPF_ALU | 0xb0 | unix.BPF_X         // dst = src
	opAnd    = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	opShift  = unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K
	opUnless = unix.BPF_JMP32 | unix.BPF_JNE | unix.BPF_K // if dst != imm, skip off
	opIf     = unix.BPF_JMP32 | unix.BPF_JEQ | unix.BPF_K // if dst == imm, skip off
	opExit   = unix.BPF_JMP | unix.BPF_EXIT               // return r0
)

// The registers that the program uses. The kernel calls it with the address
// of a struct bpf_cgroup_dev_ctx: access and type in one word, major, minor.
const (
	regResult uint8 = iota
	regContext
	regType
	regAccess // what is asked for and not yet allowed
	regMajor
	regMinor
)

// assemble makes the program for the rules: from the last to the first, each
// rule that fits either grants the access it is about, until nothing is left
// to grant, or denies all if some of it is still asked for.
func assemble(rules []rule) []instruction {
	code := []instruction{
		{code: opLoad32, dst: regType, src: regContext, off: 0},
		{code: opCopy, dst: regAccess, src: regType},
		{code: opAnd, dst: regType, imm: 0xffff},
		{code: opShift, dst: regAccess, imm: 16},
		{code: opLoad32, dst: regMajor, src: regContext, off: 4},
		{code: opLoad32, dst: regMinor, src: regContext, off: 8},
	}
	for i := len(rules) - 1; i >= 0; i-- {
		code = append(code, rules[i].assemble()...)
	}
	return append(code, verdict(0)...)
}

// assemble makes the part of the program for one rule.
func (r rule) assemble() []instruction {
	var part []instruction
	unless := func(reg uint8, imm int64) {
		part = append(part, instruction{code: opUnless, dst: reg, imm: int32(imm)})
	}
	switch r.kind {
	case 'b':
		unless(regType, unix.BPF_DEVCG_DEV_BLOCK)
	case 'c':
		unless(regType, unix.BPF_DEVCG_DEV_CHAR)
	}
	if r.major >= 0 {
		unless(regMajor, r.major)
	}
	if r.minor >= 0 {
		unless(regMinor, r.minor)
	}
	if r.allow {
		part = append(part, instruction{code: opAnd, dst: regAccess, imm: int32(accessAll &^ r.access)})
		unless(regAccess, 0)
		part = append(part, verdict(1)...)
	} else {
		part = append(part,
			instruction{code: opCopy, dst: regResult, src: regAccess},
			instruction{code: opAnd, dst: regResult, imm: int32(r.access)},
			instruction{code: opIf, dst: regResult})
		part = append(part, verdict(0)...)
	}
	for i := range part { // each condition that fails leads to the next rule
		if part[i].code == opUnless || part[i].code == opIf {
			part[i].off = int16(len(part) - i - 1)
		}
	}
	return part
}

// verdict is the end: 1 lets the access through, 0 is EPERM.
func verdict(allow int32) []instruction {
	return []instruction{{code: opMove, dst: regResult, imm: allow}, {code: opExit}}
}

// encode lays instructions out as the kernel reads them.
func encode(code []instruction) []byte {
	var out []byte
	for _, i := range code {
		regs := i.dst | i.src<<4
		if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
			regs = i.dst<<4 | i.src
		}
		out = append(out, i.code, regs)
		out = binary.NativeEndian.AppendUint16(out, uint16(i.off))
		out = binary.NativeEndian.AppendUint32(out, uint32(i.imm))
	}
	return out
}

// attach loads the program and attaches it to a cgroup, beside those of its
// ancestors: all of them must let an access through.
func attach(dir string, code []instruction) error {
	fd, err := open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	program, err := load(encode(code))
	if err != nil {
		return &FileError{Op: "bpf", Path: dir, Value: "BPF_PROG_LOAD", Err: err}
	}
	defer func() { _ = unix.Close(program) }() // the cgroup holds it now
	attr := make([]byte, 16)
	for i, v := range [...]int{fd, program, unix.BPF_CGROUP_DEVICE, unix.BPF_F_ALLOW_MULTI} {
		binary.NativeEndian.PutUint32(attr[4*i:], uint32(v))
	}
	if _, err := bpf(unix.BPF_PROG_ATTACH, attr, nil); err != nil {
		return &FileError{Op: "bpf", Path: dir, Value: "BPF_PROG_ATTACH", Err: err}
	}
	return nil
}

// load gives the program to the kernel, and returns its descriptor, which is
// closed on exec.
func load(code []byte) (int, error) {
	attr := make([]byte, 48) // union bpf_attr as far as BPF_PROG_LOAD needs it
	binary.NativeEndian.PutUint32(attr[0:], unix.BPF_PROG_TYPE_CGROUP_DEVICE)
	binary.NativeEndian.PutUint32(attr[4:], uint32(len(code)/8))
	license := append([]byte("Apache-2.0"), 0)
	return bpf(unix.BPF_PROG_LOAD, attr, map[int][]byte{8: code, 16: license})
}

// programs reads the programs that guard the devices of a cgroup, those of its
// ancestors too, as the kernel's verifier has left them.
func programs(dir string) (all [][]byte, err error) {
	fd, err := open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	attr, ids := make([]byte, 64), make([]byte, 4*64) // with more programs it fails with ENOSPC
	for i, v := range [...]int{0: fd, 1: unix.BPF_CGROUP_DEVICE, 2: unix.BPF_F_QUERY_EFFECTIVE, 6: len(ids) / 4} {
		binary.NativeEndian.PutUint32(attr[4*i:], uint32(v))
	}
	if _, err := bpf(unix.BPF_PROG_QUERY, attr, map[int][]byte{16: ids}); err != nil {
		return nil, &FileError{Op: "bpf", Path: dir, Value: "BPF_PROG_QUERY", Err: err}
	}
	for i := range binary.NativeEndian.Uint32(attr[24:]) {
		code, err := instructions(ids[4*i:])
		if err != nil {
			return nil, &FileError{Op: "bpf", Path: dir, Value: "BPF_OBJ_GET_INFO_BY_FD", Err: err}
		}
		all = append(all, code)
	}
	return all, nil
}

// instructions reads one program; one of more than 4096 instructions is cut.
func instructions(id []byte) ([]byte, error) {
	attr, info, code := make([]byte, 16), make([]byte, 40), make([]byte, 4096*8)
	copy(attr, id[:4])
	fd, err := bpf(unix.BPF_PROG_GET_FD_BY_ID, attr, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	binary.NativeEndian.PutUint32(attr, uint32(fd))
	binary.NativeEndian.PutUint32(attr[4:], uint32(len(info))) // struct bpf_prog_info to xlated_prog_insns
	binary.NativeEndian.PutUint32(info[20:], uint32(len(code)))
	_, err = bpf(unix.BPF_OBJ_GET_INFO_BY_FD, attr, map[int][]byte{8: info, len(attr) + 32: code})
	return code[:min(int(binary.NativeEndian.Uint32(info[20:])), len(code))], err
}

// bpf is bpf(2). The attributes and what they point to (at the offsets in
// refs) go into memory of their own, which no garbage collector moves, so
// that their addresses are numbers that stay true. An offset behind the
// attributes is one in what lies there. What the kernel writes comes back.
func bpf(command int, attr []byte, refs map[int][]byte) (int, error) {
	size := len(attr)
	for _, data := range refs {
		size += len(data) + 8
	}
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return -1, err
	}
	defer func() { _ = unix.Munmap(memory) }()
	start := reflect.ValueOf(memory).Pointer()
	parts := map[int][]byte{0: attr}
	end := copy(memory, attr)
	for _, offset := range slices.Sorted(maps.Keys(refs)) {
		end = (end + 7) &^ 7
		parts[end] = refs[offset]
		binary.NativeEndian.PutUint64(memory[offset:], uint64(start)+uint64(end))
		end += copy(memory[end:], refs[offset])
	}
	for {
		fd, _, e := unix.Syscall(unix.SYS_BPF, uintptr(command), start, uintptr(len(attr)))
		if e == 0 {
			for at, part := range parts {
				copy(part, memory[at:])
			}
			return int(fd), nil
		}
		if e != unix.EINTR && e != unix.EAGAIN { // EAGAIN: the verifier gives way to a signal
			return -1, e
		}
	}
}
