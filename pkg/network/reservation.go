package network

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

// A Reservation keeps ports of this host from all other programs, while its
// process lives: sockets are bound to them. No packet for a published port
// reaches these.
type Reservation struct {
	Ports   []Port // none is the kernel's choice any more, and each is of one family
	sockets []int  // of each port
	manager *Manager
	proxy   Proxy
}

// Reserve takes the ports for a container of a network with these subnets. A port
// of any address is taken for their families. If one can't be had, none is.
func (m *Manager) Reserve(ports []Port, subnets []netip.Prefix) (r *Reservation, err error) {
	r = &Reservation{manager: m, proxy: Proxy{in: m.in, dialing: make(chan struct{}, dialers)}}
	for _, p := range ports {
		if m.In != nil && p.Proto == "sctp" {
			return nil, errors.Join(fmt.Errorf("port %s: %w: sctp is published by the kernel alone, which takes root", p, errors.ErrUnsupported), r.Close())
		}
		if err := r.take(p, subnets); err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
	return r, nil
}

// attempts is how many ports of the kernel's choice are tried: one may be free
// for one family alone.
const attempts = 32

func (r *Reservation) take(p Port, subnets []netip.Prefix) error {
	var hosts []netip.Addr
	for _, six := range [...]bool{false, true} {
		for _, host := range p.Hosts() {
			for _, a := range subnets {
				if host.Addr().Is6() == six && a.Addr().Is6() == six {
					hosts = append(hosts, host.Addr())
					break
				}
			}
		}
	}
	if len(hosts) == 0 {
		return fmt.Errorf("port %s: the network has no subnet of that family", p)
	}
	for attempt := 1; ; attempt++ {
		err := r.bind(p, hosts)
		if taken := (*TakenError)(nil); p.Host != 0 || attempt == attempts || !errors.As(err, &taken) {
			return err
		}
	}
}

// bind binds a port of each address, or of none.
func (r *Reservation) bind(p Port, hosts []netip.Addr) error {
	before := len(r.Ports)
	for _, host := range hosts {
		p.HostIP = host
		fd, err := bind(&p)
		if errors.Is(err, unix.EADDRINUSE) {
			err = r.taken(p)
		}
		if err != nil {
			all := r.sockets
			r.Ports, r.sockets = r.Ports[:before], all[:before]
			return errors.Join(err, (&Reservation{sockets: all[before:]}).Close())
		}
		r.Ports, r.sockets = append(r.Ports, p), append(r.sockets, fd)
	}
	return nil
}

// bind binds a socket to one port of one address, and chooses the port if that
// is 0.
func bind(p *Port) (fd int, err error) {
	proto, err := p.protocol()
	if err != nil {
		return -1, err
	}
	kind := unix.SOCK_STREAM
	if p.Proto == "udp" {
		kind = unix.SOCK_DGRAM
	}
	family := int(familyOf(p.HostIP))
	fd, err = sys.Number("socket", func() (int, error) { return unix.Socket(family, kind|unix.SOCK_CLOEXEC, int(proto)) })
	if p.Proto == "sctp" && p.Host != 0 && (errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ESOCKTNOSUPPORT)) {
		return -1, nil // no program of this host can have it
	}
	if err != nil {
		return -1, fmt.Errorf("port %s: %w", p, err)
	}
	var address unix.Sockaddr
	if p.HostIP.Is6() {
		address = &unix.SockaddrInet6{Port: int(p.Host), Addr: p.HostIP.As16()}
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	} else {
		address = &unix.SockaddrInet4{Port: int(p.Host), Addr: p.HostIP.As4()}
	}
	option := func(name, value int) {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, name, value)
		}
	}
	if p.Proto == "udp" {
		option(unix.SO_RCVBUF, 0) // what comes is lost: nobody reads it
	} else {
		option(unix.SO_REUSEADDR, 1) // connections that have ended a minute ago don't matter
	}
	if err == nil {
		err = unix.Bind(fd, address)
	}
	switch {
	case errors.Is(err, unix.EACCES):
		err = fmt.Errorf("port %s: bind: %w: this user may have ports from that on which /proc/sys/net/ipv4/ip_unprivileged_port_start has", p, err)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		err = fmt.Errorf("port %s: bind: %w: this host has no such address: ip address shows them", p, err)
	case err == nil:
		option(unix.SO_REUSEADDR, 0) // nobody shares it, until it listens
		fallthrough
	default:
		if err == nil {
			p.Host, err = boundTo(fd)
		}
		if err != nil {
			err = fmt.Errorf("port %s: %w", p, err)
		}
	}
	if err != nil {
		return -1, errors.Join(err, sys.Close(fd))
	}
	return fd, nil
}

func boundTo(fd int) (uint16, error) {
	name, err := unix.Getsockname(fd)
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		return uint16(a.Port), err
	case *unix.SockaddrInet6:
		return uint16(a.Port), err
	}
	return 0, err
}

func (r *Reservation) taken(p Port) (err error) {
	taken := &TakenError{Port: p}
	err = r.manager.in(func() (err error) {
		taken.By, err = publisher(p)
		return err
	})
	return errors.Join(taken, err)
}

// Listen begins when the ports are published: until then a connection is
// refused, which else would wait for ever. It shows them to ss(8), who lists
// what listens. What no rule leads to the container is carried there: what comes
// to ::1, and all that comes to the host of a user.
func (r *Reservation) Listen(a *Attachment) error {
	for i, p := range r.Ports {
		fd := r.sockets[i]
		if fd < 0 {
			continue
		}
		if p.Proto != "udp" {
			// Connections that have ended keep the port for a minute, but not from who
			// comes next and has this option, too.
			err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			if err == nil {
				err = unix.Listen(fd, unix.SOMAXCONN)
			}
			if err != nil {
				return fmt.Errorf("port %s: listen: %w", p, err)
			}
		}
		user := r.manager.In != nil
		if !user && (!p.proxied() && (p.HostIP != netip.IPv6Unspecified() || !filtered("ip6tables")) || p.Proto == "sctp") {
			continue
		}
		to, err := a.address(p)
		if err == nil && p.Proto == "udp" {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<18)
		}
		if err == nil {
			err = r.proxy.proxy(fd, p.Proto, netip.AddrPortFrom(to, p.Container))
		}
		if err != nil {
			return fmt.Errorf("port %s: %w", p, err)
		}
	}
	return nil
}

// Close lets them go.
func (r *Reservation) Close() (err error) {
	r.proxy.Close()
	for _, fd := range r.sockets {
		if fd >= 0 {
			err = errors.Join(err, sys.Close(fd))
		}
	}
	r.sockets = nil
	return err
}
