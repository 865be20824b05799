package seccomp

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Action is what the kernel does with a call: a SECCOMP_RET_* value, whose lower 16 bits
// are its datum (the errno of SECCOMP_RET_ERRNO, the message of SECCOMP_RET_TRACE).
type Action uint32

// The actions without a datum. Trace and Errno take one.
const (
	KillProcess Action = unix.SECCOMP_RET_KILL_PROCESS
	KillThread  Action = unix.SECCOMP_RET_KILL_THREAD
	Trap        Action = unix.SECCOMP_RET_TRAP
	Notify      Action = unix.SECCOMP_RET_USER_NOTIF
	Log         Action = unix.SECCOMP_RET_LOG
	Allow       Action = unix.SECCOMP_RET_ALLOW
)

// Errno returns the action that fails the call with errno.
func Errno(errno unix.Errno) Action {
	return unix.SECCOMP_RET_ERRNO | Action(errno)&unix.SECCOMP_RET_DATA
}

// Trace returns the action that reports the call to a tracer with message (PTRACE_GETEVENTMSG).
func Trace(message uint16) Action {
	return unix.SECCOMP_RET_TRACE | Action(message)
}

// String names the action and its datum: "allow", "errno EPERM".
func (a Action) String() string {
	datum := uint32(a & unix.SECCOMP_RET_DATA)
	switch a.kind() {
	case KillProcess:
		return "kill process"
	case KillThread:
		return "kill thread"
	case Trap:
		return "trap"
	case Notify:
		return "notify"
	case Log:
		return "log"
	case Allow:
		return "allow"
	case unix.SECCOMP_RET_TRACE:
		return fmt.Sprintf("trace %d", datum)
	case unix.SECCOMP_RET_ERRNO:
		if name := unix.ErrnoName(unix.Errno(datum)); name != "" {
			return "errno " + name
		}
		return fmt.Sprintf("errno %d", datum)
	}
	return fmt.Sprintf("action %#x", uint32(a))
}

// kind is the action without its datum.
func (a Action) kind() Action { return a & unix.SECCOMP_RET_ACTION_FULL }

// lenient reports whether the call is made, if perhaps watched.
func (a Action) lenient() bool {
	return a.kind() == Allow || a.kind() == Log || a.kind() == Trace(0)
}
