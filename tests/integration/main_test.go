// Package integration_test runs whole containers, and looks from inside and
// outside whether the wall stands, and whether anything is left when it is
// gone: what is printed is what runs, every step can fail, limits bite, and
// the attacks that other runtimes fell to do nothing.
//
// The tests run in a mount namespace of their own, see TestMain, with their
// own directories for images and state: nothing of a host's own minictr is
// touched.
package integration_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/tests/alone"
)

// patience bounds everything that is waited for: it is only ever used up by a
// failure.
const patience = 30 * time.Second

// program is minictr, built once; scratch is where everything is.
var program, scratch = filepath.Join(alone.Dir, "minictr"), alone.Dir

// TestMain starts the tests once more in a private mount namespace, and in a
// network namespace that plays the host's: a mount
// that leaks is then seen whatever else happens on the machine, and one that
// the tests need themselves is no one else's. Its mounts are shared, as those
// of most hosts are: what a container mounts would show here. The tests are
// also the parent of every process that loses its own, so that none can hide.
func TestMain(m *testing.M) {
	var before alone.Fingerprint
	alone.Main(m, "integration", unix.CLONE_NEWNS|unix.CLONE_NEWNET, func() error {
		defer func() { before = alone.Machine() }()
		return errors.Join(unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""), alone.LoopbackUp())
	}, func() error {
		if left := before.Differences(); len(left) > 0 {
			return fmt.Errorf("the machine is changed:\n%s", strings.Join(left, "\n"))
		}
		return nil
	})
}

// A host is one minictr: where it keeps images and the state of containers.
type host struct{ root, run string }

// builtin makes the store that has the built-in image, the first time.
var builtin = sync.OnceValue(func() error {
	h := host{root: filepath.Join(scratch, "root"), run: filepath.Join(scratch, "run")}
	if out, err := h.command("run", "tiny", "true").CombinedOutput(); err != nil {
		return fmt.Errorf("minictr run tiny true: %w\n%s", err, out)
	}
	return os.RemoveAll(h.run)
})

// newHost is a minictr without containers, with the built-in image. When the
// test ends, the machine must be as it was.
func newHost(t *testing.T) host {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	if err := builtin(); err != nil {
		t.Fatal(err)
	}
	h := host{root: filepath.Join(scratch, "root"), run: filepath.Join(temp(t), "run")}
	unchanged(t, h)
	return h
}

// temp is a directory for one test that other users may pass through.
func temp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "t-") //nolint:usetesting // others may not pass through what t.TempDir makes
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// command is a minictr of this host, not started yet. It is killed with us.
func (h host) command(args ...string) *exec.Cmd {
	cmd := exec.Command(program, append([]string{"--data-root", h.root, "--root", h.run}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "SOURCE_DATE_EPOCH=1234567890", "MINICTR_NETWORK=none"}
	return cmd
}

// Exit statuses for errors of ours: of run of an image, and of all else.
const (
	statusRun    = 125
	statusFailed = 1
)

// A result is what a command said and how it ended.
type result struct {
	stdout, stderr string
	status         int
}

func (r result) String() string {
	return fmt.Sprintf("exit status %d\nstdout: %s\nstderr: %s", r.status, r.stdout, r.stderr)
}

// minictr runs minictr to its end, whatever that is.
func (h host) minictr(t *testing.T, args ...string) result {
	t.Helper()
	return finish(t, h.command(args...))
}

// refused says whether the status is that of an error of ours.
func (r result) refused() bool { return r.status == statusRun || r.status == statusFailed }

// must runs minictr, which has to succeed, and returns what it printed.
func (h host) must(t *testing.T, args ...string) string {
	t.Helper()
	r := h.minictr(t, args...)
	if r.status != 0 {
		t.Fatalf("minictr %q: %v", args, r)
	}
	return r.stdout
}

// finish runs a command to its end, with a deadline.
func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = patience
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	if !timer.Stop() {
		t.Errorf("%v: killed after %v", cmd.Args, patience)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// fields are the values of the lines "Name:\tvalue" that proc_pid_status(5)
// and its kin are made of.
func fields(text string) map[string]string {
	all := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			all[name] = strings.TrimSpace(value)
		}
	}
	return all
}
