package container

import (
	"errors"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/cgroup"
	"github.com/minictr/minictr/pkg/forkexec"
	"github.com/minictr/minictr/pkg/plan"
)

// Units is who makes cgroups where systemd manages them: systemd itself, the
// system's or a user's own, or in tests another.
type Units interface {
	// PID is its process, in whose cgroup its tree begins.
	PID() (int, error)
	// Start makes a unit, and waits until its cgroup is there.
	Start(unit string, properties []cgroup.Property) error
	// Set changes its limits.
	Set(unit string, properties []cgroup.Property) error
	// Stop removes it, and waits until it is gone.
	Stop(unit string) error
}

// ErrUnitExists says that a unit has the name already.
var ErrUnitExists = errors.New("systemd has a unit of this name")

var errNoUnits = errors.New("systemd makes the cgroups of this container, and this program does not know it")

// keeper is the input that is the pidfd of a process which keeps a unit alive,
// since a unit ends with its last process, until the container's is in it.
const keeper plan.Reg = "keeper"

// scope has systemd make the cgroup, as a unit. What follows finds it there.
func scope(b *plan.Builder, s *specs.Spec, h Host) error {
	if h.Cgroup.Unit == "" {
		return nil
	}
	limits, err := h.Cgroup.LimitProperties(s.Linux.Resources)
	if err != nil {
		return err
	}
	b.Section(plan.Parent, "systemd", "have systemd make the cgroup")
	b.At(h.Cgroup.Pointer)
	var pid int
	b.Act("a unit begins with a process, and the container's is not there yet", keeper.String()+" = clone3({flags=CLONE_PIDFD}), which waits", func(r *plan.Run) error {
		var err error
		pid, r.Fd[keeper], err = keep()
		r.Lent[cgroup.Keeper] = pid
		return err
	})
	b.Act("it writes this tree alone, and makes a cgroup for the container that it leaves to us",
		fmt.Sprintf("StartTransientUnit(%q, %q, %s)", h.Cgroup.Unit, "replace", cgroup.Names(limits)), func(*plan.Run) error {
			if h.Units == nil {
				return errNoUnits
			}
			return h.Units.Start(h.Cgroup.Unit, append(h.Cgroup.ScopeProperties(h.ID, pid, s.Annotations), limits...))
		})
	return nil
}

// leaveScope ends the keeper, once the child is in the unit.
func leaveScope(b *plan.Builder, h Host) {
	if h.Cgroup.Unit == "" {
		return
	}
	b.Section(plan.Parent, "systemd", "leave the unit to the process")
	b.At(h.Cgroup.Pointer)
	if h.Cgroup.EntersScope() {
		b.Act("it has entered", "read($report/runtime)", func(r *plan.Run) error { return r.Await() })
	}
	b.Act("nobody else belongs there", "pidfd_send_signal($"+string(keeper)+", SIGKILL)", func(r *plan.Run) error {
		if err := unix.PidfdSendSignal(r.Fd[keeper], unix.SIGKILL, nil, 0); err != nil {
			return err
		}
		return unix.Waitid(unix.P_PIDFD, r.Fd[keeper], nil, unix.WEXITED, nil)
	})
}

// keep starts the keeper, which ends with the runtime at the latest.
func keep() (pid, pidfd int, err error) {
	b := plan.New()
	b.Section(plan.Parent, "clone", "a process that waits")
	b.Clone("it needs nothing of its own", plan.Clone3(0, ""))
	b.Section(plan.Child, "keeper", "wait")
	b.Do("the runtime alone listens", plan.Close(plan.ReportEnd))
	b.Do("if the runtime is killed, this process is too", plan.DieWithParent())
	b.Do("this fails if it has been already", plan.Write(plan.Report, plan.Ready))
	b.Do("nothing of the runtime's is kept, its lock least of all", plan.CloseAll())
	b.Do("systemd may end it", plan.UnblockSignals())
	b.Do("until then it waits", plan.Forever())
	proc, err := forkexec.Start(b.Plan(), &plan.Run{Fd: make(map[plan.Reg]int)})
	if err != nil {
		return 0, -1, err
	}
	defer proc.Close()
	err = proc.Ready()
	if err == nil {
		pidfd, err = unix.PidfdOpen(proc.PID, 0)
	}
	if err != nil {
		proc.Kill()
		return 0, -1, fmt.Errorf("a process for the unit: %w", err)
	}
	return proc.PID, pidfd, nil
}

// limit tells systemd of other limits.
func (r *Runtime) limit(s *State, limits *specs.LinuxResources) error {
	if s.Host.Cgroup.Unit == "" {
		return nil
	}
	properties, err := s.Host.Cgroup.LimitProperties(limits)
	if err != nil || len(properties) == 0 {
		return err
	}
	if r.Units == nil {
		return errNoUnits
	}
	return r.Units.Set(s.Host.Cgroup.Unit, properties)
}

// stop has systemd forget the unit of a container. Where a later step has failed
// the keeper may be left in it.
func (r *Runtime) stop(s *State) error {
	if s.Host.Cgroup.Unit == "" {
		return nil
	}
	if r.Units == nil {
		return errNoUnits
	}
	return errors.Join(s.Host.Cgroup.Kill(), r.Units.Stop(s.Host.Cgroup.Unit))
}
