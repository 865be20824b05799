// Package compare runs one program in the three ways in which a program can be
// deployed: bare, as a process like any other; in a container, a wall on the
// kernel that all share; in a virtual machine, with a hypervisor and a kernel
// of its own. It measures what each is, and what each costs.
//
// Everything is run as a person would, by minictr's own commands.
package compare

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Place is where a program runs.
type Place string

// The places, in the order of a report.
const (
	Bare      Place = "bare"
	Container Place = "container"
	Machine   Place = "vm"
	Nested    Place = "container in vm"
)

// A Config says what to compare, and how.
type Config struct {
	Self    string   // this program's file
	Globals []string // its flags before the command
	Flags   []string // of run and of vm, the same for both
	Machine []string // of vm alone
	Image   Image
	Args    []string         // after the image
	Command []string         // what it runs in the end
	Files   map[Place]int64  // bytes on the host's disk; not of the bare program
	Boots   map[Place]string // what must come up before the program
	Runs    int              // measured starts in each place; what is reported is their median

	Emulated  bool // the virtual machine's processor is
	Count     int  // so many at once, if more than 1
	Neighbour bool // what a noisy neighbour takes away
	Nested    bool // a container in the virtual machine too
	// NestedMemory is that of the virtual machine for it, in bytes.
	NestedMemory int64
}

// An Image is what runs, and where its parts lie: an OCI image layout.
type Image struct {
	Name  string
	ID    string            // digest of its configuration
	Index []byte            // index.json
	Files map[string]string // the others: files of the host by their paths in the layout
}

// A Result is what was found. Times are in milliseconds, sizes in bytes.
type Result struct {
	Image    string   `json:"image"`
	ImageID  string   `json:"imageID"` // digest of its configuration
	Command  []string `json:"command"`
	Emulated bool     `json:"emulated"` // the virtual machine's processor
	Runs     int      `json:"runs"`
	Sides    []*Side  `json:"sides"`
	Sentence string   `json:"sentence"`
}

// A Side is one place.
type Side struct {
	Place   Place  `json:"place"`
	Missing string `json:"missing,omitempty"` // why the command can't run here
	Output  string `json:"output"`            // of the command
	Status  int    `json:"status"`            // its exit status
	Facts   Facts  `json:"facts"`
	// First is the time from the order to the program's first instruction, Done
	// to the command's end.
	First float64 `json:"first"`
	Done  float64 `json:"done"`
	PSS   int64   `json:"pss"`   // memory on the host, while a program of one page runs
	Files int64   `json:"files"` // on the host's disk
	Boots string  `json:"boots"` // what must come up before the program

	Many *Many    `json:"many,omitempty"`
	Left *float64 `json:"left,omitempty"` // share of its work that a process outside does beside a noisy neighbour here
}

// Many is what several take at once.
type Many struct {
	Count int     `json:"count"`
	First float64 `json:"first"` // to the last one's first instruction
	PSS   int64   `json:"pss"`   // of all
}

