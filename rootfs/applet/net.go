package applet

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ip shows what is there and changes nothing: ip addr, ip link, ip route.
func ip(c *call) error {
	what := append(c.Args, "addr")[0]
	switch what {
	case "a", "addr", "address", "l", "link":
		return c.interfaces()
	case "r", "route":
		return c.routes()
	}
	return fmt.Errorf("%q is not addr, link or route", what)
}

func (c *call) interfaces() error {
	all, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, i := range all {
		flags := strings.ToUpper(strings.ReplaceAll(i.Flags.String(), "|", ","))
		fmt.Fprintf(c.out, "%d: %s: <%s> mtu %d %s\n", i.Index, i.Name, flags, i.MTU, i.HardwareAddr)
		list, err := i.Addrs()
		if err != nil {
			return err
		}
		for _, a := range list {
			family := "inet"
			if strings.Contains(a.String(), ":") {
				family = "inet6"
			}
			fmt.Fprintf(c.out, "    %s %s\n", family, a)
		}
	}
	return nil
}

// routes prints the IPv4 table of /proc/net/route, whose addresses are
// hexadecimal in the byte order of the machine.
func (c *call) routes() error {
	data, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		var device string
		var target, gateway, mask, skip uint32
		if _, err := fmt.Sscanf(line, "%s %x %x %x %x %x %x %x", &device, &target, &gateway, &skip, &skip, &skip, &skip, &mask); err != nil {
			continue // the heading
		}
		to := netip.PrefixFrom(address(target), bits.OnesCount32(mask)).String()
		if mask == 0 {
			to = "default"
		}
		if gateway != 0 {
			to += " via " + address(gateway).String()
		}
		fmt.Fprintf(c.out, "%s dev %s\n", to, device)
	}
	return nil
}

func address(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.NativeEndian.AppendUint32(nil, n)))
}

// listen takes TCP connections on a port, says something to who connects if it
// has words, and closes them, until it is killed.
func listen(c *call) error {
	place, network := c.Args[0], "tcp4"
	if !strings.Contains(place, ":") {
		place = ":" + place
	}
	if strings.HasPrefix(place, "[") {
		network = "tcp" // of both families, if it is [::]
	}
	l, err := net.Listen(network, place)
	if err != nil {
		return err
	}
	defer l.Close()
	fmt.Fprintln(c.out, "listening on", l.Addr())
	c.out.Flush()
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		if len(c.Args) > 1 {
			fmt.Fprintln(conn, strings.Join(c.Args[1:], " "))
		}
		conn.Close()
	}
}

// patience is how long connect waits for a server.
const patience = 5 * time.Second

// connect prints what a server says to who connects.
func connect(c *call) error {
	conn, err := net.DialTimeout("tcp", c.Args[0], patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err = io.Copy(c.out, conn)
	return err
}

// ping sends ICMP echo requests, icmp(7), one each second.
func ping(c *call) error {
	count, err := size(cmp.Or(c.value['c'], "4"))
	if err != nil {
		return err
	}
	target, err := net.ResolveIPAddr("ip4", c.Args[0])
	if err != nil {
		return err
	}
	fd, err := echoSocket([4]byte(target.IP.To4()))
	defer unix.Close(fd)
	if err != nil {
		return err
	}
	lost := 0
	for i := range count {
		start := time.Now()
		switch err := echoRequest(fd, uint16(i), start); {
		case errors.Is(err, unix.EAGAIN):
			lost++
			fmt.Fprintf(c.out, "no answer from %s: seq=%d\n", target, i)
		case err != nil:
			return fmt.Errorf("%s: %w", target, err)
		default:
			fmt.Fprintf(c.out, "answer from %s: seq=%d time=%v\n", target, i, time.Since(start))
		}
		c.out.Flush()
		if i+1 < count {
			time.Sleep(time.Until(start.Add(time.Second)))
		}
	}
	fmt.Fprintf(c.out, "%d sent, %d lost\n", count, lost)
	if lost == int(count) {
		return &Failure{Status: 1}
	}
	return nil
}

// echoSocket opens a socket for pings to one address, which waits a second
// for each answer. It needs no capability.
func echoSocket(target [4]byte) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return -1, fmt.Errorf("socket: %w: this group is not in net.ipv4.ping_group_range", err)
	}
	return fd, errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}),
		unix.Connect(fd, &unix.SockaddrInet4{Addr: target}))
}

// echoRequest sends one request, RFC 792, and waits for its answer, which has
// the same bytes after the identifier. The kernel sets that and the checksum.
func echoRequest(fd int, seq uint16, now time.Time) error {
	const request, reply = 8, 0
	message := binary.BigEndian.AppendUint16([]byte{request, 0, 0, 0, 0, 0}, seq)
	message = binary.BigEndian.AppendUint64(message, uint64(now.UnixNano()))
	if _, err := unix.Write(fd, message); err != nil {
		return err
	}
	packet := make([]byte, 1500)
	for {
		n, err := unix.Read(fd, packet)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case packet[0] == reply && bytes.HasSuffix(packet[:n], message[6:]):
			return nil
		}
	}
}
