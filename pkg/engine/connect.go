package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/forkexec"
	"github.com/minictr/minictr/pkg/network"
	"github.com/minictr/minictr/pkg/rootless"
	"github.com/minictr/minictr/pkg/spec"
)

// Files of /etc that the engine makes for a container, in its directory, by
// their names there.
var etcFiles = [...]string{"hosts", "hostname", "resolv.conf"}

// Networks are the engine's networks. Those of a user's namespace are in a network
// namespace of its own.
func (e *Engine) Networks() *network.Manager {
	m := &network.Manager{Root: filepath.Join(e.Root, "networks")}
	if rootless.IsUser() {
		m.In = e.host.Do
	}
	return m
}

// known completes options with what this engine knows of the names in them, and
// of the user namespace.
func (e *Engine) known(o Options) (_ Options, err error) {
	if o.Join == nil {
		o.Join = e.namespaceOf
	}
	if o.Volume == nil {
		e.volumesFor(&o, anyID)
	}
	o.MountsOf = e.mountsOf
	o.FindNetwork = func(name string) error {
		if name == network.Default {
			return nil
		}
		_, err := e.Networks().Get(name)
		return err
	}
	o.Nested, err = nested()
	return o, err
}

// namespaceOf is the file of a running container's namespace.
func (e *Engine) namespaceOf(kind, name string) (string, error) {
	c, err := e.Find(name)
	if err != nil {
		return "", err
	}
	s, err := c.State()
	status := specs.StateStopped
	if err == nil {
		status, err = s.Status()
	}
	if errors.Is(err, container.ErrNotExist) || err == nil && status == specs.StateStopped {
		return "", fmt.Errorf("%w: %s: it has namespaces only while it runs", container.ErrStopped, name)
	}
	if err != nil {
		return "", err
	}
	if kind == string(specs.NetworkNamespace) {
		kind = "net"
	}
	return fmt.Sprintf("/proc/%d/ns/%s", s.PID, kind), nil
}

// rejoin finds the namespaces of other containers anew, which may have been
// started again since.
func (e *Engine) rejoin(s *specs.Spec, o Options) error {
	for kind, mode := range map[specs.LinuxNamespaceType]string{
		specs.PIDNamespace: o.PID, specs.IPCNamespace: o.IPC, specs.UTSNamespace: o.UTS, specs.NetworkNamespace: o.Network,
	} {
		name, other := strings.CutPrefix(mode, joined)
		if !other {
			continue
		}
		file, err := e.namespaceOf(string(kind), name)
		if err != nil {
			return err
		}
		for i, n := range s.Linux.Namespaces {
			if n.Type == kind {
				s.Linux.Namespaces[i].Path = file
			}
		}
	}
	return nil
}

// named says whether a container gets files of /etc of its own, which name
// machines.
func (c Connection) named() bool {
	return c.On() != "" || c.Fallback || c.Network == hostMode || len(c.AddHosts)+len(c.DNS)+len(c.DNSSearch)+len(c.DNSOptions) > 0
}

// showFiles mounts the files of /etc that are made for a container, or those of
// the one whose network it shares.
func (e *Engine) showFiles(s *specs.Spec, c Connection) error {
	dir := ""
	if name, other := strings.CutPrefix(c.Network, joined); other {
		owner, err := e.Find(name)
		if err != nil {
			return err
		}
		if !owner.Options.named() {
			return nil
		}
		dir = owner.dir
	} else if !c.named() {
		return nil
	}
	for _, name := range etcFiles {
		destination := "/etc/" + name
		if !slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == destination }) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: destination, Type: "bind", Source: filepath.Join(dir, name), Options: []string{"rbind", "rprivate"}})
		}
	}
	return nil
}

