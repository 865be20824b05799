package main

import (
	"errors"
	"os"

	"github.com/spf13/pflag"

	"github.com/minictr/minictr/pkg/seccomp"
	"github.com/minictr/minictr/pkg/spec"
)

// processesCommand is ps of the OCI's family.
func processesCommand(f *pflag.FlagSet) action {
	format := f.StringP("format", "f", "table", "print it in this `FORMAT`: table or json")
	f.SetInterspersed(false)
	return func(c *call) error {
		if len(c.args) == 0 {
			return errors.New("ps requires an ID")
		}
		return c.processes(*format)
	}
}

func specCommand(f *pflag.FlagSet) action {
	bundle := f.StringP("bundle", "b", ".", "write it in `DIR`")
	rootless := f.Bool("rootless", false, "write one for a container of your own user, who is root in it")
	return func(c *call) error {
		if err := c.exactly(0, ""); err != nil {
			return err
		}
		s := spec.Default()
		if *rootless {
			spec.Rootless(s, uint32(os.Geteuid()), uint32(os.Getegid()))
		}
		s.Hostname = "minictr"
		s.Linux.Seccomp = seccomp.Default(s.Process.Capabilities.Bounding, seccomp.Native())
		return spec.Write(*bundle, s)
	}
}
