package engine

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/network"
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
	for _, name := range c.Aliases {
		if container.ValidateID(name) != nil {
			return fmt.Errorf("--network-alias: %q is no name of a machine: letters, digits and _+-. make one", name)
		}
	}
	for _, h := range c.AddHosts {
		if _, err := network.ParseHostEntry(h); err != nil {
			return fmt.Errorf("--add-host: %w", err)
		}
	}
	return nil
}
