package integration_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newEngine is a host with a place of its own for containers that stay.
func newEngine(t *testing.T) host {
	t.Helper()
	h := newHost(t)
	h.root = filepath.Join(temp(t), "data")
	h.must(t, "network", "inspect", "bridge") // which stays, once it was asked for
	unchanged(t, h)
	return h
}

// detached runs a container that stays, and returns its ID. It is removed when
// the test ends.
func (h host) detached(t *testing.T, args ...string) string {
	t.Helper()
	id := strings.TrimSpace(h.must(t, append([]string{"run", "-d"}, args...)...))
	t.Cleanup(func() { h.minictr(t, "rm", "-f", "-v", id) })
	return id
}

// status is what the engine has written down of how a container is.
func (h host) status(t *testing.T, id string) map[string]any {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(h.root, "containers", "*-"+id, "status.json"))
	if len(files) != 1 {
		t.Fatalf("status files of %s: %q", id, files)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var status map[string]any
	if err := json.Unmarshal(text, &status); err != nil {
		t.Fatal(err)
	}
	return status
}

// TestDetached is the life of a container that outlives its command.
func TestDetached(t *testing.T) {
	h := newEngine(t)
	id := h.detached(t, "--name", "web", "tiny", "sh", "-c", "echo out; echo err >&2; sleep 1000")
	if len(id) != 12 {
		t.Errorf("it printed %q", id)
	}
	eventually(t, "both lines are in the log", func() bool {
		r := h.minictr(t, "logs", "web")
		return r.stdout == "out\n" && r.stderr == "err\n" && r.status == 0
	})
	if out := h.must(t, "exec", "web", "grep", "SigIgn", "/proc/1/status"); out != "SigIgn:\t0000000000000000\n" {
		t.Errorf("the container begins with signals that are ignored: %s", out)
	}
	if out := h.must(t, "exec", "web", "sh", "-c", "echo $0"); out != "sh\n" {
		t.Errorf("exec printed %q", out)
	}
	if r := h.minictr(t, "rm", "web"); r.status != statusFailed || !strings.Contains(r.stderr, "running") {
		t.Errorf("rm of a running container: %v", r)
	}
	begun := time.Now()
	if out := h.must(t, "stop", "-t", "1", "web"); out != "web\n" {
		t.Errorf("stop printed %q", out)
	}
	t.Logf("stop took %v", time.Since(begun))
	if s := h.status(t, id); s["Phase"] != "exited" || s["ExitCode"] != 137.0 && s["ExitCode"] != 143.0 {
		t.Errorf("after stop: %v", s)
	}
	h.must(t, "start", id[:6])
	eventually(t, "the log goes on", func() bool { return h.minictr(t, "logs", "web").stdout == "out\nout\n" })
	if r := h.minictr(t, "logs", "--tail", "1", "-t", "web"); !strings.HasPrefix(r.stdout+r.stderr, fmt.Sprint(time.Now().Year())) {
		t.Errorf("logs -t: %v", r)
	}
	h.must(t, "rename", "web", "other")
	if r := h.minictr(t, "logs", "web"); r.status == 0 {
		t.Errorf("the old name: %v", r)
	}
	if out := h.must(t, "rm", "-f", "other"); out != "other\n" {
		t.Errorf("rm -f printed %q", out)
	}
}

// TestDetachedFails is that a container that does not begin is told of as in the
// foreground, and that nothing of it stays.
func TestDetachedFails(t *testing.T) {
	h := newEngine(t)
	for command, status := range map[string]int{"/nowhere": 127, "/etc/passwd": 126} {
		r := h.minictr(t, "run", "-d", "tiny", command)
		if r.status != status || r.stdout != "" || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, command) {
			t.Errorf("%s: %v", command, r)
		}
	}
	if out := h.must(t, "ps", "-a", "-q"); out != "" {
		t.Errorf("there are containers: %q", out)
	}
}

// TestStatusKept is that the status of a program is kept, and told.
func TestStatusKept(t *testing.T) {
	h := newEngine(t)
	for script, status := range map[string]int{"exit 0": 0, "exit 3": 3} {
		id := h.detached(t, "tiny", "sh", "-c", script)
		if out := h.must(t, "wait", id); out != fmt.Sprintln(status) {
			t.Errorf("%s: wait printed %q", script, out)
		}
		if r := h.minictr(t, "start", "-a", id); r.status != status {
			t.Errorf("%s: start -a: %v", script, r)
		}
	}
	if r := h.minictr(t, "run", "--rm=false", "--name", "kept", "tiny", "sh", "-c", "echo hello; exit 4"); r.status != 4 || r.stdout != "hello\n" {
		t.Errorf("run --rm=false: %v", r)
	}
	if out := h.must(t, "wait", "kept"); out != "4\n" {
		t.Errorf("wait printed %q", out)
	}
	h.must(t, "rm", "kept")
	cat := h.command("run", "--rm=false", "--name", "cat", "-i", "tiny", "cat")
	cat.Stdin = strings.NewReader("through\n")
	if r := finish(t, cat); r.status != 0 || r.stdout != "through\n" {
		t.Errorf("input and its end: %v", r)
	}
	h.must(t, "rm", "cat")
	for range 3 { // of one that is gone there is nothing to tell, so wait has two seconds to begin
		brief := h.detached(t, "--rm", "tiny", "sh", "-c", "sleep 2; exit 5")
		if out := h.must(t, "wait", brief); out != "5\n" {
			t.Errorf("wait of one that is removed printed %q", out)
		}
	}
	id := h.detached(t, "--rm", "tiny", "true")
	eventually(t, "it is removed by itself", func() bool { return h.minictr(t, "logs", id).status != 0 })
}