// Run compares. It tells progress what it begins to measure.
func (c *Config) Run(ctx context.Context, progress func(string)) (r *Result, err error) {
	dir, err := os.MkdirTemp("", "minictr-compare-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	program, err := firstCry()
	if err != nil {
		return nil, err
	}
	cry := filepath.Join(dir, "first-cry")
	if err := os.WriteFile(cry, program, 0o755); err != nil {
		return nil, err
	}
	m := &measurement{Config: c, ctx: ctx, dir: dir, cry: cry}
	r = &Result{Image: c.Image.Name, ImageID: c.Image.ID, Command: c.Command, Emulated: c.Emulated, Runs: c.Runs}
	for _, p := range []Place{Bare, Container, Machine} {
		progress(string(p))
		s, err := m.side(p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		r.Sides = append(r.Sides, s)
	}
	if c.Nested {
		progress(string(Nested))
		s, err := m.nested()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", Nested, err)
		}
		r.Sides = append(r.Sides, s)
	}
	if c.Neighbour {
		progress("a noisy neighbour")
		err = m.neighbours(r)
	}
	r.Sentence = r.sentence()
	return r, err
}

// A measurement runs commands in places.
type measurement struct {
	*Config
	ctx context.Context
	dir string // for files of ours
	cry string // file of the program whose first instruction is seen
}

// program is a file of the host in a place, under a name.
func (m *measurement) program(p Place, file, name string, args, flags []string) *exec.Cmd {
	if p == Bare {
		cmd := exec.CommandContext(m.ctx, file, args...)
		cmd.Args[0] = name
		return cmd
	}
	return m.command(p, append([]string{"--volume", file + ":/" + name + ":ro", "--entrypoint", "/" + name}, flags...), args)
}

// probe is the probe in a place.
func (m *measurement) probe(p Place, mode string, flags ...string) *exec.Cmd {
	return m.program(p, m.Self, ProbeName, []string{mode}, flags)
}

// command is minictr's run or vm with the image.
func (m *measurement) command(p Place, flags, args []string) *exec.Cmd {
	verb := []string{"run"}
	if p == Machine {
		verb = append([]string{"vm"}, m.Machine...)
	}
	return exec.CommandContext(m.ctx, m.Self, slices.Concat(m.Globals, verb, m.Flags, flags, []string{m.Image.Name}, args)...)
}

// side measures one place.
func (m *measurement) side(p Place) (*Side, error) {
	s := &Side{Place: p, Files: m.Files[p], Boots: m.Boots[p]}
	if err := facts(m.probe(p, "facts"), &s.Facts); err != nil {
		return nil, err
	}
	var first []float64
	var pss []int64
	for range m.Runs {
		many, err := m.start(p, 1)
		if err != nil {
			return nil, err
		}
		first, pss = append(first, many.First), append(pss, many.PSS)
	}
	s.First, s.PSS = median(first), median(pss)
	if m.Count > 1 {
		many, err := m.start(p, m.Count)
		if err != nil {
			return nil, err
		}
		s.Many = many
	}
	return s, m.runs(s)
}

// runs measures the command in one place.
func (m *measurement) runs(s *Side) error {
	if s.Place == Bare {
		if s.Missing = m.notBare(); s.Missing != "" {
			return nil
		}
		var st unix.Stat_t
		program, err := exec.LookPath(m.Command[0])
		if err := errors.Join(err, unix.Stat(program, &st)); err != nil {
			return err
		}
		s.Files = st.Blocks * 512
	}
	var done []float64
	for range m.Runs {
		cmd := m.command(s.Place, nil, m.Args)
		if s.Place == Bare {
			cmd = m.bare()
		}
		began := time.Now()
		out, err := cmd.CombinedOutput()
		done = append(done, milliseconds(time.Since(began)))
		if s.Place == Bare && cmd.Process != nil {
			_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // what it has left; ESRCH: nothing
		}
		exit := (*exec.ExitError)(nil)
		if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) || m.ctx.Err() != nil {
			return errors.Join(err, m.ctx.Err())
		}
		// From these on it is minictr that speaks, or a program that was not found.
		if s.Status = cmd.ProcessState.ExitCode(); s.Place != Bare && s.Status >= 125 && s.Status <= 127 {
			return fmt.Errorf("exit status %d: %s", s.Status, strings.TrimSpace(string(out)))
		}
		s.Output = strings.TrimRight(string(out), "\r\n")
	}
	s.Done = median(done)
	return nil
}

// notBare says why the command can't run bare. What an image's author wrote
// never runs without a wall.
func (m *measurement) notBare() string {
	if len(m.Args) == 0 || !slices.Equal(m.Args, m.Command) {
		return "the command is the image's own, which never runs without a wall"
	}
	if _, err := exec.LookPath(m.Command[0]); err != nil {
		return fmt.Sprintf("this host has no %s: the image brings its own", m.Command[0])
	}
	return ""
}

// bare is the command as a process like any other, in a group of its own, so
// that all of it can be ended.
func (m *measurement) bare() *exec.Cmd {
	cmd := exec.CommandContext(m.ctx, m.Command[0], m.Command[1:]...)
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}
