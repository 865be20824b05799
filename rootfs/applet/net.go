package applet

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ip shows what is there and changes nothing: ip addr, ip link, ip route.
func ip(std Stdio, args []string) error {
	what := "addr"
	for _, a := range args[1:] {
		if a[:min(1, len(a))] != "-" && a != "show" && a != "list" {
			what = a
			break
		}
	}
	out := bufio.NewWriter(std.Out)
	var err error
	switch what {
	case "a", "ad", "addr", "address":
		err = interfaces(out, true)
	case "l", "link":
		err = interfaces(out, false)
	case "r", "ro", "route":
		err = routes(out)
	default:
		err = errors.New("usage: ip addr | link | route (to look; nothing is changed)")
	}
	return errors.Join(err, out.Flush())
}

func interfaces(out *bufio.Writer, addresses bool) error {
	all, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, i := range all {
		flags := strings.ToUpper(strings.ReplaceAll(i.Flags.String(), "|", ","))
		kind, mac := "ether", i.HardwareAddr.String()
		if i.Flags&net.FlagLoopback != 0 {
			kind, mac = "loopback", "00:00:00:00:00:00"
		}
		state := "UNKNOWN"
		if b, err := os.ReadFile("/sys/class/net/" + i.Name + "/operstate"); err == nil {
			state = strings.ToUpper(strings.TrimSpace(string(b)))
		}
		fmt.Fprintf(out, "%d: %s: <%s> mtu %d state %s\n    link/%s %s\n", i.Index, i.Name, flags, i.MTU, state, kind, mac)
		if !addresses {
			continue
		}
		list, err := i.Addrs()
		if err != nil {
			return err
		}
		for _, a := range list {
			family := "inet"
			if strings.Contains(a.String(), ":") {
				family = "inet6"
			}
			fmt.Fprintf(out, "    %s %s\n", family, a)
		}
	}
	return nil
}

// routes prints the IPv4 table of /proc/net/route.
func routes(out *bufio.Writer) error {
	data, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 8 || f[0] == "Iface" {
			continue
		}
		target, err1 := routeAddr(f[1])
		gateway, err2 := routeAddr(f[2])
		mask, err3 := routeAddr(f[7])
		if err := errors.Join(err1, err2, err3); err != nil {
			return err
		}
		ones, _ := net.IPMask(mask.AsSlice()).Size()
		to := netip.PrefixFrom(target, ones).String()
		if ones == 0 {
			to = "default"
		}
		if !gateway.IsUnspecified() {
			to += " via " + gateway.String()
		}
		fmt.Fprintf(out, "%s dev %s\n", to, f[0])
	}
	return nil
}

// routeAddr reads an address of /proc/net/route: hexadecimal, in the byte
// order of the machine.
func routeAddr(s string) (netip.Addr, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 4 {
		return netip.Addr{}, fmt.Errorf("/proc/net/route: %q is not an address", s)
	}
	var a [4]byte
	binary.NativeEndian.PutUint32(a[:], binary.BigEndian.Uint32(b))
	return netip.AddrFrom4(a), nil
}

// ping sends ICMP echo requests, icmp(7): ping [-c COUNT] [-W SECONDS] ADDRESS.
func ping(std Stdio, args []string) error {
	o, err := parse(args, "c:W:")
	if err != nil {
		return err
	}
	if err := o.need(1, "ping [-c COUNT] [-W SECONDS] ADDRESS"); err != nil {
		return err
	}
	count, err := o.number('c', 4)
	if err != nil {
		return err
	}
	wait, err := o.number('W', 1)
	if err != nil {
		return err
	}
	target, err := resolve(o.args[0])
	if err != nil {
		return err
	}
	fd, raw, err := echoSocket()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	timeout := unix.NsecToTimeval(wait * int64(time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return fmt.Errorf("setsockopt SO_RCVTIMEO: %w", err)
	}
	fmt.Fprintf(std.Out, "PING %s (%s)\n", o.args[0], target)
	answered := int64(0)
	for i := range count {
		if i > 0 {
			time.Sleep(time.Second)
		}
		took, err := pingOnce(fd, raw, target, uint16(i))
		switch {
		case errors.Is(err, unix.EAGAIN):
			fmt.Fprintf(std.Out, "no answer from %s: seq=%d\n", target, i)
		case err != nil:
			return fmt.Errorf("%s: %w", target, err)
		default:
			answered++
			fmt.Fprintf(std.Out, "answer from %s: seq=%d time=%.3f ms\n", target, i, float64(took.Microseconds())/1000)
		}
	}
	fmt.Fprintf(std.Out, "%d sent, %d answered\n", count, answered)
	if answered == 0 {
		return Status(1)
	}
	return nil
}

// resolve finds an IPv4 address. "localhost" needs no resolver.
func resolve(name string) (netip.Addr, error) {
	if name == "localhost" {
		name = "127.0.0.1"
	}
	if a, err := netip.ParseAddr(name); err == nil && a.Is4() {
		return a, nil
	}
	list, err := net.LookupIP(name)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, i := range list {
		if a, ok := netip.AddrFromSlice(i.To4()); ok {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%s has no IPv4 address", name)
}

// echoSocket opens a socket for pings: one that any group in
// net.ipv4.ping_group_range may have, else one that needs CAP_NET_RAW.
func echoSocket() (fd int, raw bool, err error) {
	fd, err1 := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err1 == nil {
		return fd, false, nil
	}
	fd, err2 := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err2 != nil {
		return -1, false, fmt.Errorf("socket: %w, and without CAP_NET_RAW: %w (net.ipv4.ping_group_range has not this group)", err2, err1)
	}
	return fd, true, nil
}

func pingOnce(fd int, raw bool, target netip.Addr, seq uint16) (time.Duration, error) {
	request := make([]byte, 8)
	request[0] = 8 // echo request, RFC 792
	binary.BigEndian.PutUint16(request[4:], uint16(os.Getpid()))
	binary.BigEndian.PutUint16(request[6:], seq)
	binary.BigEndian.PutUint16(request[2:], checksum(request))
	start := time.Now()
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrInet4{Addr: target.As4()}); err != nil {
		return 0, err
	}
	answer := make([]byte, 1500)
	for {
		n, _, err := unix.Recvfrom(fd, answer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		b := answer[:n]
		if raw && n > 20 {
			b = b[min(int(b[0]&15)*4, n):] // the IP header; raw sockets hear all ICMP
		}
		if len(b) < 8 || b[0] != 0 || raw && binary.BigEndian.Uint16(b[4:]) != uint16(os.Getpid()) {
			continue
		}
		if binary.BigEndian.Uint16(b[6:]) == seq {
			return time.Since(start), nil
		}
	}
}

// checksum is the Internet checksum, RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
