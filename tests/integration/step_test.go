package integration_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// A told step is one that minictr plan --step has printed.
type told struct {
	number  int
	text    string
	why     string
	result  traced
	changes []string
}

var (
	toldStep   = regexp.MustCompile(`^ *(\d+)  (.*)$`)
	toldResult = regexp.MustCompile(`^      = (?:(\d+): )?(\w+)(.*)$`)
	toldChange = regexp.MustCompile(`^      (?:changed:|        ) (.*)$`)
	randomID   = regexp.MustCompile(`\b[0-9a-f]{12}\b`)
)

// steps reads what plan --step prints before the program does. The ID, a random
// one, gets the name that it has in a plan.
func steps(out string) (list []*told) {
	if id := randomID.FindString(out); id != "" {
		out = strings.ReplaceAll(strings.ReplaceAll(out, `"`+id+`", 12`, `"ID", 2`), id, "ID")
	}
	var last *told
	for line := range strings.Lines(out) {
		line = strings.TrimSuffix(line, "\n")
		if m := toldStep.FindStringSubmatch(line); m != nil {
			n, _ := strconv.Atoi(m[1])
			last = &told{number: n, text: m[2]}
			list = append(list, last)
		} else if why, ok := strings.CutPrefix(line, "      # "); ok && last != nil {
			last.why = why
		} else if m := toldResult.FindStringSubmatch(line); m != nil && last != nil {
			if n, err := strconv.Atoi(m[1]); err == nil { // two processes at once
				last = list[slices.IndexFunc(list, func(t *told) bool { return t.number == n })]
			}
			last.result.result = m[2]
			if m[2][0] == 'E' {
				last.result.errno = m[2]
			}
		} else if m := toldChange.FindStringSubmatch(line); m != nil && last != nil {
			last.changes = append(last.changes, m[1])
		}
	}
	return list
}

// stepped runs plan --step, and holds what it prints against the plan: the same text and
// reason for each step, each of the runtime's in order, and those of the
// container's process as their results lead from one to the next, up to the
// last.
func (h host) stepped(t *testing.T, args ...string) (r result) {
	t.Helper()
	p := h.printedPlan(t, args...)
	text := h.must(t, append([]string{"plan", "-vv"}, args...)...)
	r = h.minictr(t, append([]string{"plan", "--step"}, args...)...)
	acted, child := p.of(plan.Parent), &replay{steps: p.of(plan.Child, plan.Stub), regs: map[string]string{}}
	for _, step := range steps(r.stdout) {
		if !strings.Contains(text, fmt.Sprintf("\n%4d  %s\n      # %s\n", step.number, step.text, step.why)) {
			t.Fatalf("the plan has no step %d  %s\n# %s", step.number, step.text, step.why)
		}
		if len(acted) > 0 && acted[0].Number == step.number {
			if acted = acted[1:]; step.result.result != "done" {
				t.Errorf("step %d, an action, has the result %q", step.number, step.result.result)
			}
			continue
		}
		if child.next == len(child.steps) || child.steps[child.next].Number != step.number {
			t.Fatalf("step %d is not due", step.number)
		}
		if err := child.goOn(child.steps[child.next], step.result); err != nil {
			t.Fatal(err)
		}
	}
	if len(acted) > 0 || child.next < len(child.steps) {
		t.Fatalf("%d actions and %d calls were not made", len(acted), len(child.steps)-child.next)
	}
	return r
}

// TestStep is that what plan --step prints is what runs, of all walls.
func TestStep(t *testing.T) {
	for i, c := range walls {
		if testing.Short() && i%3 != 0 {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			s := newSpec("stepped", "true")
			c.edit(t, s)
			dir := newBundle(t, s, "stepped")
			if r := h.stepped(t, dir); r.status != 0 {
				t.Error(r)
			}
		})
	}
}

// TestStepOfTwoChildren follows a process that is born twice.
func TestStepOfTwoChildren(t *testing.T) {
	s := newSpec("owner", "pause")
	userNamespace(s)
	owner, dir := newOCI(t, "owner", s)
	owner.create(dir)
	owner.must("start", owner.id)
	s = newSpec("guest", "true")
	s.Linux.Sysctl = nil
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: fmt.Sprintf("/proc/%d/ns/user", owner.pid)})
	dir = newBundle(t, s, "guest")
	if r := owner.stepped(t, dir); r.status != 0 {
		t.Error(r)
	}
}

