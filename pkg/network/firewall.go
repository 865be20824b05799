package network

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/netlink"
	"github.com/minictr/minictr/pkg/sys"
)

// An element of a set, or of a map. Its owner is its comment.
type element struct {
	set, owner      string
	key, end, value []byte // end is that of a range
}

// What the plan says of open and publish.
const (
	opening    = `nft add table inet ` + table + `, nft add element inet ` + table + ` bridges …`
	publishing = `nft add element inet ` + table + ` published …`
)

// open has the table know a network, and makes the table if there is none.
func (n *Network) open() error {
	bridge := interfaceKey(n.Bridge)
	elements := []element{{set: "bridges", key: bridge}, {set: "within", key: slices.Concat(bridge, bridge)}}
	if n.Internal {
		elements = append(elements, element{set: "internal", key: bridge})
	}
	for _, s := range n.Subnets {
		six := ""
		if s.Addr().Is6() {
			six = "6"
			if err := answerLoopback(n.Bridge); err != nil {
				return err
			}
		}
		elements = append(elements, element{set: "subnets" + six, key: slices.Concat(bridge, s.Masked().Addr().AsSlice()), end: slices.Concat(bridge, highest(s))})
	}
	add := func(b *batch) error {
		for _, e := range elements {
			e.owner = n.Name
			b.element(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, e)
		}
		return b.commit()
	}
	// A transaction that fails waits until every processor has been elsewhere,
	// synchronize_rcu(), some 10 ms: so the table is asked for first.
	_, err := ask(unix.NFNL_SUBSYS_NFTABLES, unix.NFT_MSG_GETTABLE, 0, unix.NFPROTO_INET, text(unix.NFTA_TABLE_NAME, table))
	if !errors.Is(err, unix.ENOENT) {
		err = add(newBatch(0)) // it may be gone by now
	}
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	b := newBatch(0)
	lay(b)
	if err = add(b); errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%w: the kernel lacks a part of NAT: CONFIG_NFT_NAT, CONFIG_NFT_MASQ, CONFIG_NFT_FIB_INET, CONFIG_NFT_CT; %s", err, instead)
	}
	return err
}

// close has the table forget a network. With the last one the table goes, and what
// was opened for it is shut, if nobody is about to join another.
func (m *Manager) close(n *Network, last bool) error {
	// Of two networks with one name, in two data roots, each has a bridge of its own.
	own := func(e element) bool { return bytes.HasPrefix(e.key, interfaceKey(n.Bridge)) }
	if last {
		var gone bool
		err := undisturbed(func() (err error) {
			gone, err = deleteTable(own)
			return err
		})
		if err != nil {
			return err
		}
		if gone {
			return m.shut()
		}
	}
	return withdraw(ofNetworks(), own)
}

// deleteTable deletes the table if all networks that it has are somebody's, and says
// whether it is gone.
func deleteTable(own func(element) bool) (gone bool, err error) {
	generation, err := generation()
	if err != nil {
		return false, err
	}
	left, err := elementsOf("bridges")
	if errors.Is(err, unix.ENOENT) {
		return true, nil
	}
	if err != nil || len(slices.DeleteFunc(left, own)) > 0 { // of another data root
		return false, err
	}
	b := newBatch(generation)
	b.add("delete table", unix.NFT_MSG_DELTABLE, 0, text(unix.NFTA_TABLE_NAME, table))
	return true, b.commit()
}

// interfaceKey is the name of an interface as an element has it.
func interfaceKey(name string) []byte {
	return append([]byte(name), make([]byte, unix.IFNAMSIZ-len(name))...)
}

// highest is the last address of a subnet.
func highest(s netip.Prefix) []byte {
	a := s.Addr().AsSlice()
	for i := s.Bits(); i < len(a)*8; i++ {
		a[i/8] |= 0x80 >> (i % 8)
	}
	return a
}

// answerLoopback has answers from a bridge find ::1, as route_localnet does for
// IPv4: the kernel looks for ::1 only at the interface that a packet came by. To
// that address itself no packet of the bridge can come.
func answerLoopback(bridge string) error {
	socket, err := netlink.Open()
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(socket) }() // nothing is held back in it
	index, err := netlink.IndexOf(socket, bridge)
	if err != nil {
		return fmt.Errorf("SIOCGIFINDEX %s: %w", bridge, err)
	}
	m := make([]byte, unix.SizeofRtMsg)
	m[0], m[1], m[4], m[5], m[7] = unix.AF_INET6, 128, unix.RT_TABLE_LOCAL, unix.RTPROT_STATIC, unix.RTN_LOCAL
	m = netlink.Attribute(m, unix.RTA_DST, netip.IPv6Loopback().AsSlice())
	m = netlink.Attribute(netlink.Attribute(m, unix.RTA_OIF, netlink.Number(index)), unix.RTA_PRIORITY, netlink.Number(1024+index)) // one a bridge, and the host's own comes first
	return netlink.Do(socket, "RTM_NEWROUTE local ::1 dev "+bridge, unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, m)
}

