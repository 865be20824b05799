package network

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "rewrite testdata")

// TestPublished asks for published ports from everywhere, and wants to know who
// the container thinks has asked.
func TestPublished(t *testing.T) {
	published(t, newLab(t))
}

// TestPublishedFiltered is the same while Netfilter sees what bridges pass on.
func TestPublishedFiltered(t *testing.T) {
	needRoot(t)
	if _, err := os.Stat("/proc/sys/net/bridge"); err != nil {
		if err := exec.Command("modprobe", "br_netfilter").Run(); err != nil {
			t.Skip("in the virtual machine there is no br_netfilter")
		}
	}
	published(t, newFilteredLab(t))
}

func published(t *testing.T, l *lab) {
	t.Helper()
	for _, proto := range []string{"tcp", "udp"} {
		at := func(port int) string { return fmt.Sprintf("%d:80/%s", port, proto) }
		web := l.join(t, "a", 2, at(8080), "127.0.0.1:"+at(8081), "[::1]:"+at(8081), "192.0.2.1:"+at(8082), "[2001:db8::1]:"+at(8082))
		neighbour, stranger := l.join(t, "a", 3), l.join(t, "b", 2)
		web.serve(t, proto, 80, "web")
		l.lan.serve(t, proto, 80, "lan")
		for _, c := range []struct {
			from     netns
			to, sees string
		}{
			{l.host, "127.0.0.1:8080", "web sees 10.1.0.1"},
			{l.host, "127.7.7.7:8080", "web sees 10.1.0.1"},
			{l.host, "10.1.0.1:8080", "web sees 10.1.0.1"},
			{l.host, "192.0.2.1:8080", "web sees 192.0.2.1"},
			{l.host, "[::1]:8080", "web sees fd00:1::1"},
			{l.host, "[fd00:1::1]:8080", "web sees fd00:1::1"},
			{l.host, "[2001:db8::1]:8080", "web sees 2001:db8::1"},
			{l.lan, "192.0.2.1:8080", "web sees 192.0.2.2"},
			{l.lan, "10.1.0.1:8080", "web sees 192.0.2.2"},
			{l.lan, "[2001:db8::1]:8080", "web sees 2001:db8::2"},
			{neighbour.netns, "10.1.0.1:8080", "web sees 10.1.0.1"},
			{neighbour.netns, "192.0.2.1:8080", "web sees 10.1.0.1"},
			{neighbour.netns, "[fd00:1::1]:8080", "web sees fd00:1::1"},
			{neighbour.netns, "10.1.0.2:80", "web sees 10.1.0.3"},
			{web.netns, "10.1.0.1:8080", "web sees 10.1.0.1"}, // itself
			{web.netns, "[2001:db8::1]:8080", "web sees fd00:1::1"},
			{l.host, "127.0.0.1:8081", "web sees 10.1.0.1"},
			{l.host, "[::1]:8081", "web sees fd00:1::1"},
			{l.host, "192.0.2.1:8082", "web sees 192.0.2.1"},
			{l.lan, "192.0.2.1:8082", "web sees 192.0.2.2"},
			{l.lan, "[2001:db8::1]:8082", "web sees 2001:db8::2"},
			{web.netns, "192.0.2.2:80", "lan sees 192.0.2.1"}, // masquerade
			{web.netns, "[2001:db8::2]:80", "lan sees 2001:db8::1"},
		} {
			c.from.expect(t, proto, c.to, c.sees)
		}
		for _, c := range []struct {
			from netns
			to   string
		}{
			{l.lan, "192.0.2.1:8081"}, // published at 127.0.0.1 only
			{l.lan, "127.9.0.1:8080"}, // an address that no neighbour may ask for
			{l.host, "127.0.0.1:8082"},
			{l.lan, "10.1.0.2:80"}, // by the container's own address
			{l.lan, "[fd00:1::2]:80"},
			{stranger.netns, "10.1.0.2:80"},
			{stranger.netns, "[fd00:1::2]:80"},
			{stranger.netns, "10.2.0.1:8080"}, // another network's
		} {
			c.from.refuse(t, proto, c.to)
		}
		for _, b := range []*box{web, neighbour, stranger} {
			l.host.must(t, func() error { return errors.Join(unpublish(b.a.ID, b.addresses(), b.a.Ports), b.held.Close()) })
			l.host.ip(t, "link del "+outer(b.a.ID))
		}
	}
}

