package wall_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/forkexec"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/seccomp"
	"github.com/minictr/minictr/pkg/wall"
)

// A filtered process is a shell under filters that says each line back, and tells of signals.
type filtered struct {
	*forkexec.Process
	in  *os.File
	out *bufio.Reader
}

const echo = `for s in 1 2 3 4 5 6 7 8 10 11 12 13 14 15 16 18 20 21 22 23 24 25 26 27 28 29 30 31; do trap "echo signal $s" $s; done
echo ready
while read line; do echo "$line"; done`

func start(t *testing.T, script string, filters ...seccomp.Filter) *filtered {
	t.Helper()
	var up, down [2]int
	if err := errors.Join(unix.Pipe2(down[:], unix.O_CLOEXEC), unix.Pipe2(up[:], unix.O_CLOEXEC)); err != nil {
		t.Fatal(err)
	}
	child, in, out := [2]int{down[0], up[1]}, os.NewFile(uintptr(down[1]), "in"), os.NewFile(uintptr(up[0]), "out")
	b := plan.New()
	b.Section(plan.Parent, "clone", "the process is made")
	b.Clone("the process", plan.Clone3(0, ""))
	b.Section(plan.Child, "test", "pipes and filters")
	b.Do("in", plan.Dup3("in", 0))
	b.Do("out", plan.Dup3("out", 1))
	b.Do("signals work again", plan.UnblockSignals())
	b.Do("the stub can report", plan.SetCloexec(plan.Report, false))
	argv := []string{"/bin/sh", "-c", script}
	b.Do("leave our own file", plan.Execveat(plan.Sealed, append([]string{argv[0]}, argv...), []string{"HOME=/"}))
	b.Section(plan.Stub, "program", "the program")
	b.Do("nobody needs a privilege for filters", plan.NoNewPrivs())
	for _, f := range filters {
		b.Do("a filter", plan.LoadFilter(f.Bytes(), f.Flags))
	}
	b.Do("nothing of ours stays open", plan.SetCloexec(plan.Report, true))
	b.Do("tell that it is done", plan.Write(plan.Report, plan.Ready))
	b.Do("the program", plan.Execve(argv[0], argv, []string{"HOME=/"}))
	p, err := forkexec.Start(b.Plan(), &plan.Run{Fd: map[plan.Reg]int{"in": child[0], "out": child[1]}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		out.Close()
		_ = p.Signal(unix.SIGKILL)
		_, _ = p.Wait() // the test may have waited
		p.Close()
	})
	if err := p.Started(); err != nil {
		t.Fatal(err)
	}
	return &filtered{p, in, bufio.NewReader(out)}
}

// alive asks whether the process still runs by itself, and has seen no signal.
func (p *filtered) alive(t *testing.T) {
	t.Helper()
	if status := field(t, p.PID, "TracerPid"); status != "0" {
		t.Errorf("it is traced by %s", status)
	}
	if _, err := p.in.WriteString("still here\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := p.out.ReadString('\n'); line != "still here\n" {
		t.Errorf("it says %q, %v", line, err)
	}
}

// stops waits until the process is stopped, and not by a tracer.
func (p *filtered) stops(t *testing.T) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); field(t, p.PID, "State") != "T (stopped)"; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("it does not stop")
		}
	}
}

func field(t *testing.T, pid int, name string) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(data), "\n"+name+":\t")
	text, _, _ = strings.Cut(text, "\n")
	return text
}

// refuse is a filter that answers a call of minor use with an errno.
func refuse(t *testing.T, name string, errno unix.Errno) seccomp.Filter {
	t.Helper()
	nr, ok := seccomp.Number(name, seccomp.Native())
	if !ok {
		t.Fatal(name)
	}
	return seccomp.Filter{Program: []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_ABS},
		{Code: unix.BPF_JMP | unix.BPF_JEQ, K: nr, Jf: 1},
		{Code: unix.BPF_RET, K: uint32(seccomp.Errno(errno))},
		{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW},
	}}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}

