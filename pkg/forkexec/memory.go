package forkexec

import (
	"encoding/binary"
	"fmt"

	"github.com/minictr/minictr/pkg/plan"
)

// A memory holds everything that the steps point to, as one block that works
// at any address: pointers are offsets until rebase.
type memory struct {
	data     []byte
	pointers []int // offsets of the words that hold an address
	inputs   map[plan.Reg]int
	regs     map[plan.Reg]uint16 // registers that steps set; nil where there are none (the stub)
	operands [][2]int            // op and argument, of each operand that is an address
	result   int                 // offset of what the current step's call stores as its result; 0 is none
	store    []store             // what the current step stores before its call
	stores   []placed            // all of them, by op
	results  []placed            // likewise
}

// A store puts the low bytes of a register into memory.
type store struct {
	offset int
	reg    uint16
}

// A placed word is known by its op.
type placed struct{ op, offset int }

// block adds bytes at the next aligned place, and returns its offset.
func (m *memory) block(b []byte) int {
	for len(m.data)%8 != 0 {
		m.data = append(m.data, 0)
	}
	at := len(m.data)
	m.data = append(m.data, b...)
	return at
}

func (m *memory) word(at int, v uint64) { binary.NativeEndian.PutUint64(m.data[at:], v) }

// point makes the word at the offset the address of another offset.
func (m *memory) point(at, to int) {
	m.word(at, uint64(to))
	m.pointers = append(m.pointers, at)
}

// rebase makes all pointers absolute, for a block that lies at base.
func (m *memory) rebase(base uint64) {
	for _, at := range m.pointers {
		m.word(at, base+binary.NativeEndian.Uint64(m.data[at:]))
	}
}

// address adds what an argument points to, and returns its offset.
func (m *memory) address(a plan.Arg) (int, error) {
	switch a := a.(type) {
	case plan.Str:
		return m.block(append([]byte(a), 0)), nil
	case plan.Strs:
		at := m.block(make([]byte, 8*(len(a)+1)))
		for i, s := range a {
			m.point(at+8*i, m.block(append([]byte(s), 0)))
		}
		return at, nil
	case plan.Mem:
		at := m.block(a.Data)
		for _, r := range a.Refs {
			if err := m.ref(at+r.Offset, r); err != nil {
				return 0, err
			}
		}
		return at, nil
	case plan.Num, plan.Reg:
		return 0, fmt.Errorf("%s is not an address", a)
	}
	panic("plan.Arg is a closed set")
}

func (m *memory) ref(at int, r plan.Ref) error {
	if r.Result {
		m.result = at
		return nil
	}
	reg, ok := r.To.(plan.Reg)
	if !ok {
		to, err := m.address(r.To)
		m.point(at, to)
		return err
	}
	if fd, ok := m.inputs[reg]; ok {
		var word [8]byte
		binary.NativeEndian.PutUint64(word[:], uint64(fd))
		copy(m.data[at:at+r.Size], word[:])
		return nil
	}
	n, ok := m.regs[reg]
	if !ok {
		return fmt.Errorf("%s is used before it is set", reg)
	}
	m.store = append(m.store, store{at, n})
	return nil
}

// An operand is a lowered argument: the sum of its parts, in the child.
type operand struct {
	value   uint64
	pointer bool   // value is an offset
	reg     uint16 // 0 is no register
}

func (m *memory) operand(a plan.Arg) (operand, error) {
	switch a := a.(type) {
	case plan.Num:
		return operand{value: a.Value}, nil
	case plan.Reg:
		if fd, ok := m.inputs[a]; ok {
			return operand{value: uint64(fd)}, nil
		}
		if n, ok := m.regs[a]; ok {
			return operand{reg: n}, nil
		}
		return operand{}, fmt.Errorf("%s is used before it is set", a)
	default:
		at, err := m.address(a)
		return operand{value: uint64(at), pointer: true}, err
	}
}
