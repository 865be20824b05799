package wall_test

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/lang"
	"github.com/minictr/minictr/pkg/seccomp"
	"github.com/minictr/minictr/pkg/wall"
)

// brick finds one around a process, and reads its facts as a program does.
func brick(t *testing.T, pid int, name string, facts any) wall.Brick {
	t.Helper()
	w, err := wall.Around(pid)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(w.Bricks, func(b wall.Brick) bool { return b.Name == name })
	if i < 0 {
		t.Fatalf("there is no brick %s", name)
	}
	for _, text := range []string{w.Bricks[i].Inside, w.Bricks[i].Host, w.Bricks[i].Means, string(w.Bricks[i].State)} {
		if _, ok := lang.Translate(text); !ok {
			t.Errorf("%s: there is no Korean for %q", name, text)
		}
	}
	text, err := json.Marshal(w.Bricks[i].Facts)
	if err == nil {
		err = json.Unmarshal(text, facts)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w.Bricks[i]
}

// child starts a shell that says "ready" after what it was told to do, and then
// waits.
func child(t *testing.T, script string, attr *syscall.SysProcAttr) (pid int, says []string) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script+"\necho ready\nread line")
	cmd.SysProcAttr, cmd.Stderr = attr, os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait() // read fails then
	})
	for scanner := bufio.NewScanner(out); scanner.Text() != "ready"; says = append(says, scanner.Text()) {
		if !scanner.Scan() {
			t.Fatalf("the child said %q: %v", says, scanner.Err())
		}
	}
	return cmd.Process.Pid, says
}

type capFacts struct {
	Effective, Permitted, Inheritable, Bounding, Ambient, Dangerous []string
	OnlyInside                                                      bool `json:"only_inside"`
}

func TestCaps(t *testing.T) {
	needRoot(t)
	var own, user, some, inside capFacts
	here, _ := child(t, "", nil)
	if b := brick(t, here, "caps", &own); b.State != wall.Shared || !slices.Contains(own.Dangerous, "CAP_SYS_ADMIN") || own.OnlyInside {
		t.Errorf("our own child: %s, %v", b.State, own)
	}
	credential := &syscall.Credential{Uid: 65534, Gid: 65534}
	pid, _ := child(t, "", &syscall.SysProcAttr{Credential: credential})
	b := brick(t, pid, "caps", &user)
	if b.State != wall.Walled || len(user.Effective)+len(user.Permitted)+len(user.Ambient) > 0 || !slices.Equal(user.Bounding, own.Bounding) {
		t.Errorf("another user: %s, %v", b.State, user)
	}
	if want := "it is a user like others; a set-user-ID program can give it those that it can get"; b.Means != want {
		t.Errorf("another user: %s", b.Means)
	}
	pid, _ = child(t, "", &syscall.SysProcAttr{Credential: credential, AmbientCaps: []uintptr{unix.CAP_SYS_TIME, unix.CAP_CHOWN}})
	two := []string{"CAP_CHOWN", "CAP_SYS_TIME"}
	b = brick(t, pid, "caps", &some)
	for set, names := range map[string][]string{"effective": some.Effective, "permitted": some.Permitted, "inheritable": some.Inheritable, "ambient": some.Ambient} {
		if !slices.Equal(names, two) {
			t.Errorf("%s: %v, want %v", set, names, two)
		}
	}
	if b.State != wall.Walled || b.Means != "with these it reaches beyond its wall: CAP_SYS_TIME" {
		t.Errorf("a user with two: %s, %s", b.State, b.Means)
	}
	pid, _ = child(t, "", &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWPID})
	outside := slices.DeleteFunc(slices.Clone(own.Dangerous), func(c string) bool {
		return c == "CAP_NET_ADMIN" || c == "CAP_SYS_PTRACE" || c == "CAP_AUDIT_CONTROL"
	})
	if brick(t, pid, "caps", &some); len(outside) != len(own.Dangerous)-3 || !slices.Equal(some.Dangerous, outside) {
		t.Errorf("root with a network and processes of its own: %v, want %v", some.Dangerous, outside)
	}
	pid, _ = child(t, "", &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 1}},
		Credential:  &syscall.Credential{NoSetGroups: true},
	})
	if b := brick(t, pid, "caps", &inside); b.State != wall.Walled || !inside.OnlyInside || !slices.Contains(inside.Effective, "CAP_SYS_ADMIN") {
		t.Errorf("in a user namespace: %s, %v", b.State, inside)
	}
}

