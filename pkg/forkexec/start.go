// Package forkexec carries a plan out.
//
// The parent's actions run as they come; at the clone3(2) step the process
// forks, with a copy of its memory and one thread, and the child walks the
// plan's calls one by one until the last, execveat(2), replaces it. Nothing
// else runs in the child: no Go runtime, no allocation, no lock. This is the
// only package that uses unsafe.
package forkexec

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// Deadline bounds the wait for a child that neither becomes its program nor
// fails: no call of the wall takes long, but a dead network file system can
// hold open(2) for ever.
const Deadline = 2 * time.Minute

// A StepError is the failure of one step of a plan.
type StepError struct {
	Number  int // of the step, from 1
	Section *plan.Section
	Step    *plan.Step
	Err     error // a unix.Errno where a system call of the child failed
}

func (e *StepError) Error() string {
	text := e.Step.Call.String()
	var errno unix.Errno
	if e.Section.Where != plan.Parent && errors.As(e.Err, &errno) {
		text += " → " + plan.ErrnoName(errno)
	}
	return fmt.Sprintf("step %d, %s: %s: %v", e.Number, e.Section.Brick, text, e.Err)
}

func (e *StepError) Unwrap() error { return e.Err }

// ErrKilled says that the child died before it became the program, and not by
// a failing step.
var ErrKilled = errors.New("forkexec: the child was killed before it became the program")

// ErrDeadline says that the Deadline has passed.
var ErrDeadline = errors.New("forkexec: the child did not go on in time")

// A Process is the child of one plan.
type Process struct {
	PID    int   // in the caller's PID namespace
	birth  birth // of a second child, until it takes the first one's place
	ready  int   // how often the child has said Ready and nobody has waited for it
	report int   // the read end
	mu     sync.Mutex
	pidfd  int // guarded by mu: a signal may be sent while the process is closed
	plan   *plan.Plan
	tracer sync.WaitGroup
	// Patient has Ready and Started wait longer than the Deadline: the child may
	// be frozen, and go on when somebody wants it to.
	Patient bool
}

// Start carries out all sections in order and returns while the child walks
// its own; Started waits for the end of that. The descriptors in run.Fd are
// closed. On failure no child is left, and the error is a *StepError if a
// step is to blame.
func Start(p *plan.Plan, run *plan.Run) (proc *Process, err error) {
	proc = &Process{plan: p, pidfd: -1, report: -1}
	defer func() {
		for _, fd := range run.Fd {
			_ = unix.Close(fd) // read, or only handed on: nothing can be lost
		}
		run.Fd = nil
		if err != nil {
			proc.Kill()
			proc = nil
		}
	}()
	run.Await = func() error {
		err := proc.Ready()
		run.PID = proc.PID // it may be the second child
		return err
	}
	run.Newborn = newborn
	run.Clone = func(step *plan.Step) error { return proc.clone(step, run) }
	number := 0
	for _, s := range p.Sections {
		for _, step := range s.Steps {
			number++
			if s.Where != plan.Parent {
				continue
			}
			if err = step.Act(run); err != nil {
				return proc, proc.blame(&StepError{number, s, step, err})
			}
		}
	}
	if proc.PID == 0 {
		return proc, errors.New("forkexec: the plan has no clone3 step")
	}
	return proc, nil
}

// blame finds the step that is to blame for the failure of an action: one of
// the child's, if that has failed, which the action was waiting for or met.
func (proc *Process) blame(action *StepError) *StepError {
	if own, ok := action.Err.(*StepError); ok { //nolint:errorlint // one that is wrapped is another plan's
		return own
	}
	for proc.report >= 0 {
		var r report
		if err := r.read(proc.report, time.Now()); err != nil {
			break
		}
		if own, ok := stepError(proc.plan, r).(*StepError); ok && r.step != 0 { //nolint:errorlint // as it comes
			return own
		}
	}
	return action
}

