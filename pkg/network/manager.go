// Package network joins containers to each other and to the world: bridges,
// veth pairs, leases of addresses, published ports. No process of it stays. What
// holds is in the kernel, and ends with the container's network namespace; and
// in files, each of which Leave takes away.
package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

// version is that of the files. An unknown one is refused, never rewritten.
const version = 1

// Default is the network of containers that name none. It is made when it is
// first asked for.
const Default = "bridge"

// ErrInUse is that a network can't be removed, for containers are joined to it.
var ErrInUse = errors.New("containers are joined to it")

// A Manager keeps networks in a directory, each in one of its name: network.json,
// and leases. All is changed under a lock, flock(2), of the whole.
type Manager struct {
	Root string // DATA/networks
	// In, if not nil, does something where the bridges are: in a network namespace
	// that plays the host for them, user by user. Nil is the network namespace of
	// this process.
	In func(do func() error) error
}

// in does something where the bridges are.
func (m *Manager) in(do func() error) error {
	if m.In == nil {
		return do()
	}
	return m.In(do)
}

// locked does something while nobody else does.
func (m *Manager) locked(do func() error) error {
	if err := os.MkdirAll(m.Root, 0o700); err != nil {
		return err
	}
	fd, err := sys.LockDir(m.Root, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written
	return do()
}

func (m *Manager) path(network string, rest ...string) string {
	return filepath.Join(append([]string{m.Root, network}, rest...)...)
}

// Create makes a network. Without subnets it gets free ones: of IPv4, and a
// unique local one of IPv6 (RFC 4193). Its first address is the host's.
func (m *Manager) Create(n Network) error {
	if n.Name == Default {
		return fmt.Errorf("network %s: %w: it is the one of containers that name none", n.Name, fs.ErrExist)
	}
	return m.locked(func() error {
		_, err := m.create(n)
		return err
	})
}

func (m *Manager) create(n Network) (*Network, error) {
	made, err := m.draft(n)
	if err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(made, "", "\t")
	if err == nil {
		err = os.MkdirAll(m.path(n.Name, "leases"), 0o700)
	}
	if err == nil {
		err = sys.Replace(m.path(n.Name, "network.json"), m.path(n.Name), func(f *os.File) error {
			_, err := f.Write(append(data, '\n'))
			return err
		})
	}
	return made, err
}

// draft completes a network that is to be made.
func (m *Manager) draft(n Network) (*Network, error) {
	if err := validName(n.Name); err != nil {
		return nil, err
	}
	all, err := m.List()
	if err != nil {
		return nil, err
	}
	n.Version, n.Created = version, time.Now().UTC()
	if n.Bridge, err = m.bridgeOf(n.Name); err != nil {
		return nil, err
	}
	for _, other := range all {
		if other.Name == n.Name || other.Bridge == n.Bridge {
			return nil, fmt.Errorf("network %s: %w: choose another name", n.Name, fs.ErrExist)
		}
	}
	if m.In != nil {
		all = append(all, Network{Name: "the way out", Subnets: []netip.Prefix{carried}})
	}
	if err := n.place(all); err != nil {
		return nil, fmt.Errorf("network %s: %w", n.Name, err)
	}
	return &n, nil
}

// validName refuses names that are no name of a file, and what --network takes
// for something else.
func validName(name string) error {
	ok := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-.", r)
	}
	switch {
	case name == "" || len(name) > 128 || strings.ContainsRune("_-.", rune(name[0])) || strings.ContainsFunc(name, func(r rune) bool { return !ok(r) }):
		return fmt.Errorf("invalid network name %q: it begins with a letter or digit, and has letters, digits and _-. only, at most 128", name)
	case name == "none" || name == "host" || name == "default" || name == "container":
		return fmt.Errorf("invalid network name %q: --network takes it for something else", name)
	}
	return nil
}