// filtered says whether Netfilter sees what a bridge passes on, br_netfilter's
// sysctl: Docker and Kubernetes switch it on. A packet is translated on its way
// through the bridge then, and not above it.
func filtered(what string) bool {
	on, err := sys.ReadFile("/proc/sys/net/bridge/bridge-nf-call-" + what)
	return err == nil && len(on) > 0 && on[0] == '1'
}

// reflect has the bridge send a packet of a container back to it, which
// translated on the bridge is for the same container.
func reflect(interfaceName string) error {
	socket, err := netlink.Open()
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(socket) }()     // nothing is held back in it
	const slaveKind, slaveData, hairpin = 4, 5, 4 // IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA, IFLA_BRPORT_MODE
	info := netlink.Attribute(nil, slaveKind, netlink.String("bridge"))
	info = netlink.Attribute(info, slaveData, netlink.Attribute(nil, hairpin, []byte{1}))
	link := netlink.Attribute(netlink.Link(0, 0), unix.IFLA_IFNAME, netlink.String(interfaceName))
	return netlink.Do(socket, "RTM_NEWLINK "+interfaceName+", hairpin", unix.RTM_NEWLINK, 0, netlink.Attribute(link, unix.IFLA_LINKINFO, info))
}

// publish leads the ports of a container to it. They are as Reserve returned them.
func publish(a *Attachment) error {
	err := tryPublish(a)
	if errors.Is(err, unix.ENOENT) { // somebody has flushed all rules
		if err := a.network().open(); err != nil {
			return err
		}
		err = tryPublish(a)
	}
	if err == nil && (filtered("iptables") || filtered("ip6tables")) {
		err = reflect(outer(a.ID))
	}
	if err != nil {
		return err
	}
	for _, p := range a.Ports {
		if p.Proto != "tcp" { // a refused connection begins anew, a datagram goes where the one before it went
			if err := forgetFlows(toPort(p)); err != nil {
				return err
			}
		}
	}
	return nil
}

func tryPublish(a *Attachment) error {
	b := newBatch(0)
	for _, p := range a.Ports {
		if p.proxied() {
			continue
		}
		e, err := elementOf(a, p)
		if err != nil {
			return err
		}
		b.element(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE|unix.NLM_F_EXCL, e)
		if p.HostIP == netip.IPv6Unspecified() {
			p.HostIP = netip.IPv6Loopback()
			e.key, e.set = slices.Concat(p.HostIP.AsSlice(), e.key), "published-at6"
			if !p.proxied() {
				b.element(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE|unix.NLM_F_EXCL, e)
			}
		}
	}
	err := b.commit()
	if !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.EBUSY) {
		return err
	}
	for _, p := range a.Ports {
		if owner, e := publisher(p); e != nil {
			return e
		} else if owner != "" {
			return &TakenError{Port: p, By: owner}
		}
	}
	return err
}

// unpublish takes the published ports of a container away, if it has any, and
// ends what the kernel still remembers of datagrams to them. Of connections the
// next to have the address would say that it knows nothing.
func unpublish(id string, addresses []netip.Addr, ports []Port) error {
	err := withdraw(ofContainers(), func(e element) bool { return e.owner == id })
	if !slices.ContainsFunc(ports, func(p Port) bool { return p.Proto != "tcp" }) {
		return err // to look for them takes 10 ms
	}
	for _, a := range addresses {
		err = errors.Join(err, forgetFlows(answeredBy(a)))
	}
	return err
}

// withdraw deletes the elements that are somebody's.
func withdraw(names []string, own func(element) bool) error {
	return undisturbed(func() error { return tryWithdraw(names, own) })
}

// undisturbed changes rules, once more where others have changed some meanwhile.
func undisturbed(change func() error) (err error) {
	for range netlink.Patience {
		if err = change(); !errors.Is(err, unix.ERESTART) {
			return err
		}
	}
	return fmt.Errorf("nft delete in inet %s: the rules of this host change all the time: %w", table, err)
}

func tryWithdraw(names []string, own func(element) bool) error {
	generation, err := generation()
	if err != nil {
		return err
	}
	b := newBatch(generation)
	for _, name := range names {
		elements, err := elementsOf(name)
		if errors.Is(err, unix.ENOENT) {
			return nil // no table, no elements
		}
		if err != nil {
			return err
		}
		for _, e := range elements {
			if own(e) {
				b.element(unix.NFT_MSG_DELSETELEM, 0, e)
			}
		}
	}
	return b.commit()
}

