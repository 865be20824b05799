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
)

// An element of a set, or of a map. Its owner is its comment.
type element struct {
	set, owner string
	key, value []byte
}

// What the plan says of open and publish.
const (
	opening    = `nft add table inet ` + table + `, nft add element inet ` + table + ` bridges …`
	publishing = `nft add element inet ` + table + ` published …`
)

// open has the table know a network, and makes the table if there is none.
func (n *Network) open() error {
	bridge := make([]byte, unix.IFNAMSIZ)
	copy(bridge, n.Bridge)
	elements := []element{{set: "bridges", key: bridge}, {set: "within", key: slices.Concat(bridge, bridge)}}
	if n.Internal {
		elements = append(elements, element{set: "internal", key: bridge})
	}
	add := func(b *batch) error {
		for _, e := range elements {
			e.owner = n.Name
			b.element(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, e)
		}
		return b.commit()
	}
	err := add(newBatch(0))
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

// close has the table forget a network. With the last one the table goes.
func (n *Network) close() error { return withdraw(ofNetworks(), n.Name) }

// publish leads the ports of a container to it. They are as Reserve returned them.
func publish(a *Attachment) error {
	err := tryPublish(a)
	if errors.Is(err, unix.ENOENT) { // somebody has flushed all rules
		if err := (&Network{Name: a.Network, Bridge: a.Bridge, Internal: a.Internal}).open(); err != nil {
			return err
		}
		err = tryPublish(a)
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
		e, err := elementOf(a, p)
		if err != nil {
			return err
		}
		b.element(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE|unix.NLM_F_EXCL, e)
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
// ends what the kernel still remembers of connections with its addresses.
func unpublish(id string, addresses []netip.Addr) error {
	err := withdraw(ofContainers(), id)
	for _, a := range addresses {
		err = errors.Join(err, forgetFlows(from(a)), forgetFlows(answeredBy(a)))
	}
	return err
}

// withdraw deletes the elements of an owner. What others change meanwhile is
// looked at again.
func withdraw(names []string, owner string) error {
	for {
		err := tryWithdraw(names, owner)
		if !errors.Is(err, unix.ERESTART) {
			return err
		}
	}
}

func tryWithdraw(names []string, owner string) error {
	generation, err := generation()
	if err != nil {
		return err
	}
	b := newBatch(generation)
	bridges := 0
	for _, name := range names {
		elements, err := elementsOf(name)
		if errors.Is(err, unix.ENOENT) {
			return nil // no table, no elements
		}
		if err != nil {
			return err
		}
		for _, e := range elements {
			switch {
			case e.owner == owner:
				b.element(unix.NFT_MSG_DELSETELEM, 0, e)
			case name == "bridges":
				bridges++
			}
		}
	}
	if len(b.commands) == 1 {
		return nil
	}
	if bridges == 0 && slices.Contains(names, "bridges") {
		b = newBatch(generation)
		b.add("delete table", unix.NFT_MSG_DELTABLE, 0, text(unix.NFTA_TABLE_NAME, table))
	}
	return b.commit()
}

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
	e.owner = a.ID
	for _, address := range a.Addresses {
		if address.Addr().Is6() == p.HostIP.Is6() {
			e.value = slices.Concat(address.Addr().AsSlice(), pair(p.Container))
			return e, nil
		}
	}
	return e, fmt.Errorf("port %s: the network %s has no addresses of this kind", p, a.Network)
}

// element adds a message about one element.
func (b *batch) element(kind, flags uint16, e element) {
	if len(e.owner) > maxOwner {
		e.owner = e.owner[:maxOwner]
	}
	attributes := nest(unix.NFTA_SET_ELEM_KEY, attribute(unix.NFTA_DATA_VALUE, e.key))
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
			elements = append(elements, element{set, owner, find(e, unix.NFTA_SET_ELEM_KEY, unix.NFTA_DATA_VALUE), find(e, unix.NFTA_SET_ELEM_DATA, unix.NFTA_DATA_VALUE)})
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
