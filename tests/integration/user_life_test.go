package integration_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// stays runs a container that outlives its command, and returns its ID.
func (u user) stays(t *testing.T, args ...string) string {
	t.Helper()
	id := strings.TrimSpace(u.must(t, append([]string{"run", "-d"}, args...)...))
	t.Cleanup(func() {
		if r := u.minictr(t, "rm", "-f", "-v", id); r.status != 0 {
			t.Error(r)
		}
	})
	return id
}

// TestUserDetached is the life of a container that outlives its user's command.
func TestUserDetached(t *testing.T) {
	u := newUser(t, subordinate)
	id := u.stays(t, "--name", "web", "-i", "-v", "data:/data", "tiny", "sh", "-c", "echo out; echo kept >/data/file; cat; sleep 1000")
	eventually(t, "its output is in the log", func() bool { return u.must(t, "logs", "web") == "out\n" })
	if out := u.must(t, "ps"); !strings.Contains(out, "web") || !strings.Contains(out, id) {
		t.Errorf("ps printed %q", out)
	}
	attach := u.command("attach", "web")
	attach.Stdin = strings.NewReader("typed\n")
	if err := attach.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what was typed has come back", func() bool { return u.must(t, "logs", "web") == "out\ntyped\n" })
	_ = attach.Process.Kill()
	_ = attach.Wait()
	if out := u.must(t, "exec", "web", "cat", "/data/file"); out != "kept\n" {
		t.Errorf("exec printed %q", out)
	}

	if out := u.must(t, "top", "web"); strings.Count(out, "\n") != 3 || !strings.Contains(out, "sleep 1000") && !strings.Contains(out, "cat") {
		t.Errorf("top printed %q", out)
	}

	file := filepath.Join(owned(t, temp(t)), "file")
	if err := os.WriteFile(file, []byte("copied\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	u.must(t, "cp", file, "web:/root/in")
	u.must(t, "cp", "web:/root/in", file+".out")
	if text, err := os.ReadFile(file + ".out"); string(text) != "copied\n" {
		t.Errorf("cp brought %q, %v", text, err)
	}
	if out := u.must(t, "exec", "web", "sh", "-c", "cat /root/in; rm /etc/motd"); out != "copied\n" {
		t.Errorf("cp took %q", out)
	}
	if out := u.must(t, "diff", "web"); !strings.Contains(out, "A /root/in\n") || !strings.Contains(out, "D /etc/motd\n") {
		t.Errorf("diff printed %q", out)
	}
	u.must(t, "commit", "web", "mine")
	if out := u.must(t, "run", "mine", "cat", "/root/in"); out != "copied\n" {
		t.Errorf("the new image has %q", out)
	}

	u.must(t, "stop", "-t", "0", "web")
	if s := u.status(t, id); s["Phase"] != "exited" || s["ExitCode"] != 137.0 {
		t.Errorf("after stop: %v", s)
	}
	u.must(t, "start", "web")
	if out := u.must(t, "exec", id[:6], "cat", "/root/in", "/data/file"); out != "copied\nkept\n" {
		t.Errorf("after start: %q", out)
	}
	if r := u.minictr(t, "volume", "rm", "data"); r.status == 0 {
		t.Errorf("the volume is in use: %v", r)
	}
	u.must(t, "rm", "-f", "web")
	u.must(t, "volume", "rm", "data")
	u.must(t, "rmi", "mine")

	waits := strings.TrimSpace(u.must(t, "create", "tiny", "sh", "-c", "exit 6"))
	u.must(t, "start", waits)
	if out := u.must(t, "wait", waits); out != "6\n" {
		t.Errorf("wait printed %q", out)
	}
	u.must(t, "rm", waits)
}

// TestUserMonitor has a policy start containers again, and monitors killed: the
// next command finds their namespace, or nobody in one.
func TestUserMonitor(t *testing.T) {
	u := newUser(t, subordinate)
	always := u.stays(t, "--restart", "always", "tiny", "sleep", "1000")
	if err := syscall.Kill(u.pid(t, always), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is started again", func() bool {
		s := u.status(t, always)
		return s["Restarts"] == 1.0 && s["Phase"] == "running"
	})
	orphan := u.stays(t, "--name", "orphan", "tiny", "sleep", "1000")
	inside := u.must(t, "exec", always, "readlink", "/proc/self/ns/user")
	if out := u.must(t, "exec", orphan, "readlink", "/proc/self/ns/user"); out != inside {
		t.Errorf("they are in %q and %q", inside, out)
	}
	u.killMonitor(t, orphan)
	if r := u.minictr(t, "ps", "-a"); r.status != 0 || !strings.Contains(r.stderr, "container orphan has ended: its monitor") {
		t.Errorf("the next command: %v", r)
	}
	u.must(t, "start", "orphan")
	u.killMonitor(t, orphan)
	u.killMonitor(t, always) // and with it the namespace
	if r := u.minictr(t, "ps", "-a"); r.status != 0 || strings.Count(r.stderr, "has ended: its monitor") != 2 {
		t.Errorf("the next command, in a new namespace: %v", r)
	}
	for _, id := range []string{orphan, always} {
		if s := u.status(t, id); s["Phase"] != "exited" || s["ExitCode"] != 137.0 {
			t.Errorf("its status: %v", s)
		}
		u.must(t, "rm", id)
	}
}

// TestUserDevice shows a device under another name.
func TestUserDevice(t *testing.T) {
	u := newUser(t, subordinate)
	if out := u.must(t, "run", "--device", "/dev/null:/dev/other", "tiny", "sh", "-c", "echo lost >/dev/other; cat /dev/other; test -c /dev/other && echo device"); out != "device\n" {
		t.Errorf("it printed %q", out)
	}
}
