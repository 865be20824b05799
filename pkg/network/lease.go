package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/netlink"
	"github.com/minictr/minictr/pkg/sys"
)

// A lease is a file in a network's directory "leases". Its name has the
// addresses and the container's ID, "10.88.0.2,fd53::2,4f1c…": that is all that
// the pool must know, and it is there at once or not at all. The attachment
// stands in it.
type lease struct {
	file      string
	id        string
	addresses []netip.Addr
}

func (m *Manager) leases(network string) (all []lease, err error) {
	entries, err := os.ReadDir(m.path(network, "leases"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		parts := strings.Split(e.Name(), ",")
		l := lease{file: m.path(network, "leases", e.Name()), id: parts[len(parts)-1]}
		for _, text := range parts[:len(parts)-1] {
			a, err := netip.ParseAddr(text)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", l.file, err)
			}
			l.addresses = append(l.addresses, a)
		}
		all = append(all, l)
	}
	return all, err
}

// A record is what stands in a lease.
type record struct {
	Version int `json:"version"`
	Attachment
}

func (l lease) read() (Attachment, error) {
	var r record
	data, err := sys.ReadFile(l.file)
	if err == nil {
		err = decode(data, &r, &r.Version)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", l.file, err)
	}
	return r.Attachment, err
}

// Join leases addresses in a network for a container: those that it asks for,
// or the next ones that are free. What it had before is taken away. No interface
// is made yet: the attachment's steps do that. The container's lock is the
// caller's, who calls Leave in the end.
func (m *Manager) Join(e Endpoint) (a *Attachment, err error) {
	if e.ID == "" || strings.ContainsAny(e.ID, ",/") {
		return nil, fmt.Errorf("invalid container ID %q", e.ID)
	}
	if e.Network == "" {
		e.Network = Default
	}
	err = m.locked(func() error {
		n, err := m.get(e.Network)
		if err == nil {
			err = m.leave(e.ID)
		}
		if err == nil {
			err = m.in(m.restore)
		}
		if err == nil {
			a, err = m.lease(n, e)
		}
		if err != nil {
			return fmt.Errorf("join network %s: %w", e.Network, err)
		}
		return nil
	})
	return a, err
}

// Draft is what Join would lease now. It changes nothing, and makes no network.
func (m *Manager) Draft(e Endpoint) (*Attachment, error) {
	n, err := m.read(e.Network)
	if e.Network == Default && errors.Is(err, fs.ErrNotExist) {
		n, err = m.draft(Network{Name: Default})
	}
	if err != nil {
		return nil, err
	}
	return m.choose(n, e)
}

// choose chooses an endpoint's addresses.
func (m *Manager) choose(n *Network, e Endpoint) (*Attachment, error) {
	leases, err := m.leases(n.Name)
	if err != nil {
		return nil, err
	}
	used := make(map[netip.Addr]bool)
	for _, l := range leases {
		for _, a := range l.addresses {
			used[a] = true
		}
	}
	a := &Attachment{Endpoint: e, Bridge: n.Bridge, Internal: n.Internal, manager: m}
	last, wanted := m.last(n), map[bool]netip.Addr{false: e.IP, true: e.IP6}
	for _, p := range n.Subnets {
		six := p.Addr().Is6()
		address, err := pick(p, wanted[six], last, used)
		if err != nil {
			return nil, err
		}
		delete(wanted, six)
		a.Addresses = append(a.Addresses, netip.PrefixFrom(address, p.Bits()))
		if !n.Internal {
			a.Gateways = append(a.Gateways, gateway(p))
		}
	}
	for six, address := range wanted {
		if address.IsValid() {
			return nil, fmt.Errorf("it has no subnet for %v (%v)", address, map[bool]string{false: "IPv4", true: "IPv6"}[six])
		}
	}
	if a.MAC == "" {
		a.MAC = hardware(a.Addresses[0].Addr())
	}
	if mac, err := net.ParseMAC(a.MAC); err != nil || len(mac) != 6 || mac[0]&1 != 0 {
		return nil, fmt.Errorf("%q is no MAC address of one interface, such as 02:6d:0a:58:00:02", a.MAC)
	}
	return a, nil
}

func (m *Manager) lease(n *Network, e Endpoint) (*Attachment, error) {
	a, err := m.choose(n, e)
	if err != nil {
		return nil, err
	}
	var name strings.Builder
	for _, p := range a.Addresses {
		fmt.Fprintf(&name, "%s,", p.Addr())
	}
	data, err := json.Marshal(record{version, *a})
	if err == nil {
		err = write(m.path(n.Name, "leases", name.String()+e.ID), unix.O_CREAT|unix.O_EXCL, string(data))
	}
	if err == nil && !e.IP.IsValid() && !e.IP6.IsValid() {
		err = m.remember(n.Name, a.Addresses[0].Addr())
	}
	return a, err
}

