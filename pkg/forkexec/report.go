package forkexec

import (
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

func (r *report) read(fd int, end time.Time) error {
	n, err := Receive(fd, r.bytes(), end)
	if n > 0 && err == nil && n < reportSize {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Receive reads what a pipe has, as far as there is room; io.EOF is its end.
func Receive(fd int, b []byte, end time.Time) (int, error) {
	if err := pollIn(fd, end); err != nil {
		return 0, err
	}
	n, err := unix.Read(fd, b)
	switch {
	case err != nil:
		return 0, fmt.Errorf("read of the report pipe: %w", err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Report waits until the process of a plan has become the program, or for its
// report of a step that failed, a *StepError, on the pipe that was its Report.
// Only then the plan is needed.
func Report(fd int, end time.Time, of func() (*plan.Plan, error)) error {
	var r report
	if err := r.read(fd, end); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return err
	}
	p, err := of()
	if err != nil {
		return err
	}
	return stepError(p, r)
}

// pollIn waits until fd can be read or has ended.
func pollIn(fd int, end time.Time) error {
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		left := min(max(0, time.Until(end)), math.MaxInt32*time.Millisecond) // the kernel has 32 bits for it
		n, err := unix.Poll(fds, int(left.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("poll: %w", err)
		case n == 0 && time.Now().Before(end):
		case n == 0:
			return ErrDeadline
		default:
			return nil
		}
	}
}
