package integration_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/spec"
	"github.com/minictr/minictr/tests/agent"
)

// newAgent is one that answers mkdirat(2), and passes every other call.
func newAgent(t *testing.T, mkdirat unix.Errno) *agent.Agent {
	t.Helper()
	a, err := agent.Listen(temp(t), func(call string) unix.Errno {
		if call == "mkdirat" {
			return mkdirat
		}
		return agent.Pass
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// asks has a container's filter ask about some calls, before all other rules.
func asks(s *specs.Spec, a *agent.Agent, calls ...string) {
	p := s.Linux.Seccomp
	p.ListenerPath, p.ListenerMetadata = a.Path, "for \"the\" agent"
	p.Syscalls = append([]specs.LinuxSyscall{{Names: calls, Action: specs.ActNotify}}, p.Syscalls...)
}

func rewriteSpec(t *testing.T, dir string, s *specs.Spec) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, spec.ConfigFile)); err != nil {
		t.Fatal(err)
	}
	writeSpec(t, dir, s)
}

// few are calls about which an agent is asked; many are more, those by which a
// process becomes the program among them.
var (
	few  = []string{"mkdir", "mkdirat", "chmod", "fchmodat"}
	many = append(few[:len(few):len(few)], "execve", "openat", "open", "read", "close", "fcntl", "prctl", "capset", "setresuid", "setresgid")
)

// TestListener has an agent decide what a container's processes may do: its
// first, those that enter it, and its hooks.
func TestListener(t *testing.T) {
	const script = "mkdir /dev/shm/a; echo >/dev/shm/b; chmod 600 /dev/shm/b && echo made"
	const want = "mkdir /dev/shm/a: invalid cross-device link"
	for _, c := range []struct {
		name string
		edit func(*specs.Spec)
		asks []string
	}{
		{"no new privileges", func(*specs.Spec) {}, few},
		{"filter before the privileges go", func(s *specs.Spec) { s.Process.NoNewPrivileges = false }, few},
		{"user namespace", userNamespace, few},
		{"many calls", func(*specs.Spec) {}, many},
		{"many calls, before the privileges go", func(s *specs.Spec) { s.Process.NoNewPrivileges = false }, many},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAgent(t, unix.EXDEV)
			s := newSpec("listener", "sh", "-c", script+"; exec pause")
			s.Annotations = map[string]string{"a": "b"}
			s.Linux.Seccomp.Flags = []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_TSYNC", specs.LinuxSeccompFlagWaitKillableRecv}
			s.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/bin/mkdir", Args: []string{"mkdir", "/dev/shm/hook"}}}}
			c.edit(s)
			asks(s, a, c.asks...)
			box, dir := newOCI(t, "listener", s)
			heard := func(i, pid int, status specs.ContainerState) {
				t.Helper()
				eventually(t, "the agent is told", func() bool { return len(a.States()) > i })
				all := a.States()
				if len(all) != i+1 {
					t.Fatalf("%d states are sent, not %d: %+v", len(all), i+1, all)
				}
				p := all[i]
				if p.Version != specs.Version || len(p.Fds) != 1 || p.Fds[0] != "seccompFd" || p.Metadata != `for "the" agent` ||
					p.Pid != pid && pid != 0 || p.Pid == 0 || p.State.Status != status || p.State.Pid != box.pid || p.State.ID != box.id ||
					p.State.Version != specs.Version || p.State.Bundle != dir || p.State.Annotations["a"] != "b" {
					t.Errorf("state %d: %+v, of process %d and container %d, %s", i, p, pid, box.pid, status)
				}
			}
			box.create(dir)
			heard(0, box.pid, specs.StateCreating)
			box.wants(specs.StateCreated)
			box.fails(1, "error running startContainer hook #0: /bin/mkdir: exit status 1", "start", box.id)
			heard(1, 0, specs.StateCreated)
			box.reap()
			box.fails(1, "container does not exist", "delete", box.id) // its life has ended with that

			s.Hooks = nil
			rewriteSpec(t, dir, s)
			box.create(dir)
			box.must("start", box.id)
			text := box.prints(containing("made\n"))
			if !strings.Contains(text, want) {
				t.Errorf("it prints %s", text)
			}
			heard(2, box.pid, specs.StateCreating)
			if r := box.call("exec", box.id, "sh", "-c", script+"; exit 7"); r.status != 7 || !strings.Contains(r.stdout, want) {
				t.Errorf("exec: %v", r)
			}
			heard(3, 0, specs.StateRunning)
			pidFile := dir + "/exec"
			box.must("exec", "--detach", "--pid-file", pidFile, box.id, "done")
			number, _ := os.ReadFile(pidFile)
			var pid int
			if err := json.Unmarshal(number, &pid); err != nil {
				t.Fatal(err)
			}
			heard(4, pid, specs.StateRunning)
			reap(t, pid)
			box.must("delete", "--force", box.id)
			box.reap()

			s.Process.Args = []string{"sh", "-c", script + "; exit 7"}
			rewriteSpec(t, dir, s)
			if r := box.call("run", "--bundle", dir, box.id); r.status != 7 || !strings.Contains(r.stdout, want) || !strings.Contains(r.stdout, "made\n") {
				t.Errorf("run: %v", r)
			}
			if len(a.States()) != 6 {
				t.Errorf("%d states", len(a.States()))
			}
			if len(c.asks) > len(few) && a.Asked("execve") < 6 {
				t.Errorf("asked %d times about execve", a.Asked("execve"))
			}
		})
	}
}

