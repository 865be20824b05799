package forkexec_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/forkexec"
	"github.com/minictr/minictr/pkg/plan"
)

// short makes the plan of a process without a wall: the steps, then argv.
func short(argv []string, steps func(b *plan.Builder)) *plan.Plan {
	b := toProgram(argv, steps)
	b.Do("the program", plan.Execve(argv[0], argv, []string{"HOME=/"}))
	return b.Plan()
}

// toProgram is all of that but the program.
func toProgram(argv []string, steps func(b *plan.Builder)) *plan.Builder {
	b := plan.New()
	b.Section(plan.Parent, "clone", "the process is made")
	b.Clone("the process", plan.Clone3(0, ""))
	b.Section(plan.Child, "test", "what the test adds")
	if steps != nil {
		steps(b)
	}
	b.Do("signals work again", plan.UnblockSignals())
	b.Do("the stub can report", plan.SetCloexec(plan.Report, false))
	b.Do("leave our own file", plan.Execveat(plan.Sealed, append([]string{argv[0]}, argv...), []string{"HOME=/"}))
	b.Section(plan.Stub, "program", "the program")
	b.Do("nothing of ours stays open", plan.SetCloexec(plan.Report, true))
	b.Do("tell that it is done", plan.Write(plan.Report, plan.Ready))
	return b
}

func run(t *testing.T, p *plan.Plan, fd map[plan.Reg]int) (unix.WaitStatus, error) {
	t.Helper()
	if fd == nil {
		fd = map[plan.Reg]int{}
	}
	proc, err := forkexec.Start(p, &plan.Run{Fd: fd})
	if err != nil {
		return 0, err
	}
	started := proc.Started()
	ws, err := proc.Wait()
	proc.Close()
	if err != nil {
		t.Fatal(err)
	}
	return ws, started
}

func TestProgramRuns(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	script := `echo "$0 $1 $HOME" > ` + out + `; ls -l /proc/self/fd | grep -c memfd >> ` + out + `; exit 7`
	ws, err := run(t, short([]string{"/bin/sh", "-c", script, "zero", "one"}, nil), nil)
	if err != nil || ws.ExitStatus() != 7 {
		t.Fatalf("status %v, error %v", ws.ExitStatus(), err)
	}
	got, err := os.ReadFile(out)
	if err != nil || string(got) != "zero one /\n0\n" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestStepErrors(t *testing.T) {
	for name, test := range map[string]struct {
		argv   []string
		steps  func(b *plan.Builder)
		number int
		errno  unix.Errno
		text   string
	}{
		"child": {
			argv:   []string{"/bin/true"},
			steps:  func(b *plan.Builder) { b.Do("fails", plan.Chdir("/nowhere")) },
			number: 2, errno: unix.ENOENT, text: `step 2, test: chdir("/nowhere") → ENOENT`,
		},
		"program": {
			argv:   []string{"/nowhere/program"},
			number: 7, errno: unix.ENOENT, text: `step 7, program: execve("/nowhere/program"`,
		},
		"no executable": {
			argv:   []string{"/etc/passwd"},
			number: 7, errno: unix.EACCES, text: "EACCES",
		},
		"never set": {
			argv: []string{"/bin/true"},
			steps: func(b *plan.Builder) {
				skip := b.Label()
				b.Do("works", plan.Chdir("/")).Then(skip)
				b.Get("fd", "left out", plan.Openat(plan.AtFdcwd, "/", unix.O_PATH))
				b.Place(skip)
				b.Do("an unset register is no descriptor", plan.Fchdir("fd"))
			},
			number: 4, errno: unix.EBADF, text: "fchdir($fd)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			ws, err := run(t, short(test.argv, test.steps), nil)
			var step *forkexec.StepError
			if !errors.As(err, &step) || step.Number != test.number || !errors.Is(err, test.errno) || !strings.Contains(err.Error(), test.text) {
				t.Fatalf("got %v", err)
			}
			if ws.ExitStatus() != 127 {
				t.Errorf("status %v", ws)
			}
		})
	}
}