// TestRestartPolicy has containers that end again and again.
func TestRestartPolicy(t *testing.T) {
	h := newEngine(t)
	id := h.detached(t, "--restart", "on-failure:2", "tiny", "sh", "-c", "echo life; exit 7")
	if out := h.must(t, "wait", id); out != "7\n" {
		t.Errorf("wait printed %q", out)
	}
	eventually(t, "it is given up", func() bool { return h.status(t, id)["Phase"] == "exited" })
	if out := h.must(t, "logs", id); out != "life\nlife\nlife\n" {
		t.Errorf("the log: %q", out)
	}
	always := h.detached(t, "--restart", "always", "tiny", "sleep", "1000")
	first := h.pid(t, always)
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is started again", func() bool {
		return h.status(t, always)["Restarts"] == 1.0 && h.status(t, always)["Phase"] == "running"
	})
	h.must(t, "stop", "-t", "0", always)
	if s := h.status(t, always); s["Phase"] != "exited" {
		t.Errorf("after stop: %v", s)
	}
	if r := h.minictr(t, "run", "-d", "--restart", "sometimes", "tiny"); r.status != statusRun {
		t.Errorf("an unknown policy: %v", r)
	}
}

// pid is the first process of a container.
func (h host) pid(t *testing.T, id string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(h.run, id, "process"))
	if err != nil {
		t.Fatal(err)
	}
	pid, _ := strconv.Atoi(strings.Fields(string(text))[0])
	return pid
}

// TestStopPaused is that a paused container is resumed for the signal that asks it
// to end.
func TestStopPaused(t *testing.T) {
	h := newEngine(t)
	id := h.detached(t, "tiny", "sh", "-c", "trap 'exit 3' TERM; echo ready; while true; do sleep 0.1; done")
	eventually(t, "it listens", func() bool { return h.minictr(t, "logs", id).stdout == "ready\n" })
	h.must(t, "pause", id)
	h.must(t, "stop", "-t", "20", id)
	if s := h.status(t, id); s["ExitCode"] != 3.0 {
		t.Errorf("after stop: %v", s)
	}
}

// TestKillStart starts a container as soon as it was killed, or has ended by itself:
// it runs again.
func TestKillStart(t *testing.T) {
	h := newEngine(t)
	id := h.detached(t, "--restart", "always", "tiny", "sleep", "1000")
	for range 5 {
		h.must(t, "kill", id)
		if out := h.must(t, "ps", "-q"); out != "" {
			t.Errorf("after kill there run %q", out)
		}
		h.must(t, "start", id)
		if out := h.must(t, "ps", "-q"); out != id+"\n" {
			t.Errorf("after start there run %q", out)
		}
	}
	h.must(t, "update", "--restart", "no", id)
	for _, command := range [][]string{{"start", id}, {"start", "--all"}} {
		for range 5 {
			end(t, h.pid(t, id))
			h.must(t, command...)
			h.must(t, "exec", id, "true")
		}
	}
}

// TestMonitorKilled is that a container ends with its monitor, and that the next
// command says so.
func TestMonitorKilled(t *testing.T) {
	h := newEngine(t)
	id := h.detached(t, "--name", "orphan", "tiny", "sleep", "1000")
	h.killMonitor(t, id)
	if r := h.minictr(t, "ps", "-a"); r.status != 0 || !strings.Contains(r.stderr, "container orphan has ended: its monitor") {
		t.Errorf("the next command: %v", r)
	}
	if s := h.status(t, id); s["Phase"] != "exited" || s["ExitCode"] != 137.0 {
		t.Errorf("its status: %v", s)
	}
	if r := h.minictr(t, "ps", "-a"); r.stderr != "" {
		t.Errorf("it is told once more: %v", r)
	}
	h.must(t, "start", "orphan")
	h.must(t, "rm", "-f", "orphan")
}

// killMonitor ends the monitor of a container, with which the kernel ends the
// container.
func (h host) killMonitor(t *testing.T, id string) {
	t.Helper()
	pid := h.pid(t, id)
	end(t, int(h.status(t, id)["Monitor"].(float64)))
	eventually(t, "the kernel ends the container", func() bool { return syscall.Kill(pid, 0) != nil || isZombie(pid) })
}

// end kills a process that need not be a child, and waits for the end of the last
// of its threads: with that one its descriptors go, and its locks.
func end(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it ends", func() bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n == 1 && err == nil
	})
}

func isZombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}
