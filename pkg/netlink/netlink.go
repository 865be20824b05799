// Package netlink speaks rtnetlink(7) with the kernel: messages, their
// attributes, and answers. A message goes to the network namespace that its
// socket was made in.
package netlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

// Open makes a socket in the network namespace of the calling thread.
func Open() (socket int, err error) {
	return sys.Number("socket(AF_NETLINK)", func() (int, error) {
		return unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	})
}

// IndexOf is the number of an interface.
func IndexOf(socket int, name string) (uint32, error) {
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		err = unix.IoctlIfreq(socket, unix.SIOCGIFINDEX, ifr)
	}
	if err != nil {
		return 0, err
	}
	return ifr.Uint32(), nil
}

// Link is a struct ifinfomsg, that raises flags.
func Link(index, flags uint32) []byte {
	m := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(m[4:], index)
	binary.NativeEndian.PutUint32(m[8:], flags)
	binary.NativeEndian.PutUint32(m[12:], flags)
	return m
}

// Number is a value of four bytes.
func Number(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

// String is a value that ends with NUL.
func String(s string) []byte { return append([]byte(s), 0) }

// aligned is a length in netlink(7), where all begins at a multiple of four.
func aligned(n int) int { return (n + 3) &^ 3 }

// Attribute appends a struct rtattr. The value may be attributes itself.
func Attribute(m []byte, kind uint16, value []byte) []byte {
	m = binary.NativeEndian.AppendUint16(m, uint16(unix.SizeofRtAttr+len(value)))
	m = append(binary.NativeEndian.AppendUint16(m, kind), value...)
	return append(m, make([]byte, aligned(len(m))-len(m))...)
}

// Attributes goes through what Attribute has appended.
func Attributes(rest []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(rest) >= unix.SizeofRtAttr {
			size := int(binary.NativeEndian.Uint16(rest))
			if size < unix.SizeofRtAttr || size > len(rest) || !yield(binary.NativeEndian.Uint16(rest[2:]), rest[unix.SizeofRtAttr:size]) {
				return
			}
			rest = rest[min(aligned(size), len(rest)):]
		}
	}
}

// Patience is how often something is tried that fails because others change the
// same at the same time.
const Patience = 1000

// Ask sends one message and takes the answers, up to the kernel's last word.
// A list that changed while it was read is asked for once more.
func Ask(socket int, kind, flags uint16, body []byte) (answers [][]byte, err error) {
	for range Patience {
		var changed bool
		if answers, changed, err = ask(socket, kind, flags, body); !changed {
			return answers, err
		}
	}
	return nil, fmt.Errorf("the list changes all the time: %w", unix.EAGAIN)
}

func ask(socket int, kind, flags uint16, body []byte) (answers [][]byte, changed bool, err error) {
	m := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	m = binary.NativeEndian.AppendUint16(m, kind)
	m = binary.NativeEndian.AppendUint16(m, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	m = append(append(m, make([]byte, 8)...), body...)
	if err := unix.Sendto(socket, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, false, err
	}
	buffer := make([]byte, 1<<13)                 // an error has the message in it
	if flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP { // the half of it is another flag
		buffer = make([]byte, 1<<16)
	}
	for {
		n, _, err := unix.Recvfrom(socket, buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		for rest := buffer[:n]; len(rest) >= unix.SizeofNlMsghdr; {
			size := int(binary.NativeEndian.Uint32(rest))
			changed = changed || binary.NativeEndian.Uint16(rest[6:])&unix.NLM_F_DUMP_INTR != 0
			body := rest[unix.SizeofNlMsghdr:size]
			switch binary.NativeEndian.Uint16(rest[4:]) {
			case unix.NLMSG_ERROR, unix.NLMSG_DONE:
				if errno := int32(binary.NativeEndian.Uint32(body)); errno != 0 {
					return nil, false, unix.Errno(-errno)
				}
				return answers, changed, nil
			}
			answers = append(answers, slices.Clone(body))
			rest = rest[min(aligned(size), len(rest)):]
		}
	}
}

// Do is Ask for what has no answer but the kernel's last word; its error begins
// with the name of the message.
func Do(socket int, name string, kind, flags uint16, body []byte) error {
	if _, err := Ask(socket, kind, flags, body); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