// TestInternal has an internal network: its containers reach each other, and
// nothing else.
func TestInternal(t *testing.T) {
	l := newLab(t)
	one, two, outside := l.join(t, "internal", 2), l.join(t, "internal", 3), l.join(t, "a", 2)
	one.serve(t, "tcp", 80, "one")
	outside.serve(t, "tcp", 80, "outside")
	l.lan.serve(t, "tcp", 80, "lan")
	two.expect(t, "tcp", "10.3.0.2:80", "one sees 10.3.0.3")
	l.host.expect(t, "tcp", "10.3.0.2:80", "one sees 10.3.0.1")
	for _, to := range []string{"192.0.2.2:80", "[2001:db8::2]:80", "10.1.0.2:80"} {
		one.refuse(t, "tcp", to)
	}
	l.lan.refuse(t, "tcp", "10.3.0.2:80")
	outside.refuse(t, "tcp", "10.3.0.2:80")
}

// TestLoopback has a container with the rights of its network's root ask for
// the host's own 127.0.0.1, which route_localnet would let in.
func TestLoopback(t *testing.T) {
	l := newLab(t)
	bad := l.join(t, "a", 2)
	l.host.serve(t, "tcp", 99, "host")
	bad.sysctl(t, "ipv4/conf/all/route_localnet", "1")
	bad.ip(t, "addr del 127.0.0.1/8 dev lo", "route add 127.0.0.0/8 via 10.1.0.1 src 10.1.0.2")
	bad.expect(t, "tcp", "10.1.0.1:99", "host sees 10.1.0.2")
	bad.refuse(t, "tcp", "127.0.0.1:99")
}

// TestUnpublish takes ports away while somebody talks, and gives the address and
// the port to others.
func TestUnpublish(t *testing.T) {
	l := newLab(t)
	for _, proto := range []string{"udp", "tcp"} {
		first := l.join(t, "a", 2, "8080:80/"+proto)
		first.serve(t, proto, 80, "first")
		l.lan.expect(t, proto, "192.0.2.1:8080", "first sees 192.0.2.2")
		talk := l.lan.talk(t, "192.0.2.1:8080")
		if proto == "udp" {
			talk("first sees 192.0.2.2")
		}
		l.host.must(t, func() error {
			return errors.Join(unpublish(first.a.ID, first.addresses(), first.a.Ports), first.held.Close())
		})
		l.lan.refuse(t, proto, "192.0.2.1:8080")
		l.host.refuse(t, proto, "127.0.0.1:8080")
		if proto == "udp" {
			talk("") // it is not published any more, though a connection was tracked
		}
		second := l.join(t, "a", 3, "8080:80/"+proto)
		second.serve(t, proto, 80, "second")
		l.lan.expect(t, proto, "192.0.2.1:8080", "second sees 192.0.2.2")
		if proto == "udp" {
			talk("second sees 192.0.2.2") // what has come in vain is not remembered
		}
		l.host.must(t, func() error {
			return errors.Join(unpublish(second.a.ID, nil, nil), unpublish(second.a.ID, nil, nil), second.held.Close())
		})
		for _, id := range []string{first.a.ID, second.a.ID} {
			l.host.ip(t, "link del "+outer(id))
		}
	}
}

