package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/cgroup"
	"github.com/minictr/minictr/pkg/namespace"
	"github.com/minictr/minictr/pkg/rootless"
	"github.com/minictr/minictr/pkg/sys"
)

// Rootless says whether this process has not the power of the host's root: it
// is another user, or root of a user namespace.
func Rootless() bool { return os.Geteuid() != 0 || sys.Nested() }

// rootless finds out what the runtime can't do, for want of privileges.
func (h *Host) rootless(s *specs.Spec, enters bool) error {
	h.Nested = sys.Nested()
	h.Process.Rootless = h.Nested
	if h.Nested {
		// Who may not change its groups can let nobody else, user_namespaces(7).
		groups, err := sys.ReadFile("/proc/self/setgroups")
		h.Process.NoGroups = err == nil && string(groups) == "deny\n"
	}
	if os.Geteuid() != 0 && namespace.Has(s, specs.UserNamespace) {
		h.Process.Rootless = true
		h.Owner, h.Help = &namespace.Owner{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}, Help
		h.Process.NoGroups = h.Process.NoGroups || h.Alone(s)
	}
	if enters && os.Geteuid() != 0 {
		ids, err := rootless.Size()
		if err != nil {
			return err
		}
		h.Nested, h.Process.Rootless, h.Process.NoGroups = true, true, ids == 1
	}
	if h.Process.NoGroups && len(s.Process.User.AdditionalGids) > 0 {
		return errors.New("/process/user/additionalGids: there are no other groups in a user namespace of one id")
	}
	return nil
}

// mayBuild says whether this user can make the container at all.
func (h Host) mayBuild(s *specs.Spec) error {
	if h.Network != nil && !namespace.Has(s, specs.NetworkNamespace) {
		return errors.New("/linux/namespaces: the host's own network can't be joined to another")
	}
	if os.Geteuid() != 0 && h.Owner == nil {
		return fmt.Errorf("/linux/namespaces: %w: without root a container needs a user namespace: minictr spec --rootless writes such a config.json", unix.EPERM)
	}
	return nil
}

// Help runs a program of the host to its end.
func Help(path string, args ...string) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: to map other ids than one's own takes that program (Debian: uidmap)", err)
	}
	patience := int(patience / time.Second)
	return runHook("helper", 0, specs.Hook{Path: path, Args: args, Timeout: &patience}, nil, onHost(specs.Hook{Path: path, Args: args}, 0))
}

// delegated lets the container have a cgroup of its own if this process may
// make one, and needs none if nothing is limited. The rules for devices are
// left out: a user namespace has no other nodes than those that are shown.
func (h *Host) delegated(s *specs.Spec) error {
	missing := undelegated(h.Cgroup)
	if missing == "" {
		return nil
	}
	if r := s.Linux.Resources; r != nil && limits(r) {
		return fmt.Errorf("/linux/resources: %w: no cgroup can be made in %s: have one delegated (systemd-run --user --scope -p Delegate=yes), or set no limits", unix.EACCES, missing)
	}
	for _, p := range h.Cgroup.Places { // it is shown the runtime's own
		h.Cgroups = append(h.Cgroups, namespace.Cgroup{Name: p.Name, Source: p.Mount + strings.TrimSuffix(p.Self, "/"), V2: p.V2})
	}
	h.Cgroup.Places = nil
	return nil
}

// undelegated is a cgroup below which this process may make none; "" if it may
// wherever something is limited.
func undelegated(g cgroup.Group) (missing string) {
	for i := range g.Places {
		p := &g.Places[i]
		if p.V2 && len(g.Places) > 1 {
			continue // it limits nothing
		}
		if base := p.Base; !p.Delegated() {
			missing = base
		}
	}
	return missing
}

// Undelegated is a cgroup that the containers of this process would need, and
// that is not delegated to it; "" if it may limit them.
func Undelegated() (string, error) {
	g, err := place("any", "", nil)
	return undelegated(g), err
}

// limits says whether anything is limited, besides devices.
func limits(r *specs.LinuxResources) bool {
	return r.Memory != nil || r.CPU != nil || r.Pids != nil || r.BlockIO != nil || len(r.HugepageLimits) > 0 || r.Network != nil || len(r.Rdma) > 0 || len(r.Unified) > 0
}