// checkRead compares what is read with what was loaded.
func checkRead(t *testing.T, pid int, want []seccomp.Filter) {
	t.Helper()
	got, err := wall.ReadFilters(pid)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d filters, want %d: %v", len(got), len(want), err)
	}
	for i := range want {
		if !bytes.Equal(got[i].Bytes(), want[i].Bytes()) {
			t.Errorf("filter %d:\n%v\nwant\n%v", i, got[i], want[i])
		}
	}
}

func TestReadFilters(t *testing.T) {
	needRoot(t)
	profile, err := seccomp.Compile(seccomp.Default(nil, seccomp.Native()), seccomp.Native())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]seccomp.Filter{
		nil, {profile}, {profile, refuse(t, "acct", unix.EXDEV), refuse(t, "acct", unix.ERANGE), refuse(t, "swapon", unix.EIO)},
	} {
		p := start(t, echo, want...)
		if line, err := p.out.ReadString('\n'); line != "ready\n" {
			t.Fatalf("%q, %v", line, err)
		}
		for range 20 {
			checkRead(t, p.PID, want)
		}
		p.alive(t)
	}
	// The newest filter's errno is the one that counts: the order is the kernel's.
	nr, _ := seccomp.Number("acct", seccomp.Native())
	p := start(t, echo, refuse(t, "acct", unix.EXDEV), refuse(t, "acct", unix.ERANGE))
	filters, err := wall.ReadFilters(p.PID)
	if err != nil {
		t.Fatal(err)
	}
	action, err := seccomp.Decide(filters, seccomp.Data{NR: nr, Arch: seccomp.Native()})
	if err != nil || action != seccomp.Errno(unix.ERANGE) {
		t.Errorf("acct: %v, %v", action, err)
	}
}