// published are the ports that options publish of an image's container.
func published(c Connection, exposed map[string]struct{}) (ports []network.Port, err error) {
	add := func(flag, text string) error {
		list, err := network.ParsePorts(text)
		if err != nil {
			return fmt.Errorf("%s: %w", flag, err)
		}
		ports = append(ports, list...)
		return nil
	}
	for _, text := range c.Publish {
		if err := add("--publish", text); err != nil {
			return nil, err
		}
	}
	if !c.PublishAll {
		return ports, nil
	}
	given := len(ports)
	for _, text := range slices.Concat(c.Expose, slices.Sorted(maps.Keys(exposed))) {
		if err := add("--expose", text); err != nil { // to a port of the kernel's choice
			return nil, err
		}
	}
	once := ports[:given:given]
	for _, p := range ports[given:] {
		if !slices.ContainsFunc(once, func(q network.Port) bool { return q.Container == p.Container && q.Proto == p.Proto }) {
			once = append(once, p)
		}
	}
	return once, nil
}

// A link is a container's connection while it runs.
type link struct {
	engine     *Engine
	id         string
	attachment *network.Attachment  // nil: it is on no network
	ports      *network.Reservation // nil: it publishes none
}

// connect takes what a container needs of its network, and writes its files of
// /etc. The interface is made by the plan.
func (e *Engine) connect(id, dir, hostname string, o Options, ports []network.Port) (l *link, err error) {
	l = &link{engine: e, id: id}
	if _, other := strings.CutPrefix(o.Network, joined); other || !o.named() {
		return l, nil
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	if name := o.On(); name != "" {
		if err := l.join(name, o, ports); err != nil {
			return l, &unconnectedError{err}
		}
	}
	resolv, err := e.resolvConf(o.Connection)
	if err != nil {
		return l, err
	}
	for name, text := range map[string]string{"hostname": hostname + "\n", "resolv.conf": resolv} {
		if err := writeInPlace(filepath.Join(dir, name), text); err != nil {
			return l, err
		}
	}
	if l.attachment == nil || l.attachment.Network == network.Default {
		text, err := hosts(hostname, o.Connection, l.attachment, nil)
		if err != nil {
			return l, err
		}
		return l, writeInPlace(filepath.Join(dir, "hosts"), text)
	}
	return l, e.tellNames(l.attachment.Network)
}

// An unconnectedError is that of a container that can't join its network.
type unconnectedError struct{ error }

func (e *unconnectedError) Unwrap() error { return e.error }

// without says whether a container that could not begin is to do so without a
// network, and tells it.
func (e *Engine) without(o *Options, err error) bool {
	step, _ := errors.AsType[*forkexec.StepError](err)
	unconnected, _ := errors.AsType[*unconnectedError](err)
	if !o.Fallback || o.On() == "" || unconnected == nil && (step == nil || step.Section.Brick != "interfaces") {
		return false
	}
	if step != nil { // which is long
		err = step.Err
	}
	fmt.Fprintf(e.Messages, "minictr: the container has no network: %v: minictr doctor says more, --network none asks for that\n", err)
	o.Network = "none"
	if e.host != nil {
		if err := e.host.Leave(); err != nil {
			fmt.Fprintf(e.Messages, "minictr: %v\n", err)
		}
		e.host = nil
	}
	return true
}

func (l *link) join(name string, o Options, ports []network.Port) error {
	e := l.engine
	if rootless.Inside() && e.host == nil {
		tell := func(what string) { fmt.Fprintf(e.Messages, "minictr: %s: minictr doctor\n", what) }
		var err error
		if e.host, err = rootless.Join(tell); err != nil {
			return err
		}
	}
	n, err := e.Networks().Get(name)
	if err != nil {
		return err
	}
	if l.ports, err = e.Networks().Reserve(ports, n.Subnets); err != nil {
		return err
	}
	endpoint, err := o.endpoint(l.id, l.ports.Ports)
	if err == nil {
		l.attachment, err = e.Networks().Join(endpoint)
	}
	return err
}

// endpoint is what the container asks of its network.
func (o Options) endpoint(id string, ports []network.Port) (e network.Endpoint, err error) {
	e = network.Endpoint{ID: id, Network: o.On(), Names: append([]string{o.Name, id}, o.Aliases...), Ports: ports, MAC: o.MAC, Hosts: o.AddHosts}
	for text, at := range map[string]*netip.Addr{o.IP: &e.IP, o.IP6: &e.IP6} {
		if text == "" {
			continue
		}
		if *at, err = netip.ParseAddr(text); err != nil {
			return e, err
		}
	}
	return e, nil
}

// tellNames writes the names of all members of a network into the files of each.
// On the default one nobody knows another.
func (e *Engine) tellNames(name string) (err error) {
	if name == network.Default {
		return nil
	}
	unlock, err := e.guard() // who comes last knows all
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	members, err := e.Members(name)
	if err != nil {
		return err
	}
	for _, m := range members {
		dir := e.bundle(m.ID)
		config, err := spec.Load(dir) // and no file that a container can write to
		if errors.Is(err, fs.ErrNotExist) {
			continue // it is just coming, or going
		}
		if err != nil {
			return err
		}
		entries, err := hosts(config.Hostname, Connection{AddHosts: m.Hosts}, &m, members)
		if err != nil {
			return err
		}
		// One whose root holds a lease on its own file does without, fcntl(2).
		err = writeInPlace(filepath.Join(dir, "hosts"), entries)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
	}
	return nil
}

// hosts is the text of a container's hosts(5): on the host's network the host's
// own, and what was added.
func hosts(hostname string, c Connection, own *network.Attachment, members []network.Attachment) (string, error) {
	var entries []network.HostEntry
	for _, text := range c.AddHosts {
		entry, err := network.ParseHostEntry(text)
		if err != nil {
			return "", fmt.Errorf("--add-host: %w", err)
		}
		entries = append(entries, entry)
	}
	if c.Network != hostMode {
		return network.Hosts(hostname, entries, own, members)
	}
	text, err := os.ReadFile("/etc/hosts")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for _, entry := range entries {
		if !entry.Address.IsValid() { // the host is the container's own here
			entry.Address = netip.IPv6Loopback()
		}
		text = fmt.Appendf(text, "%s\t%s\n", entry.Address, entry.Name)
	}
	return string(text), nil
}

// resolvConf is the text of a container's resolv.conf(5).
func (e *Engine) resolvConf(c Connection) (string, error) {
	dns := network.DNS{Search: c.DNSSearch, Options: c.DNSOptions}
	for _, text := range c.DNS {
		server, err := netip.ParseAddr(text)
		if err != nil {
			return "", fmt.Errorf("--dns: %w", err)
		}
		dns.Servers = append(dns.Servers, server)
	}
	if c.Network == hostMode && len(c.DNS)+len(c.DNSSearch)+len(c.DNSOptions) == 0 {
		text, err := os.ReadFile("/etc/resolv.conf") // it reaches all that the host reaches
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return string(text), err
	}
	if len(c.DNS) == 0 && e.host != nil && e.host.Connected() {
		dns.Servers = []netip.Addr{rootless.NameServer}
	}
	host, err := network.HostResolvConf()
	text, _ := network.ResolvConf(host, dns)
	return text, err
}

// writeInPlace writes a file that may be mounted already: its inode stays.
func writeInPlace(name, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// options adds the connection to those of a start.
func (l *link) options(o container.Options) container.Options {
	if l.attachment != nil {
		o.Network = l.attachment
	}
	return o
}

// listen shows published ports to those who look for them on the host.
func (l *link) listen() error {
	if l.ports == nil {
		return nil
	}
	return l.ports.Listen(l.attachment)
}

// close takes the connection down.
func (l *link) close() error {
	var err error
	if l.ports != nil {
		err = l.ports.Close()
	}
	if l.attachment == nil {
		return err
	}
	told := l.engine.Networks().Leave(l.id)
	if told == nil {
		told = l.engine.tellNames(l.attachment.Network)
	}
	if errors.Is(told, fs.ErrNotExist) { // the network was removed meanwhile
		told = nil
	}
	return errors.Join(err, told)
}

// RemoveNetwork removes a network that no container is on, or is to be on when
// it is started again.
func (e *Engine) RemoveNetwork(name string) error {
	list, err := e.Containers()
	if err != nil {
		return err
	}
	for _, c := range list {
		if c.Options.On() == name {
			return fmt.Errorf("network %s: %w: %s: minictr rm removes it", name, network.ErrInUse, c.Title())
		}
	}
	return e.Networks().Remove(name)
}
