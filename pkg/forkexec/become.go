package forkexec

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// Become carries out a plan that makes no child: its actions, and then this
// process itself becomes the stub, and so the program. It keeps its PID, its
// terminal and whoever waits for it. Some changes of a process are refused to one
// that has threads, setns(2); the stub has none. Nobody hears of a step of the
// stub that fails: the program finds out.
//
// Become returns only if that can't be done. The descriptors in run.Fd stay open,
// unless a step closes them.
func Become(p *plan.Plan, run *plan.Run) error {
	number := 0
	var last *plan.Step
	for _, s := range p.Sections {
		for _, last = range s.Steps {
			number++
			if s.Where != plan.Parent {
				continue
			}
			if err := last.Act(run); err != nil {
				return &StepError{number, s, last, err}
			}
		}
	}
	for _, fd := range run.Fd {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("fcntl F_SETFD: %w", err)
		}
	}
	run.Fd[plan.Report] = -1
	if err := seal(p, run.Fd); err != nil {
		return err
	}
	path, args, env := last.Call.Args[0].(plan.Str), last.Call.Args[1].(plan.Strs), last.Call.Args[2].(plan.Strs)
	stub := "/proc/self/fd/" + strconv.Itoa(run.Fd[plan.Sealed])
	if err := unix.Exec(stub, append([]string{string(path)}, args...), env); err != nil {
		return fmt.Errorf("execve of the stub: %w", err)
	}
	panic("execve has returned")
}
