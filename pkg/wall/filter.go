package wall

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/seccomp"
	"github.com/minictr/minictr/pkg/sys"
)

// A FilterError says which call kept ReadFilters from a process's filters, and what to do.
type FilterError struct {
	Call string // "ptrace(PTRACE_SEIZE)"
	PID  int
	Err  error
	Hint string // the likely cause, and what helps
}

func (e *FilterError) Error() string {
	text := fmt.Sprintf("seccomp filters of process %d: %s: %v", e.PID, e.Call, e.Err)
	if e.Hint != "" {
		text += ": " + e.Hint
	}
	return text
}

func (e *FilterError) Unwrap() error { return e.Err }

// How long a process may take to stop, and how often is looked. Only one that the kernel holds takes
// longer than a moment.
const (
	stopLimit = time.Second
	stopPoll  = 50 * time.Microsecond
)

// ReadFilters returns the seccomp filters of a process, the oldest first, as they were loaded. They
// are those of its first thread; others may have more. A process without filters gives none, and is left
// alone; strict mode (Seccomp: 1 in /proc/PID/status) has none either.
//
// The process stands still for less than a millisecond (ptrace(2), PTRACE_SEIZE and
// PTRACE_INTERRUPT). It gets no signal, and one that was stopped stays so; but some calls, such as
// epoll_wait(2), may fail with EINTR once. Reading needs CAP_SYS_ADMIN in the initial user namespace, and
// that the caller itself is under no filter. Errors are *FilterError:
//
//	ESRCH        there is no such process, or it has ended
//	EPERM        it may not be traced, or somebody traces it already
//	EACCES       the privilege is missing, or the caller is under a filter
//	EMEDIUMTYPE  a filter is not a classic BPF program
//	EINVAL       the kernel has no CONFIG_CHECKPOINT_RESTORE
//	ENOSYS       the kernel has no CONFIG_SECCOMP
//	ETIMEDOUT    it does not stop: it is frozen, or waits for a device (state D)
func ReadFilters(pid int) (filters []seccomp.Filter, err error) {
	mode, err := seccompMode(pid)
	if err != nil || mode != unix.SECCOMP_MODE_FILTER {
		return nil, err
	}
	tracer := 0
	err = sys.OnThread(func() (err error) {
		tracer = unix.Gettid()
		filters, err = readStopped(pid)
		return err
	})
	for unix.Tgkill(unix.Getpid(), tracer, 0) == nil { // what it still traces is let go when it ends
		time.Sleep(stopPoll)
	}
	return filters, err
}

// seccompMode reads SECCOMP_MODE_* from /proc/PID/status.
func seccompMode(pid int) (int, error) {
	fields, err := status(strconv.Itoa(pid))
	gone := errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH)
	if gone || strings.HasPrefix(fields["State"], "Z") || strings.HasPrefix(fields["State"], "X") {
		return 0, &FilterError{Call: "read(status)", PID: pid, Err: unix.ESRCH}
	}
	if err != nil {
		return 0, &FilterError{Call: "read(status)", PID: pid, Err: err}
	}
	mode, err := strconv.Atoi(fields["Seccomp"])
	if err != nil {
		return 0, &FilterError{Call: "read(status)", PID: pid, Err: unix.ENOSYS, Hint: "this kernel has no CONFIG_SECCOMP"}
	}
	return mode, nil
}

func readStopped(pid int) ([]seccomp.Filter, error) {
	if err := unix.PtraceSeize(pid); err != nil {
		return nil, explained(pid, "PTRACE_SEIZE", err)
	}
	if err := stop(pid); err != nil {
		return nil, err
	}
	defer func() { _ = unix.PtraceDetach(pid) }() // it fails for a process that was killed
	var filters []seccomp.Filter
	for {
		program, err := filterProgram(pid, len(filters))
		if errors.Is(err, unix.ENOENT) {
			return filters, nil
		}
		if err != nil {
			return nil, explained(pid, "PTRACE_SECCOMP_GET_FILTER", err)
		}
		filters = append(filters, seccomp.Filter{Program: program})
	}
}

