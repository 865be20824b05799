package main

import (
	"errors"
	"slices"

	"github.com/spf13/pflag"

	"github.com/minictr/minictr/pkg/engine"
)

func unpackCommand(f *pflag.FlagSet) action {
	devices := f.Bool("devices", false, "make device nodes, too, which no container's wall guards there")
	return func(c *call) error {
		if err := c.exactly(2, "IMAGE DIR"); err != nil {
			return err
		}
		e, err := c.engine()
		if err != nil {
			return err
		}
		defer c.untilSignal()()
		return e.Unpack(c, c.args[0], c.args[1], *devices)
	}
}

func bundleCommand(f *pflag.FlagSet) action {
	var o engine.Options
	wallFlags(f, &o, "v")
	initFlag(f, &o)
	return func(c *call) error {
		if len(c.args) < 2 {
			return errors.New("bundle needs an image and a directory: minictr bundle tiny DIR sh")
		}
		e, err := c.engine()
		if err != nil {
			return err
		}
		dir := c.args[1]
		c.args = slices.Delete(c.args, 1, 2)
		if err := c.complete(&o); err != nil {
			return err
		}
		defer c.untilSignal()()
		return e.Bundle(c, o, dir)
	}
}
