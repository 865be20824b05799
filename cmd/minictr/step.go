package main

import (
	"errors"

	"golang.org/x/term"

	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/lang"
	"github.com/minictr/minictr/pkg/step"
)

// steps runs an image or a bundle step by step. Off a terminal nobody is waited
// for.
func (c *call) steps(o *engine.Options, l lang.Language) error {
	for _, name := range []string{"verbose", "format", "container", "diff"} {
		if c.flags.Changed(name) {
			return errors.New("--step runs the plan: it does not go with --" + name)
		}
	}
	s, err := step.New(c.stdout, term.IsTerminal(0) && term.IsTerminal(1), l)
	if err != nil {
		return err
	}
	err = c.stepped(o, s)
	if sig := s.Interrupted(); sig != 0 {
		return exitCode(128 + int(sig))
	}
	if own := s.Err(); own != nil {
		return own
	}
	return err
}

func (c *call) stepped(o *engine.Options, s *step.Stepper) error {
	e, err := c.engine()
	if err != nil {
		return err
	}
	if len(c.args) > 0 && isBundle(c.args[0]) {
		if len(c.args) > 1 {
			return errors.New("plan of a bundle takes no command: config.json has it")
		}
		if err := c.ofBundle("step", "lang"); err != nil {
			return err
		}
		if err := e.Sweep(); err != nil {
			return err
		}
		bundle := c.args[0]
		c.args = []string{engine.NewID()}
		return c.runBundle(&startFlags{bundle: bundle, edit: s.Edit}, false)
	}
	if err := c.complete(o); err != nil {
		return err
	}
	return ended(e.Run(c, *o, s.Edit))
}
