package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/spec"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "run an image, or a bundle, in a new container",
		ArgsUsage: "IMAGE [COMMAND...] | --bundle DIR ID",
		Flags: append(wallFlags([]string{"v"}),
			&cli.StringFlag{Name: "bundle", Aliases: []string{"b"}, Usage: "run the OCI bundle in `DIR`"},
			&cli.BoolFlag{Name: "rm", Usage: "remove the container when it ends (always so, in the foreground)"},
		),
		OnUsageError: usageError,
		Action: func(c *cli.Context) error {
			e, err := theEngine(c)
			if err != nil {
				return err
			}
			if bundle := c.String("bundle"); bundle != "" {
				return runBundle(c, e, bundle)
			}
			o, err := optionsOf(c)
			if err != nil {
				return err
			}
			status, err := e.Run(c.Context, o, nil)
			return ended(status, err)
		},
	}
}

// wallFlags are the flags of run and plan that change the wall. In plan, -v is
// not the short form of --volume.
func wallFlags(volume []string) []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "interactive", Aliases: []string{"i"}, Usage: "keep standard input open (always so)"},
		&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "give it a terminal (by itself, if this is one)"},
		&cli.StringFlag{Name: "name", Usage: "call the container `NAME`"},
		&cli.StringSliceFlag{Name: "env", Aliases: []string{"e"}, Usage: "set `NAME=VALUE` in its environment"},
		&cli.StringFlag{Name: "workdir", Aliases: []string{"w"}, Usage: "begin in `DIR`"},
		&cli.StringFlag{Name: "user", Aliases: []string{"u"}, Usage: "run as `USER[:GROUP]`"},
		&cli.StringSliceFlag{Name: "volume", Aliases: volume, Usage: "show `HOST:CONTAINER[:ro]`, a file or directory"},
		&cli.StringFlag{Name: "hostname", Usage: "have it believe that the machine is called `NAME`"},
		&cli.StringFlag{Name: "memory", Aliases: []string{"m"}, Usage: "limit its memory to `BYTES` (k, m, g)"},
		&cli.StringFlag{Name: "cpus", Usage: "limit it to `N` processors' time (0.5)"},
		&cli.Int64Flag{Name: "pids-limit", Usage: "limit it to `N` processes and threads (-1: no limit)"},
		&cli.BoolFlag{Name: "read-only", Usage: "make its root read-only"},
		&cli.StringSliceFlag{Name: "cap-add", Usage: "add a `CAPABILITY`"},
		&cli.StringSliceFlag{Name: "cap-drop", Usage: "take away a `CAPABILITY`, or ALL"},
		&cli.StringFlag{Name: "entrypoint", Usage: "run `PROGRAM` in place of the image's"},
		&cli.StringFlag{Name: "network", Usage: "`none`, only itself; or host, the host's", Value: "none"},
		&cli.BoolFlag{Name: "new-privileges", Usage: "let setuid programs give privileges (no_new_privs off)"},
		&cli.StringSliceFlag{Name: "without", Usage: "leave out a `BRICK` of the wall, to see what leaks"},
	}
}

func optionsOf(c *cli.Context) (engine.Options, error) {
	if !c.Args().Present() {
		return engine.Options{}, fmt.Errorf("%s needs an image: minictr %[1]s tiny sh", c.Command.Name)
	}
	o := engine.Options{
		Name: c.String("name"), Image: c.Args().First(), Args: c.Args().Tail(),
		Env: c.StringSlice("env"), Lookup: os.LookupEnv, Workdir: c.String("workdir"), User: c.String("user"),
		Volumes: c.StringSlice("volume"), Hostname: c.String("hostname"),
		Memory: c.String("memory"), CPUs: c.String("cpus"), Pids: c.Int64("pids-limit"),
		ReadOnly: c.Bool("read-only"), CapAdd: words(c, "cap-add"), CapDrop: words(c, "cap-drop"),
		Network: c.String("network"), Privileges: c.Bool("new-privileges"), Without: words(c, "without"),
		Terminal: term.IsTerminal(0) && term.IsTerminal(1),
	}
	if c.IsSet("tty") {
		o.Terminal = c.Bool("tty")
	}
	if c.IsSet("entrypoint") {
		o.Entrypoint = []string{}
		if e := c.String("entrypoint"); e != "" {
			o.Entrypoint = append(o.Entrypoint, e)
		}
	}
	return o, nil
}

// ofBundle refuses flags that would have no effect on a bundle.
func ofBundle(c *cli.Context, effective ...string) error {
	for _, name := range c.LocalFlagNames() { // with both names of a flag that has a short one
		if len(name) > 1 && !slices.Contains(effective, name) {
			return fmt.Errorf("--%s: not for a bundle, which has a config.json to say that", name)
		}
	}
	return nil
}

// runBundle is run of the OCI's family: a bundle and an ID.
func runBundle(c *cli.Context, e *engine.Engine, bundle string) (err error) {
	if err := ofBundle(c, "bundle", "rm", "interactive"); err != nil {
		return err
	}
	if c.NArg() != 1 {
		return errors.New("run --bundle requires exactly 1 argument, the container's ID: minictr run --bundle DIR ID")
	}
	signals := engine.CatchSignals()
	if bundle, err = filepath.Abs(bundle); err != nil {
		return err
	}
	s, err := spec.Load(bundle)
	if err != nil {
		return err
	}
	if err := e.Sweep(); err != nil {
		return err
	}
	signals.Wait()
	ctr, err := e.Runtime.New(container.Config{ID: c.Args().First(), Bundle: bundle})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ctr.Delete()) }()
	status, err := engine.Foreground(ctr, s, signals, nil)
	return ended(status, err)
}

// ended makes an error of a program's exit status.
func ended(status int, err error) error {
	if err == nil && status != 0 {
		return exitCode(status)
	}
	return err
}
