package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/minictr/minictr/pkg/seccomp"
	"github.com/minictr/minictr/pkg/spec"
)

func psCommand(f *pflag.FlagSet) action {
	f.SetInterspersed(false)
	all := f.BoolP("all", "a", false, "also those that are not running")
	quiet := f.BoolP("quiet", "q", false, "only their IDs")
	format := f.StringP("format", "f", "table", "of one container's processes, print this `FORMAT`: table or json")
	return func(c *call) error {
		if len(c.args) > 0 {
			return c.processes(*format)
		}
		e, err := c.engine()
		if err != nil {
			return err
		}
		if err := e.Sweep(); err != nil {
			return err
		}
		list, err := e.Runtime.List()
		if err != nil {
			return err
		}
		out := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
		if !*quiet {
			fmt.Fprintln(out, "ID\tIMAGE\tCOMMAND\tPID\tCREATED\tNAME")
		}
		for _, s := range list {
			switch {
			case s.PID == 0 && !*all:
			case *quiet:
				fmt.Fprintln(out, s.ID)
			default:
				fmt.Fprintf(out, "%s\t%s\t%.30s\t%d\t%s\t%s\n", s.ID, s.Image, strings.Join(s.Command, " "), s.PID,
					s.Created.Local().Format(time.DateTime), s.Name)
			}
		}
		return out.Flush()
	}
}

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