// TestListenerPreserved is that the listener is found among descriptors that
// the program gets.
func TestListenerPreserved(t *testing.T) {
	a := newAgent(t, unix.EXDEV)
	s := newSpec("listener", "sh", "-c", "mkdir /dev/shm/a; echo kept >/proc/self/fd/4")
	asks(s, a, "mkdirat")
	box, dir := newOCI(t, "listener", s)
	cmd := box.command("run", "--preserve-fds", "2", "--bundle", dir, box.id)
	cmd.ExtraFiles = []*os.File{box.said, box.said}
	if r := finish(t, cmd); r.status != 0 || !strings.Contains(r.stderr, "cross-device") {
		t.Error(r)
	}
	if text, _ := os.ReadFile(box.said.Name()); string(text) != "kept\n" || a.Asked("mkdirat") != 1 {
		t.Errorf("it writes %q, and asks %d times", text, a.Asked("mkdirat"))
	}
}

// TestListenerGone is that without an agent the calls fail, and nobody waits.
func TestListenerGone(t *testing.T) {
	a := newAgent(t, agent.Gone)
	s := newSpec("listener", "sh", "-c", "mkdir /dev/shm/a; mkdir /dev/shm/b; exit 7")
	asks(s, a, "mkdir", "mkdirat")
	box, dir := newOCI(t, "listener", s)
	for range 2 {
		if r := box.call("run", "--bundle", dir, box.id); r.status != 7 || strings.Count(r.stdout, "function not implemented") != 2 {
			t.Error(r)
		}
	}
	s.Process.Args = []string{"pause"}
	rewriteSpec(t, dir, s)
	box.create(dir)
	box.must("start", box.id)
	if err := os.Remove(a.Path); err != nil {
		t.Error(err)
	}
	const refused = "/linux/seccomp/listenerPath: step "
	box.fails(255, "failed to connect with seccomp agent", "exec", box.id, "done")
	box.wants(specs.StateRunning)
	box.must("delete", "--force", box.id)
	box.reap()
	box.fails(1, refused, "create", "--bundle", dir, box.id)
	box.fails(1, "failed to connect with seccomp agent", "create", "--bundle", dir, box.id)
	box.fails(1, "failed to connect with seccomp agent", "run", "--bundle", dir, box.id)
	box.fails(1, "container does not exist", "state", box.id)

	s.Process.Args = []string{"done"}
	s.Linux.Seccomp.Syscalls = s.Linux.Seccomp.Syscalls[1:]
	rewriteSpec(t, dir, s)
	box.must("run", "--bundle", dir, box.id) // nobody is asked: the path is ignored
}

// TestListenerKilled is that a process whose runtime dies before it has handed
// the listener over never becomes the program.
func TestListenerKilled(t *testing.T) {
	a, err := agent.Listen(temp(t), func(string) unix.Errno { return agent.Pass })
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close() // it is told of connections with nothing in them
	s := newSpec("listener", "mkdir", "/dev/shm/a")
	asks(s, a, "mkdirat")
	box, dir := newOCI(t, "listener", s)
	for _, call := range []string{"pidfd_getfd", "connect", "sendmsg"} {
		for _, operation := range []string{"run", "create"} {
			if !box.killed(call, 1, operation, "--bundle", dir, box.id) {
				t.Fatalf("%s is not killed at %s", operation, call)
			}
			box.must("delete", "--force", box.id)
			reapAll()
		}
	}
	if n := a.Asked("mkdirat"); n > 0 {
		t.Errorf("the program has begun %d times", n)
	}
}
