package seccomp

import (
	"slices"

	"golang.org/x/sys/unix"
)

// An assembler builds a program from its end: jumps only lead forward, so that the
// target of each is there before the jump is.
type assembler struct {
	reversed []unix.SockFilter
	returns  []label // the latest return of each action
}

// A label is an instruction's distance from the end of the program, 1 for the last.
type label int

func (a *assembler) emit(code uint16, jt, jf uint8, k uint32) label {
	a.reversed = append(a.reversed, unix.SockFilter{Code: code, Jt: jt, Jf: jf, K: k})
	return label(len(a.reversed))
}

func (a *assembler) at(l label) unix.SockFilter { return a.reversed[l-1] }

// skip returns how many instructions lie between the next one and l.
func (a *assembler) skip(l label) int { return len(a.reversed) - int(l) }

// ret returns an instruction near enough to jump to that ends the program with action.
func (a *assembler) ret(action Action) label {
	for i, l := range a.returns {
		if a.at(l).K != uint32(action) {
			continue
		}
		if a.skip(l) > maxSkip {
			a.returns[i] = a.emit(ret, 0, 0, uint32(action))
		}
		return a.returns[i]
	}
	l := a.emit(ret, 0, 0, uint32(action))
	a.returns = append(a.returns, l)
	return l
}

// maxSkip leaves room for what a branch puts between itself and a target: one jump.
const maxSkip = 254

// reach returns l, or something nearer that leads there.
func (a *assembler) reach(l label) label {
	if a.skip(l) <= maxSkip {
		return l
	}
	if at := a.at(l); at.Code == ret {
		return a.ret(Action(at.K))
	}
	return a.emit(jump, 0, 0, uint32(a.skip(l)))
}

// branch compares A with k.
func (a *assembler) branch(code uint16, k uint32, yes, no label) label {
	if yes == no {
		return yes
	}
	yes = a.reach(yes)
	no = a.reach(no)
	return a.emit(code, uint8(a.skip(yes)), uint8(a.skip(no)), k)
}

func (a *assembler) load(offset uint32) label { return a.emit(load, 0, 0, offset) }

// follow makes l what comes next.
func (a *assembler) follow(l label) {
	if a.skip(l) > 0 {
		a.emit(jump, 0, 0, uint32(a.skip(l)))
	}
}

func (a *assembler) program() []unix.SockFilter {
	slices.Reverse(a.reversed)
	return a.reversed
}
