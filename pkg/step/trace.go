package step

import (
	"errors"
	"fmt"
	"os/signal"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/forkexec"
	"github.com/minictr/minictr/pkg/plan"
)

// A tracer follows the container's process from its birth to its program, call
// by call, and the plan with it: what a call returns decides which step is due.
type tracer struct {
	*Stepper
	pid    int
	held   uintptr
	steps  []place // of the child and the stub
	next   int     // index of the step that is due
	second int     // the process that goes on in place of this one; 0 is none
	done   bool
}

// follow traces a process that does nothing until the word at held, in its
// memory, is 0. It dies with its tracer.
func (s *Stepper) follow(p *plan.Plan, pid int, held uintptr) {
	runtime.LockOSThread() // the tracer is a thread
	defer runtime.UnlockOSThread()
	t := &tracer{Stepper: s, pid: pid, held: held}
	for _, at := range placesOf(p) {
		if at.section.Where != plan.Parent {
			t.steps = append(t.steps, at)
		}
	}
	err := t.take()
	if err == nil {
		err = t.trace()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.err = err
		s.kill()
	}
	if s.pidfd >= 0 {
		_ = unix.Close(s.pidfd) // a pidfd: nothing can be lost
		s.pidfd = -1
	}
	if s.caught.Load() == 0 && t.done { // signals are the program's from here on
		signal.Stop(s.signals)
	}
}

// take begins to trace the process, and lets it go on to its first call.
func (t *tracer) take() error {
	pidfd, err := unix.PidfdOpen(t.pid, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	t.mu.Lock()
	t.pidfd = pidfd
	t.mu.Unlock()
	if err := unix.PtraceSeize(t.pid); err != nil {
		return fmt.Errorf("PTRACE_SEIZE: %w", err)
	}
	if err := unix.PtraceInterrupt(t.pid); err != nil {
		return err
	}
	if _, alive, err := stop(t.pid); err != nil || !alive {
		return err
	}
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_EXITKILL
	if err := unix.PtraceSetOptions(t.pid, options); err != nil {
		return err
	}
	_, err = unix.PtracePokeData(t.pid, t.held, make([]byte, 4))
	return err
}

// stop waits until a traced process stands still. One that has ended is left to
// the runtime, whose child it is.
func stop(pid int) (ws unix.WaitStatus, alive bool, err error) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT|unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, false, fmt.Errorf("waitid: %w", err)
		case info.Code <= dumped:
			return 0, false, nil
		default:
			_, err = unix.Wait4(pid, &ws, unix.WALL, nil)
			return ws, err == nil, err
		}
	}
}

// dumped is CLD_DUMPED of waitid(2), the last of the codes of a process's end.
const dumped = 3

// trace follows the process until it is the program, a step has failed, or
// something else has ended it.
func (t *tracer) trace() error {
	deliver, stopped := 0, false
	for !t.done {
		var err error
		if stopped {
			err = forkexec.Listen(t.pid)
		} else {
			err = unix.PtraceSyscall(t.pid, deliver)
		}
		if err != nil {
			return gone(err)
		}
		ws, alive, err := stop(t.pid)
		if err != nil || !alive {
			return err
		}
		deliver, stopped = 0, false
		switch {
		case ws.StopSignal() == unix.SIGTRAP|0x80:
			err = t.call()
		case ws.TrapCause() == unix.PTRACE_EVENT_CLONE || ws.TrapCause() == unix.PTRACE_EVENT_FORK:
			var pid uint
			pid, err = unix.PtraceGetEventMsg(t.pid)
			t.second = int(pid)
		case uint32(ws)>>16 == unix.PTRACE_EVENT_STOP: // with SIGTRAP it goes on
			stopped = ws.StopSignal() != unix.SIGTRAP
		case ws.TrapCause() <= 0:
			deliver = int(ws.StopSignal())
		}
		if err != nil {
			return gone(err)
		}
	}
	return gone(unix.PtraceDetach(t.pid))
}

// gone takes an error away that says that the process has just been killed.
func gone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// call is at the beginning or the end of a system call.
func (t *tracer) call() error {
	at := t.steps[t.next]
	now, err := forkexec.StopOf(t.pid)
	switch {
	case err != nil:
		return err
	case !now.End && now.Number != at.step.Call.Number:
		return fmt.Errorf("step %d is due, %s, and the process makes call %d", at.number, at.step.Call.Name, now.Number)
	case !now.End:
		return t.before(at)
	}
	result := t.goOn(at.step, now)
	t.mu.Lock()
	t.after(at, t.pid, result)
	t.mu.Unlock()
	if t.second == 0 {
		return nil
	}
	return t.adopt()
}

// adopt goes on with the second child. What the first still does is to end, or
// to wait for the second.
func (t *tracer) adopt() error {
	if err := unix.PtraceDetach(t.pid); err != nil {
		return err
	}
	pidfd, err := unix.PidfdOpen(t.second, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	t.mu.Lock()
	old := t.pidfd
	t.pid, t.pidfd, t.second = t.second, pidfd, 0
	t.mu.Unlock()
	_, _, err = stop(t.pid)
	return errors.Join(err, unix.Close(old))
}

// goOn finds the step that is due after a result, as the walk does, and says
// what the result is.
func (t *tracer) goOn(step *plan.Step, now forkexec.Stop) string {
	switch {
	case now.Errno == 0 && step.Call.Number == unix.SYS_EXECVE:
		t.done = true
		return "0"
	case now.Errno == 0 && step.Call.Number == unix.SYS_EXECVEAT: // of the child's list nothing is left
		for t.steps[t.next].section.Where == plan.Child {
			t.next++
		}
		return "0"
	case now.Errno == 0 && step.Out == plan.Forked: // it is the child who is followed
		t.jump(0)
		return fmt.Sprint(now.Result)
	case now.Errno == 0:
		t.jump(step.Then)
		return fmt.Sprint(now.Result)
	case now.Errno == unix.EINTR || now.Errno > 511:
		return again
	}
	name := plan.ErrnoName(now.Errno)
	for _, a := range step.Allow {
		if a.Errno == now.Errno {
			t.jump(a.Then)
			return name + passed
		}
	}
	t.done = true
	return name + ": " + now.Errno.Error()
}

// jump goes to a step by its number; 0 is the next one.
func (t *tracer) jump(number int) {
	for t.next++; t.next < len(t.steps)-1 && t.steps[t.next].number < number; {
		t.next++
	}
}
