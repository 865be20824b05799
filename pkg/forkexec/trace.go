package forkexec

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Stop is where a traced process stands: at the beginning of a system call,
// or at its end.
type Stop struct {
	Number uintptr    // of the call, at its beginning
	End    bool       // it stands at the end
	Result int64      // of the call, at its end, if Errno is 0
	Errno  unix.Errno // more than 511 where a signal has interrupted the call
}

// Listen leaves a traced process as a signal has stopped it, and waits for what
// comes next, such as SIGCONT: ptrace(2), PTRACE_LISTEN.
func Listen(pid int) error {
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_LISTEN, uintptr(pid), 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("PTRACE_LISTEN: %w", errno)
	}
	return nil
}

// StopOf tells of a process that the calling thread traces: ptrace(2),
// PTRACE_GET_SYSCALL_INFO.
func StopOf(pid int) (Stop, error) {
	var info struct { // struct ptrace_syscall_info
		op     uint8
		_      [23]byte
		number uint64 // or the result
		failed uint8
		_      [55]byte
	}
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(pid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	switch {
	case errno != 0:
		return Stop{}, fmt.Errorf("ptrace: %w", errno)
	case info.op != unix.PTRACE_SYSCALL_INFO_EXIT:
		return Stop{Number: uintptr(info.number)}, nil
	case info.failed != 0:
		return Stop{End: true, Errno: unix.Errno(-int64(info.number))}, nil
	}
	return Stop{End: true, Result: int64(info.number)}, nil
}
