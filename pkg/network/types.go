package network

import (
	"net/netip"
	"time"
)

// A Network is a bridge of this host with its subnets: what `network create` writes and the containers of it share.
type Network struct {
	Version  int               `json:"version"`
	Name     string            `json:"name"`
	Bridge   string            `json:"bridge"`
	Subnets  []netip.Prefix    `json:"subnets"`
	Internal bool              `json:"internal,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Created  time.Time         `json:"created"`
}

// An Endpoint is what a container asks of a network. The zero address leaves the choice to the network.
type Endpoint struct {
	ID      string     `json:"id"`
	Names   []string   `json:"names,omitempty"`
	Network string     `json:"network"`
	Ports   []Port     `json:"ports,omitempty"`
	IP      netip.Addr `json:"ip,omitzero"`
	IP6     netip.Addr `json:"ip6,omitzero"`
	MAC     string     `json:"mac,omitempty"`
	Hosts   []string   `json:"hosts,omitempty"` // entries of its hosts file that were asked for
}

// An Attachment is an endpoint with what its network leased it.
type Attachment struct {
	Endpoint
	Addresses []netip.Prefix `json:"addresses"`
	Gateways  []netip.Addr   `json:"gateways,omitempty"`
	Bridge    string         `json:"bridge"`
	Internal  bool           `json:"internal,omitempty"`

	manager *Manager
}

// A Port is one published port. The zero HostIP is every address of the host, IPv4 and IPv6; Host 0 is a free port of
// the kernel's choice.
type Port struct {
	HostIP    netip.Addr `json:"host_ip,omitzero"`
	Host      uint16     `json:"host"`
	Container uint16     `json:"container"`
	Proto     string     `json:"proto"` // tcp, udp or sctp
}