// stop stops the process, and waits until it stands.
func stop(pid int) error {
	if err := unix.PtraceInterrupt(pid); err != nil {
		return explained(pid, "PTRACE_INTERRUPT", err)
	}
	for limit := time.Now().Add(stopLimit); time.Now().Before(limit); time.Sleep(stopPoll) {
		change, err := wait(pid)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return &FilterError{Call: "waitid", PID: pid, Err: unix.ESRCH}
		case change.signo == 0: // not yet
		case change.code == cldTrapped && change.status>>8 == unix.PTRACE_EVENT_STOP:
			return nil
		case change.code == cldTrapped: // a signal came first: it goes on to the process
			_ = unix.PtraceCont(pid, int(change.status)) // it fails for a process that was killed
		default:
			return &FilterError{Call: "waitid", PID: pid, Err: unix.ESRCH}
		}
	}
	return &FilterError{"ptrace(PTRACE_INTERRUPT)", pid, unix.ETIMEDOUT, "it does not stop: it is frozen, or waits for a device; see State in /proc/PID/status"}
}

// A childChange is the siginfo_t that waitid(2) writes, on 64-bit machines.
type childChange struct {
	signo, _, code, _ int32
	_, _, status      int32
	_                 [25]int32
}

// cldTrapped is CLD_TRAPPED of sigaction(2): a traced process has stopped.
const cldTrapped = 4

// wait asks how the process stands. WNOWAIT leaves an end to whom it belongs, and a signal in place
// should we end before it is passed on.
func wait(pid int) (*childChange, error) {
	const flags = unix.WSTOPPED | unix.WEXITED | unix.WNOHANG | unix.WNOWAIT | unix.WALL
	change := new(childChange)
	_, _, errno := unix.Syscall6(unix.SYS_WAITID, unix.P_PID, uintptr(pid), reflect.ValueOf(change).Pointer(), flags, 0, 0)
	runtime.KeepAlive(change)
	if errno != 0 {
		return nil, errno
	}
	return change, nil
}

// filterProgram reads the filter with an index from a process that stands.
func filterProgram(pid, index int) ([]unix.SockFilter, error) {
	n, err := filterInto(pid, index, 0)
	if err != nil {
		return nil, err
	}
	program := make([]unix.SockFilter, n)
	_, err = filterInto(pid, index, reflect.ValueOf(program).Pointer())
	runtime.KeepAlive(program)
	return program, err
}

// filterInto is PTRACE_SECCOMP_GET_FILTER: it returns how many instructions there are, and writes them to
// an address that is not 0.
func filterInto(pid, index int, address uintptr) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SECCOMP_GET_FILTER, uintptr(pid), uintptr(index), address, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// explained adds to the errno of a ptrace request what it means here.
func explained(pid int, request string, err error) error {
	e := &FilterError{Call: "ptrace(" + request + ")", PID: pid, Err: err}
	if _, gone := seccompMode(pid); errors.Is(gone, unix.ESRCH) {
		e.Err = unix.ESRCH // a process that has ended may not be traced: EPERM
		return e
	}
	switch {
	case errors.Is(err, unix.EPERM):
		e.Hint = "somebody traces it already (TracerPid in /proc/PID/status), or this user may not: try as root on the host, and see /proc/sys/kernel/yama/ptrace_scope"
	case errors.Is(err, unix.EACCES):
		e.Hint = "only root on the host may read filters, and only without a filter of its own: Seccomp in /proc/self/status must be 0"
	case errors.Is(err, unix.EMEDIUMTYPE):
		e.Hint = "the filter is not a classic BPF program"
	case errors.Is(err, unix.EINVAL):
		e.Hint = "this kernel has no CONFIG_CHECKPOINT_RESTORE"
	}
	return e
}
