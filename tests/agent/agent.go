// Package agent answers for containers whose filters leave system calls to an
// agent to decide: config-linux.md "Seccomp", seccomp_unotify(2).
package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/seccomp"
)

// Pass has the kernel make the call; every other answer is the errno with
// which it fails. Gone closes the listener.
const (
	Pass unix.Errno = 0
	Gone unix.Errno = 1 << 12
)

// An Agent listens at a path.
type Agent struct {
	Path   string
	answer func(call string) unix.Errno
	socket *net.UnixListener
	serves sync.WaitGroup

	mu     sync.Mutex
	states []specs.ContainerProcessState
	asked  map[string]int
	err    error
}

// Listen begins an agent in a directory. Close ends it.
func Listen(dir string, answer func(call string) unix.Errno) (*Agent, error) {
	a := &Agent{Path: filepath.Join(dir, "agent.sock"), answer: answer, asked: make(map[string]int)}
	var err error
	if a.socket, err = net.ListenUnix("unix", &net.UnixAddr{Name: a.Path, Net: "unix"}); err != nil {
		return nil, err
	}
	a.serves.Go(func() {
		for {
			c, err := a.socket.AcceptUnix()
			if err != nil {
				return // it is closed
			}
			a.serves.Go(func() { a.note(a.serve(c)) })
		}
	})
	return a, nil
}

// Close waits until nobody asks any more, and returns what went wrong.
func (a *Agent) Close() error {
	err := a.socket.Close()
	a.serves.Wait()
	return errors.Join(err, a.err)
}

// States are those that have come, in their order.
func (a *Agent) States() []specs.ContainerProcessState {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.states
}

// Asked is how often it was asked about a call.
func (a *Agent) Asked(call string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked[call]
}

func (a *Agent) note(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = errors.Join(a.err, err)
}

// serve takes a state and a listener, and answers until nobody is left to ask.
func (a *Agent) serve(c *net.UnixConn) error {
	listener, err := a.take(c)
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	defer unix.Close(listener)
	for {
		fds := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("agent: poll: %w", err)
		}
		if fds[0].Revents&unix.POLLIN == 0 {
			if fds[0].Revents&unix.POLLHUP != 0 { // all processes have ended
				return nil
			}
			continue // POLLERR: the kernel was interrupted by a signal of ours
		}
		var asks request
		if errno := ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&asks)); errno != 0 {
			continue // it was killed meanwhile
		}
		name, _ := seccomp.Name(uint32(asks.nr), seccomp.Native())
		a.mu.Lock()
		a.asked[name]++
		a.mu.Unlock()
		says := response{id: asks.id}
		switch errno := a.answer(name); errno {
		case Gone:
			return nil
		case Pass:
			says.flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
		default:
			says.errno = -int32(errno)
		}
		_ = ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&says)) // ENOENT: it was killed meanwhile
	}
}

// take reads a connection to its end: one state, and one descriptor beside its
// beginning.
func (a *Agent) take(c *net.UnixConn) (int, error) {
	defer c.Close()
	text, rights := make([]byte, 1), make([]byte, 256)
	_, n, _, _, err := c.ReadMsgUnix(text, rights)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) != 1 {
		return -1, fmt.Errorf("%d control messages: %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("descriptors %v: %w", fds, err)
	}
	rest, err := io.ReadAll(c)
	if err != nil {
		return -1, err
	}
	var state specs.ContainerProcessState
	if err := json.Unmarshal(append(text, rest...), &state); err != nil {
		return -1, fmt.Errorf("%s%s: %w", text, rest, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.states = append(a.states, state)
	return fds[0], nil
}

// request is struct seccomp_notif, and response struct seccomp_notif_resp.
type (
	request struct {
		id         uint64
		pid, flags uint32
		nr         int32
		arch       uint32
		ip         uint64
		args       [6]uint64
	}
	response struct {
		id    uint64
		value int64
		errno int32
		flags uint32
	}
)

func ioctl(fd int, request uintptr, arg unsafe.Pointer) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
	return errno
}
