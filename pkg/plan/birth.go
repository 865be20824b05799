package plan

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// The calls by which a process is born a second time, waits, and ends.

// CloneAgain makes a second child, clone3(2) with CLONE_PARENT: who calls it
// goes on in both, as brother of the one that it made. It returns 0 in the
// second, and its PID in the first; the kernel stores that at the address Born
// as well, before the second begins.
func CloneAgain(ns uint64) Call {
	flags := ns | unix.CLONE_PARENT | unix.CLONE_PARENT_SETTID
	args := make([]byte, 88) // struct clone_args
	binary.NativeEndian.PutUint64(args, flags)
	text := "{flags=" + setString(flags, cloneFlags, "0") + ", parent_tid=" + Born.String() + ", exit_signal=0, stack=NULL, stack_size=0}"
	return call("clone3", unix.SYS_CLONE3, Mem{Data: args, Refs: []Ref{{Offset: 24, Size: 8, To: Born}}, Text: text}, n(len(args)))
}

// The registers of a process that stays behind when its child goes on.
const (
	Forked Reg = "child"  // the child's PID
	Signal Reg = "signal" // the signal that has come
	Status Reg = "status" // how a child has ended: four bytes in memory for wait4(2), its exit status for exit_group(2)
)

// Fork makes a child, clone(2). The step after it is the child's; who has made
// it goes on at another.
func Fork() Call { return call("clone", unix.SYS_CLONE, named(uint64(unix.SIGCHLD), "SIGCHLD"), null) }

// NextSignal waits for any signal, which must be blocked, sigtimedwait(2).
func NextSignal() Call {
	return call("rt_sigtimedwait", unix.SYS_RT_SIGTIMEDWAIT, allSignals(), null, null, n(8))
}

// PassSignal sends the child the signal that has come, kill(2).
func PassSignal() Call { return call("kill", unix.SYS_KILL, Forked, Signal) }

// Reap takes away one child that has ended, wait4(2).
func Reap() Call {
	return call("wait4", unix.SYS_WAIT4, n(-1), Status, named(unix.WNOHANG, "WNOHANG"), null)
}

// ExitAs ends the process as its child has ended, exit_group(2).
func ExitAs() Call { return call("exit_group", unix.SYS_EXIT_GROUP, Status) }

// BlockSignals blocks all signals, rt_sigprocmask(2).
func BlockSignals() Call {
	return call("rt_sigprocmask", unix.SYS_RT_SIGPROCMASK, named(unix.SIG_SETMASK, "SIG_SETMASK"), allSignals(), null, n(8))
}

func allSignals() Arg { return Mem{Data: bytes.Repeat([]byte{0xff}, 8), Text: "~[]"} }

// Subreaper has orphans below this process become its children, as they do
// those of process 1, PR_SET_CHILD_SUBREAPER of prctl(2).
func Subreaper() Call {
	return prctl(named(unix.PR_SET_CHILD_SUBREAPER, "PR_SET_CHILD_SUBREAPER"), n(1))
}

// ControllingInput has the terminal that is standard input control the
// session, TIOCSCTTY of ioctl_tty(2).
func ControllingInput() Call { return ioctl(zero, unix.TIOCSCTTY, "TIOCSCTTY", zero) }

// PidfdOpen is pidfd_open(2). It fails with EINVAL for the PID 0.
func PidfdOpen(pid Reg) Call { return call("pidfd_open", unix.SYS_PIDFD_OPEN, pid, zero) }

// Exit ends the process, exit_group(2).
func Exit() Call { return call("exit_group", unix.SYS_EXIT_GROUP, zero) }

// Forever waits for a signal that ends the process, ppoll(2).
func Forever() Call { return call("ppoll", unix.SYS_PPOLL, null, zero, null, null, zero) }
