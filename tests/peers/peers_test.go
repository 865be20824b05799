// Package peers_test puts minictr under container managers: the same commands
// of theirs, with minictr and with runc as their runtime, have to do the same.
package peers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/tests/alone"
)

// scratch is a directory for all that these tests make.
var scratch = alone.Dir

// Container networks keep their leases here, and nowhere else.
const leases = "/var/lib/cni"

// patience is how long one case may take, on a busy machine or an emulated one.
const patience = 3 * time.Minute

// TestMain gives these tests a mount and a network namespace: what managers
// mount and configure goes with those.
func TestMain(m *testing.M) {
	made := false
	alone.Main(m, "peers", unix.CLONE_NEWNS|unix.CLONE_NEWNET, func() error {
		made = os.Mkdir(leases, 0o755) == nil
		return enter()
	}, func() error {
		if !made {
			return nil
		}
		return errors.Join(unix.Unmount(leases, 0), os.Remove(leases))
	})
}

// enter makes this process the parent of what others leave, gives managers an
// empty /run, and brings the network up.
func enter() error {
	for _, dir := range []string{"/run", "/etc/docker", leases} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("mount a tmpfs on %s: %w", dir, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	return exec.Command("ip", "link", "set", "lo", "up").Run()
}

// rootfs makes a root file system of busybox, once.
func rootfs(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(scratch, "rootfs")
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	for _, d := range []string{"bin", "etc", "proc", "sys", "dev", "tmp", "root"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "bin/busybox"), busybox, 0o755)
	}
	applets, e := exec.Command("/bin/busybox", "--list").Output()
	if err = errors.Join(err, e); err != nil {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(string(applets)) {
		_ = os.Link(filepath.Join(dir, "bin/busybox"), filepath.Join(dir, "bin", name)) // busybox is there
	}
	err = errors.Join(
		os.Chmod(filepath.Join(dir, "tmp"), 0o1777|os.ModeSticky),
		os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n"), 0o644),
		os.WriteFile(filepath.Join(dir, "etc/group"), []byte("root:x:0:\nuser:x:1000:\nextra:x:2000:\n"), 0o644),
		os.WriteFile(filepath.Join(dir, "etc/plain"), []byte("no program\n"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// A command is one line of a case, and what it prints.
type command struct {
	text string
	want []string
}

// A smoke case is some commands under a title.
type smoke struct {
	title    string
	commands []command
}

// readCases reads a file of cases: a title begins with "# ", a command with
// "$ ", and what follows is its output; "~ " before a line makes it a regular
// expression.
func readCases(t *testing.T, name string) (cases []smoke) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if title, ok := strings.CutPrefix(line, "# "); ok {
			cases = append(cases, smoke{title: title})
			continue
		}
		if line == "" {
			continue
		}
		c := &cases[len(cases)-1]
		if command_, ok := strings.CutPrefix(line, "$ "); ok {
			c.commands = append(c.commands, command{text: command_})
		} else {
			last := &c.commands[len(c.commands)-1]
			last.want = append(last.want, line)
		}
	}
	return cases
}

// run carries a case out, in a shell that begins with a prologue, and that
// another command may start.
func (c smoke) run(t *testing.T, prologue string, env []string, starter ...string) {
	t.Helper()
	var script strings.Builder
	script.WriteString(prologue + "\n")
	const mark = "--- end of command"
	for _, cmd := range c.commands {
		fmt.Fprintf(&script, "%s\necho '%s'\n", cmd.text, mark)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	argv := append(starter, "sh")
	sh := exec.CommandContext(ctx, argv[0], argv[1:]...)
	sh.Stdin = strings.NewReader(script.String())
	sh.Env = append(os.Environ(), env...)
	sh.WaitDelay = time.Second
	var out bytes.Buffer
	sh.Stdout, sh.Stderr = &out, &out
	if err := sh.Run(); err != nil {
		t.Errorf("the shell: %v", err)
	}
	answers := strings.Split(out.String(), mark+"\n")
	for i, cmd := range c.commands {
		if i >= len(answers) {
			t.Errorf("$ %s\n  no answer", cmd.text)
			continue
		}
		if got := strings.TrimSuffix(answers[i], "\n"); !agrees(strings.Split(got, "\n"), cmd.want) {
			t.Errorf("$ %s\n%s\nwant:\n%s", cmd.text, got, strings.Join(cmd.want, "\n"))
		}
	}
}

func agrees(got, want []string) bool {
	if len(got) == 1 && got[0] == "" {
		got = nil
	}
	if len(got) != len(want) {
		return false
	}
	for i, w := range want {
		if pattern, ok := strings.CutPrefix(w, "~ "); ok {
			if !regexp.MustCompile("^(?:" + pattern + ")$").MatchString(got[i]) {
				return false
			}
		} else if got[i] != w {
			return false
		}
	}
	return true
}

// needs skips a test whose programs are not there.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip("needs Debian's " + p)
		}
	}
}

// short is where a daemon's sockets are, whose paths have at most 107 bytes.
func short(dir string) string { return filepath.Join("/run", filepath.Base(dir)) }

// daemon runs a manager's daemon until the test ends.
func daemon(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	log, err := os.Create(dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		stop := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		stop.Stop()
		_ = log.Close()
		if text, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("the daemon says:\n%s", text[max(0, len(text)-6000):])
		}
	})
}

// removeCgroups removes what a manager has left of a cgroup that was made for
// it.
func removeCgroups(t *testing.T, name string) {
	t.Helper()
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*/" + name)
	for _, dir := range append(dirs, "/sys/fs/cgroup/"+name) {
		var all []string
		_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				all = append(all, path)
			}
			return nil
		})
		for i := len(all) - 1; i >= 0; i-- {
			err := os.Remove(all[i])
			for end := time.Now().Add(patience); errors.Is(err, unix.EBUSY) && time.Now().Before(end); err = os.Remove(all[i]) {
				time.Sleep(10 * time.Millisecond) // what was in it is just ending
			}
			if err != nil {
				t.Errorf("a cgroup is left: %v", err)
			}
		}
	}
}
