package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/vm"
)

// machineFlags are the flags of commands that make a virtual machine.
type machineFlags struct {
	kernel, accel, cgroup string
	params, modules       []string
	timeout               time.Duration
	console               bool
	log, init             string
}

// boot defines those that say on what the machine runs.
func (m *machineFlags) boot(f *pflag.FlagSet) {
	f.StringVar(&m.kernel, "kernel", "", "boot `FILE` (by itself: the newest of this system's)")
	f.StringVar(&m.accel, "accel", "auto", "`kvm`, tcg (plain emulation), or auto: what really works")
}

func (m *machineFlags) define(f *pflag.FlagSet) {
	m.boot(f)
	f.StringVar(&m.init, "init", "", "make `FILE` the first process: minictr for another kind of processor, which the kernel and the image must be for too")
	f.StringVar(&m.cgroup, "cgroup", "v2", "mount cgroup `v2`, v1 or hybrid in the machine")
	f.Var((*list)(&m.params), "append", "give the kernel another `PARAMETER`")
	f.Var((*list)(&m.modules), "module", "load the kernel `MODULE` too")
	f.DurationVar(&m.timeout, "timeout", 0, "end the machine after a `TIME` (30s, 5m)")
	f.BoolVar(&m.console, "console", false, "print what the kernel says")
	f.StringVar(&m.log, "log", "", "append what the kernel says to `FILE`")
}

func vmCommand(f *pflag.FlagSet) action {
	var o engine.Options
	var m machineFlags
	wallFlags(f, &o, "v")
	m.define(f)
	bring := f.Bool("exec", false, "COMMAND is a file of the host: bring it, and this directory, into the machine (for go test -exec)")
	return func(c *call) error {
		if err := c.noBricks(); err != nil {
			return err
		}
		if err := c.complete(&o); err != nil {
			return err
		}
		e, err := c.engine()
		if err != nil {
			return err
		}
		files, err := broughtFiles(&o, *bring)
		if err != nil {
			return err
		}
		config, err := e.VM(c, o)
		if err != nil {
			return err
		}
		config.Files = append(config.Files, files...)
		if err := m.apply(c, config); err != nil {
			return err
		}
		status, err := runMachine(c, config, !m.console)
		return ended(status, err)
	}
}

// noBricks refuses the flags of run that say how a container's wall is built:
// the one of a virtual machine has no such bricks.
func (c *call) noBricks() (err error) {
	bricks := newFlags()
	brickFlags(bricks, new(engine.Options))
	c.flags.Visit(func(f *pflag.Flag) {
		if err == nil && bricks.Lookup(f.Name) != nil {
			err = fmt.Errorf("--%s: a virtual machine's wall is the hypervisor, and has no such brick", f.Name)
		}
	})
	return err
}

// broughtFiles are the command and the directory that it expects to run in.
func broughtFiles(o *engine.Options, bring bool) ([]vm.File, error) {
	if !bring {
		return nil, nil
	}
	if len(o.Args) == 0 {
		return nil, errors.New("--exec needs a command, a file of the host")
	}
	program, err := filepath.Abs(o.Args[0])
	if err != nil {
		return nil, err
	}
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	o.Args[0] = program
	if o.Workdir == "" {
		o.Workdir = dir
	}
	return []vm.File{{Host: dir, Guest: dir}, {Host: program, Guest: program}}, nil
}

// apply completes a machine's configuration.
func (m *machineFlags) apply(ctx context.Context, c *vm.Config) (err error) {
	if c.Kernel, err = vm.FindKernel(m.kernel); err != nil {
		return err
	}
	c.Init = m.init
	switch c.Cgroup = vm.Cgroup(m.cgroup); c.Cgroup {
	case vm.CgroupV1, vm.CgroupV2, vm.CgroupHybrid:
	default:
		return fmt.Errorf("--cgroup: %q is neither v1, v2 nor hybrid", m.cgroup)
	}
	switch c.Accel = vm.Accel(m.accel); c.Accel {
	case vm.KVM, vm.TCG:
	case "auto":
		if c.Accel, err = vm.Probe(ctx, c); err != nil {
			return err
		}
	default:
		return fmt.Errorf("--accel: %q is neither kvm, tcg nor auto", m.accel)
	}
	if m.console {
		c.Console = os.Stderr
	}
	if m.log != "" {
		log, err := os.OpenFile(m.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		if err != nil {
			return fmt.Errorf("--log: %w", err)
		}
		c.Console = log // for as long as this program lives
		if m.console {
			c.Console = io.MultiWriter(os.Stderr, log)
		}
	}
	c.Params = append(c.Params, m.params...)
	c.Modules = append(c.Modules, m.modules...)
	c.Timeout = m.timeout
	return nil
}

// runMachine runs a machine in the foreground: its program's standard streams
// and signals are ours. The last lines of a panic are told if they were not.
func runMachine(c *call, config *vm.Config, lastLines bool) (status int, err error) {
	if config.Process.Terminal && term.IsTerminal(0) {
		state, err := term.MakeRaw(0)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, term.Restore(0, state)) }()
	}
	m, err := vm.Start(c, *config, vm.Streams{In: os.Stdin, Out: c.stdout, Err: c.stderr})
	if err != nil {
		return 0, err
	}
	signals := engine.CatchSignals()
	signals.Wait()
	resize := func() {
		if size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ); err == nil {
			_ = m.Resize(size.Row, size.Col) // only for show
		}
	}
	go func() {
		<-m.Started()
		resize()
		signals.Forward(m.Signal, resize)
	}()
	status, err = m.Wait()
	if panicked, ok := errors.AsType[*vm.PanicError](err); ok && lastLines {
		fmt.Fprintln(c.stderr, strings.Join(panicked.Lines, "\r\n")+"\r")
	}
	return status, err
}
