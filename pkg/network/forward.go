package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/namespace"
	"github.com/minictr/minictr/pkg/netlink"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/sys"
)

// The switches that make the host a router. That of IPv4 sets those of all
// interfaces, and only theirs are asked when a packet comes; IPv6 has but one
// (the kernel's ip-sysctl.rst).
const (
	everywhere  = "/proc/sys/net/ipv4/conf/all/forwarding"
	everywhere6 = "/proc/sys/net/ipv6/conf/all/forwarding"
)

// forwarding is the switch of an interface.
func forwarding(name string) string { return "/proc/sys/net/ipv4/conf/" + name + "/forwarding" }

// forward has the host pass on what is from the network and to it. A host that
// is no router stays none for others: the interfaces that are opened for this
// are elements of sets, and the firewall drops what else comes by them. So
// whoever makes the host a router later, by ip_forward, is seen to have done so.
func (a *Attachment) forward(b *plan.Builder) {
	for _, p := range a.Addresses {
		s := a.step()
		if p.Addr().Is4() {
			s.sysctl("ipv4/conf/"+a.Bridge+"/route_localnet", "1") // ports are published at 127.0.0.1, too
			s.sysctl("ipv4/conf/"+a.Bridge+"/forwarding", "1")
			s.add(func(*plan.Run) error { return open4(false) },
				`nft add element inet %s opened …, write("/proc/sys/net/ipv4/conf/*/forwarding", "1")`, table)
		} else {
			// A router does not listen to routers (accept_ra in ip-sysctl.rst).
			listen := a.step()
			listen.add(func(r *plan.Run) error { return keepLearning(r.Fd[namespace.Outer]) },
				`sendto(%s, {RTM_GETROUTE, NLM_F_DUMP}), write("/proc/sys/net/ipv6/conf/*/accept_ra", "2")`, namespace.Outer)
			listen.lay(b, "an interface whose routes a router has told goes on listening to it")
			s.add(func(*plan.Run) error { return open6(false) }, `nft add element inet %s opened6 …, write(%q, "1")`, table, everywhere6)
		}
		s.lay(b, "the host passes on what is from the network or to it, and nothing else that it did not before")
	}
}

func keepLearning(socket int) error {
	all, err := routes(socket)
	for _, r := range all {
		if !r.learnt {
			continue
		}
		i, e := net.InterfaceByIndex(int(r.index))
		if e == nil {
			// Where it is 0 a program listens in the kernel's place.
			name := "/proc/sys/net/ipv6/conf/" + i.Name + "/accept_ra"
			if now, _ := sys.ReadFile(name); string(now) == "1\n" {
				e = write(name, 0, "2")
			}
		}
		err = errors.Join(err, e)
	}
	return err
}

// open4 opens the interfaces of a host that is no router. Again says that it was
// done before, and that the elements are lost.
func open4(again bool) error {
	if router, err := isOn(everywhere); err != nil || router {
		return errors.Join(err, disown("opened"))
	}
	names, err := others()
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		on, e := isOn(forwarding(name))
		err = errors.Join(err, ifThere(e))
		return on && !again
	})
	if err := errors.Join(err, own("opened", names)); err != nil {
		return err
	}
	for _, name := range names {
		err = errors.Join(err, ifThere(write(forwarding(name), 0, "1")))
	}
	return err
}

// open6 makes the host a router of IPv6. If it was one, the set has no elements
// but those of an earlier call.
func open6(again bool) error {
	router, err := isOn(everywhere6)
	if err != nil {
		return err
	}
	if opened, err := elementsOf("opened6"); err != nil || router && len(opened) == 0 && !again {
		return err
	}
	names, err := others()
	if err != nil {
		return err
	}
	if err := own("opened6", names); err != nil || router {
		return err
	}
	return write(everywhere6, 0, "1")
}

// shut gives back what open4 and open6 have opened, but to who has made the host
// a router meanwhile.
func shut() error {
	opened, err := elementsOf("opened")
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	opened6, e := elementsOf("opened6")
	router, e4 := isOn(everywhere)
	if err = errors.Join(err, e, e4); err != nil {
		return err
	}
	if !router {
		for _, o := range opened {
			err = errors.Join(err, ifThere(write(forwarding(strings.TrimRight(string(o.key), "\x00")), 0, "0")))
		}
	}
	if len(opened6) > 0 {
		err = errors.Join(err, write(everywhere6, 0, "0"))
	}
	return err
}

// own adds interfaces to a set, disown takes all away.
func own(set string, names []string) error {
	b := newBatch(0)
	for _, name := range names {
		b.element(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, element{set: set, key: interfaceKey(name)})
	}
	return b.commit()
}

func disown(set string) error {
	return withdraw([]string{set}, func(element) bool { return true }, false)
}

// others are the interfaces that have addresses, but for the loopback and
// bridges of networks.
func others() (names []string, err error) {
	socket, err := netlink.Open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unix.Close(socket)) }()
	addresses, err := netlink.Ask(socket, unix.RTM_GETADDR, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfAddrmsg))
	if err != nil {
		return nil, fmt.Errorf("RTM_GETADDR: %w", err)
	}
	var seen []uint32
	for _, m := range addresses { // struct ifaddrmsg
		index := binary.NativeEndian.Uint32(m[4:])
		if slices.Contains(seen, index) {
			continue
		}
		seen = append(seen, index)
		// One that is gone meanwhile needs nothing.
		if i, err := net.InterfaceByIndex(int(index)); err == nil && i.Flags&net.FlagLoopback == 0 && !strings.HasPrefix(i.Name, bridgePrefix) {
			names = append(names, i.Name)
		}
	}
	return names, nil
}

func isOn(name string) (bool, error) {
	text, err := sys.ReadFile(name)
	return len(text) > 0 && text[0] != '0', err
}
