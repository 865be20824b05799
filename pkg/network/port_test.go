package network

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParsePorts(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"80", "0.0.0.0:0->80/tcp, [::]:0->80/tcp"},
		{"8080:80", "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"},
		{":80/udp", "0.0.0.0:0->80/udp, [::]:0->80/udp"},
		{"0:80/SCTP", "0.0.0.0:0->80/sctp, [::]:0->80/sctp"},
		{"127.0.0.1:8080:80/udp", "127.0.0.1:8080->80/udp"},
		{"127.0.0.1::80", "127.0.0.1:0->80/tcp"},
		{"0.0.0.0:8080:80", "0.0.0.0:8080->80/tcp"},
		{"[::1]:8080:80", "[::1]:8080->80/tcp"},
		{"[::]::80", "[::]:0->80/tcp"},
		{"[::ffff:192.0.2.1]:1:2", "192.0.2.1:1->2/tcp"},
		{"192.0.2.1:65534-65535:1-2", "192.0.2.1:65534->1/tcp, 192.0.2.1:65535->2/tcp"},
		{"192.0.2.1::1-2/udp", "192.0.2.1:0->1/udp, 192.0.2.1:0->2/udp"},
	} {
		ports, err := ParsePorts(c.text)
		var got []string
		for _, p := range ports {
			got = append(got, p.String())
		}
		if err != nil || strings.Join(got, ", ") != c.want {
			t.Errorf("%s: got %s, %v; want %s", c.text, strings.Join(got, ", "), err, c.want)
		}
	}
	for text, want := range map[string]string{
		"":                       "the container's port is missing",
		"8080:":                  "the container's port is missing",
		"80/":                    `"" is none of tcp, udp, sctp`,
		"80/icmp":                `"icmp" is none of tcp, udp, sctp`,
		"0":                      `the container's port "0" is no number from 1 to 65535`,
		"65536":                  `the container's port "65536" is no number from 1 to 65535`,
		"+80":                    `the container's port "+80" is no number`,
		"80-":                    `the container's port "80-" is no number`,
		"http:80":                `the host's port "http" is no number`,
		"90-80:1-11":             `the host's port range "90-80" ends before it begins`,
		"8000-8002:80":           "8000-8002 are 3 ports of the host, 80 are 1 of the container",
		"0-1:80-81":              `the host's port "0-1" is no number from 1`,
		"localhost:8080:80":      `"localhost" is no IP address`,
		"::1:8080:80":            `"::1": an IPv6 address stands in brackets`,
		"[127.0.0.1]:8080:80":    `"[127.0.0.1]": an IPv6 address stands in brackets`,
		"[::1:8080:80":           "an IPv6 address stands in brackets",
		"[fe80::1%eth0]:80:80":   "the address fe80::1%eth0 has a zone",
		"1.2.3.4:5:6:7":          `"1.2.3.4:5" is no IP address`,
		":8080:80":               `"" is no IP address`,
		"127.0.0.1:8080:80/tcp/": `"tcp/" is none of`,
	} {
		if ports, err := ParsePorts(text); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "CONTAINER") {
			t.Errorf("%q: got %v, %v; want %s", text, ports, err, want)
		}
	}
}

func TestTaken(t *testing.T) {
	for _, c := range []struct {
		e    TakenError
		want string
	}{
		{TakenError{Port: Port{netip.IPv4Unspecified(), 8080, 80, "tcp"}}, "port 8080/tcp of this host is taken by another program: ss -ltnp shows it"},
		{TakenError{Port: Port{netip.IPv6Loopback(), 53, 53, "udp"}}, "port [::1]:53/udp is taken by another program: ss -lunp shows it"},
		{TakenError{Port{netip.Addr{}, 8080, 80, "tcp"}, "web"}, "port 8080/tcp of this host is published by container web already"},
	} {
		if got := c.e.Error(); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}
