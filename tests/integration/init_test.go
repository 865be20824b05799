package integration_test

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/spec"
)

// forked is what the child of process 1 did, which knows it by a PID of its own
// namespace: it begins with the step that is due.
func (r *replay) forked(tr trace) []traced {
	first := r.steps[r.next]
	for _, calls := range tr {
		if len(calls) > 0 && calls[0].text == first.Call+"("+strings.Join(first.Args, ", ")+")" {
			return calls
		}
	}
	return nil
}

// endOf takes apart how wait4 says that a child has ended.
var endOf = regexp.MustCompile(`(?:WEXITSTATUS|WTERMSIG)\(s\) == (\w+)`)

// stay replays what process 1 does from a step on, while its child becomes the
// program and ends: what its calls return says which of them follows.
func (r *replay) stay(number int, child string, calls []traced) error {
	one := &replay{regs: map[string]string{"child": child, "status": "$status"}, inputs: map[string]string{}, done: r.done}
	for _, s := range r.steps {
		if s.Number >= number {
			one.steps = append(one.steps, s)
		}
	}
	const wait, kill, reap, exit = 1, 2, 3, 4
	for _, c := range calls {
		if one.next == len(one.steps) {
			return fmt.Errorf("process 1 goes on after its end: %s", c.text)
		}
		s, got := one.steps[one.next], spell(tracedSpelling[:], c.text)
		want, err := one.predict(s, got)
		if err != nil || want != got {
			return fmt.Errorf("step %d of process 1\npredicted: %s\n   traced: %s %w", s.Number, want, got, err)
		}
		one.done[s.Number] = true
		result, _ := strconv.Atoi(c.result)
		switch {
		case one.next == wait && result == int(unix.SIGCHLD):
			one.next = reap
		case one.next == wait && c.errno == "":
			one.next, one.regs["signal"] = kill, unix.SignalName(unix.Signal(result))
		case one.next == reap && c.result == child:
			status := endOf.FindStringSubmatch(c.text)[1]
			if n := unix.SignalNum(status); n != 0 {
				status = fmt.Sprint(128 + int(n))
			}
			one.next, one.regs["status"] = exit, status
		case one.next == reap && result > 0:
		case one.next == exit:
			one.next = len(one.steps)
		default:
			one.next = wait
		}
	}
	if one.next != len(one.steps) {
		return fmt.Errorf("process 1 has not ended: %s is due", one.steps[one.next].Call)
	}
	return nil
}

// TestInitIsWhatIsPrinted has process 1 get signals and orphans under strace.
func TestInitIsWhatIsPrinted(t *testing.T) {
	h := newHost(t)
	const script = `trap "echo caught; on=1" USR1; orphan > /dev/null; orphan > /dev/null; kill -USR1 1; until test $on; do sleep 0.05; done
		while ps | grep -q "orphan]*$"; do sleep 0.05; done; kill -CHLD 1; kill -TERM 1; while true; do sleep 1; done`
	args := []string{"--init", "tiny", "sh", "-c", script}
	p := h.printedPlan(t, args...)
	tr, r := h.straceAny(t, append([]string{"run"}, args...)...)
	if r.status != 143 || r.stdout != "caught\n" {
		t.Fatal(r)
	}
	tr.rename(h, "ID")
	done := walked(t, p, tr)
	for _, s := range p.of(plan.Stub) {
		if s.brick == "init" && !done[s.Number] {
			t.Errorf("step %d, %s, is passed by", s.Number, s.Call)
		}
	}
}

