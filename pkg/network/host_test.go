package network

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

// A netns is a network namespace without a name. It ends with the test.
type netns struct{ file *os.File }

func newNetns(t *testing.T) netns {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	var n netns
	err := sys.OnThread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			n.file, err = os.Open("/proc/thread-self/ns/net")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.file.Close() })
	n.ip(t, "link set lo up")
	if _, err := os.Stat("/proc/sys/net/bridge"); err == nil {
		n.filterBridges(t, "0")
	}
	return n
}

func (n netns) filterBridges(t *testing.T, on string) {
	t.Helper()
	n.sysctl(t, "bridge/bridge-nf-call-iptables", on)
	n.sysctl(t, "bridge/bridge-nf-call-ip6tables", on)
}

// do does something in it.
func (n netns) do(do func() error) error {
	return sys.OnThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return do()
	})
}

// must is do for what can't fail.
func (n netns) must(t *testing.T, do func() error) {
	t.Helper()
	if err := n.do(do); err != nil {
		t.Fatal(err)
	}
}

// run runs a program in it.
func (n netns) run(t *testing.T, args ...string) string {
	t.Helper()
	var out []byte
	n.must(t, func() (err error) {
		if out, err = exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			err = fmt.Errorf("%v: %w: %s", args, err, out)
		}
		return err
	})
	return string(out)
}

// ip runs commands of ip(8).
func (n netns) ip(t *testing.T, commands ...string) {
	t.Helper()
	for _, c := range commands {
		n.run(t, append([]string{"ip"}, strings.Fields(c)...)...)
	}
}

// path is where others of this process's namespace find it.
func (n netns) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

func (n netns) sysctl(t *testing.T, name, value string) {
	t.Helper()
	n.must(t, func() error { return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0) })
}

// A lab is a host with networks a, b and internal, and a neighbour on its LAN,
// who has a route to all.
type lab struct {
	host, lan netns
	networks  map[string]*Network
}

func newLab(t *testing.T) *lab {
	t.Helper()
	return layOut(t, newNetns(t))
}

// newFilteredLab has br_netfilter on. Its host is this program's own network
// namespace, where proxies are.
func newFilteredLab(t *testing.T) *lab {
	t.Helper()
	needRoot(t)
	file, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	host := netns{file}
	host.ip(t, "link set lo up")
	host.filterBridges(t, "1")
	t.Cleanup(func() {
		host.filterBridges(t, "0")
		all, _ := net.Interfaces()
		for _, i := range all { // some end with the namespaces of their peers just now
			exec.Command("ip", "link", "del", i.Name).Run()
		}
		host.run(t, "nft", "flush", "ruleset")
		file.Close()
	})
	return layOut(t, host)
}

func layOut(t *testing.T, host netns) *lab {
	t.Helper()
	l := &lab{host: host, lan: newNetns(t), networks: make(map[string]*Network)}
	l.host.sysctl(t, "ipv4/ip_forward", "1")
	l.host.sysctl(t, "ipv6/conf/all/forwarding", "1")
	l.host.ip(t, "link add lan type veth peer name eth0 netns "+l.lan.path(), "link set lan up",
		"addr add 192.0.2.1/24 dev lan", "addr add 2001:db8::1/64 dev lan nodad")
	l.lan.ip(t, "link set eth0 up", "addr add 192.0.2.2/24 dev eth0", "addr add 2001:db8::2/64 dev eth0 nodad",
		"route add 10.0.0.0/8 via 192.0.2.1", "route add fd00::/16 via 2001:db8::1", "route add 127.9.0.0/16 via 192.0.2.1 src 192.0.2.2")
	for i, name := range []string{"a", "b", "internal"} {
		n := &Network{Name: name, Bridge: "mc-" + name, Internal: name == "internal"}
		n.Subnets = []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", i+1)), netip.MustParsePrefix(fmt.Sprintf("fd00:%d::/64", i+1))}
		l.networks[name] = n
		l.host.ip(t, "link add "+n.Bridge+" type bridge", "link set "+n.Bridge+" up",
			fmt.Sprintf("addr add 10.%d.0.1/16 dev %s", i+1, n.Bridge), fmt.Sprintf("addr add fd00:%d::1/64 dev %s nodad", i+1, n.Bridge))
		l.host.sysctl(t, "ipv4/conf/"+n.Bridge+"/route_localnet", "1")
		l.host.must(t, n.open)
	}
	return l
}

