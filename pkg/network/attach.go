package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/namespace"
	"github.com/minictr/minictr/pkg/netlink"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/sys"
)

// inside is what the interface of a container is called there.
const inside = "eth0"

// outer is the name of its other end, at most 15 bytes.
func outer(id string) string {
	if len(id) == 12 && strings.Trim(id, "0123456789abcdef") == "" {
		return "mc" + id
	}
	hash := fnv.New64a()
	_, _ = io.WriteString(hash, id) // it can't fail, hash.Hash
	return fmt.Sprintf("mc%012x", hash.Sum64()>>16)
}

// network is what the attachment knows of its network.
func (a *Attachment) network() *Network {
	n := &Network{Version: version, Name: a.Network, Bridge: a.Bridge, Internal: a.Internal}
	for _, p := range a.Addresses {
		n.Subnets = append(n.Subnets, p.Masked())
	}
	return n
}

// A step is an action with its text: the messages and files, one after the
// other; and where it is done, Manager.In.
type step struct {
	text []string
	do   []func(*plan.Run) error
	in   func(do func() error) error
}

func (s *step) add(do func(*plan.Run) error, format string, args ...any) {
	s.text, s.do = append(s.text, fmt.Sprintf(format, args...)), append(s.do, do)
}

// lay adds it to a plan.
func (s *step) lay(b *plan.Builder, why string) {
	text, do := strings.Join(s.text, ", "), func(r *plan.Run) error {
		for _, do := range s.do {
			if err := do(r); err != nil {
				return err
			}
		}
		return nil
	}
	if s.in == nil {
		b.Act(why, text, do)
		return
	}
	b.Act(why, "setns("+usersHost+", CLONE_NEWNET), "+text, func(r *plan.Run) error { return s.in(func() error { return do(r) }) })
}

// usersHost is what the plan calls the network namespace that plays the host.
const usersHost = "$ns/user/network"

// Lay has the parent join the container to the network. All that the kernel
// holds of it then ends with the container's network namespace, but for the
// firewall's elements, and the bridge: Leave takes them away.
func (a *Attachment) Lay(b *plan.Builder) {
	if a.manager != nil && a.manager.In != nil {
		s := a.step()
		s.add(socketThere, "%s = socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_ROUTE)", namespace.Outer)
		s.lay(b, "a network namespace of the user's own plays the host: of that he is root")
	}
	a.bridge().lay(b, "the containers of a network meet at a bridge, and there the host is their gateway")
	open := a.step()
	open.add(func(*plan.Run) error { return a.network().open() }, opening)
	open.lay(b, "other networks can't reach it, and what leaves the host has the host's address")
	if !a.Internal {
		a.forward(b)
	}
	a.pair().lay(b, "a cable: one end is inside, and ends with the container; the other is at the bridge")
	a.addresses().lay(b, "its own addresses, and no neighbour can tell it of other routes")
	if len(a.Gateways) > 0 {
		a.routes().lay(b, "all that is elsewhere is reached through the host")
	}
	if len(a.Ports) > 0 {
		publication := a.step()
		publication.add(func(*plan.Run) error { return publish(a) }, publishing)
		publication.lay(b, "who asks the host at these ports is answered by the container")
	}
}

func (a *Attachment) step() *step {
	if a.manager == nil {
		return new(step)
	}
	return &step{in: a.manager.In}
}

// socketThere replaces the socket of the host's network by one of the calling
// thread's.
func socketThere(r *plan.Run) error {
	fd, err := netlink.Open()
	if err == nil {
		err = unix.Close(r.Fd[namespace.Outer])
		r.Fd[namespace.Outer] = fd
	}
	return err
}