// TestInitStatus is how containers end, and begin, with an init.
func TestInitStatus(t *testing.T) {
	h := newHost(t)
	for _, c := range []struct {
		command string // of sh; "" is a program of its own
		program string
		want    int
	}{
		{"exit 0", "", 0},
		{"exit 3", "", 3},
		{"test $$ = 2 && exit 7", "", 7},
		{"kill -TERM $$", "", 143},
		{"kill -KILL $$", "", 137},
		{"kill -TERM 1; sleep 10", "", 143},
		{"kill -KILL 1; kill -INT 1; sleep 10", "", 130}, // nobody in a namespace can kill its process 1
		{"", "/no/such", 127},
		{"", "nosuch", 127},
		{"", "/etc/passwd", 126},
	} {
		for _, flags := range [...]string{"", "--tty --user student --new-privileges "} {
			args := strings.Fields(flags + "tiny " + c.program)
			if c.program == "" {
				args = append(args, "sh", "-c", c.command)
			}
			r := h.minictr(t, append([]string{"run", "--init"}, args...)...)
			if r.status != c.want {
				t.Errorf("%q: %v\nwant %d", args, r, c.want)
			}
			if c.program == "" {
				continue
			}
			if plain := h.minictr(t, append([]string{"run"}, args...)...); plain.String() != r.String() {
				t.Errorf("%q: %v\nwithout --init: %v", args, r, plain)
			}
		}
	}
}

// childrenOf are the children of a process, the dead ones that nobody has taken away too.
func childrenOf(t *testing.T, pid int) []string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}

// zombies counts the dead among them.
func zombies(t *testing.T, pid int) (n int) {
	t.Helper()
	for _, child := range childrenOf(t, pid) {
		stat, _ := os.ReadFile("/proc/" + child + "/stat")
		if strings.Contains(string(stat), ") Z ") {
			n++
		}
	}
	return n
}

// orphan leaves a child behind that ends a moment later: who has a child does not
// wait, and who has none waits for what does not come.
func orphan(t *testing.T) []byte {
	word := func(v ...byte) plan.Mem { return plan.Mem{Data: append(v, make([]byte, 16-len(v))...)} }
	none := plan.Num{}
	wait := &plan.Step{Allow: []plan.Allow{{Errno: unix.EAGAIN}}, Call: plan.Call{
		Name: "rt_sigtimedwait", Number: unix.SYS_RT_SIGTIMEDWAIT, Args: []plan.Arg{word(0, 0x20), none, word(1), plan.Num{Value: 8}},
	}}
	alarm := plan.Call{Name: "setitimer", Number: unix.SYS_SETITIMER, Args: []plan.Arg{none, plan.Mem{Data: append(make([]byte, 24), 1, 0, 0, 0, 0, 0, 0, 0)}, none}}
	return tinyProgram(t, &plan.Step{Call: plan.BlockSignals()}, &plan.Step{Call: alarm}, &plan.Step{Call: plan.Fork()}, wait)
}

// TestInit makes orphans, with an init and without, sends the container
// signals, enters it, has it stand still, and ends it.
func TestInit(t *testing.T) {
	const script = `trap "echo usr1" USR1; trap "echo winch" WINCH; trap "echo int" INT
		for a in 1 2 3 4 5; do for b in 1 2 3 4 5 6 7 8; do orphan > /dev/null; done; done; echo up; while true; do sleep 0.05; done`
	for _, c := range []struct {
		name string
		edit func(*specs.Spec)
		own  bool // a PID namespace, so orphans of who enters are process 1's too
		init bool
	}{
		{"none", func(*specs.Spec) {}, true, false},
		{"init", spec.SetInit, true, true},
		{"user namespace", func(s *specs.Spec) { userNamespace(s); spec.SetInit(s) }, true, true},
		{"no PID namespace", func(s *specs.Spec) {
			spec.SetInit(s)
			if _, err := spec.Without(s, "pid"); err != nil {
				t.Fatal(err)
			}
		}, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSpec("init", "sh", "-c", script)
			c.edit(s)
			o, dir := newOCI(t, "init", s)
			if err := os.WriteFile(dir+"/rootfs/bin/orphan", orphan(t), 0o755); err != nil {
				t.Fatal(err)
			}
			o.create(dir)
			o.must("start", o.id)
			o.prints(containing("up"))
			if !c.init {
				eventually(t, "orphans become zombies", func() bool { return zombies(t, o.pid) == 40 })
				o.must("kill", o.id, "KILL")
				return
			}
			eventually(t, "orphans are taken away", func() bool { return len(childrenOf(t, o.pid)) == 1 })
			if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", o.pid)); err != nil || exe != "/memfd:stub (deleted)" {
				t.Errorf("process 1 is %s, %v", exe, err)
			}
			if open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", o.pid)); err != nil || len(open) > 0 {
				t.Errorf("process 1 has %v open, %v", open, err)
			}
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", o.pid))
			if kb, _, _ := strings.Cut(fields(string(status))["VmRSS"], " "); len(kb) > 2 {
				t.Errorf("process 1 takes %s kB", kb)
			}
			for _, sig := range [...]string{"USR1", "WINCH", "INT"} {
				o.must("kill", o.id, sig)
				o.prints(containing(strings.ToLower(sig)))
			}
			if r := o.call("exec", o.id, "sh", "-c", `orphan > /dev/null; exit 6`); r.status != 6 || c.own && len(childrenOf(t, o.pid)) != 2 {
				t.Error(r)
			}
			eventually(t, "that of another process is taken away", func() bool { return len(childrenOf(t, o.pid)) == 1 })
			o.must("pause", o.id)
			o.must("kill", o.id, "TERM")
			o.must("resume", o.id)
			eventually(t, "it ends", func() bool { return o.status().Status == specs.StateStopped })
			o.must("delete", o.id)
			o.reap()
		})
	}
}

