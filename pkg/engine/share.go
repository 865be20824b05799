package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/spec"
)

const (
	hostMode = "host"
	joined   = "container:" // begins the name of a container whose namespace is shared
)

// setNamespaces gives the container namespaces of the host, or of other
// containers, in place of its own.
func setNamespaces(w *wall, o Options) error {
	own := map[specs.LinuxNamespaceType][]string{
		specs.PIDNamespace: {"", "private"}, specs.IPCNamespace: {"", "private", "shareable", "none"},
		specs.UTSNamespace: {"", "private"}, specs.CgroupNamespace: {"", "private"},
	}
	for _, n := range [...]struct {
		kind       specs.LinuxNamespaceType
		flag, mode string
	}{
		{specs.PIDNamespace, "--pid", o.PID},
		{specs.IPCNamespace, "--ipc", o.IPC},
		{specs.UTSNamespace, "--uts", o.UTS},
		{specs.CgroupNamespace, "--cgroupns", o.Cgroupns},
	} {
		if slices.Contains(own[n.kind], n.mode) {
			continue
		}
		if err := w.share(n.kind, n.flag, n.mode, o); err != nil {
			return err
		}
	}
	if o.IPC == "none" {
		w.Mounts = slices.DeleteFunc(w.Mounts, func(m specs.Mount) bool { return m.Destination == "/dev/shm" && m.Type == "tmpfs" })
	}
	if o.UTS != "" && o.UTS != "private" {
		if o.Hostname != "" || o.Domainname != "" {
			return fmt.Errorf("--hostname and --domainname: with --uts %s the names are another's", o.UTS)
		}
		w.Hostname, w.Domainname = "", ""
		w.Process.Env = slices.DeleteFunc(w.Process.Env, func(e string) bool { return strings.HasPrefix(e, "HOSTNAME=") })
	}
	if o.Userns != "" && o.Userns != hostMode {
		return fmt.Errorf(`--userns: %q is neither host nor "": the files of images have owners that no map of ids here knows`, o.Userns)
	}
	return nil
}

// share takes the namespace of one kind from the host or from a container.
func (w *wall) share(kind specs.LinuxNamespaceType, flag, mode string, o Options) error {
	name, of := strings.CutPrefix(mode, joined)
	switch {
	case mode == hostMode:
		w.leave(spec.Shared(kind))
		return nil
	case !of || name == "" || kind == specs.CgroupNamespace:
		also := ", host nor container:NAME"
		if kind == specs.CgroupNamespace {
			also = " nor host"
		}
		return fmt.Errorf("%s: %q is neither private%s", flag, mode, also)
	case o.Join == nil:
		return fmt.Errorf("%s: no container %q is known here", flag, name)
	}
	file, err := o.Join(string(kind), name)
	if err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	i := slices.IndexFunc(w.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
	w.Linux.Namespaces[i].Path = file
	return nil
}

// A Connection is what options say about the network. Most of it is for the
// network that the container is connected to: config.json has none of that.
type Connection struct {
	Network    string   // "none", "host", "container:NAME", or a network's name
	Fallback   bool     // nobody has asked for it: if it can't be had, none will do
	Aliases    []string // more names on the network
	MAC        string
	IP, IP6    string
	Publish    []string // [[HOSTIP:]HOST:]CONTAINER[/PROTO]
	PublishAll bool
	Expose     []string
	AddHosts   []string // NAME:IP
	DNS        []string
	DNSSearch  []string
	DNSOptions []string
}

// DefaultNetwork is the one of containers that name none.
const DefaultNetwork = "bridge"

// On is the name of the network that the container is to be connected to; ""
// is none.
func (c Connection) On() string {
	switch {
	case c.Network == "" && (len(c.Publish) > 0 || c.PublishAll):
		return DefaultNetwork
	case c.Network == "none", c.Network == hostMode, strings.HasPrefix(c.Network, joined):
		return ""
	}
	return c.Network
}

func setNetwork(w *wall, o Options) error {
	if err := o.check(); err != nil {
		return err
	}
	if name := o.On(); name != "" {
		if o.FindNetwork == nil {
			return fmt.Errorf("--network: there is no network %q here; there are none, host and container:NAME", name)
		}
		if err := o.FindNetwork(name); err != nil {
			return fmt.Errorf("--network: %w", err)
		}
		return nil
	}
	for _, f := range [...]struct {
		flag  string
		given bool
	}{
		{"--publish", len(o.Publish) > 0},
		{"--publish-all", o.PublishAll},
		{"--network-alias", len(o.Aliases) > 0},
		{"--mac-address", o.MAC != ""},
		{"--ip", o.IP != ""},
		{"--ip6", o.IP6 != ""},
	} {
		if f.given {
			return fmt.Errorf("%s: it needs a network that containers connect to: --network bridge, or the name of another", f.flag)
		}
	}
	if o.Network == "" || o.Network == "none" {
		return nil
	}
	for _, text := range o.Sysctls {
		if strings.HasPrefix(text, "net.") || strings.HasPrefix(text, "net/") {
			return fmt.Errorf("--sysctl: %q: with --network %s it would be another's parameter", text, o.Network)
		}
	}
	if o.Network != hostMode {
		delete(w.Linux.Sysctl, "net.ipv4.ping_group_range") // the other's, who has said so
		switch {
		case o.Hostname != "" || o.Domainname != "":
			return errors.New("--hostname and --domainname: with --network container:NAME the names are the other's")
		case len(o.AddHosts)+len(o.DNS)+len(o.DNSSearch)+len(o.DNSOptions) > 0:
			return errors.New("--add-host and --dns: with --network container:NAME the files are the other's")
		}
	}
	return w.share(specs.NetworkNamespace, "--network", o.Network, o)
}
