package engine

import (
	"bytes"
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/spec"
	"github.com/minictr/minictr/pkg/sys"
)

func setProcess(s *specs.Spec, img Template, o Options) error {
	config := img.Config
	if o.User != "" {
		config.User = o.User
	}
	if o.StopSignal != "" {
		if err := checkSignal(o.StopSignal); err != nil {
			return err
		}
		config.StopSignal = o.StopSignal
	}
	env, err := variables(o)
	if err != nil {
		return err
	}
	config.Env = append(config.Env[:len(config.Env):len(config.Env)], env...)
	spec.SetEnv(s, "HOSTNAME="+s.Hostname)
	if err := spec.SetImage(s, config, o.Entrypoint, o.Args, img.Read); err != nil {
		return err
	}
	if err := spec.AddGroups(s, o.Groups, img.Read); err != nil {
		return fmt.Errorf("--group-add: %w", err)
	}
	if o.Workdir != "" {
		if !path.IsAbs(o.Workdir) {
			return fmt.Errorf("--workdir: %q is not an absolute path", o.Workdir)
		}
		s.Process.Cwd = o.Workdir
	}
	return nil
}

// checkSignal refuses what is no signal by its name or its number.
func checkSignal(name string) error {
	if sig, err := ParseSignal(name); err != nil || sig == 0 {
		return fmt.Errorf("--stop-signal: %q is no signal: a name such as TERM or SIGTERM, or a number from 1 to 64", name)
	}
	return nil
}

// variables are those of files first, so that a flag has the last word.
func variables(o Options) (env []string, err error) {
	for _, file := range o.EnvFiles {
		lines, err := linesOf("--env-file", file)
		if err != nil {
			return nil, err
		}
		for _, e := range lines {
			if name, _, _ := strings.Cut(e, "="); name == "" || strings.ContainsFunc(name, unicode.IsSpace) {
				return nil, fmt.Errorf("--env-file: %q in %s is not NAME=VALUE, with no blank in NAME", e, file)
			}
			env = o.variable(env, e)
		}
	}
	for _, e := range o.Env {
		if name, _, _ := strings.Cut(e, "="); name == "" {
			return nil, fmt.Errorf("--env: %q is not NAME=VALUE", e)
		}
		env = o.variable(env, e)
	}
	return env, nil
}

// variable adds NAME=VALUE, or what our own environment has for NAME; as docker
// does, nothing if it has nothing.
func (o Options) variable(env []string, e string) []string {
	name, _, given := strings.Cut(e, "=")
	if given {
		return append(env, e)
	}
	if value, ok := o.Lookup(name); ok {
		env = append(env, name+"="+value)
	}
	return env
}

// linesOf are the lines of a file that are neither empty nor a comment.
func linesOf(flag, file string) (lines []string, err error) {
	data, err := sys.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("%s: %s is no text in UTF-8", flag, file)
	}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimLeftFunc(strings.TrimRight(line, "\r\n"), unicode.IsSpace)
		if line != "" && line[0] != '#' {
			lines = append(lines, line)
		}
	}
	return lines, nil
}

// setLabels makes labels and annotations the annotations of config.json, as
// those of the image are.
func setLabels(w *wall, o Options) error {
	add := func(flag, text string) error {
		name, value, given := strings.Cut(text, "=")
		switch {
		case name == "" || !given && flag == "--annotation":
			return fmt.Errorf("%s: %q is not NAME=VALUE", flag, text)
		case spec.IsOurs(name):
			return fmt.Errorf("%s: %q: names that begin so are orders to this runtime", flag, name)
		}
		spec.Annotate(w.Spec, name, value)
		return nil
	}
	for _, file := range o.LabelFiles {
		lines, err := linesOf("--label-file", file)
		if err != nil {
			return err
		}
		for _, line := range lines {
			if err := add("--label-file", line); err != nil {
				return err
			}
		}
	}
	for _, l := range o.Labels {
		if err := add("--label", l); err != nil {
			return err
		}
	}
	for _, a := range o.Annotations {
		if err := add("--annotation", a); err != nil {
			return err
		}
	}
	return nil
}
