package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/seccomp"
)

// powerOf is what the kernel says of the privileges of a process.
func powerOf(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	power := ""
	for line := range strings.Lines(string(text)) {
		for _, name := range [...]string{"Uid:", "Gid:", "Groups:", "NoNewPrivs:", "Seccomp:", "Seccomp_filters:", "Cap"} {
			if strings.HasPrefix(line, name) {
				power += line
			}
		}
	}
	return power
}

// TestWaitingHasNoPower compares a process that waits for start with the
// program: a neighbour that traces it must gain nothing by that.
func TestWaitingHasNoPower(t *testing.T) {
	for _, noNewPrivs := range [...]bool{false, true} {
		t.Run(fmt.Sprint("no new privileges ", noNewPrivs), func(t *testing.T) {
			s := newSpec("power", "pause")
			s.Process.NoNewPrivileges = noNewPrivs
			s.Process.User = specs.User{GID: 8, AdditionalGids: []uint32{9}}
			c, dir := newOCI(t, "power", s)
			c.create(dir)
			waiting := powerOf(t, c.pid)
			c.must("start", c.id)
			if running := powerOf(t, c.pid); waiting != running || !strings.Contains(running, "Seccomp:\t2\n") || !strings.Contains(running, "CapPrm:\t00000000800405fb\n") {
				t.Errorf("who waits has\n%s, and the program\n%s", waiting, running)
			}
		})
	}
}

// TestFilterWithoutWrite has a filter by which a process can't tell that it
// stands: it is loaded after the wait, which no privileges may wait for.
func TestFilterWithoutWrite(t *testing.T) {
	s := newSpec("mute", "true")
	no := uint(unix.EPERM)
	for i, rule := range s.Linux.Seccomp.Syscalls {
		names := rule.Names[:0:0]
		for _, name := range rule.Names {
			if name != "write" {
				names = append(names, name)
			}
		}
		s.Linux.Seccomp.Syscalls[i].Names = names
	}
	s.Linux.Seccomp.Syscalls = append(s.Linux.Seccomp.Syscalls, specs.LinuxSyscall{Names: []string{"write"}, Action: specs.ActErrno, ErrnoRet: &no})
	if f, err := seccomp.Compile(s.Linux.Seccomp, seccomp.Native()); err != nil || f.Passes("write", seccomp.Native()) || !f.Passes("read", seccomp.Native()) {
		t.Fatal("the filter is not as it should be", err)
	}
	c, dir := newOCI(t, "mute", s)
	c.create(dir)
	c.must("start", c.id)
	if ws := c.reap(); ws.ExitStatus() != 0 {
		t.Errorf("it ended by %v", ws)
	}
	c.must("delete", c.id)

	s.Process.NoNewPrivileges = false
	rewriteSpec(t, dir, s)
	c.fails(1, "/linux/seccomp: write does not pass", "create", "--bundle", dir, c.id)
	c.must("run", "--bundle", dir, c.id) // here nothing waits
}

// TestDeleteForceInterrupts deletes a container while start waits for a hook
// that never ends.
func TestDeleteForceInterrupts(t *testing.T) {
	s := newSpec("hung", "true")
	s.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/bin/pause"}}}
	c, dir := newOCI(t, "hung", s)
	c.create(dir)
	start := c.command("start", c.id)
	if err := start.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the hook runs", func() bool { return strings.Count(c.call("ps", c.id).stdout, "pause") == 1 })
	begin := time.Now()
	c.must("delete", "--force", c.id)
	if took := time.Since(begin); took > patience/2 {
		t.Errorf("it took %v", took)
	}
	if err := start.Wait(); err == nil {
		t.Error("start of a container that was deleted succeeds")
	}
	c.reap()
}

// TestPoststartHoldsNothing deletes a container whose start waits for a hook of
// the host's, after the program has begun.
func TestPoststartHoldsNothing(t *testing.T) {
	s := newSpec("slow", "pause")
	mark := filepath.Join(temp(t), "mark")
	s.Hooks = &specs.Hooks{Poststart: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo $$ >" + mark + "; exec sleep 1000"}}}}
	c, dir := newOCI(t, "slow", s)
	c.create(dir)
	start := c.command("start", c.id)
	if err := start.Start(); err != nil {
		t.Fatal(err)
	}
	var hook int
	eventually(t, "the hook runs", func() bool {
		text, _ := os.ReadFile(mark)
		n, _ := fmt.Sscan(string(text), &hook)
		return n == 1
	})
	c.must("delete", "--force", c.id)
	if err := unix.Kill(hook, unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if err := start.Wait(); err == nil {
		t.Error("a hook that is killed is no failure")
	}
	c.reap()
}

// TestExecPreserves asks exec for descriptors that are none.
func TestExecPreserves(t *testing.T) {
	c, dir := newOCI(t, "numbers", newSpec("numbers", "pause"))
	c.create(dir)
	c.must("start", c.id)
	c.fails(255, "--preserve-fds: -1 is no number of descriptors", "exec", "--preserve-fds", "-1", c.id, "true")
	c.fails(255, "--preserve-fds: descriptor", "exec", "--preserve-fds", "900", c.id, "true")
}
