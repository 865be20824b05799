package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/format"
	"github.com/minictr/minictr/pkg/lang"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/rootless"
	"github.com/minictr/minictr/pkg/spec"
)

func planCommand(f *pflag.FlagSet) action {
	var o engine.Options
	wallFlags(f, &o, "")
	initFlag(f, &o)
	verbose := f.CountP("verbose", "v", "print each call; twice (-vv), also why it is made")
	format := f.String("format", "text", "print it in this `FORMAT`: text or json")
	f.String("container", "", "print the plan that the container `ID` was made by, or that exec of COMMAND in it would make")
	diff := f.String("diff", "", "print how the wall differs with other `FLAGS` of run")
	steps := f.Bool("step", false, "run it: do one step with each Enter, and say what it has changed in /proc")
	f.Bool("enter", false, "print how the everyday commands of a user who is not root become root of a user namespace")
	language := languageFlag(f)
	return func(c *call) error {
		if *steps {
			return c.steps(&o, language.Language)
		}
		p, err := c.plan(&o, language.Language)
		switch {
		case err != nil:
			return err
		case *diff != "" && (f.Changed("format") || f.Changed("verbose")):
			return errors.New("--diff prints calls: it goes with neither --format nor --verbose")
		case *diff != "":
			return c.planDiff(p, *diff, language.Language)
		case *format == "json":
			return writeJSON(c.stdout, p)
		case *format != "text":
			return fmt.Errorf("--format: %q is neither text nor json", *format)
		}
		detail := plan.Detail(min(*verbose, int(plan.Reasons)))
		if err := p.Format(c.stdout, detail, language.Language); err != nil || detail != plan.Bricks {
			return err
		}
		_, err = fmt.Fprintf(c.stdout, "\n%s\n", language.Line("minictr plan -v prints each call, -vv also why it is made."))
		return err
	}
}

// plan is the plan of the image or bundle that is asked for. A bundle is a
// directory with a config.json.
func (c *call) plan(o *engine.Options, l lang.Language) (*plan.Plan, error) {
	if c.flags.Changed("enter") {
		if len(c.args) > 0 {
			return nil, errors.New("--enter takes no arguments: it is the same for all commands")
		}
		return rootless.Plan()
	}
	if id := c.flags.Lookup("container"); id != nil && id.Changed {
		return c.planOf(id.Value.String())
	}
	if len(c.args) > 0 && isBundle(c.args[0]) {
		if len(c.args) > 1 {
			return nil, errors.New("plan of a bundle takes no command: config.json has it")
		}
		if err := c.ofBundle("verbose", "format"); err != nil {
			return nil, err
		}
		return engine.PlanBundle(c.args[0])
	}
	e, err := c.engine()
	if err != nil {
		return nil, err
	}
	if err := c.complete(o); err != nil {
		return nil, err
	}
	p, bricks, err := e.Plan(*o)
	for _, b := range bricks {
		fmt.Fprintf(c.stderr, "minictr: %s\n", l.Line(b.String()))
	}
	return p, err
}

// planOf is the plan of a container that is there, or of one more process in
// it.
func (c *call) planOf(id string) (*plan.Plan, error) {
	if err := c.ofBundle("container", "verbose", "format"); err != nil {
		return nil, err
	}
	r := c.runtime()
	s, err := r.Load(id)
	switch {
	case err != nil:
		return nil, err
	case len(c.args) == 0:
		return r.PlanOf(s)
	}
	config, err := r.Config(s)
	if err != nil {
		return nil, err
	}
	return r.PlanExec(s, container.ProcessOf(config, c.args), container.Options{})
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
func (c *call) planDiff(p *plan.Plan, flags string, l lang.Language) error {
	var o engine.Options
	var other *plan.Plan
	command := c.command
	command.setup = func(f *pflag.FlagSet) action {
		wallFlags(f, &o, "v")
		return func(c *call) (err error) {
			other, err = c.plan(&o, l)
			return err
		}
	}
	again := *c
	args := append(fields(flags), c.args...)
	if err := again.run(command, args); err != nil {
		return fmt.Errorf("--diff: %w", err)
	}
	if other == nil {
		return nil // it was a call for help
	}
	return plan.Diff(c.stdout, p, other, l)
}

// fields splits a text at its blanks, but not where it is quoted.
func fields(s string) (list []string) {
	var word strings.Builder
	var quote rune
	open := false
	for _, r := range s + " " {
		switch {
		case quote == r && quote != 0:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote, open = r, true
		case quote == 0 && r == ' ':
			if open {
				list = append(list, word.String())
			}
			word.Reset()
			open = false
		default:
			word.WriteRune(r)
			open = true
		}
	}
	return list
}

func writeJSON(w io.Writer, v any) error { return format.JSON(w, v, "  ", false) }

// writeCompact is writeJSON on one line, for programs.
func writeCompact(w io.Writer, v any) error { return format.JSON(w, v, "", true) }
