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

	"github.com/minictr/minictr/pkg/cgroup"
	"github.com/minictr/minictr/pkg/forkexec"
	"github.com/minictr/minictr/pkg/namespace"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/process"
	"github.com/minictr/minictr/pkg/spec"
)

// A Config says which container to make.
type Config struct {
	ID, Name string
	Image    string // as it was asked for
	ImageID  string
	Bundle   string // absolute path
	Owned    bool   // the bundle is made for this container, and removed with it,
	Kept     bool   // unless it is kept for the next start
	Detached bool   // the container outlives this process
	Scope    bool   // systemd makes the cgroup
}

// A Container is one that this process runs.
type Container struct {
	State
	runtime *Runtime
	process *forkexec.Process
	config  *specs.Spec // once its process is made
	scope   bool
	lock    lock
	said    chan error // of what passes its messages on, at its end; nil without
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
	ctr := &Container{runtime: r, scope: c.Scope, State: State{
		ID: c.ID, Name: c.Name, Image: c.Image, ImageID: c.ImageID, Created: time.Now().UTC(), Bundle: c.Bundle, Owned: c.Owned, Kept: c.Kept,
		Detached: c.Detached, UID: os.Getuid(), Runtime: os.Getpid(),
	}}
	var err error
	if ctr.RuntimeBirth, _, err = birth(ctr.Runtime); err != nil {
		return nil, err
	}
	ctr.lock, err = r.claim(&ctr.State)
	if errors.Is(err, ErrExist) {
		if _, e := r.sweep(c.ID); e == nil { // it may be what a killed runtime has left
			ctr.lock, err = r.claim(&ctr.State)
		}
	}
	return ctr, err
}

// Options are those of one start.
type Options struct {
	// Console is a connected Unix socket that takes the terminal's master,
	// where config.json asks for a terminal. Start closes it. Relay is the other
	// end, if it is ours: the container gives its copy of it up, and waits there
	// for a byte.
	Console, Relay int
	// Preserved is how many descriptors from 3 on the program gets as well.
	Preserved int
	// Cgroup are the cgroups below the container's that exec enters, as
	// "CONTROLLER,...:PATH", or "PATH" for all hierarchies.
	Cgroup []string
	// Paused has exec enter a container that is paused, too. It stands still as
	// all do there, so exec waits until they go on, however long.
	Paused bool
	// OldKeys leaves the runtime's session keyring to the program.
	OldKeys bool
	// Network, if not nil, is what the container's own network namespace is
	// joined to. The caller takes away what is left of that.
	Network namespace.Network
	// Edit, if not nil, changes the plan before it is carried out: tests make
	// steps fail, and a profile adds clocks.
	Edit func(*plan.Plan)
	hook string // path of the program, if it is a hook

	status specs.ContainerState // of the container that one more process enters
}

// run is what the actions of a plan share under these options.
func (o Options) run() *plan.Run {
	run := &plan.Run{Fd: make(map[plan.Reg]int), Lent: make(map[plan.Reg]int)}
	if o.Console > 0 {
		run.Fd[namespace.Console] = o.Console
	}
	if o.Relay > 0 {
		run.Lent[namespace.RelayEnd] = o.Relay
	}
	return run
}

// Start builds the wall of the bundle's spec and starts the program in it: the
// specification's create and start in one. The container ends with this
// process, unless it is detached; the caller calls Wait. The error is a
// *forkexec.StepError if a step of the plan is to blame.
func (c *Container) Start(s *specs.Spec, o Options) error {
	host, err := c.inspect(s)
	if err != nil {
		return err
	}
	return c.notifying(func() error { return c.start(s, host, o) })
}

func (c *Container) start(s *specs.Spec, host Host, o Options) error {
	if err := c.begin(s, host, o); err != nil {
		return err
	}
	if err := c.runtime.afterStart(&c.State); err != nil {
		return c.failed(errors.Join(err, c.kill()))
	}
	return nil
}

