package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/format"
	"github.com/minictr/minictr/pkg/network"
)

func networkCreateCommand(f *pflag.FlagSet) action {
	var subnets, labels []string
	f.Var((*list)(&subnets), "subnet", "its addresses are those of `SUBNET`, of IPv4 or IPv6 (free ones)")
	f.Var((*list)(&labels), "label", "give it a label, `NAME=VALUE`")
	internal := f.Bool("internal", false, "its containers reach each other, and nobody else")
	driver := f.StringP("driver", "d", network.Default, "accepted: bridge is the `DRIVER` that there is")
	f.Bool("ipv6", true, "accepted: there is always IPv6")
	return withEngine(1, func(c *call, e *engine.Engine) (err error) {
		if *driver != network.Default {
			return fmt.Errorf("--driver: %q is not here: networks are bridges", *driver)
		}
		n := network.Network{Name: c.args[0], Internal: *internal}
		if n.Labels, err = labelsOf(labels); err != nil {
			return err
		}
		for _, text := range words(subnets) {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return fmt.Errorf("--subnet: %q is no subnet such as 10.1.2.0/24", text)
			}
			n.Subnets = append(n.Subnets, p)
		}
		if err := e.Networks().Create(n); err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.stdout, n.Name)
		return err
	})
}

// networkFields are those of a network in lists: Docker's, by its names.
func networkFields() []format.Field {
	return []format.Field{
		{Name: "ID", Heading: "NETWORK ID"},
		{Name: "Name", Heading: "NAME"},
		{Name: "Driver", Heading: "DRIVER"},
		{Name: "Scope", Heading: "SCOPE"},
		{Name: "Subnets", Heading: "SUBNETS", Long: true},
		{Name: "Internal", Heading: "INTERNAL"},
		{Name: "CreatedAt", Heading: "CREATED AT"},
	}
}

func networkListCommand(f *pflag.FlagSet) action {
	quiet := f.BoolP("quiet", "q", false, "print names only")
	var filters []string
	f.VarP((*list)(&filters), "filter", "f", "only those with `KEY=VALUE`: driver, label or name")
	l := listFlags(f)
	return withEngine(0, func(c *call, e *engine.Engine) error {
		all, failed := e.Networks().List()
		var rows []format.Row
		for _, n := range all {
			keep, err := networkFilter(n, filters)
			switch {
			case err != nil:
				return err
			case !keep:
			case *quiet:
				fmt.Fprintln(c.stdout, n.Name)
			default:
				rows = append(rows, networkRow(n))
			}
		}
		if *quiet {
			return failed
		}
		return errors.Join(c.print(l, networkFields(), []string{"Name", "Driver", "Subnets", "Internal"}, rows), failed)
	})
}

func networkRow(n network.Network) format.Row {
	var subnets []string
	for _, p := range n.Subnets {
		subnets = append(subnets, p.String())
	}
	return format.Row{
		"ID": strings.TrimPrefix(n.Bridge, "mc-"), "Name": n.Name, "Driver": network.Default, "Scope": "local", "Subnets": strings.Join(subnets, " "),
		"Internal": fmt.Sprint(n.Internal), "CreatedAt": n.Created.Format(time.RFC3339),
	}
}

func networkFilter(n network.Network, filters []string) (bool, error) {
	for _, filter := range filters {
		key, value, _ := strings.Cut(filter, "=")
		label, text, hasText := strings.Cut(value, "=")
		got, found := n.Labels[label]
		switch {
		case key == "driver" && value != network.Default, key == "name" && !strings.Contains(n.Name, value),
			key == "label" && (!found || hasText && got != text):
			return false, nil
		case !slices.Contains([]string{"driver", "name", "label"}, key):
			return false, fmt.Errorf("--filter: %q is none of driver=bridge, label=NAME and name=PART", filter)
		}
	}
	return true, nil
}

func networkRemoveCommand(f *pflag.FlagSet) action {
	force := f.BoolP("force", "f", false, "no error for one that is not there")
	return ofNamed("network", func(c *call, e *engine.Engine) error {
		if err := e.Sweep(); err != nil {
			return err
		}
		return c.each(func(name string) error {
			err := e.RemoveNetwork(name)
			if *force && errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		})
	})
}

// networkView is a network as network inspect shows it, by Docker's names.
type networkView struct {
	Name       string
	ID         string `json:"Id"`
	Created    time.Time
	Scope      string
	Driver     string
	EnableIPv6 bool
	Internal   bool
	IPAM       struct{ Config []ipamView }
	Containers map[string]memberView
	Options    map[string]string
	Labels     map[string]string
}

type ipamView struct{ Subnet, Gateway string }

type memberView struct {
	Name, MacAddress, IPv4Address, IPv6Address string
}

func networkInspectCommand(f *pflag.FlagSet) action {
	as := documentFlag(f)
	return ofNamed("network", func(c *call, e *engine.Engine) error {
		return c.documents(*as, func(name string) (any, error) { return inspectNetwork(e, name) })
	})
}

func inspectNetwork(e *engine.Engine, name string) (any, error) {
	n, err := e.Networks().Get(name)
	if err != nil {
		return nil, err
	}
	members, err := e.Members(name)
	return viewOf(n, members), err
}

func viewOf(n *network.Network, members []network.Attachment) networkView {
	v := networkView{
		Name: n.Name, ID: strings.TrimPrefix(n.Bridge, "mc-"), Created: n.Created, Scope: "local", Driver: network.Default, Internal: n.Internal,
		Containers: map[string]memberView{}, Options: map[string]string{"com.docker.network.bridge.name": n.Bridge}, Labels: map[string]string{},
	}
	maps.Copy(v.Labels, n.Labels)
	for _, p := range n.Subnets {
		v.EnableIPv6 = v.EnableIPv6 || p.Addr().Is6()
		v.IPAM.Config = append(v.IPAM.Config, ipamView{p.String(), p.Masked().Addr().Next().String()})
	}
	for _, a := range members {
		m := memberView{MacAddress: a.MAC}
		if len(a.Names) > 0 {
			m.Name = a.Names[0]
		}
		for _, p := range a.Addresses {
			if p.Addr().Is4() {
				m.IPv4Address = p.String()
			} else {
				m.IPv6Address = p.String()
			}
		}
		v.Containers[a.ID] = m
	}
	return v
}
