package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/netlink"
	"github.com/minictr/minictr/pkg/sys"
)

// A batch is a transaction of nf_tables: all of it happens, or nothing.
type batch struct {
	messages []byte
	commands []string // one a message, as nft(8) has them
	ack      int      // where the flags of the last message stand
}

// newBatch begins one that fails with ERESTART if the rules have changed since
// that generation. Zero is any.
func newBatch(generation uint32) *batch {
	b := new(batch)
	body := nfgenmsg(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	if generation != 0 {
		body = append(body, word(unix.NFNL_BATCH_GENID, generation)...)
	}
	b.message("begin", unix.NFNL_MSG_BATCH_BEGIN, 0, body)
	return b
}

// nfgenmsg is a struct nfgenmsg.
func nfgenmsg(family byte, resource uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, resource)
}

func (b *batch) message(command string, kind, flags uint16, body []byte) {
	b.messages = binary.NativeEndian.AppendUint32(b.messages, uint32(unix.SizeofNlMsghdr+len(body)))
	b.messages = binary.NativeEndian.AppendUint16(b.messages, kind)
	b.ack = len(b.messages)
	b.messages = binary.NativeEndian.AppendUint16(b.messages, flags|unix.NLM_F_REQUEST)
	b.messages = binary.NativeEndian.AppendUint32(b.messages, uint32(len(b.commands))) // its number, which an error names
	b.messages = append(append(b.messages, 0, 0, 0, 0), body...)
	b.commands = append(b.commands, command)
}

// add adds a message about something in our table.
func (b *batch) add(command string, kind, flags uint16, attributes ...[]byte) {
	b.message(command, unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags, slices.Concat(nfgenmsg(unix.NFPROTO_INET, 0), slices.Concat(attributes...)))
}

// commit has the kernel do it. The kernel has answered when the call returns,
// with the errors and the last message's acknowledgement.
func (b *batch) commit() error {
	if len(b.commands) == 1 {
		return nil // it does nothing
	}
	binary.NativeEndian.PutUint16(b.messages[b.ack:], binary.NativeEndian.Uint16(b.messages[b.ack:])|unix.NLM_F_ACK)
	last := len(b.commands) - 1
	b.message("end", unix.NFNL_MSG_BATCH_END, 0, nfgenmsg(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES))
	socket, err := netfilter()
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(socket) }()                                               // nothing is held back in it
	_ = unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2*len(b.messages)) // if it is too small, the next call says so
	if err := sys.Call("sendto", func() error {
		return unix.Sendto(socket, b.messages, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}); err != nil {
		return impossible(err)
	}
	buffer := make([]byte, 1<<16)
	for {
		n, err := sys.Number("recvfrom", func() (int, error) {
			n, _, err := unix.Recvfrom(socket, buffer, unix.MSG_DONTWAIT)
			return n, err
		})
		if err != nil {
			return impossible(err)
		}
		if n < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(buffer[4:]) != unix.NLMSG_ERROR {
			continue
		}
		number := int(binary.NativeEndian.Uint32(buffer[8:]))
		errno := unix.Errno(-int32(binary.NativeEndian.Uint32(buffer[unix.SizeofNlMsghdr:])))
		switch {
		case errno != 0 && number < len(b.commands):
			return impossible(fmt.Errorf("nft %s: %w", b.commands[number], errno))
		case number == last:
			return nil
		}
	}
}

// netfilter opens a socket to this network namespace's Netfilter.
func netfilter() (socket int, err error) {
	socket, err = sys.Number("socket(AF_NETLINK, NETLINK_NETFILTER)", func() (int, error) {
		return unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	})
	return socket, impossible(err)
}

// ask sends Netfilter one message, and returns the attributes of each answer.
func ask(subsystem, kind, flags uint16, family byte, attributes ...[]byte) (answers [][]byte, err error) {
	socket, err := netfilter()
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(socket) }() // nothing is held back in it
	answers, err = netlink.Ask(socket, subsystem<<8|kind, flags, slices.Concat(nfgenmsg(family, 0), slices.Concat(attributes...)))
	for i := range answers {
		answers[i] = answers[i][len(nfgenmsg(0, 0)):]
	}
	return answers, impossible(err)
}

// instead is what is left without NAT.
const instead = "a container can have the host's network still, --network host, or none"

// impossible says so of an error after which no NAT is to be had.
func impossible(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: CAP_NET_ADMIN is missing in the user namespace of this network; %s", err, instead)
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w: the kernel has no nf_tables: CONFIG_NF_TABLES_INET, modprobe nf_tables; %s", err, instead)
	}
	return err
}

// Attributes of Netfilter. Its numbers are big-endian, unlike rtnetlink's.

func attribute(kind uint16, value ...[]byte) []byte {
	return netlink.Attribute(nil, kind, slices.Concat(value...))
}

func nest(kind uint16, attributes ...[]byte) []byte {
	return attribute(unix.NLA_F_NESTED|kind, attributes...)
}

func word(kind uint16, n uint32) []byte {
	return attribute(kind, binary.BigEndian.AppendUint32(nil, n))
}

func text(kind uint16, s string) []byte { return attribute(kind, netlink.String(s)) }

// find returns the value of an attribute at the end of a path, nil if there is none.
func find(attributes []byte, path ...uint16) []byte {
	for _, kind := range path {
		var value []byte
		for k, v := range netlink.Attributes(attributes) {
			if k&^unix.NLA_F_NESTED == kind {
				value = v
			}
		}
		attributes = value
	}
	return attributes
}

// comment is a comment for nft(8), as its user data have it: one byte says of
// what kind they are, one how long.
func comment(kind byte, s string) []byte {
	return append([]byte{kind, byte(len(s) + 1)}, netlink.String(s)...)
}
