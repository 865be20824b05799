package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/minictr/minictr/pkg/spec"
)

func psCommand() *cli.Command {
	return &cli.Command{
		Name: "ps", Usage: "list the containers", OnUsageError: usageError,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "also those that are not running"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "only their IDs"},
		},
		Action: func(c *cli.Context) error {
			e, err := theEngine(c)
			if err != nil {
				return err
			}
			if err := errors.Join(exactly(c, 0, ""), e.Sweep()); err != nil {
				return err
			}
			list, err := e.Runtime.List()
			if err != nil {
				return err
			}
			out := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
			if !c.Bool("quiet") {
				fmt.Fprintln(out, "ID\tIMAGE\tCOMMAND\tPID\tCREATED\tNAME")
			}
			for _, s := range list {
				if s.PID == 0 && !c.Bool("all") {
					continue
				}
				if c.Bool("quiet") {
					fmt.Fprintln(out, s.ID)
					continue
				}
				fmt.Fprintf(out, "%s\t%s\t%.30s\t%d\t%s\t%s\n", s.ID, s.Image, strings.Join(s.Command, " "), s.PID,
					s.Created.Local().Format(time.DateTime), s.Name)
			}
			return out.Flush()
		},
	}
}

func rmCommand() *cli.Command {
	return &cli.Command{
		Name: "rm", Usage: "remove containers", ArgsUsage: "CONTAINER...", OnUsageError: usageError,
		Flags: []cli.Flag{&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "kill them first, if they run"}},
		Action: func(c *cli.Context) error {
			e, err := theEngine(c)
			if err != nil {
				return err
			}
			if !c.Args().Present() {
				return errors.New("rm needs a container: minictr ps lists them")
			}
			if err := e.Sweep(); err != nil {
				return err
			}
			for _, name := range c.Args().Slice() {
				if err := e.Runtime.Delete(name, c.Bool("force")); err != nil {
					return err
				}
				if _, err := fmt.Fprintln(c.App.Writer, name); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func specCommand() *cli.Command {
	return &cli.Command{
		Name: "spec", Usage: "write a config.json, to be changed and run as a bundle", OnUsageError: usageError,
		Flags: []cli.Flag{&cli.StringFlag{Name: "bundle", Aliases: []string{"b"}, Usage: "write it in `DIR`", Value: "."}},
		Action: func(c *cli.Context) error {
			if err := exactly(c, 0, ""); err != nil {
				return err
			}
			s := spec.Default()
			s.Hostname = "minictr"
			return spec.Write(c.String("bundle"), s)
		},
	}
}