// pick picks an address: the one that is wanted, or the first free one after
// the last. So one that has just become free, which others may still take for
// the one who had it, is not the next to be leased.
func pick(p netip.Prefix, wanted netip.Addr, last uint64, used map[netip.Addr]bool) (netip.Addr, error) {
	highest := uint64(1)<<min(p.Addr().BitLen()-p.Bits(), 32) - 1
	if p.Addr().Is4() {
		highest-- // the broadcast address
	}
	if wanted.IsValid() {
		switch {
		case !p.Contains(wanted):
			return wanted, fmt.Errorf("%v is no address of %v", wanted, p)
		case wanted == nth(p, 0) || wanted == gateway(p) || p.Addr().Is4() && wanted == nth(p, highest+1):
			return wanted, fmt.Errorf("%v is no container's: the first two addresses of %v, and IPv4's last one, have another use", wanted, p)
		case used[wanted]:
			return wanted, fmt.Errorf("%v is another container's: minictr network inspect", wanted)
		}
		return wanted, nil
	}
	const first = 2
	for i, count := uint64(0), highest-first+1; i < count && i <= uint64(len(used)); i++ {
		if a := nth(p, first+(last+1-first+i)%count); !used[a] {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no address of %v is free: %d containers have one", p, highest-first+1)
}

// hardware is a MAC address of our own for an IP address: so who remembers the
// one for the other is right for ever.
func hardware(a netip.Addr) string {
	b := a.AsSlice()
	return net.HardwareAddr(append([]byte{0x02, 0x6d}, b[len(b)-4:]...)).String()
}

// last is the number of the address that was leased last, 1 if that is not
// known. The address is the target of a symbolic link.
func (m *Manager) last(n *Network) uint64 {
	text, _ := os.Readlink(m.path(n.Name, "last"))
	a, err := netip.ParseAddr(text)
	if err != nil {
		return 1
	}
	return max(number(n.Subnets[0], a), 1)
}

// number is the inverse of nth, for the numbers that are leased.
func number(p netip.Prefix, a netip.Addr) (n uint64) {
	b := a.AsSlice()
	for _, part := range b[len(b)-4:] {
		n = n<<8 | uint64(part)
	}
	return n & (1<<min(p.Addr().BitLen()-p.Bits(), 32) - 1)
}

// next is what is to become last.
const next = "next"

func (m *Manager) remember(network string, a netip.Addr) error {
	link := m.path(network, next)
	err := os.Symlink(a.String(), link)
	if errors.Is(err, fs.ErrExist) { // who made it was killed
		if err = os.Remove(link); err == nil {
			err = os.Symlink(a.String(), link)
		}
	}
	if err == nil {
		err = os.Rename(link, m.path(network, "last"))
	}
	return err
}

// Leave takes away what is left of a container's attachment, whoever made it
// was killed where: elements of the firewall, its interface, the bridge if it
// was the last one's, and then its lease. Nil if nothing is left.
func (m *Manager) Leave(id string) error {
	if names, err := m.names(); len(names) == 0 {
		return err
	}
	return m.locked(func() error { return m.leave(id) })
}

func (m *Manager) leave(id string) error {
	names, err := m.names()
	if err != nil {
		return err
	}
	var mine []lease
	var where []string // their networks
	others := make(map[string]int)
	for _, name := range names {
		leases, err := m.leases(name)
		if err != nil {
			return err
		}
		for _, l := range leases {
			if l.id == id {
				mine, where = append(mine, l), append(where, name)
			} else {
				others[name]++
			}
		}
	}
	for i, l := range mine {
		err := m.in(func() error { return m.end(l, where[i], others[where[i]] == 0, len(others) == 0) })
		if err != nil {
			return fmt.Errorf("leave network %s: %w", where[i], err)
		}
	}
	return nil
}

// end ends a lease, which may be the network's last one, or the last of all.
func (m *Manager) end(l lease, network string, last, all bool) (err error) {
	n, err := m.read(network)
	if err != nil {
		return err
	}
	socket, err := netlink.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(socket)) }()
	a, _ := l.read() // what is not written yet was not published either
	if err := unpublish(l.id, l.addresses, a.Ports); err != nil {
		return err
	}
	if err := remove(socket, outer(l.id)); err != nil {
		return err
	}
	if last {
		if err := errors.Join(m.close(n, all), remove(socket, n.Bridge)); err != nil {
			return err
		}
	}
	return os.Remove(l.file)
}

// remove removes an interface, if it is there.
func remove(socket int, name string) error {
	link := netlink.Attribute(netlink.Link(0, 0), unix.IFLA_IFNAME, netlink.String(name))
	err := netlink.Do(socket, "RTM_DELLINK "+name, unix.RTM_DELLINK, 0, link)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// Members are the attachments of a network.
func (m *Manager) Members(network string) (all []Attachment, err error) {
	if _, err := m.Get(network); err != nil {
		return nil, err
	}
	err = m.locked(func() error { // else a lease may be half written
		leases, err := m.leases(network)
		for _, l := range leases {
			a, e := l.read()
			if err = errors.Join(err, e); e == nil {
				all = append(all, a)
			}
		}
		return err
	})
	return all, err
}
