// Package container does what the OCI runtime specification calls operations:
// it makes, runs and removes containers from bundles, and keeps their state.
package container

import (
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/cgroup"
	"github.com/minictr/minictr/pkg/namespace"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/process"
	"github.com/minictr/minictr/pkg/spec"
)

// A Host is all that compiling needs to know of the machine. With it,
// compiling is a pure function: the same spec and host give the same plan.
type Host struct {
	namespace.Host
	ID      string
	Dir     string // of the container's state
	Process process.Host
	Cgroup  cgroup.Group // the container's place; without hierarchies it has none
	OwnPIDs bool         // it has a PID namespace of its own: the kernel ends it as a whole
}

// Compile turns a spec into the wall. It is the table of contents of this
// program: the order of the bricks is fixed here, and nowhere else.
func Compile(s *specs.Spec, h Host) (*plan.Plan, error) {
	b := plan.New()

	// The runtime, outside the wall.
	if err := h.Cgroup.Create(b, s.Linux.Resources, h.devices(s)...); err != nil {
		return nil, err
	}
	if uid, asked := namespace.Delegatee(s); asked {
		h.Cgroup.Delegate(b, uid)
	}
	namespace.Open(b, s)
	namespace.CopyUp(b, s, h.Host)
	namespace.Sync(b, s, hasEarly(s))
	fifos(b, h)
	process.Label(b, s)
	namespace.Clone(b, s, h.born())
	namespace.Maps(b, s)
	namespace.Sources(b, s, h.Host)
	namespace.Interfaces(b, s)

	// The child, in new namespaces, with all privileges.
	process.Marks(b, s, h.Process)
	first := namespace.Again(b, s)
	if err := namespace.Time(b, s); err != nil {
		return nil, err
	}
	namespace.User(b, s)
	process.Session(b, h.Process)
	release(b)
	h.Cgroup.Enter(b)
	namespace.CgroupRoot(b, s)
	namespace.Join(b, s)
	namespace.Network(b, s)
	namespace.UTS(b, s)
	if err := namespace.Mounts(b, s, h.Host); err != nil {
		return nil, err
	}
	namespace.Terminal(b, s, h.Host)
	hooks(b, s, h)
	namespace.Sysctl(b, s)
	namespace.Masks(b, s)

	// The child, with its own root, giving up its privileges.
	namespace.Enter(b, s)
	return becomeProgram(b, s, h, first)
}

// becomeProgram is the end of every plan: the process, inside, gives up its
// privileges and becomes the program.
func becomeProgram(b *plan.Builder, s *specs.Spec, h Host, first plan.Label) (*plan.Plan, error) {
	if err := process.Schedule(b, s); err != nil {
		return nil, err
	}
	if err := process.Limits(b, s); err != nil {
		return nil, err
	}
	process.User(b, s, h.Process)
	if err := process.Program(b, s, h.Process); err != nil {
		return nil, err
	}
	namespace.First(b, first)
	return b.Plan(), nil
}

// held is the input that is the lock on the container's state.
const held plan.Reg = "lock"

// release leaves the lock to the runtime: it belongs to all processes that
// have it open, and a child has what its parent had.
func release(b *plan.Builder) {
	b.At("/process")
	b.Do("when the runtime is killed, the next command finds the lock free, and cleans up", plan.Close(held))
}

// Plan compiles the wall that Start would build for a bundle's spec, and the
// cgroup that it would be in. It changes nothing and needs no privilege.
func Plan(id, bundle string, s *specs.Spec) (*plan.Plan, cgroup.Group, error) {
	host, err := Inspect(id, bundle, s)
	if err != nil {
		return nil, cgroup.Group{}, err
	}
	host.Process.Foreground, host.Relay = true, s.Process.Terminal
	p, err := Compile(s, host)
	return p, host.Cgroup, err
}

// born is the register of the cgroup that the child is born in; "" if it
// enters its cgroups by itself, or has none.
func (h Host) born() plan.Reg {
	if h.Cgroup.CloneInto() {
		return cgroup.Descriptor
	}
	return ""
}

// devices are those that every container may use. Where the host can deny the
// others it does, whether the spec speaks of devices or not.
func (h Host) devices(s *specs.Spec) []specs.LinuxDeviceCgroup {
	if r := s.Linux.Resources; (r == nil || len(r.Devices) == 0) && !h.Cgroup.GuardsDevices() {
		return nil
	}
	return spec.DefaultDevices(s)
}
