package shell

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

var errInterrupted = errors.New("interrupted")

// An input reads standard input byte by byte up to the end of a line, because
// the commands of a line may want to read what follows it.
type input struct {
	shell *shell
	more  bool // the line goes on with the next
	ended bool
	mid   bool // the last byte was no newline
	wake  *os.File
}

func (in *input) Read(p []byte) (n int, err error) {
	if in.ended {
		return 0, io.EOF
	}
	in.prompt()
	for n < len(p) {
		if err := in.wait(); err != nil {
			return 0, err
		}
		got, err := unix.Read(0, p[n:n+1])
		switch {
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return n, fmt.Errorf("read: %w", err)
		case got == 0:
			in.ended = true
			if n == 0 && !in.mid {
				return 0, io.EOF
			}
			p[n] = '\n' // the parser takes whole lines
			return n + 1, nil
		}
		n++
		if in.mid = p[n-1] != '\n'; !in.mid {
			break
		}
	}
	return n, nil
}

// prompt tells a person that the shell waits, and where.
func (in *input) prompt() {
	switch {
	case !in.shell.interactive:
	case in.more:
		fmt.Fprint(os.Stderr, "> ")
	default:
		host, _ := os.Hostname() // a prompt without it serves too
		mark := "$"
		if unix.Geteuid() == 0 {
			mark = "#"
		}
		fmt.Fprintf(os.Stderr, "%s:%s %s ", host, in.shell.runner.Dir, mark)
	}
}

// wait waits for a byte, or for SIGINT when a person types.
func (in *input) wait() error {
	if in.wake == nil {
		return nil
	}
	fds := []unix.PollFd{{Fd: 0, Events: unix.POLLIN}, {Fd: int32(in.wake.Fd()), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("poll: %w", err)
		case fds[1].Revents != 0:
			_, err := in.wake.Read(make([]byte, 16))
			return errors.Join(errInterrupted, err)
		}
		return nil
	}
}

// takeTerminal makes the shell one that a person uses: SIGINT ends the line
// that runs or is typed, and never the shell.
func (s *shell) takeTerminal(in *input) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	in.wake = r
	signal.Ignore(unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU)
	signal.Notify(make(chan os.Signal, 1), unix.SIGQUIT, unix.SIGTERM)
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, unix.SIGINT)
	go func() {
		for range interrupts {
			s.mu.Lock()
			stop := s.stop
			s.mu.Unlock()
			if stop != nil {
				stop()
			} else if _, err := w.Write([]byte{0}); err != nil {
				return
			}
		}
	}()
	return nil
}

// ownGroup starts a process in a process group of its own.
func ownGroup() *unix.SysProcAttr { return &unix.SysProcAttr{Setpgid: true} }
