package network

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// restore makes the firewall's table again, if somebody has flushed it while
// containers were joined to networks.
func (m *Manager) restore() error {
	switch _, err := elementsOf("bridges"); {
	case errors.Is(err, unix.EPERM):
		return nil // nor may it make anything: the first step of the attachment says so
	case !errors.Is(err, unix.ENOENT):
		return err
	}
	names, err := m.names()
	if err != nil {
		return err
	}
	found := false
	for _, name := range names {
		leases, err := m.leases(name)
		if err != nil {
			return err
		}
		for _, l := range leases {
			a, err := l.read()
			if err != nil {
				continue // who is to be joined was killed before that was written
			}
			found = true
			if err := a.restore(); err != nil {
				return fmt.Errorf("the rules of container %s, which somebody has flushed: %w", l.id, err)
			}
		}
	}
	if !found {
		return nil
	}
	o, err := m.opened()
	if err != nil {
		return err
	}
	return o.own()
}

// restore does again what the steps of Lay have done in the firewall.
func (a *Attachment) restore() error {
	if _, err := net.InterfaceByName(outer(a.ID)); err != nil {
		return nil // they are not done, or it has ended
	}
	if err := a.network().open(); err != nil {
		return err
	}
	return publish(a)
}
