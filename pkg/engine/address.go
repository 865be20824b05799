package engine

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
)

// check refuses what no network could take.
func (c Connection) check() error {
	for _, ip := range [...]struct {
		flag, text string
		v4         bool
	}{{"--ip", c.IP, true}, {"--ip6", c.IP6, false}} {
		if a, err := netip.ParseAddr(ip.text); ip.text != "" && (err != nil || a.Is4() != ip.v4 || a.Zone() != "") {
			kind := map[bool]string{true: "IPv4", false: "IPv6"}[ip.v4]
			return fmt.Errorf("%s: %q is no %s address", ip.flag, ip.text, kind)
		}
	}
	if mac, err := hex.DecodeString(strings.NewReplacer(":", "", "-", "").Replace(c.MAC)); c.MAC != "" && (err != nil || len(mac) != 6 || mac[0]&1 != 0) {
		return fmt.Errorf("--mac-address: %q is no address of one interface, such as 02:42:ac:11:00:02", c.MAC)
	}
	for _, d := range c.DNS {
		if _, err := netip.ParseAddr(d); err != nil {
			return fmt.Errorf("--dns: %q is no IP address", d)
		}
	}
	for _, h := range c.AddHosts {
		if _, _, err := HostLine(h); err != nil {
			return fmt.Errorf("--add-host: %w", err)
		}
	}
	return nil
}

// HostGateway stands in --add-host for the address by which a container reaches
// its host.
const HostGateway = "host-gateway"

// HostLine reads NAME:IP or NAME=IP of --add-host. An address may stand in
// brackets.
func HostLine(text string) (name, address string, err error) {
	name, address, found := strings.Cut(text, "=")
	if !found {
		name, address, _ = strings.Cut(text, ":")
	}
	address = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
	if _, e := netip.ParseAddr(address); name == "" || strings.ContainsAny(name, " \t\n#") || e != nil && address != HostGateway {
		return "", "", fmt.Errorf("%q is not NAME:IP, nor NAME:%s", text, HostGateway)
	}
	return name, address, nil
}
