package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/forkexec"
	"github.com/minictr/minictr/pkg/namespace"
	"github.com/minictr/minictr/pkg/plan"
)

// A Config says which container to make.
type Config struct {
	ID, Name string
	Image    string // as it was asked for
	ImageID  string
	Bundle   string // absolute path
	Owned    bool   // the bundle is made for this container, and removed with it
}

// A Container is one that this process runs.
type Container struct {
	State
	runtime *Runtime
	process *forkexec.Process
	lock    lock
	ownPIDs bool // it has a PID namespace: the kernel ends it as a whole
}

// New takes an ID and its place in the list of containers. The bundle may be
// made after that: from here on whatever is left of it is known. The caller
// calls Delete in the end.
func (r *Runtime) New(c Config) (*Container, error) {
	if err := ValidateID(c.ID); err != nil {
		return nil, err
	}
	if c.Name != "" && ValidateID(c.Name) != nil {
		return nil, fmt.Errorf("invalid container name %q: it takes what an ID takes", c.Name)
	}
	ctr := &Container{runtime: r, State: State{
		ID: c.ID, Name: c.Name, Image: c.Image, ImageID: c.ImageID, Created: time.Now().UTC(), Bundle: c.Bundle, Owned: c.Owned,
		Runtime: os.Getpid(),
	}}
	var err error
	if ctr.RuntimeBirth, _, err = birth(ctr.Runtime); err != nil {
		return nil, err
	}
	ctr.lock, err = r.claim(&ctr.State)
	return ctr, err
}

// Options are those of one start.
type Options struct {
	// Console is a connected Unix socket that takes the terminal's master,
	// where config.json asks for a terminal. Start closes it. Relay is the other
	// end: the container gives its copy of it up, and waits there for a byte.
	Console, Relay int
	// Edit, if not nil, changes the plan before it is carried out: tests make
	// steps fail, and a profile adds clocks.
	Edit func(*plan.Plan)
}

// Start builds the wall of the bundle's spec and starts the program in it: the
// specification's create and start in one. The container ends with this
// process; the caller calls Wait. The error is a *forkexec.StepError if a step
// of the plan is to blame.
func (c *Container) Start(s *specs.Spec, o Options) error {
	p, cgroup, err := Plan(c.ID, c.Bundle, s)
	if err != nil {
		return err
	}
	if o.Edit != nil {
		o.Edit(p)
	}
	if err := cgroup.Vacant(); err != nil {
		return err // and nothing of it is ours to take away
	}
	c.Command, c.Cgroup, c.ownPIDs = s.Process.Args, cgroup, namespace.IsNew(s, specs.PIDNamespace)
	if err := c.runtime.write(&c.State); err != nil {
		return err
	}
	run := &plan.Run{Fd: make(map[plan.Reg]int), Lent: map[plan.Reg]int{held: int(c.lock)}}
	if o.Console > 0 {
		run.Fd[namespace.Console], run.Lent[namespace.RelayEnd] = o.Console, o.Relay
	}
	// The kernel kills the container when the thread that made it ends.
	runtime.LockOSThread()
	if c.process, err = forkexec.Start(p, run); err != nil {
		return err
	}
	c.PID = c.process.PID
	if err = c.runtime.writeProcess(&c.State); err == nil {
		err = c.process.Started()
	}
	if err != nil {
		c.process.Kill()
		c.PID = 0
	}
	return err
}

// Signal sends a signal to the container's first process.
func (c *Container) Signal(sig unix.Signal) error { return c.process.Signal(sig) }

// Wait waits for the program to end. A container without a PID namespace of
// its own may leave processes behind; they are killed.
func (c *Container) Wait() (unix.WaitStatus, error) {
	ws, err := c.process.Wait()
	c.PID = 0
	if !c.ownPIDs {
		err = errors.Join(err, c.Cgroup.Kill())
	}
	return ws, err
}

// OOMKilled says whether the kernel killed a process of the container because
// memory ran out.
func (c *Container) OOMKilled() bool {
	n, err := c.Cgroup.OOMKills()
	return err == nil && n > 0
}

