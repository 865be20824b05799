package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/image"
)

// A command is what the first word after minictr, and its flags, names.
type command struct {
	name  string
	args  string // what comes after the flags
	about string
	// setup defines the command's flags, and returns what it does once they
	// are parsed. Nothing is made for the commands that are not called.
	setup func(*pflag.FlagSet) action
}

type action func(*call) error

// commands is the whole command line. It is a function because help and
// completion, which it names, read it.
func commands() []command {
	return []command{
		{"run", "IMAGE [COMMAND...] | --bundle DIR ID", "run an image, or a bundle, in a new container", runCommand},
		{"plan", "IMAGE|BUNDLE [COMMAND...]", "print the wall: the system calls that run would make, and why", planCommand},
		{"vm", "IMAGE [COMMAND...]", "run an image in a virtual machine, behind another wall", vmCommand},
		{"compare", "IMAGE [COMMAND...]", "run COMMAND bare (on this host, without a wall), in a container and in a virtual machine, and measure", compareCommand},
		{"ps", "", "list the containers", psCommand},
		{"rm", "CONTAINER...", "remove containers", rmCommand},
		{"pull", "IMAGE", "fetch an image from a registry", pullCommand},
		{"load", "FILE|DIR|-", "take images from an OCI layout, or an archive of docker save or of an OCI layout", loadCommand},
		{"images", "", "list the images", imagesCommand},
		{"rmi", "IMAGE...", "remove images", rmiCommand},
		{"spec", "", "write a config.json, to be changed and run as a bundle", specCommand},
		{"doctor", "", "say what this host has and lacks, and what to do about it", doctorCommand},
		{"version", "", "print the version", versionCommand},
		{"completion", "bash|zsh|fish", "print a completion script for a shell", completionCommand},
		{"help", "[COMMAND]", "say what a command does, and what its flags are", helpCommand},
	}
}

// commandOf finds a command by its name.
func commandOf(name string) (command, error) {
	for _, cmd := range commands() {
		if cmd.name == name {
			return cmd, nil
		}
	}
	return command{}, fmt.Errorf("unknown command %q: minictr help lists them", name)
}

// A call is one call of a command.
type call struct {
	context.Context // of all that it waits for
	command
	globals
	flags          *pflag.FlagSet // of the command
	args           []string       // what came after them
	stdout, stderr io.Writer
}

// globals are the flags before the command.
type globals struct {
	dataRoot, root    string
	mirrors, insecure []string
	version           bool
}

// Environment variables that stand for global flags.
const (
	envDataRoot = "MINICTR_DATA_ROOT"
	envRoot     = "MINICTR_ROOT"
	envMirror   = "MINICTR_MIRROR"
	envInsecure = "MINICTR_INSECURE_REGISTRY"
)

func (g *globals) flags() *pflag.FlagSet {
	f := newFlags()
	f.SetInterspersed(false)
	f.StringVar(&g.dataRoot, "data-root", engine.DefaultDataRoot, "keep images and containers' files in `DIR` [$"+envDataRoot+"]")
	f.StringVar(&g.root, "root", engine.DefaultRoot, "keep the state of containers in `DIR` [$"+envRoot+"]")
	f.Var((*list)(&g.mirrors), "mirror", "ask `HOST=URL`, a mirror, before the registry HOST [$"+envMirror+"]")
	f.Var((*list)(&g.insecure), "insecure-registry", "speak plain HTTP to `HOST` [$"+envInsecure+"]")
	f.BoolVar(&g.version, "version", false, "print the version")
	return f
}

// environment sets what the flags have not set.
func (g *globals) environment(f *pflag.FlagSet) {
	for _, v := range [...]struct {
		name, flag string
		set        func(string)
	}{
		{envDataRoot, "data-root", func(s string) { g.dataRoot = s }},
		{envRoot, "root", func(s string) { g.root = s }},
		{envMirror, "mirror", func(s string) { g.mirrors = []string{s} }},
		{envInsecure, "insecure-registry", func(s string) { g.insecure = []string{s} }},
	} {
		if s := os.Getenv(v.name); s != "" && !f.Changed(v.flag) {
			v.set(s)
		}
	}
}

// dispatch does what a command line asks for.
func dispatch(c *call, args []string) error {
	f := c.globals.flags()
	switch err := f.Parse(args); {
	case err == nil && c.version:
		return printVersion(c.stdout)
	case errors.Is(err, pflag.ErrHelp), err == nil && f.NArg() == 0:
		return printHelp(c.stdout)
	case err != nil:
		return flagError(err, "")
	}
	c.environment(f)
	if f.Arg(0) == candidates {
		return printCandidates(c.stdout, f.Args()[1:])
	}
	cmd, err := commandOf(f.Arg(0))
	if err != nil {
		return err
	}
	return c.run(cmd, f.Args()[1:])
}

// run parses the command's flags and does what it does.
func (c *call) run(cmd command, args []string) error {
	c.command, c.flags = cmd, newFlags()
	do := cmd.setup(c.flags)
	switch err := c.flags.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		return cmd.printHelp(c.stdout)
	case err != nil:
		return flagError(err, " "+cmd.name)
	}
	c.args = c.flags.Args()
	return do(c)
}

// engine is the engine that the global flags ask for.
func (c *call) engine() (*engine.Engine, error) {
	mirrors, err := mirrorsOf(words(c.mirrors))
	if err != nil {
		return nil, err
	}
	return &engine.Engine{
		Root:     c.dataRoot,
		Runtime:  container.Runtime{Root: c.root},
		Pull:     image.PullOptions{Mirrors: mirrors, Insecure: words(c.insecure)},
		Messages: c.stderr,
	}, nil
}

// exactly checks the number of arguments.
func (c *call) exactly(n int, what string) error {
	switch {
	case len(c.args) == n:
		return nil
	case n == 0:
		return fmt.Errorf("%s takes no arguments", c.name)
	}
	return fmt.Errorf("%s requires exactly %d argument(s): minictr %[1]s %[3]s", c.name, n, what)
}

// each does something with each argument, whatever became of the others, and
// prints those that it was done with.
func (c *call) each(do func(string) error) (err error) {
	for _, name := range c.args {
		e := do(name)
		if e == nil {
			_, e = fmt.Fprintln(c.stdout, name)
		}
		err = errors.Join(err, e)
	}
	return err
}

// words are the values of a flag that may be given several times, or once with
// commas between the values.
func words(values []string) (list []string) {
	for _, value := range values {
		list = append(list, strings.FieldsFunc(value, func(r rune) bool { return r == ',' })...)
	}
	return list
}

// list is a flag that may be given again and again. The library's own makes a
// CSV writer for each such flag, at every start.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }
func (l *list) Type() string       { return "list" }
