package integration_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// inside reads the status of a process that exec starts.
const printStatus = "cat /proc/self/status; readlink /proc/self/ns/pid /proc/self/ns/net /proc/self/ns/mnt /proc/self/ns/user /proc/self/ns/uts; cat /proc/self/cgroup"

// statusEnds says whether all of that is there.
func statusEnds(text string) bool {
	return strings.Contains(text, "name=systemd") || strings.Contains(text, "\n0::/")
}

// sameFields are the fields of proc_pid_status(5) that a container's processes
// have in common.
var sameFields = []string{"Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters", "SigBlk", "SigIgn"}

// TestExec compares a process that has entered with the container's first one.
func TestExec(t *testing.T) {
	for _, user := range []bool{false, true} {
		t.Run(map[bool]string{false: "root", true: "user namespace"}[user], func(t *testing.T) {
			s := newSpec("exec", "sh", "-c", printStatus+"; exec pause")
			if user {
				userNamespace(s)
			}
			c, dir := newOCI(t, "exec", s)
			c.create(dir)
			c.must("start", c.id)
			first := c.prints(statusEnds)
			second := c.call("exec", c.id, "sh", "-c", printStatus)
			if second.status != 0 {
				t.Fatal(second)
			}
			a, b := fields(first), fields(second.stdout)
			for _, name := range sameFields {
				if a[name] != b[name] {
					t.Errorf("%s: the first process has %q, and who enters %q", name, a[name], b[name])
				}
			}
			if links := func(s string) string { return s[strings.Index(s, "pid:["):] }; links(first) != links(second.stdout) {
				t.Errorf("namespaces or cgroups differ:\n%s\n%s", links(first), links(second.stdout))
			}
			if r := c.call("exec", c.id, "sh", "-c", "exit 7"); r.status != 7 {
				t.Errorf("its status: %v", r)
			}
			if r := c.call("exec", "--user", "1000:100", "--cwd", "/tmp", "-e", "A=b c", c.id, "sh", "-c", "id -u; pwd; echo $A"); r.stdout != "1000\n/tmp\nb c\n" {
				t.Errorf("flags: %v", r)
			}
			if r := c.call("exec", "-env", "PATH=/bin:/x", c.id, "echo", "-env", "-user"); r.stdout != "-env -user\n" {
				t.Errorf("the command's own flags: %v", r)
			}
			if r := c.call("exec", "-e", "PATH=/bin:/x", c.id, "sh", "-c", "env | grep -c PATH="); r.stdout != "1\n" {
				t.Errorf("a variable that is there: %v", r)
			}
			c.fails(255, "no such file", "exec", "--detach", "--pid-file", "/nosuch/pid", c.id, "pause")
			if r := c.call("ps", "-f", "json", c.id); strings.Count(r.stdout, ",") != 0 {
				t.Errorf("a process that nobody knows is left: %v", r)
			}
			for _, e := range []struct{ want, args string }{
				{`exec: "nosuch": executable file not found in $PATH`, "exec ID nosuch"},
				{"cwd", "exec --cwd /nosuch ID true"},
				{"is no id", "exec --user 4294967296 ID true"},
				{"is no id", "exec --user=-1 ID true"},
				{"container does not exist", "exec nosuch true"},
				{"/process/apparmorProfile: ", "exec --apparmor x ID true"},
				{"/process/selinuxLabel: SELinux is not enabled on this host", "exec --process-label x ID true"},
			} {
				c.fails(255, e.want, strings.Fields(strings.ReplaceAll(e.args, "ID", c.id))...)
			}
			c.must("delete", "-f", c.id)
		})
	}
}

// TestExecProcess gives exec all that there is to say about a process, as
// container managers do, and does not wait for it.
func TestExecProcess(t *testing.T) {
	c, dir := newOCI(t, "exec", newSpec("exec", "pause"))
	c.create(dir)
	c.must("start", c.id)
	p := specs.Process{
		Args: []string{"sh", "-c", "id; pwd; echo $A; grep Cap /proc/self/status; exec pause"}, Cwd: "/etc", Env: []string{"A=1", "PATH=/bin"},
		User:         specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{7}},
		Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_CHOWN"}},
		Rlimits:      []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 64, Hard: 64}},
	}
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	file, pidFile := filepath.Join(dir, "process.json"), filepath.Join(dir, "exec.pid")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := c.run(c.out, "exec", "--process", file, "--detach", "--pid-file", pidFile, c.id); r.status != 0 {
		t.Fatal(r)
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Kill(pid, unix.SIGKILL)
		reap(t, pid) // or the namespace's first process waits for it
	})
	defer func() {
		if text, _ := os.ReadFile(c.out.Name()); t.Failed() {
			t.Logf("%s", text)
		}
	}()
	for _, want := range []string{"uid=5(5) gid=6(6) groups=6(6),7(7)", "/etc\n1\n", "CapBnd:\t0000000000000001", "CapEff:\t0000000000000000"} {
		c.prints(containing(want))
	}
	if limits, _ := os.ReadFile("/proc/" + string(text) + "/limits"); !strings.Contains(string(limits), "Max open files            64 ") {
		t.Errorf("limits: %s", limits)
	}
	list := c.call("ps", "--format", "json", c.id)
	var pids []int
	if err := json.Unmarshal([]byte(list.stdout), &pids); err != nil || len(pids) != 2 || pids[0] != c.pid && pids[1] != c.pid {
		t.Errorf("ps: %v %v", list, err)
	}
	c.must("kill", c.id, "9") // the namespace's first process takes all with it
	if ws := reap(t, pid); ws.Signal() != unix.SIGKILL {
		t.Errorf("it ended by %v", ws)
	}
}

// TestThreadsThatExec looks at, enters and ends a container whose program, which
// has threads, executes itself over and over: each time its leader dies for a
// moment, and another thread takes its place.
func TestThreadsThatExec(t *testing.T) {
	c, dir := newOCI(t, "threads", newSpec("threads", "sh", "/again"))
	if err := os.WriteFile(filepath.Join(dir, "rootfs/again"), []byte("exec sh /again\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	rounds, looks := 5, 20
	if testing.Short() {
		rounds, looks = 2, 5
	}
	for range rounds {
		c.create(dir)
		c.must("start", c.id)
		for range looks {
			c.wants(specs.StateRunning)
			if r := c.call("exec", c.id, "true"); r.status != 0 {
				t.Fatal(r)
			}
		}
		c.fails(1, "that is not stopped: running", "delete", c.id)
		c.must("delete", "--force", c.id)
		c.reap()
	}
}

// TestEnvironmentOnce gives a program names twice: the last one holds, and
// alone, for the search in PATH as well.
func TestEnvironmentOnce(t *testing.T) {
	env := []string{"A=1", "PATH=/nowhere", "AB=2", "A=3=", "PATH=/bin", "HOME="}
	const want = "AB=2\nA=3=\nPATH=/bin\nHOME=\n"
	s := newSpec("once", "env")
	s.Process.Env = env
	c, dir := newOCI(t, "once", s)
	if r := c.call("run", "--bundle", dir, c.id); r.stdout != want {
		t.Errorf("run: %v", r)
	}
	s.Process.Args = []string{"pause"}
	dir = newBundle(t, s, "once")
	c.create(dir)
	c.must("start", c.id)
	data, err := json.Marshal(specs.Process{Args: []string{"env"}, Cwd: "/", Env: env})
	file := filepath.Join(dir, "process.json")
	if err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if r := c.call("exec", "--process", file, c.id); r.stdout != want {
		t.Errorf("exec: %v", r)
	}
}
