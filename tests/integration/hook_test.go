package integration_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/spec"
)

// hookScript notes in a file which hook ran, where, and what state it was
// given.
func hookScript(note, kind string) specs.Hook {
	return specs.Hook{
		Path: "/bin/sh", Env: []string{"KIND=" + kind, "PATH=/usr/bin:/bin"},
		Args: []string{"sh", "-c", `echo $KIND $(readlink /proc/self/ns/mnt) $(readlink /proc/self/ns/pid) $(env | grep -vcE "^(PWD|OLDPWD|SHLVL|_)=") $(cat) >>` + note},
	}
}

// TestHooks runs one hook of each kind: in the order, at the moment, in the
// namespaces and with the state that config.md says.
func TestHooks(t *testing.T) {
	s := newSpec("hooks", "sh", "-c", "echo begun >>/note; exec pause")
	s.Annotations = map[string]string{"a": "b"}
	c, dir := newOCI(t, "hooks", nil)
	note := filepath.Join(dir, "note")
	inside := hookScript("/note", "startContainer") // its path is the container's
	inside.Args[2] = strings.ReplaceAll(inside.Args[2], ` $(env | grep -vcE "^(PWD|OLDPWD|SHLVL|_)=")`, " 2")
	s.Hooks = &specs.Hooks{
		CreateRuntime:   []specs.Hook{hookScript(note, "createRuntime"), hookScript(note, "second")},
		CreateContainer: []specs.Hook{hookScript(note, "createContainer")},
		StartContainer:  []specs.Hook{inside},
		Poststart:       []specs.Hook{hookScript(note, "poststart")},
		Poststop:        []specs.Hook{hookScript(note, "poststop")},
	}
	*spec.HooksOf(s)[0].Hooks = []specs.Hook{hookScript(note, "prestart")}
	writeSpec(t, dir, s)
	mount, _ := os.Readlink("/proc/self/ns/mnt")
	pid, _ := os.Readlink("/proc/self/ns/pid")
	read := func(file string) (lines [][]string) {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			lines = append(lines, strings.SplitN(strings.TrimSpace(line), " ", 5))
		}
		return lines
	}
	check := func(lines [][]string, i int, kind string, status specs.ContainerState, host bool, pidOf int) {
		t.Helper()
		if len(lines) <= i || len(lines[i]) != 5 || lines[i][0] != kind {
			t.Fatalf("hook %d is to be %s: %q", i, kind, lines)
		}
		l := lines[i]
		if (l[1] == mount) != host || (l[2] == pid) != host {
			t.Errorf("%s: it runs on the host: %v, in %s and %s", kind, !host, l[1], l[2])
		}
		if l[3] != "2" {
			t.Errorf("%s: it has %s variables, not two", kind, l[3])
		}
		var state specs.State
		if err := json.Unmarshal([]byte(l[4]), &state); err != nil || state.Status != status || state.Pid != pidOf ||
			state.ID != "hooks" || state.Bundle != dir || state.Annotations["a"] != "b" || state.Version == "" {
			t.Errorf("%s: state %s, %v", kind, l[4], err)
		}
	}
	c.create(dir)
	lines := read(note)
	for i, kind := range []string{"prestart", "createRuntime", "second"} {
		check(lines, i, kind, specs.StateCreating, true, c.pid)
	}
	check(lines, 3, "createContainer", specs.StateCreating, false, 1)
	if len(lines) != 4 {
		t.Errorf("after create: %q", lines)
	}
	own := filepath.Join(dir, "rootfs/note")
	if len(read(own)) > 0 {
		t.Error("startContainer runs before start")
	}
	c.must("start", "hooks")
	eventually(t, "the program begins", func() bool { return len(read(own)) == 2 })
	check(read(own), 0, "startContainer", specs.StateCreated, false, 1)
	check(read(note), 4, "poststart", specs.StateRunning, true, c.pid)
	c.must("kill", "hooks", "KILL")
	c.reap()
	if len(read(note)) != 5 {
		t.Error("poststop runs before delete")
	}
	c.must("delete", "hooks")
	check(read(note), 5, "poststop", specs.StateStopped, true, 0)
}

