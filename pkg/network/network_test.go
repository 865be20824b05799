package network

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/netlink"
)

// patience is how long an answer may take on a machine that is busy; what
// arrives needs no second.
const patience = 10 * time.Second

// TestContainersTalk has two containers of a network, and the host, reach each
// other at once, by IPv4 and IPv6.
func TestContainersTalk(t *testing.T) {
	needRoot(t)
	m := &Manager{Root: t.TempDir()}
	for _, n := range []Network{{Name: "front"}, {Name: "back", Internal: true}} {
		if err := m.Create(n); err != nil {
			t.Fatal(err)
		}
	}
	for _, network := range []string{Default, "front", "back"} {
		t.Run(network, func(t *testing.T) {
			one, first := joined(t, m, Endpoint{ID: "4f1c00a5be07", Network: network})
			other, second := joined(t, m, Endpoint{ID: "4f1c00a5be08", Network: network})
			if len(one.Addresses) != 2 || len(one.Gateways) != map[bool]int{false: 2, true: 0}[network == "back"] {
				t.Errorf("got %+v", one)
			}
			for i, p := range one.Addresses {
				at := func(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, 0) }
				if err := talk(second, first, at(p.Addr())); err != nil {
					t.Errorf("container to container: %v", err)
				}
				if err := talk(-1, second, at(other.Addresses[i].Addr())); err != nil {
					t.Errorf("host to container: %v", err)
				}
				if err := talk(first, -1, at(gateway(p))); err != nil {
					t.Errorf("container to host: %v", err)
				}
			}
			err := within(first, func() error {
				i, err := net.InterfaceByName(inside)
				if err != nil {
					return err
				}
				if i.HardwareAddr.String() != one.MAC {
					t.Errorf("it has %v, and not %v", i.HardwareAddr, one.MAC)
				}
				socket, err := netlink.Open()
				if err != nil {
					return err
				}
				all, err := routes(socket)
				defaults := slices.DeleteFunc(all, func(r route) bool { return r.to.IsValid() || r.index != uint32(i.Index) })
				if len(defaults) != len(one.Gateways) {
					t.Errorf("%d default routes", len(defaults))
				}
				data, e := os.ReadFile("/proc/sys/net/ipv6/conf/eth0/accept_ra")
				if strings.TrimSpace(string(data)) != "0" {
					t.Errorf("accept_ra is %q", data)
				}
				return errors.Join(err, e, unix.Close(socket))
			})
			if err != nil {
				t.Error(err)
			}
		})
		nothing(t, m)
	}
}