// TestReserve asks for ports that others have, and for any.
func TestReserve(t *testing.T) {
	l := newLab(t)
	l.host.serve(t, "tcp", 8080, "host")
	l.host.serve(t, "udp", 8080, "host")
	web := l.join(t, "a", 2, "80", "9090:80", "9090:80/udp", ":1-3", "127.0.0.1::80", "99:99/sctp")
	for text, want := range map[string]string{
		"8080:80":             "port 8080/tcp of this host is taken by another program: ss -ltnp shows it",
		"127.0.0.1:8080:80":   "port 127.0.0.1:8080/tcp is taken by another program: ss -ltnp shows it",
		"8080:80/udp":         "port 8080/udp of this host is taken by another program: ss -lunp shows it",
		"9090:80":             "port 9090/tcp of this host is published by container a2 already",
		"9090:80/udp":         "port 9090/udp of this host is published by container a2 already",
		"192.0.2.7:80:80":     "this host has no such address",
		"9000-9090:9000-9090": "port 9090/tcp of this host is published by container a2 already",
	} {
		l.host.must(t, func() error {
			ports, err := ParsePorts(text)
			if err != nil {
				return err
			}
			if _, err = new(Manager).Reserve(ports, l.networks["b"].Subnets); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %s", text, err, want)
			}
			return nil
		})
	}
	l.host.must(t, func() error { // it has let go of 9000 to 9089
		r, err := new(Manager).Reserve([]Port{{Host: 9000, Container: 80, Proto: "tcp"}}, l.networks["b"].Subnets)
		if err != nil || len(r.Ports) != 2 {
			t.Errorf("9000: %v, %v", r, err)
			return err
		}
		return r.Close()
	})
	l.host.must(t, func() error {
		four := l.networks["a"].Subnets[:1]
		r, err := new(Manager).Reserve([]Port{{Host: 9001, Container: 80, Proto: "tcp"}}, four)
		if err != nil || len(r.Ports) != 1 || r.Ports[0].String() != "0.0.0.0:9001->80/tcp" {
			t.Errorf("only IPv4: %v, %v", r, err)
			return err
		}
		if _, err := new(Manager).Reserve([]Port{{HostIP: netip.IPv6Loopback(), Host: 9001, Container: 80, Proto: "tcp"}}, four); err == nil || !strings.Contains(err.Error(), "family") {
			t.Errorf("IPv6 for a network without it: %v", err)
		}
		return r.Close()
	})
	for _, p := range web.a.Ports {
		if p.Host == 0 || !p.HostIP.IsValid() {
			t.Errorf("port %v is not chosen", p)
		}
	}
	web.serve(t, "tcp", 80, "web")
	l.host.expect(t, "tcp", fmt.Sprintf("127.0.0.1:%d", web.a.Ports[0].Host), "web sees 10.1.0.1")
	l.host.expect(t, "tcp", fmt.Sprintf("[::1]:%d", web.a.Ports[1].Host), "web sees fd00:1::1")
	if web.a.Ports[0].Host != web.a.Ports[1].Host {
		t.Errorf("one port has two numbers: %v", web.a.Ports[:2])
	}
	if shown := l.host.run(t, "ss", "-Hltn", "sport = :9090"); strings.Count(shown, "\n") != 2 {
		t.Errorf("ss shows %q", shown)
	}
}

// talk asks by UDP, again and again from one port. "" is no answer.
func (n netns) talk(t *testing.T, to string) func(want string) {
	t.Helper()
	var fd int
	address := netip.MustParseAddrPort(to)
	n.must(t, func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		return err
	})
	t.Cleanup(func() { unix.Close(fd) })
	return func(want string) {
		t.Helper()
		patience := 10 * time.Second
		if want == "" {
			patience = 300 * time.Millisecond
		}
		wait := unix.NsecToTimeval(int64(patience))
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait)
		unix.Sendto(fd, []byte("?"), 0, &unix.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().As4()})
		buffer := make([]byte, 99)
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		if got := string(buffer[:max(n, 0)]); got != want {
			t.Errorf("udp %s: got %q, %v; want %q", to, got, err, want)
		}
	}
}

