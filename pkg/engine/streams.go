package engine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/logfile"
)

// streams are the ends of a detached container's standard streams that its
// monitor has: pipes, or the master of a terminal.
type streams struct {
	out, err *os.File // what is read
	in       *os.File // standard input, or nil
	tty      *terminalRelay
	theirs   []int // the container's ends, at 0, 1 and 2 of this process until it has begun
	done     sync.WaitGroup
}

// openStreams puts the container's ends in the place of our own standard
// streams, which it inherits.
func openStreams(terminal, interactive bool) (s *streams, err error) {
	s = new(streams)
	if terminal {
		s.tty, err = newTerminal(false)
		return s, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if interactive {
		if s.in, err = s.pipe(0, false); err != nil {
			return nil, err
		}
	}
	if s.out, err = s.pipe(1, true); err != nil {
		return nil, err
	}
	s.err, err = s.pipe(2, true)
	return s, err
}

// pipe makes a pipe, one end of which is put at a descriptor of the container's;
// the other is ours.
func (s *streams) pipe(at int, read bool) (*os.File, error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("pipe2: %w", err)
	}
	ours, theirs := ends[0], ends[1]
	if !read {
		ours, theirs = theirs, ours
	}
	err := unix.Dup3(theirs, at, 0)
	if err == nil {
		err = unix.SetNonblock(ours, true) // so that Go's poller waits, and no thread
	}
	if err = errors.Join(err, unix.Close(theirs)); err != nil {
		return nil, errors.Join(fmt.Errorf("a pipe of the container: %w", err), unix.Close(ours))
	}
	s.theirs = append(s.theirs, at)
	return os.NewFile(uintptr(ours), "a stream of the container"), nil
}

func (s *streams) options() (o container.Options) {
	if s.tty != nil {
		o.Console, o.Relay = s.tty.container, s.tty.ours
	}
	return o
}

// started gives up the container's ends: it has its own now.
func (s *streams) started() error {
	if s.tty != nil {
		<-s.tty.arrived
		return s.tty.err
	}
	return s.giveUp()
}

// giveUp puts /dev/null in the place of the container's ends.
func (s *streams) giveUp() error {
	theirs := s.theirs
	s.theirs = nil
	return nowhere(theirs...)
}

// nowhere puts /dev/null in the place of descriptors.
func nowhere(fds ...int) error {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	for _, fd := range fds {
		err = errors.Join(err, unix.Dup3(null, fd, 0))
	}
	return errors.Join(err, unix.Close(null))
}

// Silence gives what inherits this process's standard streams /dev/null in their
// place, and returns what standard error was: what is wrong can still be said.
func Silence() (stderr *os.File, err error) {
	if stderr, err = keepStderr(); err == nil {
		err = nowhere(0, 1, 2)
	}
	return stderr, err
}

// keepStderr is standard error at a descriptor that nobody inherits.
func keepStderr() (*os.File, error) {
	fd, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, reportFD+1)
	if err != nil {
		return nil, fmt.Errorf("dup of standard error: %w", err)
	}
	return os.NewFile(uintptr(fd), "standard error"), nil
}

// input is the descriptor of the container's input, for who attaches; 0 if it
// has none.
func (s *streams) input() int {
	switch {
	case s.tty != nil:
		return s.tty.fd
	case s.in != nil:
		return fdOf(s.in)
	}
	return 0
}

// endInput closes standard input, if it is a pipe: a terminal has an end of its
// own, Ctrl-D.
func (s *streams) endInput() {
	if s.in != nil {
		_ = s.in.Close() // a second time it is closed already
	}
}

// fdOf is the descriptor of a file; File.Fd would make it blocking.
func fdOf(f *os.File) (fd int) {
	if raw, err := f.SyscallConn(); err == nil {
		_ = raw.Control(func(n uintptr) { fd = int(n) })
	}
	return fd
}

// copy begins to write all output into the log.
func (s *streams) copy(log *logfile.Writer) {
	one := func(from *os.File, name string) {
		s.done.Go(func() {
			// EIO is a terminal's end, pty(7).
			_, _ = io.CopyBuffer(struct{ io.Writer }{log.Stream(name)}, struct{ io.Reader }{from}, make([]byte, 8<<10))
		})
	}
	if s.tty != nil {
		one(s.tty.master, "stdout")
		return
	}
	one(s.out, "stdout")
	one(s.err, "stderr")
}

// drain waits for the last output of a container that has ended. Who else has
// its streams open is not waited for.
func (s *streams) drain() {
	done := make(chan struct{})
	go func() {
		s.done.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(time.Second):
	}
}

func (s *streams) close() error {
	err := s.giveUp()
	if s.tty != nil {
		err = errors.Join(err, s.tty.close())
	}
	for _, f := range [...]*os.File{s.in, s.out, s.err} {
		if f == nil {
			continue
		}
		if e := f.Close(); !errors.Is(e, os.ErrClosed) { // endInput
			err = errors.Join(err, e)
		}
	}
	s.done.Wait()
	return err
}