// A process that a signal has stopped is stopped afterwards, too.
func TestReadFiltersOfStopped(t *testing.T) {
	needRoot(t)
	f := refuse(t, "acct", unix.EXDEV)
	p := start(t, "kill -STOP $$; echo on", f)
	p.stops(t)
	checkRead(t, p.PID, []seccomp.Filter{f})
	p.stops(t) // for a moment the kernel has it run from one stop to the other
	time.Sleep(50 * time.Millisecond)
	if state := field(t, p.PID, "State"); state != "T (stopped)" {
		t.Errorf("it is in state %s", state)
	}
	if err := unix.Kill(p.PID, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if line, err := p.out.ReadString('\n'); line != "on\n" {
		t.Errorf("%q, %v", line, err)
	}
}

func TestReadFiltersOfEnding(t *testing.T) {
	needRoot(t)
	f := refuse(t, "acct", unix.EXDEV)
	read := 0
	for range 30 {
		p := start(t, "exit 7", f)
		for {
			filters, err := wall.ReadFilters(p.PID)
			if err == nil && len(filters) == 1 {
				read++
				continue
			}
			if !errors.Is(err, unix.ESRCH) {
				t.Fatalf("%d filters, %v", len(filters), err)
			}
			break
		}
		if status, err := p.Wait(); err != nil || status.ExitStatus() != 7 {
			t.Errorf("its parent learns %v, %v", status, err)
		}
		if _, err := wall.ReadFilters(p.PID); !errors.Is(err, unix.ESRCH) {
			t.Errorf("of a process that was waited for: %v", err)
		}
	}
	if read == 0 {
		t.Error("no process was read before it ended")
	}
}

// trace has a thread of ours trace a process until the test ends.
func trace(t *testing.T, pid int) {
	t.Helper()
	traced, enough := make(chan error), make(chan bool)
	go func() {
		runtime.LockOSThread() // the tracer ends with its thread
		traced <- unix.PtraceSeize(pid)
		<-enough
	}()
	t.Cleanup(func() { close(enough) })
	if err := <-traced; err != nil {
		t.Fatal(err)
	}
}

// asNobody says whether root has had nobody run the test, once more.
func asNobody(t *testing.T) bool {
	t.Helper()
	if os.Getuid() != 0 {
		return false
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Dir = "/"
	if output, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(output, []byte("PASS")) {
		t.Errorf("as nobody: %v\n%s", err, output)
	}
	return true
}

func TestReadFiltersOfTraced(t *testing.T) {
	needRoot(t)
	p := start(t, echo, refuse(t, "acct", unix.EXDEV))
	trace(t, p.PID)
	var e *wall.FilterError
	if _, err := wall.ReadFilters(p.PID); !errors.As(err, &e) || !errors.Is(err, unix.EPERM) || !strings.Contains(e.Hint, "TracerPid") {
		t.Errorf("%v", err)
	}
}

// A user may trace a process of his own, but may not read its filters.
func TestReadFiltersDenied(t *testing.T) {
	if asNobody(t) {
		return
	}
	p := start(t, echo, refuse(t, "acct", unix.EXDEV))
	if line, err := p.out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := wall.ReadFilters(p.PID); !errors.Is(err, unix.EACCES) {
		t.Errorf("%v", err)
	}
	p.alive(t)
}

// A process in a cgroup that is frozen stands for a tracer on v2, and not on v1: there, nothing is
// left of the attempt.
func TestReadFiltersOfFrozen(t *testing.T) {
	needRoot(t)
	dir, file, frozen, thawed := "/sys/fs/cgroup/freezer", "freezer.state", "FROZEN", "THAWED"
	if _, err := os.Stat(dir); err != nil {
		dir, file, frozen, thawed = "/sys/fs/cgroup", "cgroup.freeze", "1", "0"
	}
	f := refuse(t, "acct", unix.EXDEV)
	p := start(t, echo, f)
	if line, err := p.out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	group := filepath.Join(dir, fmt.Sprintf("minictr-filters-%d", p.PID))
	write := func(group, file, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(group, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Skipf("no cgroup can be made here: %v", err)
	}
	home := dir
	t.Cleanup(func() {
		write(home, "cgroup.procs", fmt.Sprint(p.PID))
		if err := os.Remove(group); err != nil {
			t.Error(err)
		}
	})
	write(group, "cgroup.procs", fmt.Sprint(p.PID))
	write(group, file, frozen)
	if file == "cgroup.freeze" {
		checkRead(t, p.PID, []seccomp.Filter{f})
	} else if _, err := wall.ReadFilters(p.PID); !errors.Is(err, unix.ETIMEDOUT) {
		t.Errorf("%v", err)
	}
	write(group, file, thawed)
	p.alive(t)
	checkRead(t, p.PID, []seccomp.Filter{f})
}

// A signal that comes while the process is made to stop reaches it.
func TestReadFiltersUnderSignals(t *testing.T) {
	needRoot(t)
	f := refuse(t, "acct", unix.EXDEV)
	p := start(t, "trap 'echo signal' USR1; echo ready; while :; do :; done", f)
	lines := make(chan string)
	go func() {
		defer close(lines)
		for line, err := p.out.ReadString('\n'); err == nil; line, err = p.out.ReadString('\n') {
			lines <- line
		}
	}()
	if line := <-lines; line != "ready\n" {
		t.Fatal(line)
	}
	done, ended := make(chan bool), make(chan error)
	go func() {
		for {
			select {
			case <-done:
				ended <- nil
				return
			default:
			}
			if filters, err := wall.ReadFilters(p.PID); err != nil || len(filters) != 1 {
				ended <- fmt.Errorf("%d filters: %w", len(filters), err)
				return
			}
		}
	}()
	for n := range 2000 {
		if err := unix.Kill(p.PID, unix.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		select {
		case <-lines:
			continue
		case <-time.After(20 * time.Second):
			t.Errorf("signal %d does not arrive", n)
		}
		break
	}
	close(done)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
