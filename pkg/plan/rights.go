package plan

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// The calls by which descriptors pass through Unix sockets, unix(7).

// SendFd sends a descriptor, with a few bytes beside it: sendmsg(2) with
// SCM_RIGHTS.
func SendFd(socket, fd Reg, text string) Call {
	return call("sendmsg", unix.SYS_SENDMSG, socket, message(text, Ref{To: fd}, "0"), zero)
}

// RecvFd takes a descriptor that was sent with one byte beside it: recvmsg(2).
// The result is the descriptor; it is -1, as of a register that was never set,
// if the other end is closed.
func RecvFd(socket Reg) Call {
	const flag = "MSG_CMSG_CLOEXEC"
	return call("recvmsg", unix.SYS_RECVMSG, socket, message("\x01", Ref{Result: true}, flag), named(unix.MSG_CMSG_CLOEXEC, flag))
}

// message is a struct msghdr with text, and one descriptor.
func message(text string, fd Ref, flags string) Mem {
	control := unix.UnixRights(-1)
	fd.Offset, fd.Size = unix.CmsgLen(0), 4
	iov := make([]byte, 16)
	binary.NativeEndian.PutUint64(iov[8:], uint64(len(text)))
	msg := make([]byte, unix.SizeofMsghdr)
	binary.NativeEndian.PutUint64(msg[24:], 1)
	binary.NativeEndian.PutUint64(msg[40:], uint64(len(control)))
	data := "fd"
	if fd.To != nil {
		data = fd.To.String()
	}
	return Mem{
		Data: msg,
		Refs: []Ref{
			{Offset: 16, Size: 8, To: Mem{Data: iov, Refs: []Ref{{Offset: 0, Size: 8, To: Mem{Data: []byte(text)}}}}},
			{Offset: 32, Size: 8, To: Mem{Data: control, Refs: []Ref{fd}}},
		},
		Text: fmt.Sprintf("{msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base=%s, iov_len=%d}], msg_iovlen=1, "+
			"msg_control=[{cmsg_len=%d, cmsg_level=SOL_SOCKET, cmsg_type=SCM_RIGHTS, cmsg_data=[%s]}], "+
			"msg_controllen=%d, msg_flags=%s}", quote(text), len(text), unix.CmsgLen(4), data, len(control), flags),
	}
}
