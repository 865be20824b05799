package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"
)

// newFlags is an empty set of flags that says nothing by itself.
func newFlags() *pflag.FlagSet {
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.Usage = func() {}
	f.SortFlags = false
	return f
}

// flagError says what is wrong with the flags, and where to read about them.
func flagError(err error, f *pflag.FlagSet, command string) error {
	text, hint := err.Error(), ""
	var unknown *pflag.NotExistError
	var bare *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		if why := absent(unknown.GetSpecifiedName()); why != "" {
			return fmt.Errorf("--%s: %s", unknown.GetSpecifiedName(), why)
		}
		name := dashed(unknown)
		var known []string
		f.VisitAll(func(flag *pflag.Flag) { known = append(known, "--"+flag.Name) })
		text, hint = "unknown flag "+name, didYouMean(name, known)
	case errors.As(err, &bare):
		text = "flag needs an argument: " + dashed(bare)
	case errors.As(err, &invalid):
		cause := "it is no number"
		switch invalid.GetFlag().Value.Type() {
		case "bool":
			cause = "it is neither true nor false"
		case "LANGUAGE":
			cause = invalid.Unwrap().Error()
		}
		text = fmt.Sprintf("invalid value %q for flag --%s: %s", invalid.GetValue(), invalid.GetFlag().Name, cause)
	}
	return fmt.Errorf("%s: %sminictr help%s", text, hint, command)
}

// dashed is a flag as it was given: -q in -aq, or --quiet.
func dashed(err interface {
	GetSpecifiedName() string
	GetSpecifiedShortnames() string
},
) string {
	if err.GetSpecifiedShortnames() != "" {
		return "-" + err.GetSpecifiedName()[:1]
	}
	return "--" + err.GetSpecifiedName()
}

// printHelp lists the commands.
func (c *call) printHelp() error {
	var list strings.Builder
	for _, cmd := range c.table() {
		fmt.Fprintf(&list, "   %-12s%s\n", cmd.name, cmd.about)
	}
	_, err := fmt.Fprintf(c.stdout, `minictr: containers that can be read: a wall of system calls around a process

Usage:
   minictr [FLAGS] COMMAND [FLAGS] [ARGUMENTS]

Commands:
%s
Flags:
%s
minictr help COMMAND says more.
`, &list, new(globals).flags().FlagUsages())
	return err
}

// printHelp tells of one command.
func (cmd command) printHelp(w io.Writer) error {
	f := newFlags()
	cmd.setup(f)
	flags, usage := "", "minictr "+cmd.name
	if f.HasFlags() {
		flags, usage = "\nFlags:\n"+f.FlagUsages(), usage+" [FLAGS]"
	}
	_, err := fmt.Fprintf(w, "minictr %s: %s\n\nUsage:\n   %s\n%s", cmd.name, cmd.about, strings.TrimSpace(usage+" "+cmd.args), flags)
	return err
}

func helpCommand(*pflag.FlagSet) action {
	return func(c *call) error {
		if len(c.args) == 0 {
			return c.printHelp()
		}
		cmd, _, err := c.find(c.args)
		if err != nil {
			return err
		}
		return cmd.printHelp(c.stdout)
	}
}
