package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/minictr/minictr/pkg/cgroup"
)

// A running container is one that a test looks at from outside.
type running struct {
	cmd   *exec.Cmd
	id    string
	group cgroup.Group
	out   *strings.Builder // of both streams, once it has ended
	ended chan struct{}
}

// start runs minictr in the background until the container is there.
func (h host) start(t *testing.T, args ...string) *running {
	t.Helper()
	return h.started(t, h.command(args...))
}

func (h host) started(t *testing.T, cmd *exec.Cmd) *running {
	t.Helper()
	r := &running{cmd: cmd, out: new(strings.Builder), ended: make(chan struct{})}
	r.cmd.Stdout, r.cmd.Stderr = r.out, r.out
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = r.cmd.Wait() // the test looks at the state
		close(r.ended)
	}()
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		<-r.ended
		h.must(t, "ps") // takes away what is left
	})
	layout, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the container is there", func() bool {
		select {
		case <-r.ended:
			t.Fatalf("it has ended already: %v\n%s", r.cmd.ProcessState, r.out)
		default:
		}
		entries, _ := os.ReadDir(h.run)
		if len(entries) == 0 {
			return false
		}
		r.id = entries[0].Name()
		if r.group, err = layout.Group("/minictr/" + r.id); err != nil {
			t.Fatal(err)
		}
		pids, err := r.group.Procs()
		return err == nil && len(pids) > 0
	})
	return r
}

// stats reads the counters of the container's cgroup.
func (r *running) stats(t *testing.T) cgroup.Stats {
	t.Helper()
	s, err := r.group.Stats()
	if err != nil {
		t.Fatalf("%v\n%s", err, r.out)
	}
	return s
}

// wait waits for the end, and returns the exit status.
func (r *running) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-r.ended:
	case <-time.After(patience):
		t.Fatalf("minictr did not end within %v", patience)
	}
	return r.cmd.ProcessState.ExitCode()
}

// TestMemoryLimit gives a program that takes 80 MB a limit of 20.
func TestMemoryLimit(t *testing.T) {
	h := newHost(t)
	r := h.minictr(t, "run", "-m", "20m", "tiny", "burn-mem")
	if r.status != 137 || !strings.Contains(r.stdout, "8 MB") || strings.Contains(r.stdout, "24 MB") {
		t.Errorf("it was to be killed below 20 MB: %v", r)
	}
	if !strings.HasPrefix(r.stderr, "minictr: ") || !strings.Contains(r.stderr, "memory") {
		t.Errorf("nobody says why: %v", r)
	}
	if r := h.minictr(t, "run", "-m", "120m", "tiny", "sh", "-c", "cd /tmp; touch took; burn-mem >took & until grep '^80 MB' took; do sleep 0.1; done; echo alive"); r.status != 0 || r.stdout != "80 MB\nalive\n" || r.stderr != "" {
		t.Errorf("120 MB are enough for it: %v", r)
	}

	// The counter is read while the container is still there: its first process
	// outlives the one that is killed. The kernel kills the one that holds most, and
	// the shell holds 15 MB, of which 8 are its program's file.
	c := h.start(t, "run", "-m", "40m", "tiny", "sh", "-c", "burn-mem; echo status $?; sleep 60")
	eventually(t, "the kernel kills a process", func() bool { return c.stats(t).Memory.OOMKills > 0 })
	s := c.stats(t).Memory
	if s.OOMKills != 1 || s.Limit != 40<<20 || s.Peak > 40<<20 || s.Peak < 32<<20 {
		t.Errorf("oom_kill %d, limit %d, peak %d", s.OOMKills, s.Limit, s.Peak)
	}
	eventually(t, "the shell goes on", func() bool {
		return strings.Contains(processes(t, c.group), "\nsleep 60")
	})
	h.must(t, "rm", "-f", c.id)
	if status := c.wait(t); status != 137 || !strings.Contains(c.out.String(), "status 137") {
		t.Errorf("exit status %d\n%s", status, c.out)
	}
}

// TestPidsLimit lets a program fork that would end in 1024 processes.
func TestPidsLimit(t *testing.T) {
	h := newHost(t)
	c := h.start(t, "run", "--pids-limit", "20", "tiny", "burn-pids")
	var now cgroup.PidsStats
	defer func() {
		if t.Failed() {
			t.Logf("%+v", now)
		}
	}()
	// A process is counted before it is refused: for a moment there may be more.
	eventually(t, "the kernel refuses a fork", func() bool {
		now = c.stats(t).Pids
		return now.Refused > 0 && now.Current == 20 && now.Limit == 20
	})
	if pids, err := c.group.Procs(); len(pids) > 20 || err != nil {
		t.Errorf("%d processes, %v", len(pids), err)
	}
	if out, err := exec.Command("echo", "unharmed").Output(); string(out) != "unharmed\n" {
		t.Errorf("the host can't fork: %s %v", out, err)
	}
	h.must(t, "run", "tiny", "true") // and another container can begin
	h.must(t, "rm", "-f", c.id)
	if status := c.wait(t); status != 137 {
		t.Errorf("exit status %d\n%s", status, c.out)
	}
}

// TestCPULimit lets a program that never waits run for three seconds on half a
// processor.
//
// The quota is kept in each period of 100 ms, so what begins or ends within
// the time that is measured adds at most two periods' quota, 100 ms: the
// counters are read when the group has used its quota up, which leaves far
// less. In a period in which the group was throttled it had used its quota,
// however busy the machine was.
func TestCPULimit(t *testing.T) {
	h := newHost(t)
	c := h.start(t, "run", "--cpus", "0.5", "tiny", "sh", "-c", "while :; do :; done")
	for range 5 {
		begin, a := time.Now(), c.stats(t).CPU
		time.Sleep(3 * time.Second)
		elapsed, b := time.Since(begin), c.stats(t).CPU
		used, periods, throttled := b.Usage-a.Usage, b.Periods-a.Periods, b.Throttled-a.Throttled
		t.Logf("%v of processor time in %v, throttled in %d of %d periods", used, elapsed, throttled, periods)
		if used > elapsed*55/100 {
			t.Fatal("the limit is half a processor")
		}
		if used < time.Duration(throttled)*45*time.Millisecond {
			t.Fatal("it was throttled before it had used its quota")
		}
		if throttled > 0 && b.Waited > a.Waited {
			return
		}
	}
	t.Fatal("it was never throttled")
}

// processes are the command lines of a cgroup's processes.
func processes(t *testing.T, g cgroup.Group) (list string) {
	t.Helper()
	pids, err := g.Procs()
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // gone by now: nothing
		list += "\n" + strings.ReplaceAll(string(text), "\x00", " ")
	}
	return list
}