func TestUnknownRegister(t *testing.T) {
	_, err := run(t, short([]string{"/bin/true"}, func(b *plan.Builder) { b.Do("uses what nobody sets", plan.Fchdir("x")) }), nil)
	if err == nil || !strings.Contains(err.Error(), "$x is used before it is set") {
		t.Fatal(err)
	}
}

func TestParentFails(t *testing.T) {
	p := short([]string{"/bin/sleep", "1000"}, nil)
	boom := errors.New("boom")
	p.Sections = append(p.Sections, &plan.Section{Brick: "maps", Where: plan.Parent, Steps: []*plan.Step{
		{Call: plan.Call{Text: "write the maps"}, Act: func(*plan.Run) error { return boom }},
	}})
	_, err := run(t, p, nil)
	if !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); !errors.Is(err, unix.ECHILD) {
		t.Errorf("a child is left: %v", err)
	}
}

func TestKilledBeforeExec(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pipe[1]) })
	p := short([]string{"/bin/true"}, func(b *plan.Builder) { b.Do("waits", plan.ReadByte("sync")) })
	proc, err := forkexec.Start(p, &plan.Run{Fd: map[plan.Reg]int{"sync": pipe[0]}})
	if err != nil {
		t.Fatal(err)
	}
	if err := proc.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := proc.Started(); !errors.Is(err, forkexec.ErrKilled) {
		t.Errorf("got %v", err)
	}
	proc.Kill()
}

// A container's program may be a script that has the kernel execute
// /proc/self/exe (CVE-2019-5736). It must end, and must not reach our file.
func TestScriptOfProcSelfExe(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/proc/self/exe\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	proc, err := forkexec.Start(short([]string{script}, nil), &plan.Run{Fd: map[plan.Reg]int{}})
	if err != nil {
		t.Fatal(err)
	}
	_ = proc.Started()
	status := make(chan unix.WaitStatus, 1)
	go func() {
		ws, _ := proc.Wait()
		status <- ws
	}()
	select {
	case ws := <-status:
		if ws.ExitStatus() != 127 {
			t.Errorf("status %v", ws.ExitStatus())
		}
	case <-time.After(10 * time.Second): // it takes a millisecond; a spinning stub never ends
		_ = proc.Signal(unix.SIGKILL)
		t.Fatal("the stub spins")
	}
}

// TestNewborn is that a namespace is found in /proc when who was born into it
// is dead already, and that nothing is left of that process afterwards.
func TestNewborn(t *testing.T) {
	p := short([]string{"/bin/true"}, nil)
	b := plan.New()
	b.Section(plan.Parent, "test", "what the test adds")
	b.Act("a namespace is made", "newborn", func(r *plan.Run) error {
		child := 0
		err := r.Newborn(unix.CLONE_NEWUSER, func(pid int) error {
			child = pid
			if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
				return err
			}
			own, err := os.Readlink("/proc/self/ns/user")
			its, e := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", pid))
			if its == own {
				t.Errorf("it was born into %s", own)
			}
			return errors.Join(err, e, unix.ENOTTY)
		})
		if !errors.Is(err, unix.ENOTTY) {
			t.Errorf("got %v", err)
		}
		if err := unix.Kill(child, 0); !errors.Is(err, unix.ESRCH) {
			t.Errorf("it is left: %v", err)
		}
		return nil
	})
	p.Sections = append(b.Plan().Sections, p.Sections...)
	if ws, err := run(t, p, nil); err != nil || ws.ExitStatus() != 0 {
		t.Errorf("status %v, error %v", ws.ExitStatus(), err)
	}
}

