package container

import (
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/forkexec"
	"github.com/minictr/minictr/pkg/namespace"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/process"
)

// CompileExec turns one more process of a container into the plan by which it
// enters: what its first process got by new namespaces and mounts it gets by
// joining, and all that follows is the same. Kinds are the namespaces to join,
// as flags of setns(2).
func CompileExec(s *specs.Spec, h Host, pid, kinds int) (*plan.Plan, error) {
	b := plan.New()

	// The runtime, outside the wall.
	h.Cgroup.Open(b)
	target(b, pid)
	process.Label(b, s)
	namespace.AttachChild(b, h.born())

	// The child: into the cgroups first, which it could not see later.
	if err := process.InitialAffinity(b, s, h.Cgroup.BornIntoCpuset()); err != nil {
		return nil, err
	}
	process.Marks(b, s, h.Process)
	process.Session(b, h.Process)
	if h.Process.Hook != "" {
		process.Stdio(b)
	}
	h.Cgroup.Enter(b)
	if err := process.FinalAffinity(b, s); err != nil {
		return nil, err
	}
	first := namespace.Attach(b, s, kinds)
	namespace.OneMoreTerminal(b, s, h.Host)
	namespace.Workdir(b, s)

	// The child, inside, giving up its privileges.
	return becomeProgram(b, s, h, first)
}

// target shows what is opened before: a process that is known by its birth.
func target(b *plan.Builder, pid int) {
	b.Section(plan.Parent, "target", "the container's first process")
	b.At("/process")
	b.Act("a descriptor of it leads to all its namespaces", fmt.Sprintf("%s = pidfd_open(%d, 0)", namespace.Target, pid),
		func(*plan.Run) error { return nil })
}

// ProcessOf is the process that exec starts by default: the container's own,
// with other arguments.
func ProcessOf(s *specs.Spec, args []string) *specs.Process {
	p := *s.Process
	p.Args, p.Terminal, p.ConsoleSize = args, false, nil
	p.Env = slices.Clone(p.Env)
	return &p
}

// PlanOf compiles the plan by which a container was made, once more.
func (r *Runtime) PlanOf(s *State) (*plan.Plan, error) {
	config, err := r.Config(s)
	if err != nil {
		return nil, err
	}
	return Compile(config, s.Host)
}

// PlanExec compiles the plan of one more process in a container.
func (r *Runtime) PlanExec(s *State, p *specs.Process, o Options) (*plan.Plan, error) {
	config, err := r.Config(s)
	if err != nil {
		return nil, err
	}
	kinds, err := namespace.Other(s.PID)
	if err != nil {
		return nil, err
	}
	config.Process = p
	host := s.Host
	host.Cgroup = host.Cgroup.Of(s.PID)
	if host.Process.AppArmor, err = appArmor(config); err != nil {
		return nil, err
	}
	if err := seLinux(config); err != nil {
		return nil, err
	}
	host.Process.OwnStdio = ownStdio(config)
	host.Process.Home = home(fmt.Sprintf("/proc/%d/root", s.PID), config)
	host.Process.Foreground, host.Process.Waits = false, false
	host.Process.Preserved, host.Relay = o.Preserved, o.Relay > 0
	if host.Process.Hook = o.hook; o.hook != "" {
		host.Process.Home, host.Process.OwnStdio = "", nil
	}
	return CompileExec(config, host, s.PID, kinds)
}

// Exec starts one more process in a running container. It is this process's
// child, and outlives it if nobody waits.
func (r *Runtime) Exec(s *State, p *specs.Process, o Options) (*forkexec.Process, error) {
	switch status, err := s.Status(); {
	case err != nil:
		return nil, err
	case status == Paused:
		return nil, errors.New("cannot exec in a paused container")
	case status != specs.StateRunning && status != specs.StateCreated:
		return nil, fmt.Errorf("cannot exec in a %s container", status)
	}
	plan, err := r.PlanExec(s, p, o)
	if err != nil {
		return nil, err
	}
	if o.Edit != nil {
		o.Edit(plan)
	}
	run := o.run()
	if run.Fd[namespace.Target], err = s.pidfd(); err != nil {
		return nil, fmt.Errorf("cannot exec in a stopped container: %w", err)
	}
	runtime.LockOSThread()
	proc, err := forkexec.Start(plan, run)
	if err != nil {
		return nil, err
	}
	if err := proc.Started(); err != nil {
		proc.Kill()
		return nil, err
	}
	return proc, nil
}

// Pause stops all processes of a container, and Resume lets them go on.
func (s *State) Pause() error {
	switch status, err := s.Status(); {
	case err != nil:
		return err
	case status != specs.StateRunning && status != specs.StateCreated:
		return fmt.Errorf("container not running: cannot pause a %s container", status)
	}
	return s.Host.Cgroup.Freeze()
}

// Resume is the end of Pause.
func (s *State) Resume() error {
	if status, err := s.Status(); err != nil || status != Paused {
		return errors.Join(err, errors.New("container not paused"))
	}
	return s.Host.Cgroup.Thaw()
}

// Update changes the limits of a container.
func (s *State) Update(r *specs.LinuxResources) error {
	if !s.alive() {
		return fmt.Errorf("%w: %s", ErrStopped, s.ID)
	}
	return s.Host.Cgroup.Update(r)
}

// Processes lists the processes of a container, by their PIDs here.
func (s *State) Processes() ([]int, error) { return s.Host.Cgroup.Procs() }
