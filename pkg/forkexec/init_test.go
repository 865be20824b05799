package forkexec_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/forkexec"
	"github.com/minictr/minictr/pkg/plan"
)

// parted is short for a program whose parent stays.
func parted(argv ...string) *plan.Plan {
	b := toProgram(argv, nil)
	stays := b.Label()
	b.Do("orphans are its own", plan.Subreaper())
	b.Do("no signal is lost", plan.BlockSignals())
	b.Do("a child", plan.Fork()).Out(plan.Forked).Then(stays)
	b.Do("signals work again", plan.UnblockSignals())
	b.Do("the program", plan.Execve(argv[0], argv, []string{"PATH=/bin:/usr/bin"}))
	b.Section(plan.Stub, "init", "who stays")
	b.Place(stays)
	for _, c := range []plan.Call{plan.CloseAll(), plan.NextSignal(), plan.PassSignal(), plan.Reap(), plan.ExitAs()} {
		b.Do("it stays", c)
	}
	return b.Plan()
}

// TestStays is how a program ends whose parent is the stub.
func TestStays(t *testing.T) {
	for script, want := range map[string]int{
		"exit 0":              0,
		"exit 3":              3,
		"kill -TERM $$":       143,
		"kill -KILL $$":       137,
		"(exit 5) & exit 255": 255,
		`trap "exit 9" USR1; kill -USR1 $PPID; while :; do sleep 0.01; done`:        9,
		`trap "exit 8" WINCH; kill -WINCH $PPID; while :; do sleep 0.01; done`:      8,
		`kill -CHLD $PPID; trap "exit 7" HUP; kill -HUP $PPID; while :; do :; done`: 7,
		`kill -TERM $PPID; while :; do sleep 0.01; done`:                            143,
		`trap "" TERM; kill -TERM $PPID; sleep 0.05; exit 4`:                        4,
		`for i in 1 2 3 4 5 6 7 8; do (sleep 0.0$i &) ; done; sleep 0.2; exec true`: 0,
		// It closes all while its child is on its way already.
		`for i in 1 2 3 4 5 6 7 8 9; do test "$(ls -l /proc/$PPID/fd | grep -c "\->")" = 0 && exit 6; sleep 0.$i; done`: 6,
	} {
		ws, err := run(t, parted("/bin/sh", "-c", script), nil)
		if err != nil || !ws.Exited() || ws.ExitStatus() != want {
			t.Errorf("%s: status %#x, error %v, want %d", script, int(ws), err, want)
		}
	}
	p := parted("/nowhere/program")
	ws, err := run(t, p, nil)
	var step *forkexec.StepError
	if !errors.As(err, &step) || !errors.Is(err, unix.ENOENT) || step.Step.Call.Name != "execve" || ws.ExitStatus() != 127 {
		t.Errorf("status %#x, error %v", int(ws), err)
	}
}

// TestStaysAndReaps makes many orphans that end at once, and looks at who is
// left below the stub, and at its memory.
func TestStaysAndReaps(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	const script = `i=0; while [ $i -lt 200 ]; do (read x < %s &); i=$((i+1)); done; exec sleep 1000`
	proc, err := forkexec.Start(parted("/bin/sh", "-c", fmt.Sprintf(script, pipe)), &plan.Run{Fd: map[plan.Reg]int{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proc.Kill)
	if err := proc.Started(); err != nil {
		t.Fatal(err)
	}
	children := func() int {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", proc.PID))
		if err != nil {
			t.Fatal(err)
		}
		return len(strings.Fields(string(text)))
	}
	await := func(n int, meanwhile func()) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); children() != n; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d children, not %d", children(), n)
			}
			meanwhile()
		}
	}
	await(201, func() {})
	// All of them read the end. Who had not yet opened the pipe waits for the
	// next writer.
	await(1, func() {
		w, err := unix.Open(pipe, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Close(w)
		}
		if err != nil && !errors.Is(err, unix.ENXIO) {
			t.Fatal(err)
		}
	})
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", proc.PID))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kb int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kb); err == nil && kb > 32 {
			t.Errorf("the stub takes %d kB", kb)
		}
	}
	if err := proc.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if ws, err := proc.Wait(); err != nil || ws.ExitStatus() != 143 {
		t.Errorf("status %#x, error %v", int(ws), err)
	}
}

// TestProgramForks is that a program's clone is only a clone.
func TestProgramForks(t *testing.T) {
	exe, out := filepath.Join(t.TempDir(), "program"), filepath.Join(t.TempDir(), "out")
	elf, err := forkexec.Program([]*plan.Step{{Call: plan.Fork()}, {Call: plan.WriteTo(1, "on\n")}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exe, elf, 0o755); err != nil {
		t.Fatal(err)
	}
	ws, err := run(t, parted("/bin/sh", "-c", exe+" > "+out+"; until [ $(wc -l <"+out+") = 2 ]; do sleep 0.01; done"), nil)
	if text, _ := os.ReadFile(out); err != nil || ws != 0 || string(text) != "on\non\n" {
		t.Errorf("status %#x, error %v, output %q", int(ws), err, text)
	}
}
