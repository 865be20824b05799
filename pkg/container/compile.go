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
	Units   Units        `json:"-"`
}

// Compile turns a spec into the wall. It is the table of contents of this
// program: the order of the bricks is fixed here, and nowhere else.
func Compile(s *specs.Spec, h Host) (*plan.Plan, error) {
	b := plan.New()
	h.Init, h.Process.Init = spec.HasInit(s), spec.HasInit(s)

	// The runtime, outside the wall.
	if err := scope(b, s, h); err != nil {
		return nil, err
	}
	if err := h.Cgroup.Create(b, h.resources(s), h.devices(s)...); err != nil {
		return nil, err
	}
	if uid, asked := namespace.Delegatee(s); asked {
		h.Cgroup.Delegate(b, uid)
	}
	namespace.MountIDs(b, s)
	namespace.Open(b, s, h.Host)
	namespace.CopyUp(b, s, h.Host)
	namespace.CopyFiles(b, s)
	namespace.Sync(b, s, h.Host, hasEarly(s))
	fifos(b, h)
	process.Label(b, s)
	gate(b, s)
	namespace.Clone(b, s, h.Host, h.born())
	namespace.Maps(b, s, h.Host)
	namespace.Sources(b, s, h.Host)
	namespace.Interfaces(b, s, h.Host)
	leaveScope(b, h)

	// The child, in new namespaces, with all privileges.
	process.Marks(b, s, h.Process)
	first := namespace.Again(b, s, h.Host)
	if err := namespace.Time(b, s); err != nil {
		return nil, err
	}
	namespace.User(b, s, h.Host)
	process.Session(b, h.Process)
	release(b)
	h.Cgroup.Enter(b)
	h.Cgroup.InScope(b)
	namespace.CgroupRoot(b, s)
	namespace.Join(b, s)
	namespace.Loopback(b, s)
	namespace.TakeInterfaces(b, s, h.Host)
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
	return becomeProgram(b, s, h, first, func(pid int) *specs.State { return ociState(h, s, pid, specs.StateCreating) })
}

// becomeProgram is the end of every plan: the process, inside, gives up its
// privileges and becomes the program. State is that of the container, while the
// process has the PID.
func becomeProgram(b *plan.Builder, s *specs.Spec, h Host, first plan.Label, state func(pid int) *specs.State) (*plan.Plan, error) {
	if err := process.Schedule(b, s); err != nil {
		return nil, err
	}
	if err := process.Limits(b, s); err != nil {
		return nil, err
	}
	process.User(b, s, h.Process)
	if err := process.Program(b, s, h.Process, func(b *plan.Builder) { handOver(b, s, h, state) }); err != nil {
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
// cgroup that it would be in. It changes nothing and needs no privilege. Enters and
// made are those of Inspect; network is that of Options.
func Plan(id, bundle string, s *specs.Spec, network namespace.Network, enters bool, made ...string) (*plan.Plan, cgroup.Group, error) {
	host, err := Inspect(id, bundle, s, nil, enters, made...)
	if err != nil {
		return nil, cgroup.Group{}, err
	}
	host.Process.Foreground, host.Relay, host.Network = true, s.Process.Terminal, network
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

// resources are the limits, without rules for devices where the kernel takes
// none: there nobody can make a node anyway.
func (h Host) resources(s *specs.Spec) *specs.LinuxResources {
	r := s.Linux.Resources
	if r == nil || !h.Process.Rootless {
		return r
	}
	limits := *r
	limits.Devices = nil
	return &limits
}

// devices are those that every container may use. Where the host can deny the
// others it does, whether the spec speaks of devices or not.
func (h Host) devices(s *specs.Spec) []specs.LinuxDeviceCgroup {
	if r := s.Linux.Resources; h.Process.Rootless || (r == nil || len(r.Devices) == 0) && !h.Cgroup.GuardsDevices() {
		return nil
	}
	return spec.DefaultDevices(s)
}
