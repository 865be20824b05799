package network

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A crossing is a host, which is this program's network namespace, between two
// neighbours that have it for their router.
type crossing struct{ host, left, right netns }

func newCrossing(t *testing.T) *crossing {
	t.Helper()
	needRoot(t)
	file, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	c := &crossing{netns{file}, newNetns(t), newNetns(t)}
	c.host.sysctl(t, "ipv4/ip_forward", "0")
	c.host.sysctl(t, "ipv6/conf/all/forwarding", "0")
	for side, n := range map[string]netns{"1": c.left, "2": c.right} {
		c.host.ip(t, "link add side"+side+" type veth peer name eth0 netns "+n.path(), "link set side"+side+" up",
			"addr add 198.51."+side+".1/24 dev side"+side, "addr add 2001:db8:"+side+"::1/64 dev side"+side+" nodad")
		n.ip(t, "link set eth0 up", "addr add 198.51."+side+".2/24 dev eth0", "addr add 2001:db8:"+side+"::2/64 dev eth0 nodad",
			"route add default via 198.51."+side+".1", "route add default via 2001:db8:"+side+"::1")
		n.serve(t, "tcp", 80, "side"+side)
	}
	t.Cleanup(func() { // before the file is closed
		c.host.ip(t, "link del side1", "link del side2")
		c.host.sysctl(t, "ipv4/ip_forward", "0")
		file.Close()
	})
	return c
}

const toRight, toRight6 = "198.51.2.2:80", "[2001:db8:2::2]:80"

// is compares a switch of the host.
func (c *crossing) is(t *testing.T, name, want string) {
	t.Helper()
	if data, err := os.ReadFile("/proc/sys/net/" + name); err != nil || strings.TrimSpace(string(data)) != want {
		t.Errorf("%s is %q, %v", name, data, err)
	}
}

// TestForwarding is that a host which was no router is none for others while
// containers are on a network, nor afterwards.
func TestForwarding(t *testing.T) {
	c := newCrossing(t)
	m := &Manager{Root: t.TempDir()}
	if err := errors.Join(m.Create(Network{Name: "front"}), m.Create(Network{Name: "back"})); err != nil {
		t.Fatal(err)
	}
	container := func(e Endpoint) netns {
		_, ns := joined(t, m, e)
		ns, err := unix.FcntlInt(uintptr(ns), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		n := netns{os.NewFile(uintptr(ns), "")}
		t.Cleanup(func() { n.file.Close() })
		return n
	}
	closed := func() {
		t.Helper()
		c.left.refuse(t, "tcp", toRight)
		c.left.refuse(t, "tcp", toRight6)
	}
	port := Port{HostIP: netip.IPv4Unspecified(), Host: 8080, Container: 80, Proto: "tcp"}
	web := container(Endpoint{ID: "web", Network: "front", Ports: []Port{port}})
	web.serve(t, "tcp", 80, "web")
	works := func() {
		t.Helper()
		web.expect(t, "tcp", toRight, "side2 sees 198.51.2.1")
		web.expect(t, "tcp", toRight6, "side2 sees 2001:db8:2::1")
		c.left.expect(t, "tcp", "198.51.2.1:8080", "web sees 198.51.1.2")
		closed()
	}
	works()
	c.is(t, "ipv4/ip_forward", "0")

	// An interface that comes later is opened by the next container.
	c.host.ip(t, "link add late type bridge", "link set late up", "addr add 203.0.113.1/24 dev late")
	t.Cleanup(func() { c.host.ip(t, "link del late") })
	container(Endpoint{ID: "more", Network: "back"})
	c.is(t, "ipv4/conf/late/forwarding", "1")
	works()

	// A firewall begins anew.
	c.host.run(t, "nft", "flush", "ruleset")
	container(Endpoint{ID: "next", Network: "back"})
	works()

	// It does so once more, and nobody joins after that.
	c.host.run(t, "nft", "flush", "ruleset")
	if err := errors.Join(m.Leave("web"), m.Leave("more"), m.Leave("next")); err != nil {
		t.Fatal(err)
	}
	closed()
	for _, name := range []string{"ipv4/conf/side1/forwarding", "ipv4/conf/late/forwarding", "ipv6/conf/all/forwarding"} {
		c.is(t, name, "0")
	}
}

// TestForwardingHalf kills who is to join before his first step, and the last of
// the others leaves meanwhile.
func TestForwardingHalf(t *testing.T) {
	c := newCrossing(t)
	m := &Manager{Root: t.TempDir()}
	joined(t, m, Endpoint{ID: "web"})
	if _, err := m.Join(Endpoint{ID: "half"}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.Leave("web"), m.Leave("half")); err != nil {
		t.Fatal(err)
	}
	c.is(t, "ipv4/conf/side1/forwarding", "0")
	c.is(t, "ipv6/conf/all/forwarding", "0")
	if left := c.host.run(t, "nft", "list", "ruleset"); left != "" {
		t.Errorf("left is\n%s", left)
	}
}

// TestForwardingOfOthers is that who makes the host a router meanwhile has one,
// also when the containers are gone.
func TestForwardingOfOthers(t *testing.T) {
	c := newCrossing(t)
	m := &Manager{Root: t.TempDir()}
	joined(t, m, Endpoint{ID: "web"})
	c.left.refuse(t, "tcp", toRight)
	for _, name := range []string{"lo", "all", "default"} {
		c.is(t, "ipv4/conf/"+name+"/forwarding", "0")
	}

	// What another has published passes at once.
	c.host.run(t, "nft", "add table ip other; add chain ip other in { type nat hook prerouting priority dstnat; }; add rule ip other in tcp dport 7070 dnat to "+toRight)
	t.Cleanup(func() { c.host.run(t, "nft", "delete table ip other") })
	c.host.sysctl(t, "ipv4/ip_forward", "1")
	c.left.expect(t, "tcp", "198.51.1.1:7070", "side2 sees 198.51.1.2")

	joined(t, m, Endpoint{ID: "next"})
	c.left.expect(t, "tcp", toRight, "side2 sees 198.51.1.2")
	if err := errors.Join(m.Leave("web"), m.Leave("next")); err != nil {
		t.Fatal(err)
	}
	c.left.expect(t, "tcp", toRight, "side2 sees 198.51.1.2")
	c.is(t, "ipv4/conf/side1/forwarding", "1")
}

// TestBarred finds the chains of others that drop what is forwarded, and no
// other chain.
func TestBarred(t *testing.T) {
	l := newLab(t)
	barred := func(want ...string) {
		t.Helper()
		l.host.must(t, func() error {
			got, err := Barred()
			if !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			return err
		})
	}
	barred()
	l.host.run(t, "nft", `add table ip filter; add table ip6 filter; add table inet wall
		add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }
		add chain ip filter INPUT { type filter hook input priority 0; policy drop; }
		add chain ip filter DOCKER
		add chain ip6 filter FORWARD { type filter hook forward priority 0; policy accept; }
		add chain inet wall way { type filter hook forward priority 10; policy drop; }`)
	barred("inet wall way", "ip filter FORWARD")
}
