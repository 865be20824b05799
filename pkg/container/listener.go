package container

import (
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/process"
	"github.com/minictr/minictr/pkg/seccomp"
	"github.com/minictr/minictr/pkg/spec"
)

// A filter may leave system calls to somebody else to decide, an agent. Whoever
// loads it gets a descriptor, the listener, on which the kernel asks:
// seccomp_unotify(2). The runtime takes it from the process, which waits, and
// sends it to the agent: config-linux.md, "The Container Process State".

// listener is the register of it, in the runtime.
const listener plan.Reg = "listener"

// gate makes the pipe at which the process waits. To write into it is the one
// call that this takes behind the filter.
func gate(b *plan.Builder, s *specs.Spec) {
	if !seccomp.Notifies(s.Linux.Seccomp) {
		return
	}
	b.Section(plan.Parent, "gate", "a pipe that is full, at which the process waits")
	b.At("/linux/seccomp/listenerPath")
	b.Act("the runtime has one end, and the process the other", "pipe2([$gate/runtime, $gate], O_CLOEXEC)", func(r *plan.Run) error {
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
			return fmt.Errorf("pipe2: %w", err)
		}
		r.Fd[process.GateEnd], r.Fd[process.Gate] = pipe[0], pipe[1]
		return nil
	})
	fill(b, process.Gate)
}

// handOver has the parent take the listener and send it.
func handOver(b *plan.Builder, s *specs.Spec, h Host, state func(pid int) *specs.State) {
	path, first := s.Linux.Seccomp.ListenerPath, 3+h.Process.Preserved
	b.Section(plan.Parent, "listener", "send the listener to who is to be asked")
	b.At("/linux/seccomp/listenerPath")
	b.Act("the filter is loaded then", "read($report/runtime)", func(r *plan.Run) error { return r.Await() })
	b.Act("it has the lowest number that was free", fmt.Sprintf("$listener = pidfd_getfd(pidfd_open($pid, 0), %d...)", first), func(r *plan.Run) (err error) {
		r.Fd[listener], err = takeListener(r.PID, first)
		return err
	})
	b.Act("the agent learns whose it is", fmt.Sprintf("connect(%q), sendmsg({state}, SCM_RIGHTS [$listener])", path), func(r *plan.Run) error {
		return sendListener(path, r.Fd[listener], spec.Marshal(&specs.ContainerProcessState{
			Version: specs.Version, Fds: []string{specs.SeccompFdName}, Pid: r.PID, Metadata: s.Linux.Seccomp.ListenerMetadata, State: *state(r.PID),
		}))
	})
	b.Act("the process alone has this end: should it die, nobody waits for it", "close($gate)", func(r *plan.Run) error {
		defer delete(r.Fd, process.Gate)
		return unix.Close(r.Fd[process.Gate])
	})
	for _, why := range [...]string{"there is room: the process may go on", "it has: the pipe is not needed any more"} {
		b.Act(why, "read($gate/runtime, buf, PAGE_SIZE)", func(r *plan.Run) error {
			_, err := drain(r.Fd[process.GateEnd])
			return err
		})
	}
}

// takeListener finds the listener of a process that waits: besides it and what
// the program gets, the stub has four descriptors at the most.
func takeListener(pid, first int) (int, error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(pidfd)
	for number := first; number <= first+4; number++ {
		fd, err := unix.PidfdGetfd(pidfd, number, 0)
		if err != nil {
			return -1, fmt.Errorf("pidfd_getfd: %w", err)
		}
		if name, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); name == "anon_inode:seccomp notify" {
			return fd, nil
		}
		_ = unix.Close(fd)
	}
	return -1, fmt.Errorf("none of its descriptors %d to %d is a listener", first, first+4)
}

// sendListener sends a state and a listener over a connection of its own.
func sendListener(path string, fd int, state []byte) error {
	agent, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(agent)
	if err := unix.Connect(agent, &unix.SockaddrUnix{Name: path}); err != nil {
		return fmt.Errorf("failed to connect with seccomp agent: %s: %w", path, err)
	}
	for rights := unix.UnixRights(fd); len(state) > 0; rights = nil {
		n, err := unix.SendmsgN(agent, state, rights, nil, unix.MSG_NOSIGNAL)
		if err != nil {
			return fmt.Errorf("sendmsg to seccomp agent: %s: %w", path, err)
		}
		state = state[n:]
	}
	return nil
}
