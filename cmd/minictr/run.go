package main

import (
	"fmt"
	"slices"

	"github.com/spf13/pflag"

	"github.com/minictr/minictr/pkg/engine"
)

func runCommand(f *pflag.FlagSet) action {
	var o engine.Options
	wallFlags(f, &o, "v")
	initFlag(f, &o)
	ociFlags, detach := bundleFlags(f, "")
	f.Bool("rm", false, "remove the container when it ends (in the foreground always, unless --rm=false)")
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
		if err := c.complete(&o); err != nil {
			return err
		}
		o.Detach = *detach
		o.Remove, _ = f.GetBool("rm")
		if kept := f.Changed("rm") && !o.Remove; o.Detach || kept || o.Restart != "no" {
			return c.detached(e, o)
		}
		status, err := e.Run(c, o, nil)
		return ended(status, err)
	}
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
