package engine

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/rootless"
	"github.com/minictr/minictr/pkg/spec"
)

// Nested is what is known of the user namespace that a container is made in.
type Nested struct {
	IDs    uint32 // how many users and groups there are in it, from 0 on
	Limits bool   // a cgroup can be made for the container
}

// nested finds that out for this process, or for its user if it is to enter; nil is
// the host's root.
func nested() (*Nested, error) {
	if !container.Rootless() {
		return nil, nil
	}
	ids, err := rootless.Size()
	if err != nil {
		return nil, err
	}
	missing, err := container.Undelegated()
	return &Nested{IDs: ids, Limits: missing == ""}, err
}

// setNested makes the wall one for a user namespace. A limit that nobody has asked
// for is left out where it can't be kept.
func setNested(s *specs.Spec, id string, o Options) error {
	n := o.Nested
	if n == nil {
		return nil
	}
	spec.Nested(s, n.IDs)
	s.Linux.CgroupsPath = "minictr-" + id
	if r := s.Linux.Resources; r != nil && !n.Limits && o.Pids == 0 {
		r.Pids = nil
	}
	return n.has(s.Process.User)
}

// has says whether the user is one of the user namespace.
func (n *Nested) has(u specs.User) error {
	if n != nil && (u.UID >= n.IDs || u.GID >= n.IDs) {
		return fmt.Errorf("user %d:%d: your user namespace has ids up to %d: minictr doctor says how to have more, and --user 0 is always there", u.UID, u.GID, n.IDs-1)
	}
	return nil
}
