package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/minictr/minictr/pkg/engine"
)

func runCommand(f *pflag.FlagSet) action {
	var o engine.Options
	wallFlags(f, &o, "v")
	initFlag(f, &o)
	ociFlags, detach := bundleFlags(f, "")
	f.Bool("rm", false, "remove the container when it ends (always so, in the foreground)")
	return func(c *call) error {
		e, err := c.engine()
		if err != nil {
			return err
		}
		if f.Changed("bundle") {
			if err := c.ofBundle("rm", "interactive", "bundle", "pid-file", "console-socket", "pidfd-socket", "preserve-fds",
				"no-pivot", "no-new-keyring", "keep", "no-subreaper", "detach"); err != nil {
				return err
			}
			if err := e.Sweep(); err != nil {
				return err
			}
			return c.runBundle(ociFlags, *detach)
		}
		if *detach {
			return errors.New("--detach of an image is not supported yet: run it in the foreground, or a bundle with --bundle")
		}
		if err := c.complete(&o); err != nil {
			return err
		}
		status, err := e.Run(c, o, nil)
		return ended(status, err)
	}
}

// wallFlags are the flags of run and plan that change the wall. In plan, -v is
// not the short form of --volume. What follows the image is not ours.
func wallFlags(f *pflag.FlagSet, o *engine.Options, volume string) {
	f.SetInterspersed(false)
	f.BoolP("interactive", "i", false, "keep standard input open (always so)")
	f.BoolVarP(&o.Terminal, "tty", "t", false, "give it a terminal (by itself, if this is one)")
	f.StringVar(&o.Name, "name", "", "call the container `NAME`")
	f.VarP((*list)(&o.Env), "env", "e", "set `NAME=VALUE` in its environment")
	f.StringVarP(&o.Workdir, "workdir", "w", "", "begin in `DIR`")
	f.StringVarP(&o.User, "user", "u", "", "run as `USER[:GROUP]`")
	f.VarP((*list)(&o.Volumes), "volume", volume, "show `HOST:CONTAINER[:ro]`, a file or directory")
	f.StringVarP(&o.Hostname, "hostname", "h", "", "have it believe that the machine is called `NAME`")
	f.StringVarP(&o.Memory, "memory", "m", "", "limit its memory to `BYTES` (k, m, g)")
	f.StringVar(&o.CPUs, "cpus", "", "limit it to `N` processors' time (0.5)")
	f.Int64Var(&o.Pids, "pids-limit", 0, "limit it to `N` processes and threads (-1: no limit)")
	f.BoolVar(&o.ReadOnly, "read-only", false, "make its root read-only")
	f.Var((*list)(&o.CapAdd), "cap-add", "add a `CAPABILITY`")
	f.Var((*list)(&o.CapDrop), "cap-drop", "take away a `CAPABILITY`, or ALL")
	f.String(entrypoint, "", "run `PROGRAM` in place of the image's")
	f.StringVar(&o.Network, "network", "none", "none: only itself; host: the host's `MODE`")
	f.BoolVar(&o.Privileges, "new-privileges", false, "let setuid programs give privileges (no_new_privs off)")
	f.Var((*list)(&o.Without), "without", "leave out a `BRICK` of the wall, to see what leaks")
}

// initFlag is one of those, but not of vm, where process 1 is the machine's.
func initFlag(f *pflag.FlagSet, o *engine.Options) {
	f.BoolVar(&o.Init, "init", false, "make process 1 a parent of the program, which reaps and passes signals on")
}

const entrypoint = "entrypoint"

// complete adds to the flags' options what is no flag's value as it stands.
func (c *call) complete(o *engine.Options) error {
	for _, name := range []string{"name", "workdir", "user", "hostname", "memory", "cpus", "network"} {
		if c.flags.Changed(name) && c.flags.Lookup(name).Value.String() == "" {
			return fmt.Errorf("--%s: it is empty: leave it out, or give it a value", name)
		}
	}
	if len(c.args) == 0 {
		return fmt.Errorf("%s needs an image: minictr %[1]s tiny sh", c.name)
	}
	o.Image, o.Args, o.Lookup = c.args[0], c.args[1:], os.LookupEnv
	o.CapAdd, o.CapDrop, o.Without = words(o.CapAdd), words(o.CapDrop), words(o.Without)
	if !c.flags.Changed("tty") {
		o.Terminal = term.IsTerminal(0) && term.IsTerminal(1)
	}
	if c.flags.Changed(entrypoint) {
		o.Entrypoint = []string{} // none at all, unless it is named
		if program := c.flags.Lookup(entrypoint).Value.String(); program != "" {
			o.Entrypoint = append(o.Entrypoint, program)
		}
	}
	return nil
}

// ofBundle refuses flags that would have no effect on a bundle.
func (c *call) ofBundle(effective ...string) (err error) {
	c.flags.Visit(func(f *pflag.Flag) {
		if err == nil && !slices.Contains(effective, f.Name) {
			err = fmt.Errorf("--%s: not for a bundle, which has a config.json to say that", f.Name)
		}
	})
	return err
}

// runBundleCommand is run of the OCI's family alone.
func runBundleCommand(f *pflag.FlagSet) action {
	o, detach := bundleFlags(f, ".")
	return func(c *call) error { return c.runBundle(o, *detach) }
}

// bundleFlags are those of run for a bundle.
func bundleFlags(f *pflag.FlagSet, bundle string) (o *startFlags, detach *bool) {
	o = new(startFlags)
	f.StringVarP(&o.bundle, "bundle", "b", bundle, "run the OCI bundle in `DIR`")
	o.add(f)
	f.BoolVar(&o.keeps, "keep", false, "keep the container when it has stopped")
	f.Bool("no-subreaper", false, "accepted, and of no effect")
	return o, f.BoolP("detach", "d", false, "do not wait for its end")
}

// ended makes an error of a program's exit status.
func ended(status int, err error) error {
	if err == nil && status != 0 {
		return exitCode(status)
	}
	return err
}
