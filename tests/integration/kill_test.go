package integration_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/tests/alone"
)

// up says so and stays.
func up(t *testing.T) []byte {
	return tinyProgram(t, &plan.Step{Call: plan.WriteTo(1, "up\n")}, stay)
}

// A victim is a way to run a container that stays, with the same ID again and
// again.
type victim struct {
	name  string
	args  func(t *testing.T) []string // of minictr
	again func(t *testing.T) []string // the same ID, with a program that ends
}

var victims = []victim{
	{
		"bundle",
		func(t *testing.T) []string { return []string{"run", "--bundle", upBundle(t, "up"), "victim"} },
		func(t *testing.T) []string { return []string{"run", "--bundle", upBundle(t, "done"), "victim"} },
	},
	{
		"image",
		func(t *testing.T) []string {
			return []string{"run", "--name", "victim", "-v", upFile(t) + ":/up", "tiny", "/up"}
		},
		func(*testing.T) []string { return []string{"run", "--name", "victim", "tiny", "true"} },
	},
}

func upBundle(t *testing.T, program string) string {
	dir := newBundle(t, newSpec("victim", program), "victim")
	if err := os.WriteFile(filepath.Join(dir, "rootfs/bin/up"), up(t), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func upFile(t *testing.T) string {
	name := filepath.Join(temp(t), "up")
	if err := os.WriteFile(name, up(t), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

// A changer is a system call by which the runtime changes the machine, and how
// many of them one thread makes at most in a run.
type changer struct {
	name string
	most int
}

var changing = [...]changer{
	{"mkdirat", 16},
	{"openat", 60},
	{"write", 40},
	{"renameat", 3},
	{"flock", 4},
	{"fsync", 3},
	{"symlinkat", 1},
	{"memfd_create", 1},
	{"fcntl", 6},
	{"pipe2", 3},
	{"clone3", 1},
	{"close", 40},
	{"unlinkat", 6},
	{"wait4", 1},
	{"waitid", 1},
}

// TestKilledRuntime kills the runtime, or the process that is to become the
// container, at each call by which it changes the machine. The next command
// takes everything away, and the ID can be used again.
func TestKilledRuntime(t *testing.T) {
	for _, v := range victims {
		t.Run(v.name, func(t *testing.T) {
			h := newHost(t)
			args, again := v.args(t), v.again(t)
			before := machine(h)
			points := 0
			for _, call := range changing {
				for n := 1; n <= call.most; n += 1 + n/12 {
					when := fmt.Sprintf("at %s %d", call.name, n)
					out, killed := h.killAt(t, args, call.name, n)
					if killed {
						points++
					}
					h.swept(t, before, again, when+"\n"+out)
					if t.Failed() {
						t.FailNow()
					}
					if !killed { // there is no such call any more
						break
					}
				}
			}
			if points < 60 {
				t.Errorf("killed at %d points only", points)
			}
			t.Logf("killed at %d points", points)
		})
	}
}

// killAt runs minictr under strace, which sends SIGKILL to the first thread
// that makes a call for the nth time, be it the runtime's or the container's.
// If there is none, the runtime is killed when the program is there. It
// reports which.
func (h host) killAt(t *testing.T, args []string, call string, n int) (out string, killed bool) {
	t.Helper()
	cmd := h.command(args...)
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("strace is not installed (Debian: strace)")
	}
	// With -D minictr is our child, and strace a grandchild.
	cmd.Path, cmd.Args = strace, append([]string{
		strace, "-D", "-f", "-qqq", "-o", "/dev/null", "-e", "trace=" + call, "-e", "signal=none",
		"-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", call, n), "--", program,
	}, cmd.Args[1:]...)
	return h.kill(t, cmd, func() bool { return false })
}

// kill runs a minictr until it ends, is to be killed now, or has a program
// that is up, and kills it then.
func (h host) kill(t *testing.T, cmd *exec.Cmd, now func() bool) (out string, killed bool) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	stderr, err := os.CreateTemp(temp(t), "stderr")
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	cmd.Stdout, cmd.Stderr = w, stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	isUp := make(chan bool, 1)
	go func() {
		line := make([]byte, 3)
		_, err := io.ReadFull(r, line)
		isUp <- err == nil
	}()
	killed = true
	for waiting := true; waiting; {
		select {
		case <-ended:
			waiting = false
		case yes := <-isUp:
			if isUp = nil; yes {
				killed = false
				_ = cmd.Process.Kill()
			}
		case <-time.After(time.Millisecond):
			if now() {
				_ = cmd.Process.Kill()
			}
		}
	}
	errs, err := os.ReadFile(stderr.Name())
	if err != nil {
		t.Fatal(err)
	}
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() && ws.ExitStatus() != statusRun && ws.ExitStatus() != statusFailed {
		t.Errorf("exit status %d, neither killed nor ours\n%s", ws.ExitStatus(), errs)
	}
	return string(errs), killed
}

// swept checks that one command takes away what a killed runtime has left,
// and that the ID is free.
func (h host) swept(t *testing.T, before fingerprint, again []string, when string) {
	t.Helper()
	if list := h.must(t, "ps"); strings.Count(list, "\n") != 1 {
		t.Errorf("killed %s: ps lists\n%s", when, list)
	}
	before.compare(t, h, "killed "+when)
	if r := h.minictr(t, again...); r.status != 0 {
		t.Errorf("killed %s: the ID can't be used again: %v", when, r)
	}
}

// TestKilledAtRandom kills the runtime at moments that nobody has chosen.
func TestKilledAtRandom(t *testing.T) {
	for _, v := range victims {
		t.Run(v.name, func(t *testing.T) {
			h := newHost(t)
			args, again := v.args(t), v.again(t)
			before := machine(h)
			for range 30 {
				after := time.Duration(rand.IntN(25_000)) * time.Microsecond
				start := time.Now()
				out, _ := h.kill(t, h.command(args...), func() bool { return time.Since(start) > after })
				h.swept(t, before, again, fmt.Sprintf("after %v\n%s", after, out))
				if t.Failed() {
					t.FailNow()
				}
			}
		})
	}
}

// TestOutlivesNoRuntime is that a container ends with a runtime that is
// killed, without any further command.
func TestOutlivesNoRuntime(t *testing.T) {
	for _, v := range victims {
		h := newHost(t)
		_, killed := h.kill(t, h.command(v.args(t)...), func() bool { return false })
		if killed {
			t.Errorf("%s: it ended before its program was up", v.name)
		}
		eventually(t, "the container ends with its runtime", func() bool { return len(alone.Children()) == 0 })
		h.must(t, "ps")
	}
	// Without a PID namespace only its first process does. The others are ended
	// by the next command.
	h := newHost(t)
	cmd := h.command("run", "-v", upFile(t)+":/up", "--without", "pid", "tiny", "sh", "-c", "/up & pause")
	if _, killed := h.kill(t, cmd, func() bool { return false }); killed {
		t.Error("it ended before its program was up")
	}
	eventually(t, "its second process is left to us", func() bool {
		return slices.ContainsFunc(alone.Children(), func(c alone.Child) bool { return c.Name == "up" })
	})
	h.must(t, "ps")
	eventually(t, "the others end", func() bool { return len(alone.Children()) == 0 })
}
