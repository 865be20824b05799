package engine

import (
	"errors"
	"strconv"

	"github.com/minictr/minictr/pkg/network"
)

// Attachments are those of all containers that are on a network, by their IDs.
func (e *Engine) Attachments() (map[string]network.Attachment, error) {
	networks, failed := e.Networks().List()
	attached := make(map[string]network.Attachment)
	for _, n := range networks {
		members, err := e.Members(n.Name)
		failed = errors.Join(failed, err)
		for _, a := range members {
			attached[a.ID] = a
		}
	}
	return attached, failed
}

// Members are a network's, with the names that they have by now: in a lease stands
// the one that a container joined by.
func (e *Engine) Members(name string) ([]network.Attachment, error) {
	members, err := e.Networks().Members(name)
	for _, m := range members {
		if c, err := e.record(m.ID); err == nil && len(m.Names) > 0 {
			m.Names[0] = c.Name
		}
	}
	return members, err
}

// settings are a container's addresses, in Docker's words.
func (e *Engine) settings(c *Container, mode string) (NetworkSettings, error) {
	s := NetworkSettings{Ports: map[string][]PortBinding{}, Networks: map[string]Connected{mode: {}}}
	if c.Options.On() == "" {
		return s, nil
	}
	attached, err := e.Attachments()
	a, ok := attached[c.ID]
	if !ok {
		return s, err // it does not run
	}
	on := Connected{MacAddress: a.MAC, Aliases: a.Names}
	for _, p := range a.Addresses {
		if p.Addr().Is4() {
			on.IPAddress, on.IPPrefixLen = p.Addr().String(), p.Bits()
		} else {
			on.GlobalIPv6Address, on.GlobalIPv6PrefixLen = p.Addr().String(), p.Bits()
		}
	}
	for _, g := range a.Gateways {
		if g.Is4() {
			on.Gateway = g.String()
		} else {
			on.IPv6Gateway = g.String()
		}
	}
	s.Networks[mode] = on
	s.IPAddress, s.IPPrefixLen, s.Gateway, s.MacAddress = on.IPAddress, on.IPPrefixLen, on.Gateway, on.MacAddress
	for _, p := range a.Ports {
		name := strconv.Itoa(int(p.Container)) + "/" + p.Proto
		s.Ports[name] = append(s.Ports[name], PortBinding{p.HostIP.String(), strconv.Itoa(int(p.Host))})
	}
	return s, err
}