// bridge makes the bridge, or leaves it as it is. An interface of that name that
// is none is refused, for it has no spanning tree to be switched off.
func (a *Attachment) bridge() *step {
	s := a.step()
	link := netlink.Attribute(netlink.Link(0, unix.IFF_UP), unix.IFLA_IFNAME, netlink.String(a.Bridge))
	mac := hardware(gateway(a.Addresses[0]))
	link = netlink.Attribute(link, unix.IFLA_ADDRESS, address(mac))
	info := netlink.Attribute(nil, unix.IFLA_INFO_KIND, netlink.String("bridge"))
	info = netlink.Attribute(info, unix.IFLA_INFO_DATA, netlink.Attribute(nil, unix.IFLA_BR_STP_STATE, netlink.Number(0)))
	link = netlink.Attribute(link, unix.IFLA_LINKINFO, info)
	s.add(func(r *plan.Run) error {
		return netlink.Do(r.Fd[namespace.Outer], "RTM_NEWLINK, bridge", unix.RTM_NEWLINK, unix.NLM_F_CREATE, link)
	}, "sendto(%s, {RTM_NEWLINK, %q, IFLA_INFO_KIND=\"bridge\", IFLA_BR_STP_STATE=0, IFLA_ADDRESS=%s, IFF_UP})", namespace.Outer, a.Bridge, mac)
	for _, p := range a.Addresses {
		if p.Addr().Is6() {
			s.sysctl("ipv6/conf/"+a.Bridge+"/disable_ipv6", "0")
			s.sysctl("ipv6/conf/"+a.Bridge+"/accept_ra", "0")
		}
		s.give(namespace.Outer, a.Bridge, netip.PrefixFrom(gateway(p), p.Bits()))
	}
	if !a.six() {
		name := "/proc/sys/net/ipv6/conf/" + a.Bridge + "/disable_ipv6"
		s.add(func(*plan.Run) error { return ifThere(write(name, 0, "1")) }, "write(%q, \"1\")", name)
	}
	return s
}

// six says whether the network has a subnet of IPv6. Where it has none nobody
// speaks it there: a neighbour could make himself the router of the others, and
// of the host.
func (a *Attachment) six() bool {
	return slices.ContainsFunc(a.Addresses, func(p netip.Prefix) bool { return p.Addr().Is6() })
}

