package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/image"
)

// makingFlags are those of the commands that make an image.
func makingFlags(f *pflag.FlagSet, m *engine.Making) {
	f.VarP((*list)(&m.Changes), "change", "c", "make a `CHANGE` of how it runs, as in a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR")
	f.StringVarP(&m.Message, "message", "m", "", "keep this `MESSAGE` in its history")
}

// made prints the ID of a new image.
func (c *call) made(img *image.Image, err error) error {
	if err == nil {
		_, err = fmt.Fprintln(c.stdout, img.ID)
	}
	return err
}

// withEngine is the action of a command that takes n arguments and an engine.
func withEngine(n int, do func(*call, *engine.Engine) error) action {
	return func(c *call) error {
		if err := c.exactly(n, c.command.args); err != nil {
			return err
		}
		e, err := c.engine()
		if err != nil {
			return err
		}
		return do(c, e)
	}
}

// ofNamed has the engine do something with networks, or volumes, that are named.
func ofNamed(kind string, do func(*call, *engine.Engine) error) action {
	return func(c *call) error {
		if len(c.args) == 0 {
			return fmt.Errorf("%s needs a %s: minictr %[2]s ls lists them", c.name, kind)
		}
		e, err := c.engine()
		if err != nil {
			return err
		}
		return do(c, e)
	}
}

func importCommand(f *pflag.FlagSet) action {
	var m engine.Making
	makingFlags(f, &m)
	return withEngine(2, func(c *call, e *engine.Engine) (err error) {
		in := os.Stdin
		if c.args[0] != "-" {
			if in, err = os.Open(c.args[0]); err != nil {
				return err
			}
			defer in.Close()
		}
		return c.made(e.Import(c, in, c.args[1], "-", m))
	})
}

func imageFromCommand(f *pflag.FlagSet) action {
	var m engine.Making
	makingFlags(f, &m)
	program := f.String(entrypoint, "", "run `PROGRAM`: words, or a JSON list of them")
	cmd := f.String("cmd", "", "with these `ARGUMENTS`, unless others are given; without an entrypoint, run them")
	workdir := f.StringP("workdir", "w", "", "begin in `DIR`")
	user := f.StringP("user", "u", "", "run as `USER[:GROUP]`")
	f.VarP((*list)(&m.Env), "env", "e", "set `NAME=VALUE` in its environment")
	return withEngine(2, func(c *call, e *engine.Engine) error {
		for _, change := range [...][2]string{{"ENTRYPOINT", listed(*program)}, {"CMD", listed(*cmd)}, {"WORKDIR", *workdir}, {"USER", *user}} {
			if change[1] != "" {
				m.Changes = append(m.Changes, change[0]+" "+change[1])
			}
		}
		return c.made(e.ImportDir(c, c.args[0], c.args[1], m))
	})
}

// listed makes a JSON list of words.
func listed(text string) string {
	if text == "" || strings.HasPrefix(text, "[") {
		return text
	}
	list, _ := json.Marshal(strings.Fields(text)) // it can't fail
	return string(list)
}

func commitCommand(f *pflag.FlagSet) action {
	var m engine.Making
	makingFlags(f, &m)
	f.StringVarP(&m.Author, "author", "a", "", "say that `AUTHOR` made it")
	pause := f.BoolP("pause", "p", true, "have its processes stand still while its files are read")
	return withEngine(2, func(c *call, e *engine.Engine) error {
		return c.made(e.Commit(c, c.args[0], c.args[1], *pause, m))
	})
}

func exportCommand(f *pflag.FlagSet) action {
	output := f.StringP("output", "o", "", "write `FILE`, and not standard output")
	return withEngine(1, func(c *call, e *engine.Engine) error {
		return c.writeArchive(*output, func(w io.Writer) error { return e.Export(c.args[0], w) })
	})
}