func TestFdIsStoredInMemory(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pair[0]) })
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := short([]string{"/bin/true"}, func(b *plan.Builder) {
		fd := b.Get("fd", "open it", plan.Openat(plan.AtFdcwd, file, unix.O_RDONLY))
		b.Do("send it", plan.SendFd("socket", fd, "a name"))
	})
	if ws, err := run(t, p, map[plan.Reg]int{"socket": pair[1]}); err != nil || ws != 0 {
		t.Fatal(ws, err)
	}
	text, rights := make([]byte, 100), make([]byte, 100)
	n, m, _, _, err := unix.Recvmsg(pair[0], text, rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil || string(text[:n]) != "a name" {
		t.Fatalf("%q, %v", text[:n], err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:m])
	if err != nil || len(messages) != 1 {
		t.Fatal(messages, err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 10)
	n, err = unix.Read(fds[0], got)
	unix.Close(fds[0])
	if err != nil || string(got[:n]) != "hello" {
		t.Errorf("%q, %v", got[:n], err)
	}
}

// Many forks while the collector runs, goroutines grow their stacks and
// signals rain: nothing of the Go runtime may run in a child.
func TestStress(t *testing.T) {
	forks := 2000
	if testing.Short() {
		forks = 200
	}
	var stop atomic.Bool
	t.Cleanup(func() { stop.Store(true) })
	storm := func(work func()) {
		go func() {
			for !stop.Load() {
				work()
			}
		}()
	}
	for range 2 {
		storm(func() {
			var keep [][]byte
			for range 500 {
				keep = append(keep, make([]byte, 4096))
			}
			deep(200)
			runtime.KeepAlive(keep)
		})
	}
	storm(runtime.GC)
	storm(func() {
		_ = unix.Kill(os.Getpid(), unix.SIGURG)
		_ = unix.Kill(os.Getpid(), unix.SIGWINCH)
		time.Sleep(20 * time.Microsecond)
	})
	for i := range forks {
		fails := i%3 == 0
		p := short([]string{"/bin/true"}, func(b *plan.Builder) {
			for range 50 {
				b.Do("work", plan.Umask(0o22))
			}
			skip := b.Label()
			b.Do("passed over", plan.Close("no")).Allow(skip, unix.EBADF)
			b.Do("skipped", plan.Chdir("/nowhere"))
			b.Place(skip)
			if fails {
				b.Do("fails", plan.Chdir("/nowhere"))
			}
		})
		ws, err := run(t, p, map[plan.Reg]int{"no": 1 << 20})
		var step *forkexec.StepError
		switch {
		case fails && (!errors.As(err, &step) || step.Number != 54 || ws.ExitStatus() != 127):
			t.Fatalf("fork %d: %v, status %v", i, err, ws)
		case !fails && (err != nil || ws != 0):
			t.Fatalf("fork %d: %v, status %v", i, err, ws)
		}
	}
}

func deep(n int) int {
	var b [256]byte
	if n == 0 {
		return int(b[3])
	}
	return deep(n-1) + int(b[n%256])
}

func TestProgram(t *testing.T) {
	exe := filepath.Join(t.TempDir(), "program")
	call := func(name string, number uintptr, args ...plan.Arg) *plan.Step {
		return &plan.Step{Call: plan.Call{Name: name, Number: number, Args: args}}
	}
	eagain := call("mknodat", unix.SYS_CLOSE, plan.Num{Value: 1 << 20})
	eagain.Allow = []plan.Allow{{Errno: unix.EBADF}}
	for _, test := range []struct {
		steps []*plan.Step
		out   string
		code  int
	}{
		{[]*plan.Step{{Call: plan.WriteTo(1, "hello\n")}, eagain}, "hello\n", 0},
		{[]*plan.Step{{Call: plan.Chdir("/nowhere")}, {Call: plan.WriteTo(1, "hello\n")}}, "", 127},
		{[]*plan.Step{call("exit_group", unix.SYS_EXIT_GROUP, plan.Num{Value: 3})}, "", 3},
	} {
		elf, err := forkexec.Program(test.steps)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(exe, elf, 0o755); err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(t.TempDir(), "out")
		ws, err := run(t, short([]string{"/bin/sh", "-c", exe + " > " + out}, nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := os.ReadFile(out)
		if ws.ExitStatus() != test.code || string(got) != test.out {
			t.Errorf("status %d, output %q; want %d, %q", ws.ExitStatus(), got, test.code, test.out)
		}
	}
}