// TestRouter is that the host passes on what is from a network that leads
// elsewhere, and from no other; and that it goes on listening to a router that
// has told it of a route.
func TestRouter(t *testing.T) {
	needRoot(t)
	m := &Manager{Root: t.TempDir()}
	switches := []string{"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"}
	is := func(want string, switches ...string) {
		t.Helper()
		for _, name := range switches {
			if data, err := os.ReadFile(name); err != nil || strings.TrimSpace(string(data)) != want {
				t.Errorf("%s is %q, %v", name, data, err)
			}
		}
	}
	for _, name := range switches {
		if err := os.WriteFile(name, []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Create(Network{Name: "back", Internal: true}); err != nil {
		t.Fatal(err)
	}
	a, _ := joined(t, m, Endpoint{ID: "a", Network: "back"})
	is("0", append(switches, forwarding(a.Bridge))...)
	const listens = "/proc/sys/net/ipv6/conf/lo/accept_ra"
	socket, err := netlink.Open()
	if err != nil {
		t.Fatal(err)
	}
	lo, err := netlink.IndexOf(socket, "lo")
	told := make([]byte, unix.SizeofRtMsg)
	told[0], told[1], told[4], told[5], told[7] = unix.AF_INET6, 64, unix.RT_TABLE_MAIN, unix.RTPROT_RA, unix.RTN_UNICAST
	told = netlink.Attribute(told, unix.RTA_DST, netip.MustParseAddr("2001:db8::").AsSlice())
	told = netlink.Attribute(told, unix.RTA_OIF, netlink.Number(lo))
	err = errors.Join(err, os.WriteFile(listens, []byte("1"), 0),
		netlink.Do(socket, "RTM_SETLINK", unix.RTM_SETLINK, 0, netlink.Link(lo, unix.IFF_UP)),
		netlink.Do(socket, "RTM_NEWROUTE", unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, told))
	if err != nil {
		t.Fatal(err)
	}
	b, _ := joined(t, m, Endpoint{ID: "b"})
	if data, err := os.ReadFile(listens); err != nil || string(data) != "2\n" {
		t.Errorf("accept_ra is %q, %v", data, err)
	}
	err = errors.Join(os.WriteFile(listens, []byte("1"), 0), netlink.Do(socket, "RTM_DELROUTE", unix.RTM_DELROUTE, 0, told), unix.Close(socket))
	if err != nil {
		t.Error(err)
	}
	is("1", everywhere6, forwarding(b.Bridge), "/proc/sys/net/ipv4/conf/"+b.Bridge+"/route_localnet")
	is("0", everywhere)
}

// TestOnlyIPv4 is that nobody speaks IPv6 on a network that has no subnet of it:
// not the host at the bridge, and no container.
func TestOnlyIPv4(t *testing.T) {
	needRoot(t)
	m := &Manager{Root: t.TempDir()}
	if err := m.Create(Network{Name: "old", Subnets: []netip.Prefix{netip.MustParsePrefix("10.77.0.0/24")}}); err != nil {
		t.Fatal(err)
	}
	a, ns := joined(t, m, Endpoint{ID: "a", Network: "old"})
	off := func(name string) error {
		data, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + name + "/disable_ipv6")
		if err == nil && string(data) != "1\n" {
			err = fmt.Errorf("%s: disable_ipv6 is %q", name, data)
		}
		return err
	}
	if err := errors.Join(off(a.Bridge), within(ns, func() error { return off("eth0") })); err != nil {
		t.Error(err)
	}
}

// TestTwoRoots has two engines of this host, each with a default network: what
// one takes away is not the other's.
func TestTwoRoots(t *testing.T) {
	needRoot(t)
	one, other := &Manager{Root: t.TempDir()}, &Manager{Root: t.TempDir()}
	a, first := joined(t, one, Endpoint{ID: "a"})
	b, _ := joined(t, other, Endpoint{ID: "b"})
	if a.Bridge == b.Bridge || a.Addresses[0].Overlaps(b.Addresses[0]) {
		t.Errorf("got %+v and %+v", a, b)
	}
	if err := other.Leave("b"); err != nil {
		t.Error(err)
	}
	for _, p := range a.Addresses {
		if err := talk(-1, first, netip.AddrPortFrom(p.Addr(), 0)); err != nil {
			t.Error(err)
		}
	}
	if names := ours(t); len(names) != 2 {
		t.Errorf("there are %v", names)
	}
	if elements, err := elementsOf("bridges"); err != nil || len(elements) != 1 || !bytes.Equal(elements[0].key, interfaceKey(a.Bridge)) {
		t.Errorf("the firewall knows %v, %v", elements, err)
	}
}

// TestRoundRobin is that an address that has become free is the last to be
// leased again, that a fixed one is taken from nobody, and that a pool has an
// end.
func TestRoundRobin(t *testing.T) {
	needRoot(t)
	m := &Manager{Root: t.TempDir()}
	subnet := netip.MustParsePrefix("10.7.0.0/29") // the host's is .1, so .2 to .6 are containers'
	if err := m.Create(Network{Name: "small", Subnets: []netip.Prefix{subnet}}); err != nil {
		t.Fatal(err)
	}
	join := func(id string, last byte, fixed bool) {
		t.Helper()
		e, want := Endpoint{ID: id, Network: "small"}, netip.AddrFrom4([4]byte{10, 7, 0, last})
		if fixed {
			e.IP = want
		}
		if a, err := m.Join(e); err != nil || a.Addresses[0] != netip.PrefixFrom(want, 29) {
			t.Errorf("%s got %+v, %v; want %v", id, a, err, want)
		}
	}
	fails := func(id, ip, why string) {
		t.Helper()
		e := Endpoint{ID: id, Network: "small"}
		if ip != "" {
			e.IP = netip.MustParseAddr(ip)
		}
		if _, err := m.Join(e); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: got %v, want %q", id, err, why)
		}
	}
	leave := func(id string) {
		t.Helper()
		if err := m.Leave(id); err != nil {
			t.Error(err)
		}
	}
	join("a", 2, false)
	join("b", 3, false)
	leave("b")
	join("c", 4, false)
	join("d", 6, true)
	join("e", 5, false)
	join("f", 3, false)
	fails("g", "", "no address of 10.7.0.0/29 is free: 5 containers have one")
	fails("g", "10.7.0.6", "another container's")
	fails("g", "10.7.0.1", "have another use")
	fails("g", "10.7.0.7", "have another use")
	fails("g", "10.7.0.8", "no address of 10.7.0.0/29")
	leave("c")
	join("g", 4, false)
	join("g", 4, true) // once more: what it had is its own
	if err := m.Remove("small"); !errors.Is(err, ErrInUse) {
		t.Errorf("got %v", err)
	}
	stale, err := m.Stale(func(id string) bool { return id != "a" && id != "g" })
	slices.Sort(stale)
	if err != nil || !slices.Equal(stale, []string{"a", "g"}) {
		t.Errorf("stale are %v, %v", stale, err)
	}
	members, err := m.Members("small")
	if err != nil || len(members) != 5 {
		t.Errorf("members are %v, %v", members, err)
	}
	for _, a := range members {
		leave(a.ID)
		leave(a.ID)
	}
	if err := m.Remove("small"); err != nil {
		t.Error(err)
	}
	if _, err := m.Get("small"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	nothing(t, m)
}

// TestNoOverlap is that no network gets what another has, or the host a route
// to.
func TestNoOverlap(t *testing.T) {
	needRoot(t)
	m := &Manager{Root: t.TempDir()}
	socket, err := netlink.Open()
	if err != nil {
		t.Fatal(err)
	}
	lo, err := netlink.IndexOf(socket, "lo")
	if err != nil {
		t.Fatal(err)
	}
	up := netlink.Link(lo, unix.IFF_UP)
	err = netlink.Do(socket, "RTM_SETLINK", unix.RTM_SETLINK, 0, up)
	change := func(kind, flags uint16, to string) error {
		p := netip.MustParsePrefix(to)
		r := make([]byte, unix.SizeofRtMsg)
		r[0], r[1], r[4], r[5], r[6], r[7] = unix.AF_INET, byte(p.Bits()), unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RT_SCOPE_LINK, unix.RTN_UNICAST
		r = netlink.Attribute(netlink.Attribute(r, unix.RTA_DST, p.Addr().AsSlice()), unix.RTA_OIF, netlink.Number(lo))
		return netlink.Do(socket, to, kind, flags, r)
	}
	hosts := []string{"10.88.0.0/14", "10.92.17.0/24", "0.0.0.0/1", "128.0.0.0/1"}
	for _, to := range hosts {
		err = errors.Join(err, change(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, to))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, to := range hosts {
			err = errors.Join(err, change(unix.RTM_DELROUTE, 0, to))
		}
		if err = errors.Join(err, unix.Close(socket)); err != nil {
			t.Error(err)
		}
	}()
	for _, c := range []struct{ name, want string }{{Default, "10.93.0.0/16"}, {"one", "172.28.0.0/24"}, {"two", "172.28.1.0/24"}} {
		if c.name != Default {
			err = m.Create(Network{Name: c.name})
		}
		n, e := m.Get(c.name)
		if err = errors.Join(err, e); err != nil || n.Subnets[0].String() != c.want || !strings.HasPrefix(n.Subnets[1].String(), "fd") {
			t.Errorf("%s: %+v, %v", c.name, n, err)
		}
	}
	for subnet, why := range map[string]string{
		"10.90.1.0/24":  "overlaps with 10.88.0.0/14",
		"10.93.8.0/24":  "overlaps with 10.93.0.0/16",
		"172.16.0.0/12": "overlaps with 172.28.0.0/24",
		"10.1.2.3/24":   "an address of 10.1.2.0/24",
		"10.1.2.0/31":   "from 8 to 30 bits",
		"127.1.0.0/16":  "for another use",
		"fe80::/64":     "for another use",
	} {
		if err := m.Create(Network{Name: "bad", Subnets: []netip.Prefix{netip.MustParsePrefix(subnet)}}); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", subnet, err)
		}
	}
	for name, why := range map[string]string{"one": fs.ErrExist.Error(), Default: fs.ErrExist.Error(), "host": "something else", "../x": "invalid", "": "invalid", ".": "invalid"} {
		if err := m.Create(Network{Name: name}); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v", name, err)
		}
	}
	all, err := m.List()
	if err != nil || len(all) != 3 || all[0].Name != Default || all[1].Name != "one" {
		t.Errorf("got %v, %v", all, err)
	}
}