func TestNoNewPrivs(t *testing.T) {
	needRoot(t)
	var facts struct{ Set bool }
	pid, _ := child(t, "", nil)
	if b := brick(t, pid, "nnp", &facts); b.State != wall.Missing || facts.Set {
		t.Errorf("a child without it: %s, %v", b.State, facts)
	}
	with := start(t, echo) // it sets it
	if b := brick(t, with.PID, "nnp", &facts); b.State != wall.Walled || !facts.Set {
		t.Errorf("a child with it: %s, %v", b.State, facts)
	}
}

// TestLabel holds the brick to what the process reads of itself.
func TestLabel(t *testing.T) {
	needRoot(t)
	pid, says := child(t, "cat /proc/$$/attr/current 2>&1; echo", nil)
	var facts struct{ Module, Label string }
	b := brick(t, pid, "lsm", &facts)
	if label := says[0]; strings.HasSuffix(label, "Invalid argument") { // cat's error
		if b.State != wall.Missing || facts.Module != "" || facts.Label != "" {
			t.Errorf("no module gives a label: %+v", b)
		}
	} else if b.State == wall.Walled || facts.Module == "" || facts.Label != label {
		t.Errorf("the child, which has our label, reads %q: %+v", label, b)
	}
}

type seccompFacts struct {
	Mode, Filters int
	Calls         *struct{ Pass, Depends, Refused []string }
	Dangerous     []string
	Foreign       map[string]bool
}

func TestSeccomp(t *testing.T) {
	needRoot(t)
	var none, some seccompFacts
	pid, _ := child(t, "", nil)
	b := brick(t, pid, "seccomp", &none)
	if b.State != wall.Missing || none.Mode != 0 || none.Filters != 0 || len(none.Calls.Pass) < 300 || len(none.Calls.Depends)+len(none.Calls.Refused) > 0 || !slices.Contains(none.Dangerous, "bpf") {
		t.Errorf("without a filter: %s, %+v", b.State, none)
	}
	p := start(t, echo, refuse(t, "bpf", unix.EPERM), refuse(t, "mount", unix.EACCES))
	b = brick(t, p.PID, "seccomp", &some)
	if b.State != wall.Walled || some.Mode != 2 || some.Filters != 2 || !slices.Equal(some.Calls.Refused, []string{"bpf", "mount"}) || len(some.Calls.Depends) > 0 {
		t.Errorf("with two filters: %s, %d, %d, refused %v, depends %v", b.State, some.Mode, some.Filters, some.Calls.Refused, some.Calls.Depends)
	}
	left := slices.DeleteFunc(none.Dangerous, func(c string) bool { return c == "bpf" || c == "mount" })
	if !slices.Equal(some.Dangerous, left) {
		t.Errorf("dangerous are %v, want %v", some.Dangerous, left)
	}
	if line, err := p.out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	p.alive(t)
}

// TestSeccompUnread looks at a process that somebody traces already, so that
// its filters can't be read.
func TestSeccompUnread(t *testing.T) {
	needRoot(t)
	p := start(t, echo, refuse(t, "bpf", unix.EPERM))
	trace(t, p.PID)
	var facts seccompFacts
	b := brick(t, p.PID, "seccomp", &facts)
	if b.State != wall.Walled || facts.Mode != 2 || facts.Filters != 1 || facts.Calls != nil || facts.Dangerous != nil {
		t.Errorf("%s, %+v", b.State, facts)
	}
	if !strings.HasPrefix(b.Means, "what they let pass can't be read: ") || !strings.Contains(b.Means, "EPERM") && !strings.Contains(b.Means, unix.EPERM.Error()) {
		t.Errorf("it says %q", b.Means)
	}
}

// TestDangerousCalls has them all be calls of this machine.
func TestDangerousCalls(t *testing.T) {
	needRoot(t)
	var facts seccompFacts
	pid, _ := child(t, "", nil)
	brick(t, pid, "seccomp", &facts)
	for _, name := range facts.Dangerous {
		if _, ok := seccomp.Number(name, seccomp.Native()); !ok {
			t.Errorf("there is no call %s", name)
		}
	}
	if len(facts.Dangerous) < 35 {
		t.Errorf("only %v", facts.Dangerous)
	}
}
