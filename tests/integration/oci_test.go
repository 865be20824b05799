package integration_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/cgroup"
	"github.com/minictr/minictr/tests/alone"
)

// An oci is a container that is driven as container managers do it: by one
// command after the other. This process is its subreaper, as a shim would be.
type oci struct {
	host
	t       *testing.T
	id      string
	pid     int
	out     *os.File // what the container writes
	said    *os.File // what commands write
	pidFile string
}

// newOCI makes a bundle and takes a name for the container.
func newOCI(t *testing.T, name string, s *specs.Spec) (*oci, string) {
	t.Helper()
	h := newHost(t)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	dir := newBundle(t, s, name)
	c := &oci{host: h, t: t, id: name, pidFile: filepath.Join(dir, "pid")}
	for file, name := range map[**os.File]string{&c.out: "output", &c.said: "messages"} {
		var err error
		if *file, err = os.Create(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = (*file).Close() })
	}
	t.Cleanup(func() { c.call("delete", "--force", name); c.reap() })
	return c, dir
}

// prints waits until the container has printed what is wanted, and returns it.
func (c *oci) prints(wanted func(string) bool) (text string) {
	c.t.Helper()
	eventually(c.t, "it prints what is wanted", func() bool {
		read, _ := os.ReadFile(c.out.Name())
		text = string(read)
		return wanted(text)
	})
	return text
}

// containing wants a text somewhere.
func containing(text string) func(string) bool {
	return func(s string) bool { return strings.Contains(s, text) }
}

// call runs a command.
func (c *oci) call(args ...string) result {
	c.t.Helper()
	return c.run(c.said, args...)
}

func (c *oci) run(out *os.File, args ...string) result {
	c.t.Helper()
	from, _ := out.Seek(0, 2) // what it starts may keep it open
	cmd := c.command(args...)
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	text, _ := os.ReadFile(out.Name())
	if err != nil && cmd.ProcessState == nil {
		c.t.Fatal(err)
	}
	return result{stdout: string(text[from:]), status: cmd.ProcessState.ExitCode()}
}

// must runs a command that has to succeed, in silence.
func (c *oci) must(args ...string) {
	c.t.Helper()
	if r := c.call(args...); r.status != 0 || r.stdout != "" {
		c.t.Fatalf("minictr %q: %v", args, r)
	}
}

// fails runs a command that has to fail, and say why.
func (c *oci) fails(status int, want string, args ...string) {
	c.t.Helper()
	if r := c.call(args...); r.status != status || !strings.Contains(r.stdout, want) {
		c.t.Errorf("minictr %q is to fail with %d and %q: %v", args, status, want, r)
	}
}

func (c *oci) create(dir string) {
	c.t.Helper()
	if r := c.run(c.out, "create", "--bundle", dir, "--pid-file", c.pidFile, c.id); r.status != 0 || r.stdout != "" {
		c.t.Fatalf("create: %v", r)
	}
	text, err := os.ReadFile(c.pidFile)
	if err != nil {
		c.t.Fatal(err)
	}
	if c.pid, err = strconv.Atoi(string(text)); err != nil {
		c.t.Fatal(err)
	}
}

// reap waits for the container's process, as its parent must.
func (c *oci) reap() (ws unix.WaitStatus) {
	c.t.Helper()
	pid := c.pid
	if c.pid = 0; pid != 0 {
		return reap(c.t, pid)
	}
	return ws
}

// reap waits for a process that was left to us.
func reap(t *testing.T, pid int) (ws unix.WaitStatus) {
	t.Helper()
	eventually(t, fmt.Sprintf("process %d ends", pid), func() bool {
		got, err := unix.Wait4(pid, &ws, unix.WNOHANG, nil)
		return got == pid || err != nil
	})
	return ws
}

// status is that which the command state tells.
func (c *oci) status() (s specs.State) {
	c.t.Helper()
	cmd := c.command("state", c.id)
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &s)
	}
	if err != nil {
		c.t.Fatalf("state: %v\n%s", err, out)
	}
	return s
}

func (c *oci) wants(status specs.ContainerState) {
	c.t.Helper()
	if s := c.status(); s.Status != status || (s.Pid == 0) != (status == specs.StateStopped) {
		c.t.Errorf("the state is %+v, not %s", s, status)
	}
}

