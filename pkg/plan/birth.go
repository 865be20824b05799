package plan

import (
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

// PidfdOpen is pidfd_open(2). It fails with EINVAL for the PID 0.
func PidfdOpen(pid Reg) Call { return call("pidfd_open", unix.SYS_PIDFD_OPEN, pid, zero) }

// Exit ends the process, exit_group(2).
func Exit() Call { return call("exit_group", unix.SYS_EXIT_GROUP, zero) }

// Forever waits for a signal that ends the process, ppoll(2).
func Forever() Call { return call("ppoll", unix.SYS_PPOLL, null, zero, null, null, zero) }
