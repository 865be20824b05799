package integration_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/tests/alone"
)

// subgroups makes a cgroup below the container's in each hierarchy.
func subgroups(t *testing.T, name, sub string) (dirs []string) {
	t.Helper()
	for _, pattern := range []string{"/sys/fs/cgroup/*/", "/sys/fs/cgroup/"} {
		tops, _ := filepath.Glob(pattern + alone.Cgroup(name))
		for _, top := range tops {
			dir := filepath.Join(top, sub)
			err := os.Mkdir(dir, 0o755)
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // of version 1 they are born empty
				if value, e := os.ReadFile(filepath.Join(top, file)); e == nil && len(value) > 1 {
					err = errors.Join(err, os.WriteFile(filepath.Join(dir, file), value, 0))
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// TestExecCgroup has processes enter cgroups below the container's.
func TestExecCgroup(t *testing.T) {
	c, dir := newOCI(t, "enter", newSpec("enter", "pause"))
	c.create(dir)
	c.must("start", c.id)
	dirs := subgroups(t, "enter", "sub")
	in := func(flags ...string) string {
		t.Helper()
		r := c.call(append(append([]string{"exec"}, flags...), c.id, "cat", "/proc/self/cgroup")...)
		if r.status != 0 || !strings.Contains(r.stdout, ":/") {
			t.Fatal(r)
		}
		return r.stdout
	}
	top := in()
	if all := strings.ReplaceAll(top, ":/\n", ":/sub\n"); in("--cgroup", "sub") != all || in("--cgroup", "/sub/") != all || all == top {
		t.Errorf("in all hierarchies: %s, not %s", in("--cgroup", "sub"), all)
	}
	if in("--cgroup", "/") != top {
		t.Errorf("the container's own: %s, not %s", in("--cgroup", "/"), top)
	}
	one := strings.Replace(top, "pids:/\n", "pids:/sub\n", 1)
	if one == top {
		one = "0::/sub\n"
	}
	if got := in("--cgroup", "pids:sub"); got != one {
		t.Errorf("in one hierarchy: %s, not %s", got, one)
	}
	for _, e := range []struct{ want, path string }{
		{" .. is not a sub cgroup path", ".."},
		{"is not a sub cgroup path", "sub/../.."},
		{"is not a sub cgroup path", "pids:/../other"},
		{"no such file or directory", "nosuch"},
		{`unknown controller "nosuch"`, "pids,nosuch:/"},
	} {
		c.fails(255, e.want, "exec", "--cgroup", e.path, c.id, "true")
	}

	// Who moves takes those that follow along, unless they ask for another.
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "tasks")); err == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(c.pid)), 0); err != nil {
			t.Fatal(err)
		}
		if moved := strings.Replace(top, "0::/\n", "0::/sub\n", 1); in() != moved || in("--cgroup", "/") != top {
			t.Errorf("after a move: %s and %s, not %s and %s", in(), in("--cgroup", "/"), moved, top)
		}
	}
}

// begin starts a command and returns what ends with it.
func (c *oci) begin(args ...string) (*exec.Cmd, chan int) {
	c.t.Helper()
	cmd := c.command(args...)
	cmd.Stdout, cmd.Stderr = c.out, c.out
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	ended := make(chan int, 1)
	go func() {
		_ = cmd.Wait()
		ended <- cmd.ProcessState.ExitCode()
	}()
	return cmd, ended
}

// has waits until so many processes are in the container.
func (c *oci) has(count int) {
	c.t.Helper()
	eventually(c.t, strconv.Itoa(count)+" processes", func() bool {
		var pids []int
		list := c.call("ps", "--format", "json", c.id)
		return json.Unmarshal([]byte(list.stdout), &pids) == nil && len(pids) == count
	})
}

// TestExecIgnorePaused has processes enter a container that stands still, as
// they do there.
func TestExecIgnorePaused(t *testing.T) {
	c, dir := newOCI(t, "frozen", newSpec("frozen", "pause"))
	c.create(dir)
	c.must("start", c.id)
	ends := func(what string, ended chan int, want int) {
		t.Helper()
		select {
		case status := <-ended:
			if status != want {
				t.Errorf("%s: status %d, not %d", what, status, want)
			}
		case <-time.After(patience):
			t.Fatal(what + " does not end")
		}
	}
	c.must("pause", c.id)
	c.fails(255, "cannot exec in a paused container", "exec", c.id, "true")
	pidFile := filepath.Join(dir, "exec.pid")
	_, waits := c.begin("exec", "--ignore-paused", c.id, "sh", "-c", "echo entered; exit 3")
	_, detached := c.begin("exec", "--ignore-paused", "--detach", "--pid-file", pidFile, c.id, "pause")
	c.has(3)
	select {
	case <-waits:
		t.Error("it did not wait")
	case <-detached:
		t.Error("it did not wait, detached")
	case <-time.After(200 * time.Millisecond):
	}
	c.wants(container.Paused)
	c.must("resume", c.id)
	ends("who waited", waits, 3)
	ends("who waited for its begin", detached, 0)
	if text, _ := os.ReadFile(c.out.Name()); string(text) != "entered\n" {
		t.Errorf("it says %q", text)
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil || unix.Kill(pid, unix.SIGKILL) != nil {
		t.Errorf("its PID: %q", text)
	}
	reap(t, pid)
	if r := c.call("exec", "--ignore-paused", c.id, "sh", "-c", "exit 4"); r.status != 4 {
		t.Errorf("where nothing is paused: %v", r)
	}

	// A signal ends the wait, and nobody is left in the container.
	c.must("pause", c.id)
	cmd, waits := c.begin("exec", "--ignore-paused", c.id, "pause")
	c.has(2)
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ends("who got a signal", waits, -1)
	c.must("resume", c.id)
	c.has(1)
	reapAll()

	// So does the container's end.
	c.must("pause", c.id)
	_, waits = c.begin("exec", "--ignore-paused", c.id, "pause")
	c.has(2)
	c.must("kill", c.id, "KILL")
	ends("who waited in a container that ends", waits, 255)
	c.reap()
	c.wants(specs.StateStopped)
}
