package integration_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFlags is what the everyday flags of run change inside.
func TestFlags(t *testing.T) {
	h := newHost(t)
	dir := temp(t)
	for name, text := range map[string]string{
		"env": "# of the file\nA=1\nB=1\n", "file": "content\n",
		"profile": `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdirat", "mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(dir+"/nodes", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "two"} { // the kernel's log, which is only opened
		if err := unix.Mknod(filepath.Join(dir, "nodes", name), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 11))); err != nil {
			t.Fatal(err)
		}
	}
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	bounding := fields(hostFile(t, "/proc/self/status"))["CapBnd"]
	limit := func(v1, v2 string) string { // what a limit is, in the one version or the other
		return "cat /sys/fs/cgroup/" + v1 + " 2>/dev/null || cat /sys/fs/cgroup/" + v2
	}
	v2 := func(one, two string) string {
		if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
			return two
		}
		return one
	}
	const opens = `{ : > /dev/k; } 2>/dev/null && echo write; { : < /dev/k; } 2>/dev/null && echo read; ls /dev/k`
	for _, c := range []struct {
		flags   string
		command string
		want    string // what it says, with its exit status in the end
	}{
		{"--env-file " + dir + "/env -e B=2", "echo $A:$B", "1:2\nstatus 0"},
		{"--group-add 77 --group-add tty", "grep Groups: /proc/self/status", "Groups:\t0 5 77 \nstatus 0"},
		{"--domainname lab", "cat /proc/sys/kernel/domainname", "lab\nstatus 0"},
		{"--ulimit core=4096:8192 --ulimit fsize=-1", "grep -Ec 'core file size +4096 +8192|file size +unlimited +unlimited' /proc/self/limits", "2\nstatus 0"},
		{"--sysctl net.core.somaxconn=77 --sysctl kernel.msgmax=5000", "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax", "77\n5000\nstatus 0"},
		{"--oom-score-adj 500", "cat /proc/self/oom_score_adj", "500\nstatus 0"},
		{"--memory-reservation 16m", limit("memory/memory.soft_limit_in_bytes", "memory.low"), "16777216\nstatus 0"},
		{"--cpu-period 50000 --cpu-quota 25000", limit("cpu/cpu.cfs_quota_us", "cpu.max"), v2("25000", "25000 50000") + "\nstatus 0"},
		{"--cpu-shares 2", limit("cpu/cpu.shares", "cpu.weight"), v2("2", "1") + "\nstatus 0"},
		{"--cpuset-cpus 0 --cpuset-mems 0", "grep -E '(Cpus|Mems)_allowed_list' /proc/self/status", "Cpus_allowed_list:\t0\nMems_allowed_list:\t0\nstatus 0"},
		{"--mount type=bind,src=" + dir + ",dst=/mnt,readonly", "cat /mnt/file; { echo x > /mnt/file; } 2>/dev/null", "content\nstatus 1"},
		{"--mount type=tmpfs,dst=/t,tmpfs-size=2m", "grep -Ec ' /t rw,nosuid,nodev,noexec.* - tmpfs .*size=2048k' /proc/self/mountinfo", "1\nstatus 0"},
		{"--tmpfs /t:exec,size=1m,mode=700", "grep -Ec ' /t rw,nosuid,nodev,relatime - tmpfs .*size=1024k,mode=700' /proc/self/mountinfo", "1\nstatus 0"},
		{"-v " + dir + ":/x/y -v " + dir + "/nodes:/x", "ls /x", "one\ntwo\ny\nstatus 0"},
		{"--shm-size 1m", "grep -Ec ' /dev/shm .*size=1024k' /proc/self/mountinfo", "1\nstatus 0"},
		{"--device " + dir + "/nodes/one:/dev/k --cap-add syslog", opens, "write\nread\n/dev/k\nstatus 0"},
		{"--device " + dir + "/nodes/one:/dev/k:w --cap-add syslog", opens, "write\n/dev/k\nstatus 0"},
		{"--device " + dir + "/nodes:/dev/there", "ls /dev/there", "one\ntwo\nstatus 0"},
		{"--cap-add ALL", "grep CapEff /proc/self/status", "CapEff:\t" + bounding + "\nstatus 0"},
		{"--cap-add ALL --cap-drop chown", "grep -c CapEff.*[02468ace]$ /proc/self/status", "1\nstatus 0"},
		{"--security-opt no-new-privileges=false", "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t0\nstatus 0"},
		{"--security-opt seccomp=unconfined", "grep Seccomp: /proc/self/status", "Seccomp:\t0\nstatus 0"},
		{"--security-opt seccomp=" + dir + "/profile", "mkdir /x", "mkdir: mkdir /x: operation not supported\nstatus 1"},
		{"--security-opt systempaths=unconfined", "grep -Ec ' /proc/(sys|keys) ' /proc/self/mountinfo", "0\nstatus 1"},
		{"--security-opt mask=/etc/passwd --security-opt unmask=/proc/keys", "cat /etc/passwd; grep -c /proc/keys /proc/self/mountinfo", "0\nstatus 1"},
		{"--uts host", "hostname", hostname + "\nstatus 0"},
		{"--pid host --ipc host --cgroupns host", "readlink /proc/self/ns/pid /proc/self/ns/ipc /proc/self/ns/cgroup", link(t, "/proc/self/ns/pid") + "\n" + link(t, "/proc/self/ns/ipc") + "\n" + link(t, "/proc/self/ns/cgroup") + "\nstatus 0"},
		{"--ipc none", "ls /dev/shm 2>/dev/null", "status 1"},
		{"--cgroup-parent minictr --cgroupns host", "grep -Ec ':pids:/.*minictr/[0-9a-f]+$|^0::/.*minictr/[0-9a-f]+$' /proc/self/cgroup", v2("2", "1") + "\nstatus 0"},
		{"--stop-signal INT --label a=b --restart no --log-opt max-size=1m --no-healthcheck --pull never --platform linux/" + runtime.GOARCH, "echo accepted", "accepted\nstatus 0"},
	} {
		t.Run(c.flags+" "+c.command, func(t *testing.T) {
			if said := h.inside(t, strings.Fields(c.flags), c.command)[c.command]; said != c.want {
				t.Errorf("says: %s\nwant: %s", said, c.want)
			}
		})
	}
	id := filepath.Join(dir, "id")
	h.must(t, "run", "--cidfile", id, "tiny", "true")
	if text := hostFile(t, id); len(text) != 12 {
		t.Errorf("the ID in the file is %q", text)
	}
	for _, how := range []string{"--rm", "--detach"} {
		if r := h.minictr(t, "run", how, "--cidfile", id, "tiny", "true"); r.status != statusRun || !strings.Contains(r.stderr, "--cidfile: ") {
			t.Errorf("%s: the file is there already: %v", how, r)
		}
	}
	if list := h.must(t, "ps", "-aq"); list != "" {
		t.Errorf("containers are left: %s", list)
	}
}

// TestPrivileged is that --privileged takes away what it says.
func TestPrivileged(t *testing.T) {
	h := newHost(t)
	const script = `grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status
grep -Ec ' (/sys|/sys/fs/cgroup|/proc/sys) ro,' /proc/self/mountinfo
ls -d /dev/null; echo $$`
	r := h.minictr(t, "run", "--privileged", "tiny", "sh", "-c", script)
	want := fmt.Sprintf("CapEff:\t%s\nNoNewPrivs:\t0\nSeccomp:\t0\n0\n/dev/null\n1\n", fields(hostFile(t, "/proc/self/status"))["CapBnd"])
	if r.status != 0 || r.stdout != want {
		t.Errorf("got %v\nwant %s", r, want)
	}
	for _, brick := range []string{"caps", "seccomp", "masks", "nnp", "devices", "sys"} {
		if !strings.Contains(r.stderr, "minictr: WITHOUT the brick "+brick+": ") {
			t.Errorf("that %s is gone is not told: %s", brick, r.stderr)
		}
	}
}

// TestSecrets are seen by the container and stand in no file of the engine's,
// neither while it runs nor afterwards.
func TestSecrets(t *testing.T) {
	h := newHost(t)
	dir := temp(t)
	const secret = "swordfish-of-this-test"
	file := filepath.Join(dir, "password")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := h.start(t, "run", "--secret", "id=db,src="+file, "--secret", "id=key,src="+file+",target=/etc/deep/key,uid=1000,gid=5,mode=0440",
		"--config", "src="+file+",target=/etc/app.conf", "--read-only", "tiny", "pause")
	eventually(t, "the program is there", func() bool { return c.program(t) == "pause" })
	for command, want := range map[string]string{
		"cat /run/secrets/db /etc/deep/key /etc/app.conf": strings.Repeat(secret+"\n", 3),
		"ls -n /run/secrets/db":                           "-r--------",
		"ls -n /etc/deep/key":                             "-r--r-----",
		"ls -n /etc/app.conf":                             "-r--r--r--",
		"grep -Ec ' /(run|etc)/.* ro,nosuid,nodev,noexec.* - tmpfs ' /proc/self/mountinfo": "3\n",
		"{ echo x > /run/secrets/db; } 2>/dev/null || echo refused":                        "refused\n",
	} {
		if r := h.minictr(t, "exec", c.id, "sh", "-c", command); r.status != 0 || !strings.HasPrefix(r.stdout, want) {
			t.Errorf("%s: %v, want %q", command, r, want)
		}
	}
	if r := h.minictr(t, "exec", "-u", "1000:5", c.id, "cat", "/etc/deep/key"); r.stdout != secret+"\n" {
		t.Errorf("its owner reads %v", r)
	}
	hidden := func(when string) {
		for _, root := range []string{h.root, h.run} {
			err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
				if err != nil || !d.Type().IsRegular() {
					return nil //nolint:nilerr // another test's, which is gone
				}
				if text, err := os.ReadFile(name); err == nil && bytes.Contains(text, []byte(secret)) {
					t.Errorf("%s the secret is in %s", when, name)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}
	}
	hidden("while it runs")
	h.must(t, "rm", "-f", c.id)
	c.wait(t)
	hidden("afterwards")
	for source, want := range map[string]string{dir + "/nosuch": "no such file or directory", dir: "is no file", "/dev/zero": "is no file"} {
		if r := h.minictr(t, "run", "--secret", "id=x,src="+source, "tiny", "true"); r.status != statusRun || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: %v", source, r)
		}
	}
}

// TestJoinContainer is a container that has namespaces of another.
func TestJoinContainer(t *testing.T) {
	h := newHost(t)
	web := h.start(t, "run", "--name", "web", "--hostname", "box", "tiny", "pause")
	eventually(t, "the program is there", func() bool { return web.program(t) == "pause" })
	const whose = "readlink /proc/self/ns/pid /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/uts; hostname; grep -c pause /proc/1/cmdline"
	want := h.must(t, "exec", "web", "sh", "-c", whose)
	got := h.must(t, "run", "--pid", "container:web", "--network", "container:web", "--ipc", "container:"+web.id, "--uts", "container:web", "tiny", "sh", "-c", whose)
	if got != want || !strings.Contains(got, "box\n") {
		t.Errorf("it has\n%s\nand the other\n%s", got, want)
	}
	h.must(t, "rm", "-f", "web")
	web.wait(t)
	if r := h.minictr(t, "run", "--pid", "container:web", "tiny", "true"); r.status != statusRun || !strings.Contains(r.stderr, "--pid: container does not exist: web") {
		t.Error(r)
	}
}
