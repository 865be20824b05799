package network

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
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

// opened is what forwards because of the networks alone. It is kept in a file, for
// somebody may flush the firewall's tables.
type opened struct {
	Boot       string   // of which start of the host this is
	Namespace  uint64   // of which network namespace, by its inode
	Interfaces []string // of IPv4
	IPv6       bool
}

// openedFile is its name: that of no network.
const openedFile = ".opened"

func (m *Manager) opened() (o opened, err error) {
	boot, err := sys.ReadFile("/proc/sys/kernel/random/boot_id")
	var namespace unix.Stat_t
	if err = errors.Join(err, unix.Stat("/proc/thread-self/ns/net", &namespace)); err != nil {
		return o, err
	}
	text, err := sys.ReadFile(m.path(openedFile))
	if err == nil {
		err = json.Unmarshal(text, &o)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if now := strings.TrimSpace(string(boot)); o.Boot != now || o.Namespace != namespace.Ino {
		o = opened{Boot: now, Namespace: namespace.Ino}
	}
	return o, err
}

func (m *Manager) keep(o opened) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return sys.Replace(m.path(openedFile), m.Root, func(f *os.File) error {
		_, err := f.Write(append(text, '\n'))
		return err
	})
}

// forward has the host pass on what is from the network and to it. A host that
// is no router stays none for others: the firewall drops what else comes by the
// interfaces that are opened for this, or by any but bridges, of IPv6. So whoever
// makes the host a router later, by ip_forward, is seen to have done so.
func (a *Attachment) forward(b *plan.Builder) {
	for _, p := range a.Addresses {
		s := a.step()
		if p.Addr().Is4() {
			s.sysctl("ipv4/conf/"+a.Bridge+"/route_localnet", "1") // ports are published at 127.0.0.1, too
			s.sysctl("ipv4/conf/"+a.Bridge+"/forwarding", "1")
			s.add(func(*plan.Run) error { return a.manager.locked(a.manager.open4) },
				`nft add element inet %s opened …, write("/proc/sys/net/ipv4/conf/*/forwarding", "1")`, table)
		} else {
			// A router does not listen to routers (accept_ra in ip-sysctl.rst).
			listen := a.step()
			listen.add(func(r *plan.Run) error { return keepLearning(r.Fd[namespace.Outer]) },
				`sendto(%s, {RTM_GETROUTE, NLM_F_DUMP}), write("/proc/sys/net/ipv6/conf/*/accept_ra", "2")`, namespace.Outer)
			listen.lay(b, "an interface whose routes a router has told goes on listening to it")
			s.add(func(*plan.Run) error { return a.manager.locked(a.manager.open6) },
				`nft add element inet %s router { ipv6 }, write(%q, "1")`, table, everywhere6)
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

// open4 opens the interfaces of a host that is no router.
func (m *Manager) open4() error {
	o, err := m.opened()
	router, e := isOn(everywhere)
	if err = errors.Join(err, e); err != nil {
		return err
	}
	if router {
		if len(o.Interfaces) == 0 {
			return nil
		}
		o.Interfaces = nil
		return errors.Join(withdraw([]string{"opened"}, func(element) bool { return true }), m.keep(o))
	}
	names, err := others()
	names = slices.DeleteFunc(names, func(name string) bool {
		on, e := isOn(forwarding(name))
		err = errors.Join(err, ifThere(e))
		return on
	})
	if err != nil || len(names) == 0 {
		return err
	}
	o.Interfaces = slices.Compact(slices.Sorted(slices.Values(append(o.Interfaces, names...))))
	if err := errors.Join(m.keep(o), o.own()); err != nil {
		return err
	}
	for _, name := range names {
		err = errors.Join(err, ifThere(write(forwarding(name), 0, "1")))
	}
	return err
}

// open6 makes the host a router of IPv6.
func (m *Manager) open6() error {
	router, err := isOn(everywhere6)
	if err != nil || router {
		return err
	}
	o, err := m.opened()
	if err != nil {
		return err
	}
	o.IPv6 = true
	if err := errors.Join(m.keep(o), o.own()); err != nil {
		return err
	}
	return write(everywhere6, 0, "1")
}

// own has the firewall know.
func (o opened) own() error {
	b := newBatch(0)
	for _, name := range o.Interfaces {
		b.element(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, element{set: "opened", key: interfaceKey(name)})
	}
	if o.IPv6 {
		b.element(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, element{set: "router", key: []byte{unix.NFPROTO_IPV6}})
	}
	return b.commit()
}

// shut gives back what open4 and open6 have opened, but what of IPv4 another has
// made a router of meanwhile. It is the last thing: the table is gone.
func (m *Manager) shut() error {
	o, err := m.opened()
	router, e := isOn(everywhere)
	if err = errors.Join(err, e); err != nil {
		return err
	}
	if !router {
		for _, name := range o.Interfaces {
			err = errors.Join(err, ifThere(write(forwarding(name), 0, "0")))
		}
	}
	if o.IPv6 {
		err = errors.Join(err, write(everywhere6, 0, "0"))
	}
	if err == nil {
		err = os.Remove(m.path(openedFile))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// others are the interfaces by which packets for containers can come: not the
// loopback, nor bridges of networks, nor what is a part of another one.
func others() (names []string, err error) {
	socket, err := netlink.Open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unix.Close(socket)) }()
	links, err := netlink.Ask(socket, unix.RTM_GETLINK, unix.NLM_F_DUMP, netlink.Link(0, 0))
	if err != nil {
		return nil, fmt.Errorf("RTM_GETLINK: %w", err)
	}
	for _, m := range links { // struct ifinfomsg
		name, whole := "", binary.NativeEndian.Uint32(m[8:])&unix.IFF_LOOPBACK == 0
		for kind, value := range netlink.Attributes(m[unix.SizeofIfInfomsg:]) {
			switch kind {
			case unix.IFLA_IFNAME:
				name = strings.TrimRight(string(value), "\x00")
			case unix.IFLA_MASTER:
				whole = false
			}
		}
		if whole && !strings.HasPrefix(name, bridgePrefix) {
			names = append(names, name)
		}
	}
	return names, nil
}

func isOn(name string) (bool, error) {
	text, err := sys.ReadFile(name)
	return len(text) > 0 && text[0] != '0', err
}
