package forkexec_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/forkexec"
	"github.com/minictr/minictr/pkg/plan"
)

// becomes names, in the environment, the file that a process of TestBecome locks.
const becomes = "MINICTR_TEST_BECOMES"

// TestBecome has a process become a shell by way of the stub: it keeps its PID, its
// locks and what is open, and the stub's steps are done, by one thread.
func TestBecome(t *testing.T) {
	if file := os.Getenv(becomes); file != "" {
		become(t, file)
		return
	}
	file := filepath.Join(t.TempDir(), "file")
	cmd := exec.Command(os.Args[0], "-test.run=^TestBecome$")
	cmd.Env = append(os.Environ(), becomes+"="+file)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said [100]byte
	n, err := out.Read(said[:])
	if want := fmt.Sprintf("argument %d root 2\n", cmd.Process.Pid); err != nil || string(said[:n]) != want {
		t.Errorf("%q, not %q: %v", said[:n], want, err)
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil || lock.Type != unix.F_RDLCK || int(lock.Pid) != cmd.Process.Pid {
		t.Errorf("its lock: %+v, %v", lock, err)
	}
	if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
		t.Error(err)
	}
}

// become is what the other process does.
func become(t *testing.T, file string) {
	fd, err := unix.Open(file, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err == nil {
		err = unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &unix.Flock_t{Type: unix.F_RDLCK})
	}
	if err != nil {
		t.Fatal(err)
	}
	b := plan.New()
	b.Section(plan.Parent, "test", "an action")
	b.Act("it opens something", "open", func(r *plan.Run) (err error) {
		r.Fd["root"], err = unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
		return err
	})
	b.Section(plan.Stub, "test", "steps of the stub")
	b.Do("a step that fails as it may", plan.Chdir("/nowhere")).Allow(plan.Next, unix.ENOENT)
	b.Do("where the shell begins", plan.Fchdir("root"))
	b.Do("the shell does not get it", plan.Close("root"))
	b.Do("a shell", plan.Execve("/bin/sh", []string{
		"sh", "-c",
		`[ -e /proc/self/fd/$2 ] && [ "$(pwd)" = / ] && echo "$0 $$ $1 $(ls -d /proc/$$/task/* /proc/$$/fd/$2 | wc -l)"; read wait; exit 0`, "argument", "root", fmt.Sprint(fd),
	}, nil))
	err = forkexec.Become(b.Plan(), &plan.Run{Fd: map[plan.Reg]int{"kept": fd}})
	t.Fatal(err)
}