// proxied says that no translation helps: the answer's way back to ::1 ends
// above a bridge that translates.
func (p Port) proxied() bool { return p.HostIP == netip.IPv6Loopback() && filtered("ip6tables") }

// publisher is the container whose port that is, "" if it is nobody's.
func publisher(p Port) (owner string, err error) {
	e, err := elementOf(nil, p)
	if err != nil {
		return "", err
	}
	elements, err := elementsOf(e.set)
	if errors.Is(err, unix.ENOENT) {
		return "", nil
	}
	for _, other := range elements {
		if bytes.Equal(other.key, e.key) {
			return other.owner, err
		}
	}
	return "", err
}

// elementOf is the element that publishes a port.
func elementOf(a *Attachment, p Port) (e element, err error) {
	pair := func(port uint16) []byte { return append(binary.BigEndian.AppendUint16(nil, port), 0, 0) }
	proto, err := p.protocol()
	if err != nil {
		return e, err
	}
	e.set, e.key = "published", slices.Concat([]byte{proto, 0, 0, 0}, pair(p.Host))
	if !p.HostIP.IsUnspecified() {
		e.set, e.key = "published-at", slices.Concat(p.HostIP.AsSlice(), e.key)
	}
	if p.HostIP.Is6() {
		e.set += "6"
	}
	if a == nil {
		return e, nil
	}
	to, err := a.address(p)
	e.owner, e.value = a.ID, slices.Concat(to.AsSlice(), pair(p.Container))
	return e, err
}

// address is the container's, for a port of the host.
func (a *Attachment) address(p Port) (netip.Addr, error) {
	for _, own := range a.Addresses {
		if own.Addr().Is6() == p.HostIP.Is6() {
			return own.Addr(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("port %s: the network %s has no addresses of that family", p, a.Network)
}

// element adds a message about one element.
func (b *batch) element(kind, flags uint16, e element) {
	if len(e.owner) > maxOwner {
		e.owner = e.owner[:maxOwner]
	}
	attributes := nest(unix.NFTA_SET_ELEM_KEY, attribute(unix.NFTA_DATA_VALUE, e.key))
	if e.end != nil {
		attributes = append(attributes, nest(elementEnd, attribute(unix.NFTA_DATA_VALUE, e.end))...)
	}
	verb := "delete"
	if kind == unix.NFT_MSG_NEWSETELEM {
		verb = "add"
		attributes = append(attributes, attribute(unix.NFTA_SET_ELEM_USERDATA, comment(0, e.owner))...)
		if e.value != nil {
			attributes = append(attributes, nest(unix.NFTA_SET_ELEM_DATA, attribute(unix.NFTA_DATA_VALUE, e.value))...)
		}
	}
	b.add(verb+" element "+e.set, kind, flags, text(unix.NFTA_SET_ELEM_LIST_TABLE, table), text(unix.NFTA_SET_ELEM_LIST_SET, e.set),
		nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, nest(unix.NFTA_LIST_ELEM, attributes)))
}

// elementsOf lists the elements of a set. It fails with ENOENT without the table.
func elementsOf(set string) (elements []element, err error) {
	answers, err := ask(unix.NFNL_SUBSYS_NFTABLES, unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, unix.NFPROTO_INET,
		text(unix.NFTA_SET_ELEM_LIST_TABLE, table), text(unix.NFTA_SET_ELEM_LIST_SET, set))
	if err != nil {
		return nil, fmt.Errorf("nft list set %s: %w", set, err)
	}
	for _, answer := range answers {
		for _, e := range netlink.Attributes(find(answer, unix.NFTA_SET_ELEM_LIST_ELEMENTS)) {
			said := find(e, unix.NFTA_SET_ELEM_USERDATA)
			owner := ""
			if len(said) > 2 {
				owner = string(said[2 : len(said)-1])
			}
			elements = append(elements, element{
				set, owner, find(e, unix.NFTA_SET_ELEM_KEY, unix.NFTA_DATA_VALUE),
				find(e, elementEnd, unix.NFTA_DATA_VALUE), find(e, unix.NFTA_SET_ELEM_DATA, unix.NFTA_DATA_VALUE),
			})
		}
	}
	return elements, nil
}

// generation is that of all rules of this network namespace.
func generation() (uint32, error) {
	answers, err := ask(unix.NFNL_SUBSYS_NFTABLES, unix.NFT_MSG_GETGEN, 0, unix.AF_UNSPEC)
	if err != nil {
		return 0, fmt.Errorf("NFT_MSG_GETGEN: %w", err)
	}
	for _, answer := range answers {
		if id := find(answer, unix.NFTA_GEN_ID); len(id) == 4 {
			return binary.BigEndian.Uint32(id), nil
		}
	}
	return 0, errors.New("NFT_MSG_GETGEN: the answer has no number")
}