// TestTable is what nft(8) shows of it, and that it goes with the last network.
func TestTable(t *testing.T) {
	const file = "testdata/table.txt"
	l := newLab(t)
	l.join(t, "a", 2, "8080:80", "[::1]:53:5353/udp", "127.0.0.1:53:5353/udp")
	shown := l.host.run(t, "nft", "list", "table", "inet", "minictr")
	if *update {
		if err := os.WriteFile(file, []byte(shown), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); shown != string(want) {
		t.Errorf("%s: %v; go test -run TestTable -update\n%s", file, err, shown)
	}
	l.host.must(t, func() error {
		return errors.Join(unpublish("a2", nil, nil), l.networks["a"].open(), new(Manager).close(l.networks["a"], true))
	})
	if shown := l.host.run(t, "nft", "list", "table", "inet", "minictr"); strings.Contains(shown, "mc-a") || !strings.Contains(shown, "mc-b") {
		t.Errorf("network a is closed, and b is not:\n%s", shown)
	}
	for range 2 {
		l.host.must(t, func() error {
			return errors.Join(new(Manager).close(l.networks["b"], true), new(Manager).close(l.networks["internal"], true), unpublish("a2", nil, nil))
		})
	}
	if shown := l.host.run(t, "nft", "list", "ruleset"); shown != "" {
		t.Errorf("left is\n%s", shown)
	}
}

// TestFlushed has somebody flush all rules under a network: the next container
// makes them again.
func TestFlushed(t *testing.T) {
	l := newLab(t)
	l.host.run(t, "nft", "flush", "ruleset")
	web := l.join(t, "a", 2, "8080:80")
	web.serve(t, "tcp", 80, "web")
	l.lan.expect(t, "tcp", "192.0.2.1:8080", "web sees 192.0.2.2")
}

// TestForbidden has no right to change the network.
func TestForbidden(t *testing.T) {
	n := newNetns(t)
	n.must(t, func() error {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil { // of this thread, which ends
			return err
		}
		err := (&Network{Name: "a", Bridge: "mc-a"}).open()
		if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "--network host") {
			t.Errorf("got %v", err)
		}
		return nil
	})
}

// crowdMember are the containers of one process of a crowd.
func crowdMember(number string) (n *Network, all []*Attachment) {
	n = &Network{Name: "a", Bridge: "mc-a"}
	for j := range 20 {
		i, _ := strconv.Atoi(number)
		a := &Attachment{Bridge: n.Bridge, Addresses: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.1.%d.%d/16", i, j))}}
		a.ID, a.Network = fmt.Sprintf("m%d-%d", i, j), n.Name
		a.Ports = []Port{{netip.IPv4Unspecified(), uint16(1000 + 100*i + j), 80, "tcp"}}
		all = append(all, a)
	}
	return n, all
}

// publishAll has each publish its port, and every second take it back.
func publishAll(number string) error {
	n, all := crowdMember(number)
	for i, a := range all {
		err := errors.Join(n.open(), publish(a))
		if err == nil && i%2 == 1 {
			err = unpublish(a.ID, nil, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// publishOn publishes and takes back until it is killed.
func publishOn(number string) error {
	for {
		err := publishAll(number)
		_, all := crowdMember(number)
		for _, a := range all {
			err = errors.Join(err, unpublish(a.ID, nil, nil))
		}
		if err != nil {
			return err
		}
	}
}

func (n netns) crowd(t *testing.T, does string) (members []*exec.Cmd) {
	t.Helper()
	for i := range 8 {
		m := inRole(does, "-", strconv.Itoa(i))
		n.must(t, m.Start)
		members = append(members, m)
	}
	return members
}

// TestCrowd has eight processes publish and unpublish at once.
func TestCrowd(t *testing.T) {
	n := newNetns(t)
	for _, m := range n.crowd(t, "publish") {
		if err := m.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	n.must(t, func() error {
		elements, err := elementsOf("published")
		if len(elements) != 80 {
			t.Errorf("%d ports are published, want 80", len(elements))
		}
		return err
	})
	n.end(t)
}

// TestKilled kills them in the middle of that.
func TestKilled(t *testing.T) {
	n := newNetns(t)
	for range 3 {
		members := n.crowd(t, "publish-on")
		time.Sleep(200 * time.Millisecond) // wherever they are then
		for _, m := range members {
			if err := m.Process.Kill(); err != nil {
				t.Error(err)
			}
			if err := m.Wait(); err == nil || err.Error() != "signal: killed" {
				t.Errorf("it ended by itself: %v", err)
			}
		}
		n.end(t)
	}
}

// end takes all away, after which nothing is left.
func (n netns) end(t *testing.T) {
	t.Helper()
	for i := range 8 {
		_, all := crowdMember(strconv.Itoa(i))
		for _, a := range all {
			n.must(t, func() error { return unpublish(a.ID, nil, nil) })
		}
	}
	n.must(t, func() error { return new(Manager).close(&Network{Name: "a", Bridge: "mc-a"}, true) })
	if shown := n.run(t, "nft", "list", "ruleset"); shown != "" {
		t.Errorf("left is\n%s", shown)
	}
}