// TestHookFailures has hooks fail that must stop the container, which ends its
// life: what follows its end runs, and nothing of it is left.
func TestHookFailures(t *testing.T) {
	second := 1
	for _, f := range []struct {
		kind, want string
		hook       specs.Hook
		started    bool
	}{
		{"prestart", "error running prestart hook #0: /bin/sh: exit status 3, and says: so it is", specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", "echo so it is; exit 3"}}, false},
		{"createRuntime", "signal: killed", specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", "kill -9 $$"}}, false},
		{"createContainer", "timeout of 1 s", specs.Hook{Path: "/bin/sleep", Args: []string{"sleep", "60"}, Timeout: &second}, false},
		{"createContainer", "no such file or directory", specs.Hook{Path: "/nosuch"}, false},
		{"startContainer", "error running startContainer hook #0", specs.Hook{Path: "/bin/false"}, true},
		{"poststart", "error running poststart hook #0: /bin/false: exit status 1", specs.Hook{Path: "/bin/false"}, true},
	} {
		t.Run(f.kind, func(t *testing.T) {
			s := newSpec("hooks", "pause")
			note := filepath.Join(temp(t), "note")
			s.Hooks = &specs.Hooks{Poststop: []specs.Hook{hookScript(note, "poststop")}}
			for _, list := range spec.HooksOf(s) {
				if list.Kind == f.kind {
					*list.Hooks = []specs.Hook{f.hook}
				}
			}
			c, dir := newOCI(t, "hooks", s)
			begin := time.Now()
			if f.started {
				c.create(dir)
				c.fails(1, f.want, "start", "hooks")
				c.reap() // it is killed
			} else {
				c.fails(1, f.want, "create", "--bundle", dir, "hooks")
			}
			c.fails(1, "container does not exist", "state", "hooks")
			c.fails(1, f.want, "run", "--bundle", dir, "hooks")
			if text, _ := os.ReadFile(note); strings.Count(string(text), "poststop") != 2 {
				t.Errorf("after create and after run poststop notes %q", text)
			}
			if d := time.Since(begin); d > patience/2 {
				t.Errorf("it took %v", d)
			}
		})
	}
}

// TestHookConfined is that a hook whose file is the container's can do what the
// container's program can, and no more.
func TestHookConfined(t *testing.T) {
	s := newSpec("hooks", "sh", "-c", printStatus+"; exec pause")
	s.Process.User = specs.User{UID: 1000, GID: 100}
	c, dir := newOCI(t, "hooks", s)
	note := filepath.Join(dir, "rootfs/note")
	if err := os.WriteFile(note, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(note, 0o666); err != nil {
		t.Fatal(err)
	}
	s.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{
		Path: "/bin/sh", Args: []string{"sh", "-c", "(" + printStatus + ") >/note"}, Env: []string{"PATH=/bin"},
	}}}
	if err := os.Remove(filepath.Join(dir, spec.ConfigFile)); err != nil {
		t.Fatal(err)
	}
	writeSpec(t, dir, s)
	c.create(dir)
	c.must("start", c.id)
	program, hook := "", ""
	eventually(t, "both tell of themselves", func() bool {
		a, _ := os.ReadFile(c.out.Name())
		b, _ := os.ReadFile(note)
		program, hook = string(a), string(b)
		return statusEnds(program) && statusEnds(hook)
	})
	a, b := fields(program), fields(hook)
	for _, name := range sameFields {
		if a[name] != b[name] {
			t.Errorf("%s: the program has %q, and the hook %q", name, a[name], b[name])
		}
	}
	if links := func(s string) string { return s[strings.Index(s, "pid:["):] }; links(program) != links(hook) {
		t.Errorf("namespaces or cgroups differ:\n%s\n%s", links(program), links(hook))
	}
}

// TestSysctlOfHook is that a parameter of the network can be one of an interface
// that a hook has brought, from outside or inside.
func TestSysctlOfHook(t *testing.T) {
	const link = "busybox ip link add hook0 type veth"
	for kind, script := range map[string]string{
		"createRuntime":   `pid=$(sed 's/.*"pid": *\([0-9]*\).*/\1/'); nsenter -t $pid -n ` + link,
		"createContainer": link,
	} {
		t.Run(kind, func(t *testing.T) {
			s := newSpec("hooks", "cat", "/proc/sys/net/ipv4/conf/hook0/log_martians")
			s.Linux.Sysctl = map[string]string{"net.ipv4.conf.hook0.log_martians": "1"}
			s.Hooks = new(specs.Hooks)
			for _, list := range spec.HooksOf(s) {
				if list.Kind == kind {
					*list.Hooks = []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}}}
				}
			}
			h := newHost(t)
			if out := h.must(t, "run", "--bundle", newBundle(t, s, "hooks"), "hooks"); out != "1\n" {
				t.Errorf("it prints %q", out)
			}
		})
	}
}
