// Package alone runs a test program once more in namespaces of its own, with a
// minictr that was built for it, so that what it mounts is seen by nobody else.
package alone

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// inside is set, to a directory for all that tests make, where they are alone.
const inside = "MINICTR_TESTS_INSIDE"

// Dir is that directory; its file minictr is the program. It is "" in the
// process that makes it.
var Dir = os.Getenv(inside)

// Main is the whole of a TestMain: without root the tests run as they are,
// each to say that it is skipped; else they run in new namespaces, with what
// enter does there first and leave in the end.
func Main(m *testing.M, name string, namespaces uintptr, enter, leave func() error) {
	var status int
	var err error
	switch {
	case os.Getuid() != 0:
		status = m.Run()
	case Dir != "":
		err = os.Unsetenv(inside)
		if err = errors.Join(err, enter()); err == nil {
			status = m.Run()
		}
		err = errors.Join(err, leave())
	default:
		status, err = again(name, namespaces)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		status = 1
	}
	os.Exit(status)
}

// again builds minictr and runs this program in namespaces.
func again(name string, namespaces uintptr) (status int, err error) {
	dir, err := os.MkdirTemp("", "minictr-"+strings.ReplaceAll(name, " ", "-")+"-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o711); err != nil { // the root of a user namespace is a stranger here
		return 1, err
	}
	if err := Build(dir + "/minictr"); err != nil {
		return 1, err
	}
	self := exec.Command("/proc/self/exe", os.Args[1:]...)
	self.Env = append(os.Environ(), inside+"="+dir)
	self.Stdin, self.Stdout, self.Stderr = os.Stdin, os.Stdout, os.Stderr
	runtime.LockOSThread() // the thread's end would be taken for ours
	self.SysProcAttr = &syscall.SysProcAttr{Unshareflags: namespaces, Pdeathsig: syscall.SIGKILL}
	err = self.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// Build builds minictr, or takes the one that the environment names, where
// there is no Go: in a virtual machine.
func Build(file string) error {
	if built := os.Getenv("MINICTR"); built != "" {
		program, err := os.ReadFile(built)
		return errors.Join(err, os.WriteFile(file, program, 0o755))
	}
	build := exec.Command("go", "build", "-buildvcs=false", "-o", file, "github.com/minictr/minictr/cmd/minictr")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// Cover has a file hold something else for a test, in these tests' own mounts.
func Cover(t *testing.T, name, text string) {
	t.Helper()
	other := filepath.Join(t.TempDir(), "file")
	err := errors.Join(os.WriteFile(other, []byte(text), 0o644), os.Chmod(other, 0o644))
	if err == nil {
		err = syscall.Mount(other, name, "", syscall.MS_BIND, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(name, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}