func TestLifecycle(t *testing.T) {
	s := newSpec("life", "sh", "-c", "echo begun; exec pause")
	s.Annotations = map[string]string{"a": "b"}
	c, dir := newOCI(t, "life", s)
	c.create(dir)
	c.wants(specs.StateCreated)
	if s := c.status(); s.ID != "life" || s.Bundle != dir || s.Annotations["a"] != "b" || s.Pid != c.pid {
		t.Errorf("state: %+v", s)
	}
	proc := fmt.Sprintf("/proc/%d/", c.pid)
	if exe, err := os.Readlink(proc + "exe"); !strings.Contains(exe, "memfd:stub") {
		t.Errorf("who waits is %s, %v", exe, err)
	}
	if mounts, _ := os.ReadFile(proc + "mounts"); !strings.Contains(string(mounts), " /proc/sys proc ro") {
		t.Errorf("the wall does not stand:\n%s", mounts)
	}
	layout, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	group, err := layout.Group(s.Linux.CgroupsPath)
	if pids, e := group.Procs(); err != nil || e != nil || len(pids) != 1 || pids[0] != c.pid {
		t.Errorf("in its cgroup are %v, %v %v", pids, err, e)
	}
	// The memory of who waits: goal, at most 300 kB.
	if smaps, err := os.ReadFile(proc + "smaps_rollup"); err != nil {
		t.Error(err)
	} else if pss, err := strconv.Atoi(strings.TrimSuffix(fields(string(smaps))["Pss"], " kB")); err != nil || pss > 300 {
		t.Errorf("who waits takes %d kB: %v", pss, err)
	}
	c.fails(1, "container with given ID already exists", "create", "--bundle", dir, c.id)
	c.must("start", c.id)
	c.wants(specs.StateRunning)
	c.prints(containing("begun"))
	c.fails(1, "cannot start an already running container", "start", c.id)
	c.fails(1, "that is not stopped: running", "delete", c.id)
	c.must("pause", c.id)
	c.wants("paused")
	c.fails(255, "cannot exec in a paused container", "exec", c.id, "true")
	c.must("resume", c.id)
	c.fails(1, "container not paused", "resume", c.id)
	c.fails(1, `unknown signal "NOSUCH"`, "kill", c.id, "NOSUCH")
	c.must("pause", c.id)
	c.must("kill", c.id, "KILL") // and a frozen one dies, too
	if ws := c.reap(); ws.Signal() != unix.SIGKILL {
		t.Errorf("it ended by %v", ws)
	}
	c.wants(specs.StateStopped)
	c.fails(1, "container not running", "kill", c.id, "15")
	c.must("kill", "--all", c.id, "KILL")
	c.fails(1, "cannot start a container that has stopped", "start", c.id)
	c.fails(255, "cannot exec in a stopped container", "exec", c.id, "true")
	c.must("delete", c.id)
	c.fails(1, "container does not exist", "state", c.id)
	c.fails(1, "container does not exist", "delete", c.id)
	c.must("delete", "--force", c.id)
}

