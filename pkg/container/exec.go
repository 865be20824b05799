package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/forkexec"
	"github.com/minictr/minictr/pkg/namespace"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/process"
)

// CompileExec turns one more process of a container into the plan by which it
// enters: what its first process got by new namespaces and mounts it gets by
// joining, and all that follows is the same. Kinds are the namespaces to join,
// as flags of setns(2); open returns a pidfd of the first process, which has
// that PID.
func CompileExec(s *specs.Spec, h Host, pid, kinds int, status specs.ContainerState, open func() (int, error)) (*plan.Plan, error) {
	b := plan.New()

	// The runtime, outside the wall.
	h.Cgroup.Open(b)
	target(b, pid, open)
	gate(b, s)
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
	return becomeProgram(b, s, h, first, func(int) *specs.State { return ociState(h, s, pid, status) })
}

// target opens the container's first process.
func target(b *plan.Builder, pid int, open func() (int, error)) {
	b.Section(plan.Parent, "target", "the container's first process")
	b.At("/process")
	b.Act("a descriptor of it leads to all its namespaces", fmt.Sprintf("%s = pidfd_open(%d, 0)", namespace.Target, pid),
		func(r *plan.Run) (err error) {
			r.Fd[namespace.Target], err = open()
			return err
		})
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
	if host.Cgroup, err = host.Cgroup.Of(s.PID).Below(host.Cgroup, o.Cgroup); err != nil {
		return nil, fmt.Errorf("--cgroup: %w", err)
	}
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
	return CompileExec(config, host, s.PID, kinds, o.status, s.pidfd)
}

// Exec starts one more process in a running container. It is this process's
// child, and outlives it if nobody waits.
func (r *Runtime) Exec(s *State, p *specs.Process, o Options) (*forkexec.Process, error) {
	status, err := s.Status()
	switch {
	case err != nil:
		return nil, err
	case status == Paused && !o.Paused:
		return nil, errors.New("cannot exec in a paused container")
	case status != specs.StateRunning && status != specs.StateCreated && status != Paused:
		return nil, fmt.Errorf("cannot exec in a %s container", status)
	}
	o.status = status
	if o.Console > 0 {
		defer unix.Close(o.Console)
	}
	runtime.LockOSThread() // a plan is carried out by one thread, as it is printed
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		proc, err := r.enter(s, p, o)
		// A process that has threads, one of which executes a program, has no
		// namespaces for a moment.
		if !errors.Is(err, unix.ESRCH) || !s.alive() || time.Now().After(end) {
			return proc, err
		}
	}
}

// enter is one try.
func (r *Runtime) enter(s *State, p *specs.Process, o Options) (proc *forkexec.Process, err error) {
	plan, err := r.PlanExec(s, p, o)
	if err != nil {
		return nil, err
	}
	if o.Edit != nil {
		o.Edit(plan)
	}
	if o.Console > 0 {
		if o.Console, err = unix.FcntlInt(uintptr(o.Console), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return nil, fmt.Errorf("fcntl: %w", err)
		}
	}
	proc, err = forkexec.Start(plan, o.run())
	if errors.Is(err, ErrStopped) {
		return nil, fmt.Errorf("cannot exec in a stopped container: %w", err)
	}
	if err != nil {
		return nil, err
	}
	proc.Patient = o.Paused
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
func (r *Runtime) Update(s *State, limits *specs.LinuxResources) error {
	if !s.alive() {
		return fmt.Errorf("%w: %s", ErrStopped, s.ID)
	}
	return errors.Join(r.limit(s, limits), s.Host.Cgroup.Update(limits))
}

// Processes lists the processes of a container, by their PIDs here: those of its
// cgroup, or, without one, of its PID namespace. Without either, the first is all
// that is known.
func (s *State) Processes() (pids []int, err error) {
	if len(s.Host.Cgroup.Places) > 0 || !s.alive() {
		return s.Host.Cgroup.Procs()
	}
	if !s.Host.OwnPIDs {
		return []int{s.PID}, nil
	}
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", s.PID))
	if err != nil {
		return nil, err
	}
	all, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	for _, name := range all {
		if theirs, _ := os.Readlink(name); theirs == own { // "": it has just ended, or is another's
			pid, _ := strconv.Atoi(strings.Split(name, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids, err
}
