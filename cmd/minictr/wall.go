package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/wall"
)

func wallCommand(f *pflag.FlagSet) action {
	number := f.Int("pid", 0, "look at the process with this `PID`")
	verbose := f.BoolP("verbose", "v", false, "also by which call each brick is laid, and how strong it is")
	format := f.String("format", "text", "print it in this `FORMAT`: text or json")
	language := languageFlag(f)
	return func(c *call) error {
		name := ""
		switch {
		case len(c.args) > 1 || len(c.args) == 1 && f.Changed("pid"):
			return errors.New("wall takes one container, or --pid: minictr help wall")
		case *format != "text" && *format != "json":
			return fmt.Errorf("--format: %q is neither text nor json", *format)
		case f.Changed("pid"):
			name = pidPrefix + strconv.Itoa(*number)
		case len(c.args) == 1:
			name = c.args[0]
		}
		w, err := c.wall(name)
		switch {
		case err != nil:
			return err
		case *format == "json":
			return writeJSON(c.stdout, w)
		}
		return c.page(func(page io.Writer) error { return w.Format(page, *verbose, language.Language) })
	}
}

func wallDiffCommand(f *pflag.FlagSet) action {
	language := languageFlag(f)
	return func(c *call) error {
		if len(c.args) != 2 {
			return errors.New("wall diff takes two containers, or processes: minictr wall diff A pid:1")
		}
		a, err := c.wall(c.args[0])
		if err != nil {
			return err
		}
		b, err := c.wall(c.args[1])
		if err != nil {
			return err
		}
		return c.page(func(page io.Writer) error { return wall.Diff(page, a, b, language.Language) })
	}
}

// page prints what write writes, but nothing that a terminal would obey: a
// container chooses its name, and what its processes are called.
func (c *call) page(write func(io.Writer) error) error {
	var text strings.Builder
	if err := write(&text); err != nil {
		return err
	}
	for line := range strings.Lines(text.String()) {
		if _, err := fmt.Fprintln(c.stdout, printable(strings.TrimSuffix(line, "\n"))); err != nil {
			return err
		}
	}
	return nil
}

// pidPrefix begins the name of a process in the place of a container's.
const pidPrefix = "pid:"

// wall is the wall around a container of ours or others', or a process; around
// this one if none is named.
func (c *call) wall(name string) (*wall.Wall, error) {
	pid, s, err := c.look(name)
	if err != nil {
		return nil, err
	}
	w, err := wall.Around(pid)
	if err != nil || s == nil {
		return w, err
	}
	p, err := c.runtime().PlanOf(s)
	if err != nil {
		return nil, err
	}
	for i, b := range w.Bricks {
		w.Bricks[i].Steps = laid(p, b.Name)
	}
	return w, nil
}

// look finds the process that a name means, and the state of the container of
// ours that it is the first of.
func (c *call) look(name string) (int, *container.State, error) {
	r := c.runtime()
	number, isPID := strings.CutPrefix(name, pidPrefix)
	switch {
	case name == "":
		return os.Getpid(), nil, nil
	case isPID:
		pid, err := strconv.Atoi(number)
		if err != nil || pid <= 0 {
			return 0, nil, fmt.Errorf("%q is no PID", number)
		}
		all, _ := r.List() // one that can't be read is no obstacle for the others
		for _, s := range all {
			if s.PID == pid && runs(s) == nil {
				return pid, s, nil
			}
		}
		return pid, nil, nil
	}
	s, err := r.Load(name)
	switch {
	case err == nil:
		return s.PID, s, runs(s)
	case !errors.Is(err, container.ErrNotExist):
		return 0, nil, err
	}
	pid, err := wall.Find(name)
	return pid, nil, err
}

// runs says whether the container's first process is still there: its PID may be
// another's by now.
func runs(s *container.State) error {
	status, err := s.Status()
	if err == nil && (status == specs.StateStopped || s.PID == 0) {
		err = fmt.Errorf("%w: %s", container.ErrStopped, s.ID)
	}
	return err
}

// A layer tells which steps of a plan lay a brick of the wall: those of whole
// sections, those whose call has a text in it, and those that a field of
// config.json asks for.
type layer struct{ brick, sections, call, field string }

var layers = [...]layer{
	{"user", "", "CLONE_NEWUSER", "/linux/uidMappings"},
	{"pid", "", "CLONE_NEWPID", ""},
	{"mnt", "mounts", "CLONE_NEWNS", ""},
	{"root", "root pivot", "", ""},
	{"masks", "masks", "", "/linux/readonlyPaths"},
	{"net", "network", "CLONE_NEWNET", ""},
	{"uts", "hostname", "CLONE_NEWUTS", ""},
	{"ipc", "", "CLONE_NEWIPC", ""},
	{"time", "", "CLONE_NEWTIME", "/linux/timeOffsets"},
	{"cgroup", "", "CLONE_NEWCGROUP", ""},
	{"memory", "", "", "/linux/resources/memory"},
	{"cpu", "", "", "/linux/resources/cpu"},
	{"pids", "", "", "/linux/resources/pids"},
	{"io", "", "", "/linux/resources/blockIO"},
	{"devices", "devices", "", "/linux/resources/devices"},
	{"caps", "", "", "/process/capabilities"},
	{"nnp", "", "PR_SET_NO_NEW_PRIVS", ""},
	{"lsm", "", "", "/process/apparmorProfile"},
	{"seccomp", "", "", "/linux/seccomp"},
}

// laid are the numbers of the steps that laid a brick.
func laid(p *plan.Plan, brick string) (numbers []int) {
	i := slices.IndexFunc(layers[:], func(l layer) bool { return l.brick == brick })
	if i < 0 {
		return nil
	}
	by, number := layers[i], 0
	for _, section := range p.Sections {
		for _, step := range section.Steps {
			number++
			if strings.Contains(" "+by.sections+" ", " "+section.Brick+" ") ||
				by.call != "" && strings.Contains(step.Call.String(), by.call) ||
				by.field != "" && strings.HasPrefix(step.Spec, by.field) {
				numbers = append(numbers, number)
			}
		}
	}
	return numbers
}
