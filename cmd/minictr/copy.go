package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/format"
)

func diffCommand(*pflag.FlagSet) action {
	return withEngine(1, func(c *call, e *engine.Engine) error {
		list, err := e.Diff(c.args[0])
		for _, change := range list {
			fmt.Fprintln(c.stdout, change)
		}
		return err
	})
}

// splitContainer splits CONTAINER:PATH. A path of this host that has a colon
// begins with a slash or a dot.
func splitContainer(arg string) (container, path string) {
	name, path, found := strings.Cut(arg, ":")
	if !found || filepath.IsAbs(arg) || strings.HasPrefix(name, ".") {
		return "", arg
	}
	return name, path
}

func copyCommand(f *pflag.FlagSet) action {
	var o engine.CopyOptions
	f.BoolVarP(&o.Archive, "archive", "a", false, "keep the owners' numbers of what comes to this host")
	f.BoolVarP(&o.Follow, "follow-link", "L", false, "copy what a symbolic link leads to")
	quiet := f.BoolP("quiet", "q", false, "do not say what was copied (so where standard output is no terminal)")
	return withEngine(2, func(c *call, e *engine.Engine) error {
		from, src := splitContainer(c.args[0])
		to, dst := splitContainer(c.args[1])
		var n int64
		var err error
		switch {
		case from != "" && to != "":
			return errors.New("cp copies from or to a container, not from one to another: minictr cp A:PATH - | minictr cp - B:PATH does")
		case from == "" && to == "":
			return errors.New("cp needs a container on one side: CONTAINER:PATH; minictr ps lists them")
		case src == "" || dst == "":
			return errors.New("cp: a path is empty")
		case from != "" && dst == "-":
			if term.IsTerminal(1) {
				return errors.New("cp: a tar is not for a terminal: redirect it")
			}
			return e.CopyOut(from, src, c.stdout, o)
		case to != "" && src == "-":
			return e.CopyIn(c, io.Reader(os.Stdin), to, dst)
		case from != "":
			n, err = e.CopyFrom(c, from, src, dst, o)
		default:
			n, err = e.CopyTo(c, src, to, dst, o)
		}
		if err == nil && (c.flags.Changed("quiet") || term.IsTerminal(1)) && !*quiet {
			fmt.Fprintf(c.stderr, "Successfully copied %s to %s\n", format.Size(n), c.args[1])
		}
		return err
	})
}
