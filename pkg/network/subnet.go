package network

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/netlink"
)

// place gives the network its subnets, or checks those that were asked for.
// None overlaps with another's, or with what the host has a route to.
func (n *Network) place(others []Network) error {
	taken, err := hostPrefixes()
	if err != nil {
		return err
	}
	for _, other := range others {
		taken = append(taken, other.Subnets...)
	}
	if len(n.Subnets) > 0 {
		return check(n.Subnets, taken)
	}
	four, err := n.free(taken)
	if err != nil {
		return err
	}
	n.Subnets = []netip.Prefix{four}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err == nil {
		n.Subnets = append(n.Subnets, uniqueLocal())
	}
	return nil
}

// free is the first subnet of IPv4 that is free. Private ones of the middle of
// their ranges are tried first: homes and companies begin at the ends.
func (n *Network) free(taken []netip.Prefix) (netip.Prefix, error) {
	pools, bits := []string{"10.89.0.0/16", "10.90.0.0/15", "172.28.0.0/14", "192.168.0.0/16"}, 24
	if n.Name == Default {
		pools, bits = []string{"10.88.0.0/16", "10.92.0.0/14", "172.24.0.0/14", "192.168.0.0/16"}, 16
	}
	for _, text := range pools {
		pool := netip.MustParsePrefix(text)
		for i := range uint64(1) << (bits - pool.Bits()) {
			p := netip.PrefixFrom(nth(pool, i<<(32-bits)), bits)
			if _, found := overlaps(p, taken); !found {
				return p, nil
			}
		}
	}
	return netip.Prefix{}, fmt.Errorf("no subnet of %d bits is free in %v: give one that is, with --subnet", bits, pools)
}

// uniqueLocal is a subnet of IPv6 that is nobody else's, RFC 4193: its global
// ID is random.
func uniqueLocal() netip.Prefix {
	a := [16]byte{0: 0xfd}
	_, _ = rand.Read(a[1:6]) // it never fails, crypto/rand
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

func overlaps(p netip.Prefix, taken []netip.Prefix) (netip.Prefix, bool) {
	for _, t := range taken {
		if p.Overlaps(t) {
			return t, true
		}
	}
	return netip.Prefix{}, false
}

// check refuses subnets that no network can have.
func check(subnets, taken []netip.Prefix) error {
	families := make(map[bool]bool)
	for _, p := range subnets {
		least, most := 8, 30
		if p.Addr().Is6() {
			least, most = 16, 126
		}
		a := p.Addr()
		switch {
		case !p.IsValid() || a.Is4In6():
			return fmt.Errorf("subnet %v: it is none", p)
		case p != p.Masked():
			return fmt.Errorf("subnet %v: it is an address of %v: say which is meant", p, p.Masked())
		case p.Bits() < least || p.Bits() > most:
			return fmt.Errorf("subnet %v: the prefix has from %d to %d bits", p, least, most)
		case a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() || a.IsUnspecified():
			return fmt.Errorf("subnet %v: its addresses are for another use", p)
		case families[a.Is6()]:
			return fmt.Errorf("subnet %v: a network has one of IPv4 and one of IPv6, at most", p)
		}
		families[a.Is6()] = true
		if t, found := overlaps(p, taken); found {
			return fmt.Errorf("subnet %v: it overlaps with %v, which another network has, or the host a route to: choose another", p, t)
		}
	}
	return nil
}

// nth is an address of a subnet by its number: 0 is the first.
func nth(p netip.Prefix, n uint64) netip.Addr {
	if p.Addr().Is4() {
		a := p.Masked().Addr().As4()
		binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(a[:])+uint32(n))
		return netip.AddrFrom4(a)
	}
	a := p.Masked().Addr().As16()
	binary.BigEndian.PutUint64(a[8:], binary.BigEndian.Uint64(a[8:])+n)
	return netip.AddrFrom16(a)
}

// gateway is the host's address in a subnet.
func gateway(p netip.Prefix) netip.Addr { return nth(p, 1) }

// A route is what the kernel's tables say of a destination.
type route struct {
	to     netip.Prefix
	index  uint32 // of the interface
	learnt bool   // a router has advertised it
}

// routes are those of all tables of this network namespace.
func routes(socket int) (all []route, err error) {
	answers, err := netlink.Ask(socket, unix.RTM_GETROUTE, unix.NLM_F_DUMP, make([]byte, unix.SizeofRtMsg))
	if err != nil {
		return nil, fmt.Errorf("RTM_GETROUTE: %w", err)
	}
	for _, m := range answers { // struct rtmsg
		if family := m[0]; len(m) < unix.SizeofRtMsg || family != unix.AF_INET && family != unix.AF_INET6 {
			continue
		}
		r, to := route{learnt: m[5] == unix.RTPROT_RA}, []byte(nil)
		for kind, value := range netlink.Attributes(m[unix.SizeofRtMsg:]) {
			switch {
			case kind == unix.RTA_DST:
				to = value
			case kind == unix.RTA_OIF && len(value) == 4:
				r.index = binary.NativeEndian.Uint32(value)
			}
		}
		if a, ok := netip.AddrFromSlice(to); ok {
			r.to = netip.PrefixFrom(a, int(m[1])).Masked()
		}
		all = append(all, r)
	}
	return all, nil
}

// hostPrefixes are the destinations that the host has a route to, and the
// subnets of its addresses: an interface that is down has no route. The default
// route is none of them, nor are its two halves, as a VPN has them.
func hostPrefixes() (taken []netip.Prefix, err error) {
	socket, err := netlink.Open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unix.Close(socket)) }()
	all, err := routes(socket)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.to.Bits() >= 8 {
			taken = append(taken, r.to)
		}
	}
	addresses, err := netlink.Ask(socket, unix.RTM_GETADDR, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfAddrmsg))
	if err != nil {
		return nil, fmt.Errorf("RTM_GETADDR: %w", err)
	}
	for _, m := range addresses { // struct ifaddrmsg
		for kind, value := range netlink.Attributes(m[min(unix.SizeofIfAddrmsg, len(m)):]) {
			if a, ok := netip.AddrFromSlice(value); ok && kind == unix.IFA_ADDRESS {
				taken = append(taken, netip.PrefixFrom(a, int(m[1])).Masked())
			}
		}
	}
	return taken, nil
}