// clone makes the report pipe, the stub and the child.
func (proc *Process) clone(step *plan.Step, run *plan.Run) error {
	if _, given := run.Fd[plan.Report]; !given {
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
			return fmt.Errorf("pipe2: %w", err)
		}
		run.Fd[plan.ReportEnd], run.Fd[plan.Report] = pipe[0], pipe[1]
	}
	proc.report = run.Fd[plan.ReportEnd]
	delete(run.Fd, plan.ReportEnd)
	if err := seal(proc.plan, run.Fd); err != nil {
		return err
	}
	inputs := maps.Clone(run.Fd)
	maps.Copy(inputs, run.Lent)
	inputs[plan.ReportEnd] = proc.report
	if again(proc.plan) {
		var err error
		if proc.birth, err = awaitBirth(); err != nil {
			return err
		}
		inputs[plan.Born] = proc.birth.address()
	}
	w, err := lower(proc.plan, step, inputs)
	if err != nil {
		return err
	}
	if run.Trace != nil {
		w.held, proc.Patient = math.MaxUint32, true
	}
	proc.PID, proc.pidfd, err = w.fork()
	if err != nil {
		return err
	}
	run.PID = proc.PID
	if run.Trace != nil {
		pid := proc.PID // it may become the second child's
		proc.tracer.Go(func() { run.Trace(pid, uintptr(unsafe.Pointer(&w.held))) })
	}
	// EOF on the pipe must mean that the child's end is gone.
	end := run.Fd[plan.Report]
	delete(run.Fd, plan.Report)
	return unix.Close(end)
}

// Started waits until the child has become the program. It returns a
// *StepError if a step failed, and ErrKilled if something else ended the
// child, out of memory or a signal for instance.
func (proc *Process) Started() error {
	err := proc.Ready()
	if err != nil {
		return err
	}
	for err == nil {
		err = proc.read()
	}
	if errors.Is(err, io.EOF) {
		proc.tracer.Wait()
		return nil
	}
	return err
}

// Ready waits until the child says once more that all is well, and returns the
// errors that Started does.
func (proc *Process) Ready() error {
	for proc.ready == 0 {
		if err := proc.read(); err != nil {
			return ended(err)
		}
	}
	proc.ready--
	return nil
}

func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return ErrKilled
	}
	return err
}

// read waits for one report of the child; io.EOF is that of the pipe.
func (proc *Process) read() error {
	var r report
	err := r.read(proc.report, time.Now().Add(Deadline))
	for proc.Patient && errors.Is(err, ErrDeadline) {
		err = r.read(proc.report, time.Now().Add(Deadline))
	}
	if err != nil {
		return err
	}
	if r.step != 0 {
		return stepError(proc.plan, r)
	}
	if second := proc.birth.pid(); second != 0 {
		if err := proc.adopt(second); err != nil {
			return err
		}
	}
	proc.ready++
	return nil
}

func stepError(p *plan.Plan, r report) error {
	number := int(r.step)
	for _, s := range p.Sections {
		if number <= len(s.Steps) && number > 0 {
			return &StepError{int(r.step), s, s.Steps[number-1], unix.Errno(r.errno)}
		}
		number -= len(s.Steps)
	}
	return fmt.Errorf("forkexec: the child reports step %d, which the plan does not have", r.step)
}

// Signal sends a signal, pidfd_send_signal(2): ESRCH once the child is reaped,
// EBADF after Close.
func (proc *Process) Signal(sig unix.Signal) error {
	proc.mu.Lock()
	defer proc.mu.Unlock()
	return unix.PidfdSendSignal(proc.pidfd, sig, nil, 0)
}

// Wait reaps the child and returns how it ended, wait4(2). Signal may be
// called meanwhile, and after it.
func (proc *Process) Wait() (unix.WaitStatus, error) {
	proc.tracer.Wait() // which takes what wait4 tells of a child that stands still
	return wait(proc.PID)
}

// Ended waits until the child has ended, but no longer than d.
func (proc *Process) Ended(d time.Duration) (bool, error) {
	err := pollIn(proc.pidfd, time.Now().Add(d))
	if errors.Is(err, ErrDeadline) {
		return false, nil
	}
	return err == nil, err
}

func wait(pid int) (unix.WaitStatus, error) {
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &ws, 0, nil)
		if !errors.Is(err, unix.EINTR) {
			return ws, err
		}
	}
}

// Kill ends the child, if there is one, and reaps it.
func (proc *Process) Kill() {
	if proc.PID != 0 {
		_ = proc.Signal(unix.SIGKILL) // ESRCH: it is dead, which is what we want
		_, _ = proc.Wait()
		// Only now it can't make a second one any more. That one is our child
		// too, so its PID is nobody else's before it is reaped.
		if second := proc.birth.pid(); second != 0 {
			_ = unix.Kill(second, unix.SIGKILL)
			_, _ = wait(second)
		}
	}
	proc.Close()
}

// Close gives the descriptors back. The child is not touched.
func (proc *Process) Close() {
	proc.mu.Lock()
	defer proc.mu.Unlock()
	closeFd(&proc.report)
	closeFd(&proc.pidfd)
	proc.birth.forget()
}

func closeFd(fd *int) {
	if *fd >= 0 {
		_ = unix.Close(*fd) // a pipe's or a pidfd's end: nothing can be lost
		*fd = -1
	}
}
