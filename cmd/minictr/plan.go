package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/spec"
)

func planCommand() *cli.Command {
	verbose := 0
	return &cli.Command{
		Name:      "plan",
		Usage:     "print the wall: the system calls that run would make, and why",
		ArgsUsage: "IMAGE|BUNDLE [COMMAND...]",
		Flags: append(wallFlags(nil),
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Count: &verbose, Usage: "print each call; twice (-vv), also why it is made"},
			&cli.StringFlag{Name: "format", Usage: "`text` or json", Value: "text"},
			&cli.StringFlag{Name: "diff", Usage: "print how the wall differs with other `FLAGS` of run"},
		),
		OnUsageError: usageError,
		Action: func(c *cli.Context) error {
			p, err := thePlan(c)
			if err != nil {
				return err
			}
			switch format := c.String("format"); {
			case c.String("diff") != "":
				return planDiff(c, p)
			case format == "json":
				return writeJSON(c.App.Writer, p)
			case format != "text":
				return fmt.Errorf("--format: %q is neither text nor json", format)
			}
			// Without the flag cli counts from -1: it expects its alias too.
			detail := plan.Detail(max(0, min(verbose, int(plan.Reasons))))
			if err := p.Format(c.App.Writer, detail); err != nil || detail != plan.Bricks {
				return err
			}
			_, err = fmt.Fprintln(c.App.Writer, "\nminictr plan -v prints each call, -vv also why it is made.")
			return err
		},
	}
}

// thePlan is the plan of the image or bundle that is asked for. A bundle is a
// directory with a config.json.
func thePlan(c *cli.Context) (*plan.Plan, error) {
	if name := c.Args().First(); isBundle(name) {
		if c.NArg() > 1 {
			return nil, errors.New("plan of a bundle takes no command: config.json has it")
		}
		if err := ofBundle(c, "verbose", "format"); err != nil {
			return nil, err
		}
		return engine.PlanBundle(name)
	}
	e, err := theEngine(c)
	if err != nil {
		return nil, err
	}
	o, err := optionsOf(c)
	if err != nil {
		return nil, err
	}
	p, bricks, err := e.Plan(o)
	for _, b := range bricks {
		fmt.Fprintf(c.App.ErrWriter, "minictr: WITHOUT the brick %s: %s\n", b.Name, b.Leaks)
	}
	return p, err
}

// isBundle tells a directory from the name of an image, which neither begins
// nor ends with a slash or a dot.
func isBundle(name string) bool {
	if name == "" || strings.ContainsAny(name[:1]+name[len(name)-1:], "./") {
		return name != ""
	}
	_, err := os.Stat(filepath.Join(name, spec.ConfigFile))
	return err == nil && strings.Contains(name, "/")
}

// planDiff compares with the plan of the same image under other flags, which
// are read as plan's own would be.
func planDiff(c *cli.Context, p *plan.Plan) error {
	var other *plan.Plan
	again := app(io.Discard, c.App.ErrWriter)
	command := again.Command("plan")
	command.Action = func(c *cli.Context) (err error) {
		other, err = thePlan(c)
		return err
	}
	args := []string{"minictr", "--root", c.String("root"), "plan"}
	args = append(args, strings.Fields(c.String("diff"))...)
	if err := again.Run(append(args, c.Args().Slice()...)); err != nil {
		return fmt.Errorf("--diff: %w", err)
	}
	return plan.Diff(c.App.Writer, p, other)
}

func writeJSON(w io.Writer, v any) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(v)
}