// ifThere passes over a file that a kernel without IPv6 lacks.
func ifThere(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// pair makes the two ends of the cable, where each belongs.
func (a *Attachment) pair() *step {
	s := a.step()
	s.add(func(r *plan.Run) error {
		bridge, err := netlink.IndexOf(r.Fd[namespace.Outer], a.Bridge)
		if err != nil {
			return fmt.Errorf("SIOCGIFINDEX %s: %w", a.Bridge, err)
		}
		const peer = 1 // VETH_INFO_PEER
		end := netlink.Attribute(netlink.Link(0, 0), unix.IFLA_IFNAME, netlink.String(inside))
		end = netlink.Attribute(end, unix.IFLA_ADDRESS, address(a.MAC))
		end = netlink.Attribute(end, unix.IFLA_NET_NS_FD, netlink.Number(uint32(r.Fd[namespace.Inside])))
		info := netlink.Attribute(nil, unix.IFLA_INFO_KIND, netlink.String("veth"))
		info = netlink.Attribute(info, unix.IFLA_INFO_DATA, netlink.Attribute(nil, peer, end))
		link := netlink.Attribute(netlink.Link(0, unix.IFF_UP), unix.IFLA_IFNAME, netlink.String(outer(a.ID)))
		link = netlink.Attribute(link, unix.IFLA_MASTER, netlink.Number(bridge))
		link = netlink.Attribute(link, unix.IFLA_LINKINFO, info)
		return netlink.Do(r.Fd[namespace.Outer], "RTM_NEWLINK, veth", unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, link)
	}, "sendto(%s, {RTM_NEWLINK, %q, IFLA_INFO_KIND=\"veth\", IFLA_MASTER=%q, IFF_UP, VETH_INFO_PEER={%q, IFLA_ADDRESS=%s, IFLA_NET_NS_FD=%s}})",
		namespace.Outer, outer(a.ID), a.Bridge, inside, a.MAC, namespace.Inside)
	return s
}

// addresses gives the inner end its addresses, and sets it up.
func (a *Attachment) addresses() *step {
	s := a.step()
	const conf = "/proc/sys/net/ipv6/conf/" + inside
	within := func(do func() error) func(*plan.Run) error {
		return func(r *plan.Run) error {
			return sys.OnThread(func() error {
				if err := unix.Setns(r.Fd[namespace.Inside], unix.CLONE_NEWNET); err != nil {
					return fmt.Errorf("setns: %w", err)
				}
				return do()
			})
		}
	}
	if a.six() {
		s.add(within(func() error {
			return errors.Join(write(conf+"/disable_ipv6", 0, "0"), write(conf+"/accept_ra", 0, "0"))
		}), "setns(%s, CLONE_NEWNET), write(\"%s/disable_ipv6\", \"0\"), write(\"%[2]s/accept_ra\", \"0\")", namespace.Inside, conf)
	} else {
		s.add(within(func() error { return ifThere(write(conf+"/disable_ipv6", 0, "1")) }),
			"setns(%s, CLONE_NEWNET), write(\"%s/disable_ipv6\", \"1\")", namespace.Inside, conf)
	}
	for _, p := range a.Addresses {
		s.give(namespace.Inner, inside, p)
	}
	up := netlink.Attribute(netlink.Link(0, unix.IFF_UP), unix.IFLA_IFNAME, netlink.String(inside))
	s.add(func(r *plan.Run) error {
		return netlink.Do(r.Fd[namespace.Inner], "RTM_SETLINK, IFF_UP", unix.RTM_SETLINK, 0, up)
	}, "sendto(%s, {RTM_SETLINK, %q, IFF_UP})", namespace.Inner, inside)
	return s
}

// routes are the default ones.
func (a *Attachment) routes() *step {
	s := a.step()
	for _, g := range a.Gateways {
		s.add(func(r *plan.Run) error {
			index, err := netlink.IndexOf(r.Fd[namespace.Inner], inside)
			if err != nil {
				return fmt.Errorf("SIOCGIFINDEX %s: %w", inside, err)
			}
			m := make([]byte, unix.SizeofRtMsg)
			m[0], m[4], m[5], m[7] = familyOf(g), unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RTN_UNICAST
			m = netlink.Attribute(netlink.Attribute(m, unix.RTA_GATEWAY, g.AsSlice()), unix.RTA_OIF, netlink.Number(index))
			return netlink.Do(r.Fd[namespace.Inner], fmt.Sprintf("RTM_NEWROUTE via %s", g), unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, m)
		}, "sendto(%s, {RTM_NEWROUTE, default, RTA_GATEWAY=%s, RTA_OIF=%q})", namespace.Inner, g, inside)
	}
	return s
}

// give gives an interface an address. Nobody else has it: it can be used at
// once, without asking the neighbours (IFA_F_NODAD).
func (s *step) give(socket plan.Reg, name string, p netip.Prefix) {
	flags := ""
	if p.Addr().Is6() {
		flags = ", IFA_F_NODAD"
	}
	s.add(func(r *plan.Run) error {
		index, err := netlink.IndexOf(r.Fd[socket], name)
		if err != nil {
			return fmt.Errorf("SIOCGIFINDEX %s: %w", name, err)
		}
		m := []byte{familyOf(p.Addr()), byte(p.Bits()), 0, unix.RT_SCOPE_UNIVERSE} // struct ifaddrmsg
		if p.Addr().Is6() {
			m[2] = unix.IFA_F_NODAD
		}
		m = binary.NativeEndian.AppendUint32(m, index)
		m = netlink.Attribute(netlink.Attribute(m, unix.IFA_LOCAL, p.Addr().AsSlice()), unix.IFA_ADDRESS, p.Addr().AsSlice())
		return netlink.Do(r.Fd[socket], fmt.Sprintf("RTM_NEWADDR %s", p), unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, m)
	}, "sendto(%s, {RTM_NEWADDR, %q, %s%s})", socket, name, p, flags)
}

func (s *step) sysctl(name, value string) {
	name = "/proc/sys/net/" + name
	s.add(func(*plan.Run) error { return write(name, 0, value) }, "write(%q, %q)", name, value)
}

// address is a MAC address that was found to be one.
func address(mac string) []byte {
	a, _ := net.ParseMAC(mac)
	return a
}

// write writes a file.
func write(name string, flags int, text string) error {
	fd, err := sys.Number("open "+name, func() (int, error) { return unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC|flags, 0o600) })
	if err != nil {
		return err
	}
	_, err = sys.Number("write "+name, func() (int, error) { return unix.Write(fd, []byte(text)) })
	return errors.Join(err, unix.Close(fd))
}
