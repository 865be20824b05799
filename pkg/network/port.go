package network

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ParsePorts reads a value of Docker's flag --publish:
// [[IP:][HOST]:]CONTAINER[/tcp|udp|sctp]. HOST and CONTAINER are a port or a
// range, both of one length; an IPv6 address stands in brackets. Without HOST,
// or with 0, the kernel chooses a free port.
func ParsePorts(text string) ([]Port, error) {
	ports, err := parsePorts(text)
	if err != nil {
		return nil, fmt.Errorf("%q: %w: it is [[IP:][HOST]:]CONTAINER[/tcp|udp|sctp], 127.0.0.1:8080:80", text, err)
	}
	return ports, nil
}

func parsePorts(text string) (ports []Port, err error) {
	ends, proto, _ := strings.Cut(text, "/")
	p := Port{Proto: strings.ToLower(proto)}
	if ends == text {
		p.Proto = "tcp"
	}
	if _, err := p.protocol(); err != nil {
		return nil, err
	}
	address, host := "", ""
	inside := ends
	if i := strings.LastIndexByte(ends, ':'); i >= 0 {
		host, inside = ends[:i], ends[i+1:]
		if i := strings.LastIndexByte(host, ':'); i >= 0 {
			address, host = host[:i], host[i+1:]
			if p.HostIP, err = parseHostIP(address); err != nil {
				return nil, err
			}
		}
	}
	first, last, err := parseRange(inside)
	if err != nil {
		return nil, fmt.Errorf("the container's port %w", err)
	}
	if host == "" || host == "0" {
		for c := int(first); c <= int(last); c++ {
			ports = append(ports, Port{p.HostIP, 0, uint16(c), p.Proto})
		}
		return ports, nil
	}
	from, to, err := parseRange(host)
	if err != nil {
		return nil, fmt.Errorf("the host's port %w", err)
	}
	if to-from != last-first {
		return nil, fmt.Errorf("%s are %d ports of the host, %s are %d of the container", host, int(to-from)+1, inside, int(last-first)+1)
	}
	for i := range int(last-first) + 1 {
		ports = append(ports, Port{p.HostIP, from + uint16(i), first + uint16(i), p.Proto})
	}
	return ports, nil
}

func parseHostIP(text string) (netip.Addr, error) {
	bare, six := strings.CutPrefix(text, "[")
	bare, closed := strings.CutSuffix(bare, "]")
	switch ip, err := netip.ParseAddr(bare); {
	case err != nil:
		return ip, fmt.Errorf("%q is no IP address", bare)
	case ip.Zone() != "":
		return ip, fmt.Errorf("the address %s has a zone", ip)
	case six != closed, six != ip.Is6():
		return ip, fmt.Errorf("%q: an IPv6 address stands in brackets, no other does", text)
	default:
		return ip.Unmap(), nil
	}
}

// parseRange reads a port or two, as its error goes on.
func parseRange(text string) (first, last uint16, err error) {
	from, to, isRange := strings.Cut(text, "-")
	a, err := strconv.ParseUint(from, 10, 16)
	b := a
	if isRange && err == nil {
		b, err = strconv.ParseUint(to, 10, 16)
	}
	switch {
	case text == "":
		err = errors.New("is missing")
	case err != nil, a == 0:
		err = fmt.Errorf("%q is no number from 1 to 65535, nor two with a - between", text)
	case b < a:
		err = fmt.Errorf("range %q ends before it begins", text)
	}
	return uint16(a), uint16(b), err
}

// protocol is its number, protocols(5).
func (p Port) protocol() (byte, error) {
	switch p.Proto {
	case "tcp":
		return unix.IPPROTO_TCP, nil
	case "udp":
		return unix.IPPROTO_UDP, nil
	case "sctp":
		return unix.IPPROTO_SCTP, nil
	}
	return 0, fmt.Errorf("%q is none of tcp, udp, sctp", p.Proto)
}

// Hosts are its addresses of the host: two if it is any.
func (p Port) Hosts() []netip.AddrPort {
	if p.HostIP.IsValid() {
		return []netip.AddrPort{netip.AddrPortFrom(p.HostIP, p.Host)}
	}
	return []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), p.Host), netip.AddrPortFrom(netip.IPv6Unspecified(), p.Host)}
}

// String is the port as docker ps prints it.
func (p Port) String() string {
	var all []string
	for _, host := range p.Hosts() {
		all = append(all, fmt.Sprintf("%s->%d/%s", host, p.Container, p.Proto))
	}
	return strings.Join(all, ", ")
}

// A TakenError tells that a port of this host can't be published.
type TakenError struct {
	Port Port
	By   string // the container that has published it; "" is another program
}

func (e *TakenError) Error() string {
	text := fmt.Sprintf("port %d/%s of this host", e.Port.Host, e.Port.Proto)
	if e.Port.HostIP.IsValid() && !e.Port.HostIP.IsUnspecified() {
		text = fmt.Sprintf("port %s/%s", netip.AddrPortFrom(e.Port.HostIP, e.Port.Host), e.Port.Proto)
	}
	if e.By != "" {
		return fmt.Sprintf("%s is published by container %s already", text, e.By)
	}
	flags := map[string]string{"udp": "-lunp", "sctp": "-lnpS"}
	return fmt.Sprintf("%s is taken by another program: ss %s shows it", text, cmp.Or(flags[e.Port.Proto], "-ltnp"))
}