// bridgeOf is the name of a network's interface, at most 15 bytes: others may
// have networks of the same name in another directory.
func (m *Manager) bridgeOf(name string) (string, error) {
	root, err := filepath.Abs(m.Root)
	hash := fnv.New32a()
	_, _ = io.WriteString(hash, filepath.Join(root, name)) // it can't fail, hash.Hash
	return fmt.Sprintf(bridgePrefix+"%08x", hash.Sum32()), err
}

// carried is the subnet by which a user's networks reach the host, see pkg/rootless.
var carried = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 2, 0}), 24)

// bridgePrefix begins the name of every network's bridge.
const bridgePrefix = "mc-"

// Get finds a network, and makes the default one if it is asked for that. The
// error is fs.ErrNotExist if there is none of the name.
func (m *Manager) Get(name string) (*Network, error) {
	n, err := m.read(name)
	if name == Default && errors.Is(err, fs.ErrNotExist) {
		err = m.locked(func() error {
			n, err = m.get(name)
			return err
		})
	}
	return n, err
}

// get is Get under the lock.
func (m *Manager) get(name string) (*Network, error) {
	n, err := m.read(name)
	if name == Default && errors.Is(err, fs.ErrNotExist) {
		return m.create(Network{Name: name})
	}
	return n, err
}

func (m *Manager) read(name string) (*Network, error) {
	if name != Default {
		if err := validName(name); err != nil {
			return nil, err
		}
	}
	file := m.path(name, "network.json")
	data, err := sys.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("network %s: %w: minictr network ls", name, fs.ErrNotExist)
	}
	n := new(Network)
	if err == nil {
		err = decode(data, n, &n.Version)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return n, nil
}

// decode reads a file's JSON, which says of which version it is.
func decode(data []byte, v any, have *int) error {
	if err := json.Unmarshal(data, v); err != nil {
		return err
	}
	if *have != version {
		return fmt.Errorf("it is of version %d, and not %d: another minictr has written it", *have, version)
	}
	return nil
}

// names are those of the directories: also of networks that are half made.
func (m *Manager) names() (names []string, err error) {
	entries, err := os.ReadDir(m.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// List lists the networks, by name.
func (m *Manager) List() (all []Network, err error) {
	names, err := m.names()
	for _, name := range names {
		n, e := m.read(name)
		switch {
		case e == nil:
			all = append(all, *n)
		case !errors.Is(e, fs.ErrNotExist): // else it is half made, or half removed
			err = errors.Join(err, e)
		}
	}
	return all, err
}

// Remove removes a network that no container is joined to.
func (m *Manager) Remove(name string) error {
	if name == Default {
		return fmt.Errorf("network %s can't be removed: containers that name none are joined to it", name)
	}
	return m.locked(func() error {
		if _, err := m.read(name); err != nil {
			return err
		}
		leases, err := m.leases(name)
		if err != nil {
			return err
		}
		if len(leases) > 0 {
			return fmt.Errorf("network %s: %w: %s", name, ErrInUse, leases[0].id)
		}
		if err := os.Remove(m.path(name, "network.json")); err != nil {
			return err
		}
		return sys.RemoveAll(m.path(name))
	})
}

// Stale lists the containers that have a lease and, as alive says, do not live:
// whoever was to call Leave for them was killed. What is left of networks that
// were half made or half removed is taken away.
func (m *Manager) Stale(alive func(id string) bool) (ids []string, err error) {
	if names, err := m.names(); len(names) == 0 {
		return nil, err
	}
	err = m.locked(func() error {
		names, err := m.names()
		for _, name := range names {
			leases, e := m.leases(name)
			if _, gone := m.read(name); errors.Is(gone, fs.ErrNotExist) && len(leases) == 0 {
				e = errors.Join(e, sys.RemoveAll(m.path(name)))
			} else if half := os.Remove(m.path(name, next)); !errors.Is(half, fs.ErrNotExist) {
				e = errors.Join(e, half)
			}
			for _, l := range leases {
				ids = append(ids, l.id)
			}
			err = errors.Join(err, e)
		}
		return err
	})
	return slices.DeleteFunc(ids, alive), err // it may take locks of its own
}
