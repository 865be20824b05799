package engine

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// A terminalRelay connects our terminal with the container's. The container
// makes its own, from its own devpts, and sends us the master end.
type terminalRelay struct {
	container int // the socket's end for the container
	ours      int
	arrived   chan struct{} // closed once the next three are as they will be
	err       error         // why there is no master end
	master    *os.File
	fd        int         // of master; File.Fd would make it blocking
	restore   *term.State // of our terminal; nil if our input is none
	copying   bool
	output    chan error
}

// newTerminal waits for a container's terminal, which ours, if people sees it,
// lends its size and its ends of lines.
func newTerminal(people bool) (*terminalRelay, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair for the terminal: %w", err)
	}
	t := &terminalRelay{container: pair[0], ours: pair[1], arrived: make(chan struct{}), output: make(chan error, 1)}
	go func() {
		defer close(t.arrived)
		if t.err = t.take(people); t.err != nil {
			_ = unix.Shutdown(t.ours, unix.SHUT_RDWR) // the container must not wait
		}
	}()
	return t, nil
}

// take receives the master end as soon as the container sends it, sets the
// terminal up, and lets the container, which waits for that, go on.
func (t *terminalRelay) take(people bool) error {
	fd, err := receive(t.ours)
	if err != nil {
		return fmt.Errorf("the container's terminal did not come: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that closing the file ends a read
		return errors.Join(err, unix.Close(fd))
	}
	t.fd, t.master = fd, os.NewFile(uintptr(fd), "the container's terminal")
	if people {
		t.resize()
		if err := clearOnlcr(fd); err != nil {
			return err
		}
	}
	_, err = unix.Write(t.ours, []byte{0})
	return err
}

// relay begins to copy.
func (t *terminalRelay) relay() (err error) {
	if <-t.arrived; t.err != nil {
		return t.err
	}
	if term.IsTerminal(0) {
		if t.restore, err = term.MakeRaw(0); err != nil {
			return fmt.Errorf("raw mode of the terminal: %w", err)
		}
	}
	t.copying = true
	go func() { _, _ = io.Copy(t.master, os.Stdin) }() // it ends with us: a read of stdin can't be called off
	go func() {
		_, err := io.Copy(os.Stdout, t.master)
		if errors.Is(err, unix.EIO) { // the last process of the container has closed its end, pty(7)
			err = nil
		}
		t.output <- err
	}()
	return nil
}

// clearOnlcr leaves the ends of lines as the program writes them: our own
// terminal, in front of a person, adds the carriage return if there is one.
func clearOnlcr(fd int) error {
	mode, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err == nil && !term.IsTerminal(1) {
		mode.Oflag &^= unix.ONLCR
		err = unix.IoctlSetTermios(fd, unix.TCSETS, mode)
	}
	return err
}

// resize gives the container's terminal the size of ours.
func (t *terminalRelay) resize() {
	for fd := range 3 {
		if size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ); err == nil {
			_ = unix.IoctlSetWinsize(t.fd, unix.TIOCSWINSZ, size) // only for show
			return
		}
	}
}

// close waits for the container's last output and gives our terminal back.
func (t *terminalRelay) close() error {
	err := unix.Shutdown(t.ours, unix.SHUT_RDWR) // if the master end has not come, it will not
	<-t.arrived
	err = errors.Join(err, unix.Close(t.ours))
	if t.copying {
		err = errors.Join(err, <-t.output)
	}
	if t.master != nil {
		err = errors.Join(err, t.master.Close())
	}
	if t.restore != nil {
		err = errors.Join(err, term.Restore(0, t.restore))
	}
	return err
}

// receive takes one descriptor from a socket, unix(7).
func receive(socket int) (int, error) {
	text, control := make([]byte, 64), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, text, control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return -1, errors.Join(errors.New("no descriptor came"), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, errors.Join(errors.New("no descriptor came"), err)
	}
	return fds[0], nil
}
