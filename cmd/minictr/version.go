package main

import (
	"fmt"
	"runtime"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"
)

// version and commit are set by the linker, see the Makefile.
var (
	version = "0.1.0-dev"
	commit  = ""
)

func versionCommand(*pflag.FlagSet) action {
	return func(c *call) error {
		if err := c.exactly(0, ""); err != nil {
			return err
		}
		return c.printVersion()
	}
}

func (c *call) printVersion() error {
	name := "minictr"
	if c.runc {
		name = "runc"
	}
	out := fmt.Sprintf("%s version %s\n", name, version)
	if commit != "" {
		out += fmt.Sprintf("commit: %s\n", commit)
	}
	_, err := fmt.Fprintf(c.stdout, "%sspec: %s\ngo: %s\n", out, specs.Version, runtime.Version())
	return err
}
