package main

import (
	"fmt"
	"io"
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
		return printVersion(c.stdout)
	}
}

func printVersion(w io.Writer) error {
	out := fmt.Sprintf("minictr version %s\n", version)
	if commit != "" {
		out += fmt.Sprintf("commit: %s\n", commit)
	}
	_, err := fmt.Fprintf(w, "%sspec: %s\ngo: %s\n", out, specs.Version, runtime.Version())
	return err
}