// TestInitKilled is that the program does not outlive process 1, nor the
// runtime, also where no PID namespace ends with it.
func TestInitKilled(t *testing.T) {
	s := newSpec("killed", "pause")
	spec.SetInit(s)
	if _, err := spec.Without(s, "pid"); err != nil {
		t.Fatal(err)
	}
	c, dir := newOCI(t, "killed", s)
	c.create(dir)
	c.must("start", c.id)
	child := childrenOf(t, c.pid)[0]
	if err := unix.Kill(c.pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the program ends", func() bool {
		stat, err := os.ReadFile("/proc/" + child + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
	c.must("delete", c.id)
	c.reap()
}

// TestInitBehindFilter is that a filter which process 1 could not live behind
// is refused.
func TestInitBehindFilter(t *testing.T) {
	h := newHost(t)
	for _, call := range [...]string{"clone", "wait4", "kill", "rt_sigtimedwait", "close_range", "setsid"} {
		s := newSpec("filtered", "true")
		spec.SetInit(s)
		no := uint(unix.EPERM)
		for i, rule := range s.Linux.Seccomp.Syscalls {
			names := rule.Names[:0:0]
			for _, name := range rule.Names {
				if name != call {
					names = append(names, name)
				}
			}
			s.Linux.Seccomp.Syscalls[i].Names = append(names, "read")
		}
		s.Linux.Seccomp.Syscalls = append(s.Linux.Seccomp.Syscalls, specs.LinuxSyscall{Names: []string{call}, Action: specs.ActErrno, ErrnoRet: &no})
		r := h.minictr(t, "run", "--bundle", newBundle(t, s, "filtered"), "filtered")
		if !r.refused() || !strings.Contains(r.stderr, "/linux/seccomp: "+call+" does not pass") {
			t.Errorf("%s: %v", call, r)
		}
	}
}

// TestInitTerminal is that keys that are signals reach the program, and that
// the terminal is its own.
func TestInitTerminal(t *testing.T) {
	h := newHost(t)
	s := newScreen(t, h.command("run", "--init", "tiny", "sh", "-c",
		`trap "echo caught \$\$; exit 3" INT; echo x > /dev/tty; cat /proc/2/stat; echo up; while :; do sleep 0.01; done`), 24, 80)
	s.see(t, "x\r\n2 (sh) ")
	s.see(t, " 1 2 2 34816 2 ") // its parent, group, session and terminal, and the group in the foreground
	s.see(t, "up\r\n")
	s.enter(t, "\x03")
	s.see(t, "caught 2\r\n")
	if status := s.status(t); status != 3 {
		t.Errorf("exit status %d, want 3\n%q", status, s.text())
	}
	s = newScreen(t, h.command("run", "--init", "tiny", "sh"), 24, 80)
	s.see(t, "# ")
	s.enter(t, "echo be''gun; sleep 100\r")
	s.see(t, "begun")
	s.enter(t, "\x03")
	s.see(t, "^C")
	s.enter(t, "echo a''b\r")
	s.see(t, "ab\r\n")
	s.enter(t, "exit 5\r")
	if status := s.status(t); status != 5 {
		t.Errorf("exit status %d, want 5\n%q", status, s.text())
	}
}
