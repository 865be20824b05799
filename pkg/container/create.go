package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/forkexec"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/process"
)

// A container that waits has two named pipes, fifo(7), in its directory. Its
// process is the stub by then. It has both open for reading and writing, so
// that neither ever ends for it. The one is full, and it waits until there is
// room for what it writes; to the other it writes its answer, and a failure as
// well. When it has become the program both are closed.

// fifos makes them, and opens them for the child. Of the files that execve(2)
// closes the kernel lets that with the highest number go first; so the pipe by
// which the process is told to begin is gone when the other's end says that it has.
func fifos(b *plan.Builder, h Host) {
	if !h.Process.Waits {
		return
	}
	b.Section(plan.Parent, "wait", "two pipes, by which the process is told to begin, and answers")
	b.At("/process")
	for _, f := range [...]struct {
		name string
		reg  plan.Reg
	}{{reportFifo, plan.Report}, {startFifo, process.Start}} {
		path := filepath.Join(h.Dir, f.name)
		b.Act("it can be opened by name, when this runtime is gone", fmt.Sprintf("mkfifo(%q, 0600)", path), func(*plan.Run) error {
			return unix.Mkfifo(path, 0o600)
		})
		b.Act("it never ends for the process, which has both ends", fmt.Sprintf("%s = open(%q, O_RDWR|O_CLOEXEC)", f.reg, path), openFifo(f.reg, path, unix.O_RDWR))
	}
	fill(b, process.Start)
	path := filepath.Join(h.Dir, reportFifo)
	b.Act("the runtime listens", fmt.Sprintf("%s = open(%q, O_RDONLY|O_CLOEXEC)", plan.ReportEnd, path), openFifo(plan.ReportEnd, path, unix.O_RDONLY))
}

// fill makes a pipe full: who writes more waits until it is read.
func fill(b *plan.Builder, pipe plan.Reg) {
	b.Act("it has room for a page", fmt.Sprintf("fcntl(%s, F_SETPIPE_SZ, 1)", pipe), func(r *plan.Run) error {
		_, err := unix.FcntlInt(uintptr(r.Fd[pipe]), unix.F_SETPIPE_SZ, 1)
		return err
	})
	b.Act("who writes more waits until it is read", fmt.Sprintf(`write(%s, "\0"..., PAGE_SIZE)`, pipe), func(r *plan.Run) error {
		_, err := unix.Write(r.Fd[pipe], make([]byte, os.Getpagesize()))
		return err
	})
}

// drain reads what makes a pipe full, or what was written when there was room;
// nothing is left if there is no writer any more.
func drain(pipe int) (n int, err error) { return unix.Read(pipe, make([]byte, os.Getpagesize())) }

func openFifo(reg plan.Reg, path string, flags int) func(*plan.Run) error {
	return func(r *plan.Run) (err error) {
		r.Fd[reg], err = unix.Open(path, flags|unix.O_CLOEXEC, 0)
		return err
	}
}

// stands notes that the wall of a container stands, if it is to outlive its
// runtime, and the process if that is not the first one.
func (c *Container) stands() error {
	phase := c.Phase
	if c.Detached {
		phase = Created
	}
	if phase == c.Phase && c.process.PID == c.PID {
		return nil
	}
	if err := c.note(phase); err != nil {
		return c.failed(err)
	}
	return nil
}

// note notes the process of a container, and how far it has come.
func (c *Container) note(phase Phase) (err error) {
	if c.PID != c.process.PID {
		c.PID = c.process.PID
		if c.Birth, _, err = birth(c.PID); err != nil {
			return err
		}
	}
	c.Phase = phase
	return c.runtime.writeProcess(&c.State)
}

// Begin tells a created container to begin: the specification's start. If a
// service manager wants to know when it is ready, that is waited for.
func (r *Runtime) Begin(id string) error {
	own, s, err := r.take(id, false)
	if err != nil {
		return err
	}
	if !s.Detached {
		return errors.New("cannot start an already running container")
	}
	err = s.mayBegin()
	var n *notifier
	if err == nil {
		n, err = r.listen(s)
	}
	if err == nil {
		err = r.start(s)
	}
	if _, ended := errors.AsType[hookError](err); ended {
		err = errors.Join(err, r.destroy(s))
	}
	if err := errors.Join(err, own.close()); err != nil {
		n.close()
		return err
	}
	if err := r.afterStart(s); err != nil { // it may take long, so others had the lock meanwhile
		n.close()
		if e := r.Delete(s.ID, true); !errors.Is(e, ErrNotExist) {
			err = errors.Join(err, e)
		}
		return err
	}
	r.warn(n.pass(s, true))
	return nil
}

func (s *State) mayBegin() error {
	switch status, err := s.Status(); {
	case err != nil:
		return err
	case status == specs.StateStopped:
		return errors.New("cannot start a container that has stopped")
	case status == Paused:
		return errors.New("cannot start a container that is paused")
	case status != specs.StateCreated:
		return errors.New("cannot start an already running container")
	}
	return nil
}

// start is Begin of a container that waits, and whose lock is held.
func (r *Runtime) start(s *State) error {
	if err := r.beforeStart(s); err != nil {
		return hookError{errors.Join(err, s.kill())}
	}
	report, err := unix.Open(filepath.Join(r.dir(s.ID), reportFifo), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", reportFifo, err)
	}
	defer unix.Close(report)
	if err := r.tell(s); err != nil {
		return err
	}
	return r.answer(s, report, time.Now().Add(forkexec.Deadline))
}

// tell tells a process that waits to begin.
func (r *Runtime) tell(s *State) error {
	fifo, err := unix.Open(filepath.Join(r.dir(s.ID), startFifo), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", startFifo, err)
	}
	defer unix.Close(fifo)
	switch n, err := drain(fifo); {
	case errors.Is(err, unix.EAGAIN): // a start that was killed has told it just now
		return errors.New("cannot start an already running container")
	case err != nil:
		return fmt.Errorf("read %s: %w", startFifo, err)
	case n == 0:
		return errors.New("cannot start a container that has stopped")
	}
	return nil
}

// answer waits until the process has become the program, or for its report of
// the step that failed: that of the plan, compiled once more. A program on a
// file system that does not answer is given up in the end.
func (r *Runtime) answer(s *State, fifo int, end time.Time) error {
	var passed [1]byte
	_, err := forkexec.Receive(fifo, passed[:], end)
	if err == nil {
		err = forkexec.Report(fifo, end, func() (*plan.Plan, error) { return r.PlanOf(s) })
	}
	if errors.Is(err, forkexec.ErrDeadline) {
		err = errors.Join(fmt.Errorf("container %s does not begin: %w", s.ID, err), s.kill())
	}
	return err
}