// A box is a container: its namespace, and what is known of it.
type box struct {
	netns
	a    *Attachment
	held *Reservation
}

// join makes a container, the number-th of a network, that publishes ports.
func (l *lab) join(t *testing.T, network string, number int, ports ...string) *box {
	t.Helper()
	n := l.networks[network]
	b := &box{netns: newNetns(t), a: &Attachment{Bridge: n.Bridge, Internal: n.Internal}}
	b.a.ID, b.a.Network = fmt.Sprintf("%s%d", network, number), network
	end := outer(b.a.ID)
	l.host.ip(t, fmt.Sprintf("link add %s type veth peer name eth0 netns %s", end, b.path()), fmt.Sprintf("link set %s master %s up", end, n.Bridge))
	b.ip(t, "link set eth0 up")
	for _, s := range n.Subnets {
		address, gateway := s.Addr().AsSlice(), s.Addr().Next()
		address[len(address)-1] = byte(number)
		ip, _ := netip.AddrFromSlice(address)
		b.a.Addresses = append(b.a.Addresses, netip.PrefixFrom(ip, s.Bits()))
		nodad := ""
		if ip.Is6() {
			nodad = " nodad"
		}
		b.ip(t, fmt.Sprintf("addr add %s/%d dev eth0%s", ip, s.Bits(), nodad), fmt.Sprintf("route add default via %s dev eth0", gateway))
	}
	for _, text := range ports {
		parsed, err := ParsePorts(text)
		if err != nil {
			t.Fatal(err)
		}
		b.a.Ports = append(b.a.Ports, parsed...)
	}
	l.host.must(t, func() (err error) { return l.publish(b) })
	t.Cleanup(func() { b.held.Close() })
	return b
}

func (l *lab) publish(b *box) (err error) {
	if b.held, err = new(Manager).Reserve(b.a.Ports, l.networks[b.a.Network].Subnets); err != nil {
		return err
	}
	b.a.Ports = b.held.Ports
	return errors.Join(publish(b.a), b.held.Listen(b.a))
}

func (b *box) addresses() (all []netip.Addr) {
	for _, p := range b.a.Addresses {
		all = append(all, p.Addr())
	}
	return all
}

// serve answers whoever comes to a port with who that was for it, and with a
// name, until the test ends.
func (n netns) serve(t *testing.T, proto string, port int, name string) {
	t.Helper()
	answer := func(from net.Addr) []byte {
		host, _, _ := net.SplitHostPort(from.String())
		return []byte(name + " sees " + netip.MustParseAddr(host).Unmap().String())
	}
	n.must(t, func() error {
		if proto == "udp" {
			c, err := net.ListenPacket("udp", fmt.Sprintf("[::]:%d", port))
			if err != nil {
				return err
			}
			t.Cleanup(func() { c.Close() })
			go func() {
				for buffer := make([]byte, 9); ; {
					_, from, err := c.ReadFrom(buffer)
					if err != nil {
						return
					}
					c.WriteTo(answer(from), from)
				}
			}()
			return nil
		}
		l, err := net.Listen("tcp", fmt.Sprintf("[::]:%d", port))
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Write(answer(c.RemoteAddr()))
				c.Close()
			}
		}()
		return nil
	})
}

// ask returns what a server answers.
func (n netns) ask(proto, address string, patience time.Duration) (answer string, err error) {
	err = n.do(func() error {
		c, err := net.DialTimeout(proto, address, patience)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		if proto == "udp" {
			c.Write([]byte("?"))
			buffer := make([]byte, 99)
			n, err := c.Read(buffer)
			answer = string(buffer[:n])
			return err
		}
		all, err := io.ReadAll(c)
		answer = string(all)
		return err
	})
	return answer, err
}

// expect wants an answer, however busy the machine is.
func (n netns) expect(t *testing.T, proto, address, want string) {
	t.Helper()
	if got, err := n.ask(proto, address, 10*time.Second); got != want || err != nil {
		t.Errorf("%s %s: got %q, %v; want %q", proto, address, got, err, want)
	}
}

// refuse wants none. Who is busy may answer too late for this to see it.
func (n netns) refuse(t *testing.T, proto, address string) {
	t.Helper()
	if got, err := n.ask(proto, address, 300*time.Millisecond); err == nil {
		t.Errorf("%s %s: got %q, want nothing", proto, address, got)
	}
}