// begin builds the wall, and has the program begin.
func (c *Container) begin(s *specs.Spec, host Host, o Options) error {
	host.Process.Foreground = !c.Detached
	if len(spec.HooksOfKind(s, "startContainer")) > 0 {
		// They run behind the wall, before the program: it waits for them.
		if err := c.create(s, host, o); err != nil {
			return err
		}
		return c.runtime.start(&c.State)
	}
	if err := c.build(s, host, o); err != nil {
		return err
	}
	if err := c.process.Started(); err != nil {
		return c.failed(err)
	}
	return c.stands()
}

// Create builds the wall of the bundle's spec, and leaves the process waiting
// in it: Runtime.Start tells it to begin.
func (c *Container) Create(s *specs.Spec, o Options) error {
	host, err := c.inspect(s)
	if err != nil {
		return err
	}
	return c.create(s, host, o)
}

func (c *Container) create(s *specs.Spec, host Host, o Options) error {
	host.Process.Waits = true
	if err := c.build(s, host, o); err != nil {
		return err
	}
	if err := c.process.Ready(); err != nil {
		return c.failed(err)
	}
	return c.stands()
}

// build compiles the plan and carries it out; the child is on its way then.
func (c *Container) build(s *specs.Spec, host Host, o Options) error {
	host.Dir, host.Relay, host.Units, host.Network = c.runtime.dir(c.ID), o.Relay > 0, c.runtime.Units, o.Network
	host.Process.Preserved, host.Process.OldKeys = o.Preserved, o.OldKeys
	if err := host.mayBuild(s); err != nil {
		return err
	}
	p, err := Compile(s, host)
	if err != nil {
		return err
	}
	if o.Edit != nil {
		o.Edit(p)
	}
	for _, name := range process.Unknown(s.Process.Capabilities) {
		c.runtime.warn(fmt.Errorf("unknown capability %q: the container does without it", name))
	}
	if err := host.Cgroup.Vacant(); err != nil {
		return err // and nothing of it is ours to take away
	}
	c.Command, c.Host, c.Hooks, c.config = s.Process.Args, host, s.Hooks != nil, s
	if c.Detached || c.runtime.Notify != "" { // then it is not the bundle's
		if err := c.writeConfig(s); err != nil {
			return err
		}
	}
	if err := c.runtime.write(&c.State); err != nil {
		return err
	}
	run := o.run()
	run.Lent[held] = int(c.lock)
	if host.Process.Foreground || host.Cgroup.Unit != "" {
		// The kernel kills the container, or the keeper, when the thread that
		// made it ends. For such a lock Go starts one thread more.
		runtime.LockOSThread()
	}
	if c.process, err = forkexec.Start(p, run); err != nil {
		if errors.Is(err, ErrUnitExists) {
			c.Host.Cgroup = cgroup.Group{} // it is another's, and not to be taken away
		}
		return err
	}
	if err := c.note(Creating); err != nil {
		return c.failed(err)
	}
	return nil
}

// writeConfig keeps config.json with the state.
func (c *Container) writeConfig(s *specs.Spec) error {
	return writeFile(filepath.Join(c.runtime.dir(c.ID), spec.ConfigFile), spec.Marshal(s))
}

// failed ends the process of a container whose start has failed.
func (c *Container) failed(err error) error {
	c.process.Kill()
	c.PID = 0
	return err
}

// Signal sends a signal to the container's first process.
func (c *Container) Signal(sig unix.Signal) error { return c.process.Signal(sig) }

// Wait waits for the program to end. A container without a PID namespace of
// its own may leave processes behind; they are killed.
func (c *Container) Wait() (unix.WaitStatus, error) {
	ws, err := c.process.Wait()
	c.PID = 0
	if !c.Host.OwnPIDs {
		err = errors.Join(err, c.Host.Cgroup.Kill())
	}
	c.hear() // who is dead adds nothing to it
	return ws, err
}

// OOMKilled says whether the kernel killed a process of the container because
// memory ran out.
func (c *Container) OOMKilled() bool {
	n, err := c.Host.Cgroup.OOMKills()
	return err == nil && n > 0
}

// Delete removes all that was made for the container. Its process has ended.
func (c *Container) Delete() error {
	if c.process != nil {
		c.process.Close()
	}
	err := c.runtime.remove(&c.State)
	if err == nil && c.Hooks {
		c.runtime.warn(afterStop(&c.State, c.config))
	}
	return errors.Join(err, c.lock.close())
}
