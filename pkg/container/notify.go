package container

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/spec"
)

// A program tells the service manager that started it how it fares by messages
// to a socket, sd_notify(3). A container gets a socket of its own, and what it
// says there is passed on as far as it can't hurt: a message could name any
// process the service's main one, or have descriptors kept.

// Notify is the environment variable that names the socket.
const Notify = "NOTIFY_SOCKET"

// Where the socket is, in the container and in its directory. The directory
// that the container sees is everybody's to pass through, so it lies in one
// that is not.
const (
	notifyInside = "/run/notify"
	notifyHidden = "notify"
	notifyDir    = notifyHidden + "/run"
	notifyName   = "notify.sock"
	notifySocket = notifyDir + "/" + notifyName
)

// addNotify gives a container the place of its socket, if its caller has one.
func (c *Container) addNotify(s *specs.Spec) error {
	if c.runtime.Notify == "" {
		return nil
	}
	top := c.runtime.dir(c.ID)
	dir := filepath.Join(top, notifyDir)
	err := unix.Mkdir(filepath.Join(top, notifyHidden), 0o700)
	if err == nil {
		err = unix.Mkdir(dir, 0o755)
	}
	if err == nil {
		err = unix.Chmod(dir, 0o755) // whatever our umask is
	}
	if err != nil {
		return fmt.Errorf("mkdir %s: %w", dir, err)
	}
	spec.SetEnv(s, Notify+"="+notifyInside+"/"+notifyName)
	s.Mounts = append(s.Mounts, specs.Mount{
		Destination: notifyInside, Type: "bind", Source: dir, Options: []string{"bind", "ro", "nosuid", "nodev", "noexec"},
	})
	return nil
}

// inspect finds out what this machine is for a container, and completes what
// its config.json asks for.
func (c *Container) inspect(s *specs.Spec) (Host, error) {
	if err := c.addNotify(s); err != nil {
		return Host{}, err
	}
	var units Units
	if c.scope {
		if units = c.runtime.Units; units == nil {
			return Host{}, errNoUnits
		}
	}
	return Inspect(c.ID, c.Bundle, s, units, false)
}

// A notifier passes messages on. A nil one has nothing to do.
type notifier struct {
	own, host int // sockets: the container's, and one to the service manager
}

// listen makes the container's socket, before the program begins. There is none
// where either of create and start was called without one.
func (r *Runtime) listen(s *State) (_ *notifier, err error) {
	if r.Notify == "" {
		return nil, nil
	}
	dir, err := unix.Open(filepath.Join(r.dir(s.ID), notifyDir), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", notifyDir, err)
	}
	defer unix.Close(dir)
	n := &notifier{-1, -1}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	path := fmt.Sprintf("/proc/self/fd/%d/%s", dir, notifyName)               // the whole one may be too long for an address
	if err := unix.Unlink(path); err != nil && !errors.Is(err, unix.ENOENT) { // of a start that was killed
		return nil, fmt.Errorf("unlink %s: %w", notifySocket, err)
	}
	const kind = unix.SOCK_DGRAM | unix.SOCK_CLOEXEC
	if n.own, err = unix.Socket(unix.AF_UNIX, kind, 0); err == nil {
		err = unix.Bind(n.own, &unix.SockaddrUnix{Name: path})
	}
	if err == nil {
		err = unix.Chmod(path, 0o666)
	}
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", notifySocket, err)
	}
	if n.host, err = unix.Socket(unix.AF_UNIX, kind, 0); err == nil {
		err = unix.Connect(n.host, &unix.SockaddrUnix{Name: r.Notify})
	}
	if err == nil { // who never reads must not hold us up for ever
		err = unix.SetsockoptTimeval(n.host, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: int64(patience / time.Second)})
	}
	if err != nil {
		return nil, fmt.Errorf("%s: connect to %s: %w", Notify, r.Notify, err)
	}
	return n, nil
}

func (n *notifier) close() {
	if n != nil {
		_, _ = unix.Close(n.own), unix.Close(n.host) // EBADF of one that was not made
	}
}

// notifying starts a container that has something to say. It is heard until it
// ends, or is ready if it is to outlive us.
func (c *Container) notifying(start func() error) error {
	n, err := c.runtime.listen(&c.State)
	if err == nil {
		err = start()
	}
	if err != nil {
		n.close()
		return err
	}
	if n != nil {
		c.said = make(chan error, 1)
		state := c.State
		go func() { c.said <- n.pass(&state, state.Detached) }()
	}
	return nil
}

// hear waits until all is passed on that the container says.
func (c *Container) hear() {
	if c.said != nil {
		c.runtime.warn(<-c.said)
		c.said = nil
	}
}

// pass passes messages on until the container has ended; or until it is ready,
// if its process is to be the service's main one in our place. It closes n.
func (n *notifier) pass(s *State, untilReady bool) error {
	if n == nil {
		return nil
	}
	defer n.close()
	wait := -1
	pidfd, err := s.pidfd()
	if err != nil {
		wait = 0 // it has ended, and what it said has come
	} else {
		defer unix.Close(pidfd)
	}
	text := make([]byte, 4096)
	for {
		fds := []unix.PollFd{{Fd: int32(n.own), Events: unix.POLLIN}, {Fd: int32(pidfd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, wait); errors.Is(err, unix.EINTR) {
			continue
		} else if err != nil {
			return fmt.Errorf("poll: %w", err)
		}
		if fds[0].Revents == 0 {
			return nil
		}
		size, err := unix.Read(n.own, text) // descriptors that come along are closed by that
		if err != nil {
			return fmt.Errorf("read of %s: %w", notifySocket, err)
		}
		message, ready := harmless(string(text[:size]))
		if ready && untilReady {
			message += fmt.Sprintf("MAINPID=%d\n", s.PID)
		}
		if message == "" {
			continue
		}
		if _, err := unix.Write(n.host, []byte(message)); err != nil {
			return fmt.Errorf("%s: %w", Notify, err)
		}
		if ready && untilReady {
			return n.barrier()
		}
	}
}

// harmless is what of a message may be passed on.
func harmless(message string) (passed string, ready bool) {
	for line := range strings.SplitSeq(message, "\n") {
		name, _, _ := strings.Cut(line, "=")
		switch {
		case line == "READY=1":
			ready = true
		case line == "RELOADING=1", line == "STOPPING=1", line == "WATCHDOG=1", name == "MONOTONIC_USEC", name == "STATUS", name == "ERRNO":
		default:
			continue
		}
		passed += line + "\n"
	}
	return passed, ready
}

// barrier waits until all messages are read, sd_notify_barrier(3): whose they
// are is found by the PID of the sender, and we are about to end.
func (n *notifier) barrier() error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("pipe2: %w", err)
	}
	defer unix.Close(pipe[0])
	err := unix.Sendmsg(n.host, []byte("BARRIER=1"), unix.UnixRights(pipe[1]), nil, 0)
	if err = errors.Join(err, unix.Close(pipe[1])); err != nil {
		return fmt.Errorf("%s: %w", Notify, err)
	}
	fds := []unix.PollFd{{Fd: int32(pipe[0])}}
	_, err = unix.Poll(fds, int(patience.Milliseconds()))
	return err
}
