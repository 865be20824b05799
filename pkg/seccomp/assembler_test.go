package seccomp

import "testing"

// A branch gets to both targets, whichever of them a conditional jump is too short for.
func TestBranchReaches(t *testing.T) {
	pad := func(a *assembler, n int) {
		for range n {
			a.emit(ret, 0, 0, uint32(Trap))
		}
	}
	for between := range 4 {
		for gap := 245; gap < 265; gap++ {
			for _, swapped := range []bool{false, true} {
				var a assembler
				a.emit(ret, 0, 0, uint32(KillThread))
				far := a.load(offsetIP)
				pad(&a, between)
				a.emit(ret, 0, 0, uint32(Allow))
				near := a.load(offsetIP)
				pad(&a, gap)
				yes, no, want := near, far, Allow
				if swapped {
					yes, no, want = far, near, KillThread
				}
				a.branch(ifEqual, 7, yes, no)
				a.load(offsetNR)
				f := Filter{Program: a.program()}
				got, err := f.Eval(Data{NR: 7})
				other, _ := f.Eval(Data{NR: 8})
				if err != nil || got != want || other != Allow+KillThread-want {
					t.Errorf("%d and %d apart: %v and %v, %v", between, gap, got, other, err)
				}
			}
		}
	}
}
