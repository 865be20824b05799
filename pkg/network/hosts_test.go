package network

import (
	"io/fs"
	"net/netip"
	"strings"
	"testing"
)

func attached(network, id string, names ...string) Attachment {
	n := "2"
	if id != "one" {
		n = "3"
	}
	return Attachment{
		Endpoint:  Endpoint{ID: id, Network: network, Names: names},
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0." + n + "/24"), netip.MustParsePrefix("fd00::" + n + "/64")},
	}
}

func TestHosts(t *testing.T) {
	entries := []HostEntry{{"db", netip.MustParseAddr("192.0.2.7")}, {Name: "outside"}}
	own, other := attached("front", "one", "web", "one"), attached("front", "two", "db1", "two", "db1")
	const always = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
	const asked = "192.0.2.7\tdb\n10.9.0.1\toutside\nfd00::1\toutside\n"
	got, err := Hosts("box", entries, &own, []Attachment{own, other})
	if want := always + asked + "10.9.0.2\tbox web one\nfd00::2\tbox web one\n10.9.0.3\tdb1 two\nfd00::3\tdb1 two\n"; err != nil || got != want {
		t.Errorf("got %v\n%s", err, got)
	}
	own.Network = Default
	got, err = Hosts("box", nil, &own, []Attachment{own, other})
	if want := always + "10.9.0.2\tbox\nfd00::2\tbox\n"; err != nil || got != want {
		t.Errorf("got %v\n%s", err, got)
	}
	if got, err = Hosts("box", entries[:1], nil, nil); err != nil || got != always+"192.0.2.7\tdb\n" {
		t.Errorf("got %v\n%s", err, got)
	}
	if _, err = Hosts("box", entries, nil, nil); err == nil || !strings.Contains(err.Error(), "--add-host outside:host-gateway") {
		t.Errorf("got %v", err)
	}
}

func TestParseHostEntry(t *testing.T) {
	for text, want := range map[string]HostEntry{
		"db:192.0.2.7":         {"db", netip.MustParseAddr("192.0.2.7")},
		"db=fd00::7":           {"db", netip.MustParseAddr("fd00::7")},
		"db:[fd00::7]":         {"db", netip.MustParseAddr("fd00::7")},
		"outside:host-gateway": {Name: "outside"},
	} {
		if got, err := ParseHostEntry(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "db", ":192.0.2.7", "db:", "db:192.0.2", "d b:192.0.2.7", "db:[fd00::7"} {
		if got, err := ParseHostEntry(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestResolvConf(t *testing.T) {
	for _, c := range []struct {
		name, host string
		asked      DNS
		want       string
		found      bool
	}{
		{
			"the host's", "# x\nnameserver 192.0.2.1\nnameserver\t2001:db8::1\ndomain old\nsearch a.test b.test\noptions ndots:2\noptions edns0\n",
			DNS{},
			"nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch a.test b.test\noptions ndots:2 edns0\n", true,
		},
		{"not its loopback", "nameserver 127.0.0.53\nnameserver ::1\nnameserver fe80::1%eth0\nnameserver 192.0.2.1\n", DNS{}, "nameserver 192.0.2.1\n", true},
		{
			"none is left", "nameserver 127.0.0.53\nsearch a.test\n",
			DNS{},
			"# The host has no name server that can be reached from here: give one with --dns.\nsearch a.test\n", false,
		},
		{
			"asked for", "nameserver 192.0.2.1\nsearch a.test\noptions ndots:2\n",
			DNS{[]netip.Addr{netip.MustParseAddr("127.0.0.1")}, []string{"c.test"}, []string{"rotate"}},
			"nameserver 127.0.0.1\nsearch c.test\noptions rotate\n", true,
		},
		{"no search", "nameserver 192.0.2.1\nsearch a.test\n", DNS{Search: []string{"."}}, "nameserver 192.0.2.1\n", true},
	} {
		if got, found := ResolvConf(c.host, c.asked); got != c.want || found != c.found {
			t.Errorf("%s: %v\n%s", c.name, found, got)
		}
	}
}

// TestHostResolvConf looks behind systemd-resolved's stub, and nobody else's.
func TestHostResolvConf(t *testing.T) {
	for _, c := range []struct{ stub, real, want string }{
		{"nameserver 127.0.0.53\n", "nameserver 192.0.2.1\n", "nameserver 192.0.2.1\n"},
		{"nameserver 127.0.0.53\n", "", "nameserver 127.0.0.53\n"},
		{"nameserver 127.0.0.1\n", "nameserver 192.0.2.1\n", "nameserver 127.0.0.1\n"},
		{"nameserver 192.0.2.9\n", "nameserver 192.0.2.1\n", "nameserver 192.0.2.9\n"},
		{"", "nameserver 192.0.2.1\n", ""},
	} {
		got, err := hostResolvConf(func(name string) ([]byte, error) {
			text := map[string]string{"/etc/resolv.conf": c.stub, "/run/systemd/resolve/resolv.conf": c.real}[name]
			if text == "" {
				return nil, fs.ErrNotExist
			}
			return []byte(text), nil
		})
		if got != c.want || err != nil {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}
