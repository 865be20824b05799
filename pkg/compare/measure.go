package compare

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func median[T cmp.Ordered](values []T) T {
	slices.Sort(values)
	return values[len(values)/2]
}

// facts runs a probe.
func facts(cmd *exec.Cmd, f *Facts) error {
	out, err := output(cmd)
	if err != nil {
		return err
	}
	return json.Unmarshal(out, f)
}

// output runs a command, whose error says what it wrote to its standard error.
func output(cmd *exec.Cmd) ([]byte, error) {
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	return out, err
}

// A running command has written its first byte, and waits for the end of its
// input.
type running struct {
	cmd    *exec.Cmd
	input  io.WriteCloser
	output io.Reader
	says   strings.Builder
}

// begin starts a command.
func begin(cmd *exec.Cmd) (r *running, err error) {
	r = &running{cmd: cmd}
	cmd.Stderr = &r.says
	if r.input, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if r.output, err = cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	return r, cmd.Start()
}

// first waits for the first byte.
func (r *running) first() error {
	_, err := io.ReadFull(r.output, make([]byte, 1))
	if err != nil {
		err = fmt.Errorf("it wrote nothing: %w", errors.Join(err, r.end()))
	}
	return err
}

// end lets it end.
func (r *running) end() error {
	err := r.input.Close()
	_, _ = io.Copy(io.Discard, r.output)
	if e := r.cmd.Wait(); e != nil {
		err = errors.Join(err, fmt.Errorf("%w: %s", e, strings.TrimSpace(r.says.String())))
	}
	return err
}

// start starts n programs at once, and measures how long it takes until all
// have executed their first instruction, and what memory they take then.
func (m *measurement) start(p Place, n int) (*Many, error) {
	many := &Many{Count: n}
	var all []*running
	began := time.Now()
	var err error
	for range n {
		r, e := begin(m.program(p, m.cry, filepath.Base(m.cry), nil, nil))
		if err = e; err != nil {
			break
		}
		all = append(all, r)
	}
	for _, r := range all {
		err = errors.Join(err, r.first())
	}
	many.First = milliseconds(time.Since(began))
	for _, r := range all {
		if err != nil {
			break
		}
		var size int64
		size, err = pss(r.cmd.Process.Pid)
		many.PSS += size
	}
	for _, r := range all {
		if r.cmd.ProcessState == nil {
			err = errors.Join(err, r.end())
		}
	}
	return many, err
}

// pss is the memory of a process and its descendants, in bytes: what they
// share with others counts in part, proc_pid_smaps_rollup(5).
func pss(pid int) (int64, error) {
	dir := fmt.Sprintf("/proc/%d", pid)
	text, err := os.ReadFile(dir + "/smaps_rollup")
	if err != nil {
		return 0, err
	}
	size := int64(0)
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); f[0] == "Pss:" {
			kilobytes, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return 0, err
			}
			size = kilobytes << 10
		}
	}
	// A file in memory that is open, and not mapped, is in no PSS: the machine's
	// files, which QEMU has from us.
	descriptors, err := filepath.Glob(dir + "/fd/*")
	for _, fd := range descriptors {
		if name, e := os.Readlink(fd); e == nil && strings.HasPrefix(name, "/memfd:") {
			if st, e := os.Stat(fd); e == nil {
				size += st.Size()
			}
		}
	}
	lists, e := filepath.Glob(dir + "/task/*/children")
	err = errors.Join(err, e)
	for _, list := range lists {
		text, e := os.ReadFile(list)
		err = errors.Join(err, e)
		for child := range strings.FieldsSeq(string(text)) {
			n, e := strconv.Atoi(child)
			more, e2 := pss(n)
			err = errors.Join(err, e, e2)
			size += more
		}
	}
	return size, err
}

// neighbours measures how much of its work a bare process still does when a
// noisy neighbour is in each place. All share one processor.
func (m *measurement) neighbours(r *Result) error {
	return pinned(func() error {
		for _, s := range r.Sides {
			if s.Place == Nested {
				continue
			}
			limits := []string{"--cpus", "1"}
			if s.Place == Container {
				limits = []string{"--cpus", neighbourCPUs}
			}
			alone, err := m.work()
			if err != nil {
				return err
			}
			hog, err := begin(m.probe(s.Place, "hog", limits...))
			if err != nil {
				return err
			}
			if err := hog.first(); err != nil {
				return fmt.Errorf("%s: %w", s.Place, err)
			}
			n, err := m.work()
			if err := errors.Join(err, hog.end()); err != nil {
				return fmt.Errorf("%s: %w", s.Place, err)
			}
			left := n / alone
			s.Left = &left
		}
		return nil
	})
}

// neighbourCPUs is the noisy neighbour's limit in a container.
const neighbourCPUs = "0.25"

// work is how much a bare process gets done.
func (m *measurement) work() (float64, error) {
	out, err := output(m.probe(Bare, "work"))
	if err != nil {
		return 0, err
	}
	count, _, _ := strings.Cut(string(out), " ")
	return strconv.ParseFloat(count, 64)
}

// pinned calls f with one processor, which the processes that it starts have
// too.
func pinned(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return err
	}
	for cpu := range 64 * len(all) {
		if all.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return err
	}
	return errors.Join(f(), unix.SchedSetaffinity(0, &all))
}

// nested runs the same image in a container in a virtual machine. The machine
// is one of the built-in image, which has a shell.
func (m *measurement) nested() (*Side, error) {
	const program, layout = "/minictr", "/image"
	list := filepath.Join(m.dir, "index.json")
	if err := os.WriteFile(list, m.Image.Index, 0o600); err != nil {
		return nil, err
	}
	args := slices.Concat(m.Globals, []string{"vm", "--memory", strconv.FormatInt(m.NestedMemory, 10)}, m.Machine,
		[]string{"--volume", m.Self + ":" + program, "--volume", list + ":" + layout + "/index.json"})
	for name, file := range m.Image.Files {
		args = append(args, "--volume", file+":"+layout+"/"+name)
	}
	script := fmt.Sprintf("%s load %s >&2 && %[1]s run --volume %[1]s:/%[3]s:ro --entrypoint /%[3]s %[4]s facts",
		program, layout, ProbeName, m.Image.ID)
	s := &Side{Place: Nested, Boots: m.Boots[Machine]}
	return s, facts(exec.CommandContext(m.ctx, m.Self, append(args, "tiny", "sh", "-c", script)...), &s.Facts)
}
