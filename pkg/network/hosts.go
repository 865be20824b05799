package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/minictr/minictr/pkg/sys"
)

// HostGateway stands for the host's own address in an entry of --add-host.
const HostGateway = "host-gateway"

// A HostEntry is a line of hosts(5). The zero address is the host's own, as the
// container sees it.
type HostEntry struct {
	Name    string
	Address netip.Addr
}

// ParseHostEntry reads a value of Docker's flag --add-host: NAME:ADDRESS, or
// NAME=ADDRESS; an IPv6 address may stand in brackets.
func ParseHostEntry(text string) (e HostEntry, err error) {
	i := strings.IndexAny(text, ":=")
	if i <= 0 || strings.ContainsAny(text[:i], " \t\n#") {
		return e, fmt.Errorf("%q: it is NAME:ADDRESS, such as db:10.0.0.5, or NAME:%s", text, HostGateway)
	}
	name, address := text[:i], text[i+1:]
	if e.Name = name; address == HostGateway {
		return e, nil
	}
	if strings.HasPrefix(address, "[") && strings.HasSuffix(address, "]") {
		address = address[1 : len(address)-1]
	}
	if e.Address, err = netip.ParseAddr(address); err != nil {
		return e, fmt.Errorf("%q: %w", text, err)
	}
	return e, nil
}

// Hosts is the text of a container's hosts(5): what every machine has, the
// entries that were asked for, the container's own names, and those of the other
// members of its network, unless that is the default one. A nil attachment is
// none.
func Hosts(hostname string, entries []HostEntry, own *Attachment, members []Attachment) (string, error) {
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n" +
		"::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::\tip6-localnet\n" +
		"ff00::\tip6-mcastprefix\n" +
		"ff02::1\tip6-allnodes\n" +
		"ff02::2\tip6-allrouters\n")
	for _, e := range entries {
		if e.Address.IsValid() {
			fmt.Fprintf(&b, "%s\t%s\n", e.Address, e.Name)
			continue
		}
		if own == nil || len(own.Addresses) == 0 {
			return "", fmt.Errorf("--add-host %s:%s: a container without a network of its own does not see the host by an address of one", e.Name, HostGateway)
		}
		for _, p := range own.Addresses {
			fmt.Fprintf(&b, "%s\t%s\n", gateway(p.Masked()), e.Name)
		}
	}
	line := func(a Attachment, names ...string) {
		var once []string
		for _, name := range names {
			if name != "" && !slices.Contains(once, name) {
				once = append(once, name)
			}
		}
		for _, p := range a.Addresses {
			if len(once) > 0 {
				fmt.Fprintf(&b, "%s\t%s\n", p.Addr(), strings.Join(once, " "))
			}
		}
	}
	switch {
	case own == nil:
	case own.Network == Default:
		line(*own, hostname)
	default:
		line(*own, append([]string{hostname}, own.Names...)...)
		for _, a := range members {
			if a.ID != own.ID {
				line(a, a.Names...)
			}
		}
	}
	return b.String(), nil
}

// A DNS is what is asked for resolv.conf(5); what is empty is the host's.
type DNS struct {
	Servers         []netip.Addr
	Search, Options []string // a search list of "." alone is none
}

// ResolvConf is the text of a container's resolv.conf(5), made of the host's.
// Servers on the host's loopback are left out: the container has another. When
// no server is left, the text says so, and found is false.
func ResolvConf(host string, d DNS) (text string, found bool) {
	servers, search, options := d.Servers, d.Search, d.Options
	for line := range strings.Lines(host) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			a, err := netip.ParseAddr(words[1])
			if err == nil && len(d.Servers) == 0 && !a.IsLoopback() && a.Zone() == "" {
				servers = append(servers, a)
			}
		case "search", "domain":
			if len(d.Search) == 0 {
				search = words[1:] // the last line counts
			}
		case "options":
			if len(d.Options) == 0 {
				options = append(options, words[1:]...)
			}
		}
	}
	var b strings.Builder
	if len(servers) == 0 {
		b.WriteString("# The host has no name server that can be reached from here: give one with --dns.\n")
	}
	for _, a := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", a)
	}
	if len(search) > 0 && !slices.Equal(search, []string{"."}) {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	if len(options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(options, " "))
	}
	return b.String(), len(servers) > 0
}

// HostResolvConf reads the host's resolv.conf(5): where that leads to
// systemd-resolved's stub, the file that names the servers behind it. A host
// without the file has no servers.
func HostResolvConf() (string, error) { return hostResolvConf(sys.ReadFile) }

func hostResolvConf(read func(name string) ([]byte, error)) (string, error) {
	data, err := read("/etc/resolv.conf")
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	text := string(data)
	if _, found := ResolvConf(text, DNS{}); !found && strings.Contains(text, "127.0.0.53") {
		if data, e := read("/run/systemd/resolve/resolv.conf"); e == nil {
			return string(data), nil
		}
	}
	return text, err
}
