package integration_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/minictr/minictr/pkg/wall"
)

// wallStates are the rows of the default wall, as minictr wall has them. Whether
// there is a wall of memory, cpu and io depends on limits, that of lsm on the
// host.
var wallStates = map[string]wall.State{
	"user": wall.Shared, "pid": wall.Walled, "mnt": wall.Walled, "root": wall.Walled, "masks": wall.Walled, "net": wall.Walled,
	"uts": wall.Walled, "ipc": wall.Walled, "time": wall.Shared, "cgroup": wall.Walled, "pids": wall.Walled, "devices": wall.Walled,
	"caps": wall.Walled, "nnp": wall.Walled, "seccomp": wall.Walled, "memory": wall.Missing, "cpu": wall.Missing, "io": wall.Missing,
}

// wallLooks looks at a container that is run with some flags.
func wallLooks(t *testing.T, flags ...string) (w wall.Wall, plan string) {
	t.Helper()
	h := newHost(t)
	cmd := h.command(append(append([]string{"run", "--name", "box"}, flags...), "tiny", "sleep", "60")...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.must(t, "rm", "-f", "box")
		_ = cmd.Wait() // its program was killed
	})
	eventually(t, "the program is there", func() bool {
		r := h.minictr(t, "wall", "--format", "json", "box")
		return r.status == 0 && json.Unmarshal([]byte(r.stdout), &w) == nil && w.Command == "sleep"
	})
	if comm := hostFile(t, fmt.Sprintf("/proc/%d/comm", w.PID)); comm != "sleep" || w.Inside[0] != w.PID {
		t.Errorf("it looked at process %d, %v, which is %s", w.PID, w.Inside, comm)
	}
	return w, h.must(t, "plan", "-v", "--container", "box")
}

// TestWallLooks looks at containers from outside: one with the default wall,
// and one without each brick that can be left out, whose row says so.
func TestWallLooks(t *testing.T) {
	without := map[string]map[string]wall.State{
		"":        nil,
		"pid":     {"pid": wall.Shared},
		"net":     {"net": wall.Shared},
		"ipc":     {"ipc": wall.Shared},
		"uts":     {"uts": wall.Shared},
		"cgroup":  {"cgroup": wall.Shared, "pids": wall.Missing},
		"masks":   {"masks": wall.Missing},
		"root":    {"root": wall.Shared},
		"nnp":     {"nnp": wall.Missing},
		"seccomp": {"seccomp": wall.Missing},
	}
	for _, brick := range slices.Sorted(maps.Keys(without)) {
		t.Run("without "+brick, func(t *testing.T) {
			var flags []string
			if brick != "" {
				flags = []string{"--without", brick}
			}
			w, plan := wallLooks(t, flags...)
			want := maps.Clone(wallStates)
			maps.Copy(want, without[brick])
			for _, b := range w.Bricks {
				state, ok := want[b.Name]
				if delete(want, b.Name); ok && b.State != state {
					t.Errorf("%s is %s, want %s: %+v", b.Name, b.State, state, b)
				}
				if b.Inside == "" || b.Host == "" || b.Call == "" || b.Means == "" {
					t.Errorf("it does not say all: %+v", b)
				}
				// The host's root, too, is made the only one by steps.
				if laid := len(b.Steps) > 0; b.State == wall.Walled && !laid || laid && b.State != wall.Walled && b.Name != "root" {
					t.Errorf("%s is %s, by the steps %v of its plan", b.Name, b.State, b.Steps)
				}
			}
			if len(want) > 0 {
				t.Errorf("these rows are not there: %v", want)
			}
			if brick == "" {
				laidBy(t, w, plan)
			}
		})
	}
}

// laidBy wants the calls in the plan at the numbers that wall tells.
func laidBy(t *testing.T, w wall.Wall, plan string) {
	t.Helper()
	for name, call := range map[string]string{
		"pid": "CLONE_NEWPID", "mnt": `fsopen("proc"`, "root": "pivot_root(", "masks": "move_mount(", "net": "SIOCSIFFLAGS", "uts": "sethostname(",
		"ipc": "CLONE_NEWIPC", "cgroup": "CLONE_NEWCGROUP", "caps": "capset(", "nnp": "PR_SET_NO_NEW_PRIVS", "seccomp": "seccomp(",
	} {
		b := w.Bricks[slices.IndexFunc(w.Bricks, func(b wall.Brick) bool { return b.Name == name })]
		found := false
		for line := range strings.Lines(plan) {
			number, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			n, err := strconv.Atoi(number)
			found = found || err == nil && slices.Contains(b.Steps, n) && strings.Contains(rest, call)
		}
		if !found {
			t.Errorf("%s: no step of %v is %s in\n%s", name, b.Steps, call, plan)
		}
	}
}

// TestWallLimits gives limits, which make walls of what is open by default.
func TestWallLimits(t *testing.T) {
	w, _ := wallLooks(t, "-m", "64m", "--cpus", "0.5", "--pids-limit", "20")
	for _, name := range []string{"memory", "cpu", "pids"} {
		b := w.Bricks[slices.IndexFunc(w.Bricks, func(b wall.Brick) bool { return b.Name == name })]
		if b.State != wall.Walled || len(b.Steps) == 0 {
			t.Errorf("%s: %+v", name, b)
		}
	}
}

// TestWallOfOtherID looks at a container of another minictr, which this one
// knows only as a cgroup and the processes in it.
func TestWallOfOtherID(t *testing.T) {
	h := newHost(t)
	c := h.start(t, "run", "tiny", "sh", "-c", "pause & pause")
	eventually(t, "both programs are there", func() bool { return len(strings.Fields(processes(t, c.group))) > 1 })
	stranger := host{root: h.root, run: temp(t)}
	out := stranger.must(t, "wall", c.id[:8])
	if want := fmt.Sprintf("Process %d of the host is process 1 inside: ", c.first(t)); !strings.HasPrefix(out, want) {
		t.Errorf("want %q: %s", want, out)
	}
	h.must(t, "rm", "-f", c.id)
	c.wait(t)
}