// TestStepOfImage is that run and plan --step do the same with an image, and
// that the steps say what they change.
func TestStepOfImage(t *testing.T) {
	h := newHost(t)
	r := h.stepped(t, "--memory", "64m", "tiny", "sh", "-c", "echo from inside; exit 7")
	wall, said, _ := strings.Cut(r.stdout, "\nfrom inside\n")
	if r.status != 7 || r.stderr != "" || said != "" {
		t.Fatal(r)
	}
	for _, c := range []struct{ call, change string }{
		{"clone3(", `ns/mnt: \d+ -> \d+`},
		{"umask(000)", `Umask: \d+ -> 0000`},
		{"setsid()", `NSsid: .* 0 -> .* 1`},
		{"unshare(CLONE_NEWCGROUP)", `ns/cgroup: \d+ -> \d+`},
		{`mount("overlay"`, `mounts: \+ /.*/rootfs \(overlay rw\)`},
		{"move_mount($/proc", `mounts: \+ /.*/rootfs/proc \(proc rw\)`},
		{"pivot_root(", `root: \S+ of \w+ -> / of overlay`},
		{"pivot_root(", `cwd: /.*/rootfs -> /`},
		{"pivot_root(", `mounts: /.*/rootfs/proc \(proc rw\) -> /proc \(proc rw\)`},
		{"umount2(", `mounts: - / \(\w+ r[wo]\)`},
		{"prlimit64(0, RLIMIT_CORE", `Max core file size: .* -> 0 0 bytes`},
		{"prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN)", `CapBnd: \w+ -> \w+`},
		{"capset(", `CapEff: [0-9a-f]{16} -> [0-9a-f]{16}`},
		{"prctl(PR_SET_NO_NEW_PRIVS", "NoNewPrivs: 0 -> 1"},
		{"seccomp(", "Seccomp: 0 -> 2"},
		{"execveat(", `exe: .* -> /memfd:stub \(deleted\)`},
		{"execve(", `comm: memfd:stub -> sh`},
	} {
		pattern := regexp.MustCompile("^(" + c.change + ")$")
		if !slices.ContainsFunc(steps(wall), func(s *told) bool {
			_, call, _ := strings.Cut(" "+s.text, " ")
			return strings.HasPrefix(call, c.call) && slices.ContainsFunc(s.changes, pattern.MatchString)
		}) {
			t.Errorf("no step %s... has changed %s", c.call, c.change)
		}
	}
	for _, s := range steps(wall) {
		if strings.HasPrefix(s.text, "fsconfig(") && len(s.changes) > 0 {
			t.Errorf("%s: nothing to see in /proc has changed, but %q", s.text, s.changes)
		}
	}
	for _, args := range [][]string{{"tiny", "nosuch"}, {"tiny", "/etc/passwd"}, {"--user", "7", "--workdir", "/etc/passwd", "tiny", "id"}} {
		run, step := h.minictr(t, append([]string{"run"}, args...)...), h.minictr(t, append([]string{"plan", "--step"}, args...)...)
		id := func(r result) string { return randomID.ReplaceAllString(r.stderr, "ID") }
		if run.status == 0 || run.status != step.status || id(run) != id(step) {
			t.Errorf("%q: %v, and step by step %d %s", args, run, step.status, step.stderr)
		}
	}
}

// prompt is what stands below each step where somebody is to press Enter.
const prompt = "      > "

// TestStepWaits is that a person steps, and goes on, and that the program's
// input is its own.
func TestStepWaits(t *testing.T) {
	h := newHost(t)
	s := newScreen(t, h.command("plan", "--step", "tiny", "sh", "-c", "read x; echo got $x; exit 5"), 25, 80)
	for n := range 30 {
		s.prompted(t, n+1)
		s.enter(t, "\n")
	}
	s.prompted(t, 31)
	s.enter(t, "c\n")
	s.see(t, "comm: memfd:stub -> sh")
	s.enter(t, "text\n")
	s.see(t, "got text")
	if status := s.status(t); status != 5 || strings.Count(s.text(), prompt) != 31 {
		t.Errorf("exit status %d, %d prompts", status, strings.Count(s.text(), prompt))
	}
}

func (s *screen) prompted(t *testing.T, times int) {
	t.Helper()
	eventually(t, fmt.Sprintf("prompt %d", times), func() bool { return strings.Count(s.text(), prompt) >= times })
}

// TestStepEnds has each of many steps be the last: Ctrl-C leaves nothing, a
// killed container neither, and what SIGKILL leaves the next command takes
// away.
func TestStepEnds(t *testing.T) {
	h := newHost(t)
	before := machine(h)
	for _, end := range []struct {
		name   string
		do     func(s *screen)
		status int
	}{
		{"Ctrl-C", func(s *screen) { s.enter(t, "\x03") }, 130},
		{"SIGTERM", func(s *screen) { _ = s.cmd.Process.Signal(unix.SIGTERM) }, 143},
		{"SIGKILL", func(s *screen) { _ = s.cmd.Process.Kill() }, -1},
		{"rm --force", func(*screen) { h.must(t, "rm", "--force", "box") }, statusRun},
	} {
		for _, n := range []int{1, 20, 30, 60, 120} {
			if end.name == "rm --force" && n < 30 {
				continue // there is no process yet
			}
			s := newScreen(t, h.command("plan", "--step", "--name", "box", "tiny", "true"), 25, 80)
			for i := range n - 1 {
				s.prompted(t, i+1)
				s.enter(t, "\n")
			}
			s.prompted(t, n)
			end.do(s)
			status := s.status(t)
			if ws := s.cmd.ProcessState.Sys().(syscall.WaitStatus); status != end.status {
				t.Errorf("%s at step %d: status %#x\n%s", end.name, n, ws, s.text())
			}
			if end.name == "SIGKILL" {
				h.must(t, "ps")
			}
			if left, _ := os.ReadDir(h.run); len(left) > 1 {
				t.Errorf("%s at step %d leaves %v", end.name, n, left)
			}
			if before.compare(t, h, fmt.Sprintf("after %s at step %d", end.name, n)); t.Failed() {
				t.FailNow()
			}
		}
	}
}
