package vm_test

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minictr/minictr/pkg/compare"
)

// compared is what minictr compare measures, in the order of its places.
func compared(t *testing.T, args ...string) *compare.Result {
	t.Helper()
	r := finish(t, command(t, append([]string{"compare", "--accel", "tcg", "--format", "json"}, args...)...))
	if r.status != 0 {
		t.Fatal(r)
	}
	var c compare.Result
	if err := json.Unmarshal([]byte(r.stdout), &c); err != nil {
		t.Fatal(err)
	}
	for i, p := range []compare.Place{compare.Bare, compare.Container, compare.Machine} {
		if len(c.Sides) <= i || c.Sides[i].Place != p {
			t.Fatalf("the sides are not as they should be: %s", r)
		}
	}
	return &c
}

// TestCompare asserts what must be so on any machine: who shares the kernel,
// and what costs more than what.
func TestCompare(t *testing.T) {
	c := compared(t, "--runs", "1", "tiny", "uname", "-n")
	bare, container, machine := c.Sides[0], c.Sides[1], c.Sides[2]

	boot := bootID(t)
	if bare.Facts.BootID != boot || container.Facts.BootID != boot || machine.Facts.BootID == boot {
		t.Errorf("boot_id: %s here, %s bare, %s in a container, %s in a machine",
			boot, bare.Facts.BootID, container.Facts.BootID, machine.Facts.BootID)
	}
	if bare.Facts.Kernel != container.Facts.Kernel || machine.Facts.Kernel == "" {
		t.Errorf("kernel: %s bare, %s in a container, %s in a machine", bare.Facts.Kernel, container.Facts.Kernel, machine.Facts.Kernel)
	}
	if container.Facts.PID != 1 || container.Facts.Processes != 1 || bare.Facts.Processes < 3 {
		t.Errorf("the container's probe has PID %d among %d; bare there are %d",
			container.Facts.PID, container.Facts.Processes, bare.Facts.Processes)
	}
	if bare.First >= container.First || container.First >= machine.First {
		t.Errorf("first instruction: %v ms bare, %v in a container, %v in a machine", bare.First, container.First, machine.First)
	}
	if bare.PSS >= container.PSS || container.PSS >= machine.PSS || machine.PSS < 50<<20 {
		t.Errorf("memory: %d bare, %d in a container, %d in a machine", bare.PSS, container.PSS, machine.PSS)
	}
	if container.Files >= machine.Files || container.Files == 0 {
		t.Errorf("files: %d in a container, %d in a machine", container.Files, machine.Files)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if bare.Output != host || container.Output == host || machine.Output == host || !c.Emulated {
		t.Errorf("host name: %q here, %q bare, %q in a container, %q in a machine", host, bare.Output, container.Output, machine.Output)
	}
	if !strings.Contains(c.Sentence, "a kernel of its own") {
		t.Errorf("the sentence: %s", c.Sentence)
	}
}

// TestCompareAll asserts the fact that each option shows.
func TestCompareAll(t *testing.T) {
	c := compared(t, "--runs", "1", "-m", "512m", "--cpus", "1", "--count", "2", "--neighbour", "--nested", "tiny", "true")
	bare, container, machine := c.Sides[0], c.Sides[1], c.Sides[2]

	if f := machine.Facts; f.Memory > 512<<20 || f.Processors != 1 {
		t.Errorf("a machine of 512 MB and 1 processor sees %d bytes and %d", f.Memory, f.Processors)
	}
	if f := container.Facts; f.Memory != bare.Facts.Memory || f.Processors != bare.Facts.Processors {
		t.Errorf("a container sees %d bytes and %d processors, the host has %d and %d",
			f.Memory, f.Processors, bare.Facts.Memory, bare.Facts.Processors)
	}
	for _, s := range c.Sides[:3] {
		// Two take more than one, and less than twice as much where they share
		// a program's pages. Bare it is a page or two, which kilobytes round.
		if s.Many == nil || s.Many.Count != 2 || s.Place != compare.Bare && s.Many.PSS <= s.PSS || s.Many.First < s.First/2 {
			t.Errorf("%s: two at once: %+v, one: %v ms and %d bytes", s.Place, s.Many, s.First, s.PSS)
		}
		if s.Left == nil {
			t.Fatalf("%s: no neighbour was measured", s.Place)
		}
	}
	// Three busy threads, bare, leave a quarter; with a quarter of the
	// processor they leave three; a machine of one processor leaves a half.
	// There is slack for what else the host does.
	if *bare.Left > 0.45 || *container.Left < 0.5 || *container.Left < *bare.Left+0.2 || *machine.Left < *bare.Left {
		t.Errorf("work beside a noisy neighbour: %.2f bare, %.2f in a container, %.2f in a machine", *bare.Left, *container.Left, *machine.Left)
	}
	if len(c.Sides) != 4 {
		t.Fatalf("%d sides", len(c.Sides))
	}
	nested := c.Sides[3].Facts
	if nested.Kernel != machine.Facts.Kernel || nested.BootID == bare.Facts.BootID || nested.PID != 1 || nested.Processes != 1 {
		t.Errorf("in a container in a machine: %+v", nested)
	}
}

// TestCompareText reads what people read: what the command says in each place,
// and a table that fits a terminal.
func TestCompareText(t *testing.T) {
	r := finish(t, command(t, "compare", "--accel", "tcg", "--runs", "1", "tiny", "uname", "-n"))
	if r.status != 0 {
		t.Fatal(r)
	}
	for _, want := range []string{"bare: ", "container: ", "vm: ", "vm (emulated)\n", "boot_id ", "no fair speed", "a kernel of its own"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("%q is not in\n%s", want, r.stdout)
		}
	}
	for line := range strings.Lines(r.stdout) {
		if len(line) > 81 && !strings.HasPrefix(line, "kernel ") { // whose names are as long as they are
			t.Errorf("a line of %d characters: %s", len(line), line)
		}
	}
}

