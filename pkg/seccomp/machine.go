package seccomp

import (
	"math/bits"

	"golang.org/x/sys/unix"
)

// A value is what a register holds: 32 bits, each of which is known, or is a bit of a word that is not
// known, perhaps inverted.
type value struct {
	word uint16 // which unknown word
	turn uint8  // how many bits that is rotated to the left by
	mask uint32 // which bits are the word's; 0 if all is known
	bits uint32 // the known bits, and 1 for those of the word's that are inverted
}

func constant(n uint32) value { return value{bits: n} }

func unknown(word uint16) value { return value{word: word, mask: ^uint32(0)} }

// values are the words of struct seccomp_data. What is unknown of them has the numbers 0 to 15; words
// from 16 on are results of arithmetic that cannot be told bit by bit.
type values [sizeofData / 4]value

// calculate is arithmetic with numbers. A shift looks at the lower five bits, as the
// kernel's compilers do; a division by zero never comes here to matter.
func calculate(op uint16, a, b uint32) uint32 {
	switch op {
	case add:
		return a + b
	case sub:
		return a - b
	case mul:
		return a * b
	case div:
		return a / max(b, 1)
	case and:
		return a & b
	case or:
		return a | b
	case xor:
		return a ^ b
	case lsh:
		return a << (b & 31)
	}
	return a >> (b & 31)
}

// combine is arithmetic bit by bit, with a number; false if op is no such.
func (v value) combine(op uint16, n uint32) (value, bool) {
	switch op {
	case and:
		v.mask &= n
	case or:
		v.mask &^= n
	case xor:
	case lsh:
		v.mask = calculate(op, v.mask, n)
		v.turn = (v.turn + uint8(n&31)) & 31
	case rsh:
		v.mask = calculate(op, v.mask, n)
		v.turn = (v.turn - uint8(n&31)) & 31
	default:
		return v, false
	}
	v.bits = calculate(op, v.bits, n)
	if v.mask == 0 {
		return constant(v.bits), true
	}
	return v, true
}

// A condition compares a value with a number: op is one of ifEqual, ifAbove, ifAtOver, ifSet.
type condition struct {
	value
	op    uint16
	k     uint32
	holds bool // or must not
}

// possible reports whether a word makes the condition true whose bits under fixed are those of word.
// The other bits can have every value, so that the least and the greatest tell.
func (c condition) possible(fixed, word uint32) bool {
	fixed, word = bits.RotateLeft32(fixed, int(c.turn)), bits.RotateLeft32(word, int(c.turn))
	free := c.mask &^ fixed
	least := (word&c.mask ^ c.bits) &^ free
	greatest := least | free
	switch {
	case c.op == ifEqual && c.holds:
		return least == c.k&^free
	case c.op == ifEqual:
		return free != 0 || least != c.k
	case c.op == ifAbove && c.holds:
		return greatest > c.k
	case c.op == ifAbove:
		return least <= c.k
	case c.op == ifAtOver && c.holds:
		return greatest >= c.k
	case c.op == ifAtOver:
		return least < c.k
	case c.holds:
		return greatest&c.k != 0
	}
	return least&c.k == 0
}

func (c condition) not() condition {
	c.holds = !c.holds
	return c
}

// A machine is the state of a program between two instructions, as the kernel begins it: all zero.
type machine struct {
	pc     int
	a, x   value
	memory [unix.BPF_MEMWORDS]value
	result value  // at the end: the action
	made   uint16 // how many unknown words arithmetic has made
}

// end is where a return leads.
const end = -1

// A branch is where an instruction leads. If that is one place, the condition means nothing.
type branch struct {
	condition
	yes, no int
}

// step executes one instruction; the caller moves pc.
func (m *machine) step(in unix.SockFilter, data *values) branch {
	operand := constant(in.K)
	if in.Code&fromX != 0 {
		operand = m.x
	}
	next := m.pc + 1
	switch op := in.Code &^ fromX; in.Code {
	case load:
		m.a = data[in.K/4]
	case loadLength:
		m.a = constant(sizeofData)
	case loadXLength:
		m.x = constant(sizeofData)
	case loadNumber:
		m.a = constant(in.K)
	case loadXNumber:
		m.x = constant(in.K)
	case loadMemory:
		m.a = m.memory[in.K]
	case loadXMemory:
		m.x = m.memory[in.K]
	case storeMemory:
		m.memory[in.K] = m.a
	case storeXMemory:
		m.memory[in.K] = m.x
	case toX:
		m.x = m.a
	case toA:
		m.a = m.x
	case negate:
		m.a = m.arithmetic(sub, constant(0), m.a)
	case div | fromX: // by zero the program ends, with result 0
		m.a = m.arithmetic(div, m.a, m.x)
		return m.compare(ifEqual, m.x, constant(0), end, next)
	case ret:
		m.result, next = constant(in.K), end
	case retA:
		m.result, next = m.a, end
	case jump:
		next += int(in.K)
	default:
		if in.Code&class == unix.BPF_JMP {
			return m.compare(op, m.a, operand, next+int(in.Jt), next+int(in.Jf))
		}
		m.a = m.arithmetic(op, m.a, operand)
	}
	return branch{yes: next, no: next}
}

// fresh returns an unknown word.
func (m *machine) fresh() value {
	m.made++
	return unknown(uint16(len(values{})) + m.made - 1)
}

func (m *machine) arithmetic(op uint16, a, b value) value {
	if a.mask == 0 && b.mask == 0 {
		return constant(calculate(op, a.bits, b.bits))
	}
	if a.mask == 0 && (op == and || op == or || op == xor) {
		a, b = b, a
	}
	if b.mask == 0 {
		if v, ok := a.combine(op, b.bits); ok {
			return v
		}
	}
	return m.fresh()
}

// compare leaves one way if what is known decides.
func (m *machine) compare(op uint16, a, b value, yes, no int) branch {
	if a.mask == 0 {
		a, b = b, a
		switch op { // k > x is not x >= k
		case ifAbove:
			op, yes, no = ifAtOver, no, yes
		case ifAtOver:
			op, yes, no = ifAbove, no, yes
		}
	}
	c := condition{value: a, op: op, k: b.bits, holds: true}
	if b.mask != 0 { // two unknown values: anything is possible
		c = condition{value: m.fresh(), op: ifSet, k: 1, holds: true}
	}
	switch {
	case !c.possible(0, 0):
		yes = no
	case !c.not().possible(0, 0):
		no = yes
	}
	return branch{c, yes, no}
}
