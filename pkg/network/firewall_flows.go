package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Connection tracking goes on to translate what it knows, whatever becomes of
// the rules. So what it knows of a container's address is to go before another
// container gets that, and what it knows of a port before that is published.

// Of linux/netfilter/nfnetlink_conntrack.h, which package unix lacks.
const (
	msgGet, msgDelete        = 1, 2 // IPCTNL_MSG_CT_
	tupleOrig, tupleReply    = 1, 2 // CTA_
	status, connID, connZone = 3, 12, 18
	connFilter, statusMask   = 25, 26
	tupleIP, tupleProto      = 1, 2 // CTA_TUPLE_
	protoNum, protoDport     = 1, 3 // CTA_PROTO_

	byAddress, byProto, byDport = 1 << 0, 1 << 3, 1 << 5 // CTA_FILTER_F_CTA_: source address

	translatedAny = 1<<4 | 1<<5 // IPS_NAT_MASK
)

// flows are connections of one family that a filter of the kernel finds.
type flows struct {
	family byte
	filter []byte
}

func familyOf(a netip.Addr) byte {
	if a.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func source(a netip.Addr) []byte {
	kind := uint16(1) // CTA_IP_V4_SRC
	if a.Is6() {
		kind = 3
	}
	return nest(tupleIP, attribute(kind, a.AsSlice()))
}

// answeredBy are those that it answers, whatever it was called by.
func answeredBy(a netip.Addr) flows {
	return flows{familyOf(a), append(nest(tupleReply, source(a)), nest(connFilter, native(tupleReply, byAddress))...)}
}

// toPort are those that were translated in no way.
func toPort(p Port) flows {
	proto, _ := p.protocol() // publish has looked
	tuple := nest(tupleOrig, nest(tupleProto, attribute(protoNum, []byte{proto}), attribute(protoDport, binary.BigEndian.AppendUint16(nil, p.Host))))
	filter := append(tuple, nest(connFilter, native(tupleOrig, byProto|byDport))...)
	return flows{familyOf(p.HostIP), append(filter, append(word(status, 0), word(statusMask, translatedAny)...)...)}
}

func native(kind uint16, n uint32) []byte {
	return attribute(kind, binary.NativeEndian.AppendUint32(nil, n))
}

// forgetFlows ends them: the next packet of each is looked at like a first one.
// Without nf_conntrack_netlink (EINVAL) they end in their own time.
func forgetFlows(f flows) error {
	found, err := ask(unix.NFNL_SUBSYS_CTNETLINK, msgGet, unix.NLM_F_DUMP, f.family, f.filter)
	if errors.Is(err, unix.EINVAL) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("IPCTNL_MSG_CT_GET: %w", err)
	}
	for _, flow := range found {
		which := append(nest(tupleOrig, find(flow, tupleOrig)), attribute(connID, find(flow, connID))...)
		if zone := find(flow, connZone); zone != nil {
			which = append(which, attribute(connZone, zone)...)
		}
		_, err := ask(unix.NFNL_SUBSYS_CTNETLINK, msgDelete, 0, f.family, which)
		if err != nil && !errors.Is(err, unix.ENOENT) { // it may just have ended
			return fmt.Errorf("IPCTNL_MSG_CT_DELETE: %w", err)
		}
	}
	return nil
}