// TestCompareInterrupted is that an end by a signal leaves neither a process nor
// a container nor a file: while the command runs bare, and, of one that this
// host does not have, while it runs in a container.
func TestCompareInterrupted(t *testing.T) {
	for place, args := range map[string][]string{"bare": {"sh", "-c", "sleep 86399; true"}, "container": {"pause"}} {
		t.Run(place, func(t *testing.T) {
			cmd := command(t, append([]string{"compare", "--accel", "tcg", "--runs", "1", "tiny"}, args...)...)
			tmp := t.TempDir()
			cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
			says, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			awaited(t, says, "measuring: "+place)
			time.Sleep(2 * time.Second) // by then the command runs, most probably
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(says)
			if err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // its status tells
			if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(string(rest), "compare was interrupted") {
				t.Errorf("exit status %d: %s", code, rest)
			}
			if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
				t.Errorf("%v is left (%v)", left, err)
			}
			if r := finish(t, command(t, "ps")); r.status != 0 || strings.Count(r.stdout, "\n") != 1 {
				t.Errorf("containers are left: %s", r)
			}
			lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, file := range lines {
				if text, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(text), "sleep\x0086399") {
					t.Errorf("%s: the command still runs", file)
				}
			}
		})
	}
}

// TestCompareImagesCommand is that what an image's author wrote never runs bare.
func TestCompareImagesCommand(t *testing.T) {
	c := compared(t, "--runs", "1", "tiny")
	if bare := c.Sides[0]; !strings.Contains(bare.Missing, "never runs without a wall") || bare.Done != 0 {
		t.Errorf("%+v", bare)
	}
	c = compared(t, "--runs", "1", "tiny", "sh", "-c", "exit 7")
	for _, s := range c.Sides {
		if s.Status != 7 {
			t.Errorf("%s: exit status %d", s.Place, s.Status)
		}
	}
}