// Delete removes all that was made for the container. Its process has ended.
func (c *Container) Delete() error {
	if c.process != nil {
		c.process.Close()
	}
	err := c.runtime.remove(&c.State)
	return errors.Join(err, c.lock.close())
}

// remove takes away what a state tells of, the state last: what can't be
// removed now is known to the next command.
func (r *Runtime) remove(s *State) (err error) {
	if err := s.Cgroup.Delete(); err != nil {
		return fmt.Errorf("container %s: %w", s.ID, err)
	}
	if s.Owned {
		if err := s.Cgroup.Prune(); err != nil {
			return fmt.Errorf("container %s: %w", s.ID, err)
		}
		if err := RemoveBundle(s.Bundle); err != nil {
			return fmt.Errorf("container %s: %w", s.ID, err)
		}
	}
	all, err := r.lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, all.close()) }()
	dir := r.dir(s.ID)
	for _, name := range []string{processFile, stateFile + temporary, stateFile} {
		if err := unix.Unlink(filepath.Join(dir, name)); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unlink %s: %w", filepath.Join(dir, name), err)
		}
	}
	if err := unix.Rmdir(dir); err != nil {
		return fmt.Errorf("rmdir %s: %w", dir, err)
	}
	return nil
}

// Sweep takes away what containers have left whose runtime was killed, and
// returns their states: their processes, cgroups, bundles. It tells failed of
// what can't be removed now, and goes on.
func (r *Runtime) Sweep(failed func(error)) (swept []*State, err error) {
	dirs, err := os.ReadDir(r.Root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, d := range dirs {
		switch s, err := r.sweep(d.Name()); {
		case err != nil:
			failed(err)
		case s != nil:
			swept = append(swept, s)
		}
	}
	return swept, nil
}

// sweep removes one container if nobody runs it. When its runtime has just
// died, the child still holds the lock too, until its first step.
func (r *Runtime) sweep(id string) (s *State, err error) {
	own, err := r.try(id)
	for end := time.Now().Add(patience); errors.Is(err, unix.EWOULDBLOCK) && r.abandoned(id) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
		own, err = r.try(id)
	}
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.ENOENT) {
		return nil, nil // it is alive, or gone already
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, own.close()) }()
	s, err = r.read(id)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, errBroken) {
		// Killed before it wrote its first state, or lost in a power cut: there
		// are no processes and no cgroups of it.
		return nil, r.remove(&State{ID: id})
	}
	if err != nil {
		return nil, err
	}
	return s, errors.Join(s.kill(), r.remove(s))
}

// try takes the lock of a container if nobody has it. It holds the lock of the
// whole meanwhile, so that no directory is half made, and none is removed
// between its opening and its locking.
func (r *Runtime) try(id string) (lock, error) {
	all, err := r.lock()
	if err != nil {
		return -1, err
	}
	own, err := flock(r.dir(id), unix.LOCK_EX|unix.LOCK_NB)
	return own, errors.Join(err, all.close())
}

// kill ends the processes of a container that nobody waits for.
func (s *State) kill() error {
	if s.PID != 0 {
		pidfd, err := unix.PidfdOpen(s.PID, 0)
		if err == nil {
			defer unix.Close(pidfd)
			// The pidfd is of whoever has this PID now; its birth tells who it is.
			if b, _, err := birth(s.PID); err == nil && b == s.Birth {
				_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0) // ESRCH: it is dead
			}
		}
	}
	return s.Cgroup.Kill()
}

// patience is how long we wait for what another process does as it ends.
const patience = 10 * time.Second

// Delete removes a container by its ID or name. One that runs is killed if
// force says so, and then the process that runs it removes it.
func (r *Runtime) Delete(id string, force bool) error {
	s, err := r.Load(id)
	if err != nil {
		return err
	}
	if !force {
		return fmt.Errorf("%w: %s", ErrRunning, id)
	}
	if err := s.kill(); err != nil {
		return err
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if _, err := r.read(s.ID); errors.Is(err, os.ErrNotExist) {
			return nil
		}
	}
	return fmt.Errorf("container %s is dead, but the process that runs it has not removed it within %v", id, patience)
}