// TestCreateFindsFaults has create fail for what start could not do, with one
// object in the log, and nothing left.
func TestCreateFindsFaults(t *testing.T) {
	for _, f := range []struct {
		name, want string
		args       []string
		edit       func(*specs.Spec)
	}{
		{"missing program", `exec: "nosuch": executable file not found in $PATH`, []string{"nosuch"}, nil},
		{"missing path", `exec: "/bin/nosuch": no such file or directory`, []string{"/bin/nosuch"}, nil},
		{"directory", `exec: "/etc": permission denied`, []string{"/etc"}, nil},
		{"no program", `exec: "/etc/passwd": permission denied`, []string{"/etc/passwd"}, nil},
		{"terminal", "cannot allocate tty if runc will detach without setting console socket", []string{"done"}, func(s *specs.Spec) { s.Process.Terminal = true }},
		{"systemd", `expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups`, []string{"done"}, nil},
		{"hook", "error running createRuntime hook #0: /bin/false: exit status 1", []string{"done"}, func(s *specs.Spec) {
			s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/false"}}}
		}},
	} {
		t.Run(f.name, func(t *testing.T) {
			s := newSpec("fault", f.args...)
			if f.edit != nil {
				f.edit(s)
			}
			c, dir := newOCI(t, "fault", s)
			if err := os.WriteFile(filepath.Join(dir, "rootfs/etc/passwd"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			log := filepath.Join(dir, "log.json")
			args := []string{"--log", log, "--log-format=json", "create", "--bundle", dir, "fault"}
			if f.name == "systemd" {
				args = append([]string{"--systemd-cgroup"}, args...)
			}
			r := c.call(args...)
			text, err := os.ReadFile(log)
			var entry struct{ Level, Msg, Time string }
			err = errors.Join(err, json.Unmarshal(text, &entry))
			if err != nil || entry.Level != "error" || !strings.Contains(entry.Msg, f.want) || r.status != 1 || r.stdout != entry.Msg+"\n" {
				t.Errorf("want %q: %v %s %v", f.want, err, text, r)
			}
			c.fails(1, "container does not exist", "state", "fault")
		})
	}
}

// TestOneOfTenCreates lets ten commands take the same ID.
func TestOneOfTenCreates(t *testing.T) {
	c, dir := newOCI(t, "ten", newSpec("ten", "pause"))
	var all sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 10 {
		all.Go(func() {
			out, err := os.Create(filepath.Join(dir, fmt.Sprintf("output-%d", i)))
			if err != nil {
				t.Error(err)
				return
			}
			defer out.Close()
			pid := filepath.Join(dir, fmt.Sprintf("pid-%d", i))
			r := c.run(out, "create", "--bundle", dir, "--pid-file", pid, c.id)
			mu.Lock()
			defer mu.Unlock()
			if r.status == 0 {
				won++
				text, _ := os.ReadFile(pid)
				c.pid, _ = strconv.Atoi(string(text))
			} else if !strings.Contains(r.stdout, "container with given ID already exists") {
				t.Errorf("one that has lost: %v", r)
			}
		})
	}
	all.Wait()
	if won != 1 {
		t.Fatalf("%d of ten have won", won)
	}
	c.wants(specs.StateCreated)
	c.must("start", c.id)
	c.must("delete", "-f", c.id)
}

// TestAsRunc calls minictr by a link with the name runc: it takes that
// command line, in which run is a bundle's and ps a container's, and no other.
func TestAsRunc(t *testing.T) {
	c, dir := newOCI(t, "link", newSpec("link", "sh", "-c", "echo run; exit 3"))
	link := filepath.Join(temp(t), "runc")
	if err := os.Symlink(program, link); err != nil {
		t.Fatal(err)
	}
	runc := func(args ...string) result {
		cmd := c.command(args...)
		cmd.Path, cmd.Args[0] = link, link
		return finish(t, cmd)
	}
	if r := runc("run", "-bundle", dir, c.id); r.status != 3 || r.stdout != "run\n" { // one dash is enough
		t.Errorf("run: %v", r)
	}
	if r := runc("--version"); !strings.HasPrefix(r.stdout, "runc version ") || strings.Count(r.stdout, "version") != 1 {
		t.Errorf("--version: %v", r)
	}
	if r := runc("images"); r.status == 0 || !strings.Contains(r.stderr, `unknown command "images"`) {
		t.Errorf("images: %v", r)
	}
	if r := runc("checkpoint", "--image-path", dir, c.id); r.status != 1 || !strings.Contains(r.stderr, "checkpoint is not supported") {
		t.Errorf("checkpoint: %v", r)
	}
	if r := runc("checkpoint", "--help"); r.status == 0 { // what has help is taken for supported
		t.Errorf("checkpoint --help: %v", r)
	}
	if r := runc("run", "--keep", "--bundle", dir, c.id); r.status != 3 {
		t.Errorf("run --keep: %v", r)
	}
	if r := runc("create", "--bundle", dir, c.id); !strings.Contains(r.stderr, "already exists") {
		t.Errorf("a container that is kept: %v", r)
	}
	c.wants(specs.StateStopped)
	c.must("delete", c.id)
	c.create(dir)
	if r := runc("ps", "-f", "json", c.id); r.stdout != fmt.Sprintf("[%d]\n", c.pid) {
		t.Errorf("ps: %v", r)
	}
	if r := runc("list", "-q"); r.stdout != c.id+"\n" {
		t.Errorf("list: %v", r)
	}
	var f features.Features
	if r := runc("features"); json.Unmarshal([]byte(r.stdout), &f) != nil || f.OCIVersionMin != "1.0.0" || f.OCIVersionMax == "" || !strings.Contains(r.stdout, `"SCMP_ACT_NOTIFY"`) || r.stderr != "" {
		t.Errorf("features: %v", r)
	}
	// What Kubernetes asks before it gives a pod a user namespace.
	if !*f.Linux.MountExtensions.IDMap.Enabled || !slices.Contains(f.MountOptions, "idmap") || !slices.Contains(f.MountOptions, "ridmap") {
		t.Error("features: it can't map the ids of mounts")
	}
	if r := runc("events", "--stats", c.id); !strings.HasPrefix(r.stdout, `{"type":"stats","id":"link","data":{"cpu":`) {
		t.Errorf("events: %v", r)
	}
	if r := runc("update", c.id, "--pids-limit", "77"); r.status != 0 {
		t.Errorf("update: %v", r)
	}
	if r := runc("update", "--resources", "-", c.id); r.status == 0 { // standard input is empty here
		t.Errorf("update with no JSON: %v", r)
	}
	limit, _ := filepath.Glob("/sys/fs/cgroup/*/" + alone.Cgroup("link") + "/pids.max")
	for _, file := range append(limit, "/sys/fs/cgroup/"+alone.Cgroup("link")+"/pids.max") {
		if text, err := os.ReadFile(file); err == nil && string(text) != "77\n" {
			t.Errorf("pids.max is %s", text)
		}
	}
}