// TestManyJoin has eight processes join containers at once: no address is leased
// twice.
func TestManyJoin(t *testing.T) {
	m := &Manager{Root: t.TempDir()}
	const processes, each = 8, 25
	out := make([]bytes.Buffer, processes)
	var wait []func() error
	for i := range processes {
		words := []string{"join", m.Root, Default}
		for j := range each {
			words = append(words, fmt.Sprintf("box-%d-%d", i, j))
		}
		c := inRole(words...)
		c.Stdout = &out[i]
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		wait = append(wait, c.Wait)
	}
	seen := make(map[string]bool)
	for i, wait := range wait {
		if err := wait(); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out[i].String()) {
			for a := range strings.FieldsSeq(strings.Trim(line, "[]\n")) {
				if seen[a] {
					t.Errorf("%s is leased twice", a)
				}
				seen[a] = true
			}
		}
	}
	members, err := m.Members(Default)
	if err != nil || len(members) != processes*each || len(seen) != 2*processes*each {
		t.Errorf("%d members, %d addresses, %v", len(members), len(seen), err)
	}
}

// TestJoinKilled kills processes that join containers, lay their attachments and
// leave, at many moments: what is left Leave takes away.
func TestJoinKilled(t *testing.T) {
	needRoot(t)
	m := &Manager{Root: t.TempDir()}
	if err := m.Create(Network{Name: "front"}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Get(Default); err != nil {
		t.Fatal(err)
	}
	left := 0
	for round := range 30 {
		var all []*exec.Cmd
		for _, words := range [][]string{{"live", m.Root, "front", "a"}, {"live", m.Root, Default, "b"}} {
			c := inRole(words...)
			c.Stdout = nil
			out, err := c.StdoutPipe()
			if err == nil {
				err = c.Start()
			}
			if err == nil {
				_, err = out.Read(make([]byte, 1))
			}
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, c)
		}
		time.Sleep(rand.N(40 * time.Millisecond)) // a container's life takes some of them
		for _, c := range all {
			if err := c.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range all {
			if err := c.Wait(); !strings.Contains(fmt.Sprint(err), "killed") {
				t.Fatalf("it ended: %v", err)
			}
		}
		ids, err := m.Stale(func(string) bool { return false })
		if err != nil {
			t.Fatal(err)
		}
		left += len(ids)
		for _, id := range ids {
			if err := m.Leave(id); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		nothing(t, m)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	if left < 20 {
		t.Errorf("they were killed with %d leases: not at the moments that matter", left)
	}
}

// TestHalfMade is that a network that was half made, or half removed, is none,
// and goes with the next look.
func TestHalfMade(t *testing.T) {
	m := &Manager{Root: t.TempDir()}
	if err := os.MkdirAll(filepath.Join(m.Root, "half", "leases"), 0o700); err != nil {
		t.Fatal(err)
	}
	if all, err := m.List(); err != nil || len(all) > 0 {
		t.Errorf("got %v, %v", all, err)
	}
	if ids, err := m.Stale(nil); err != nil || len(ids) > 0 {
		t.Errorf("got %v, %v", ids, err)
	}
	if _, err := os.Stat(filepath.Join(m.Root, "half")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
}
