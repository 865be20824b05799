package integration_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/spec"
)

// inside runs a list of commands of the built-in image in one container, and
// returns what each says on both streams, with its exit status in the end.
func (h host) inside(t *testing.T, flags []string, commands ...string) map[string]string {
	t.Helper()
	const mark = "-- next --\n"
	var script strings.Builder
	for _, c := range commands {
		fmt.Fprintf(&script, "{ %s; } 2>&1\necho \"status $?\"\necho '%s'\n", c, strings.TrimSpace(mark))
	}
	args := append([]string{"run"}, flags...)
	out := strings.Split(h.must(t, append(args, "tiny", "sh", "-c", script.String())...), mark)
	if len(out) != len(commands)+1 {
		t.Fatalf("%d commands gave %d answers:\n%s", len(commands), len(out)-1, strings.Join(out, mark))
	}
	said := make(map[string]string)
	for i, c := range commands {
		said[c] = strings.TrimSuffix(out[i], "\n")
	}
	return said
}

func hostFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// TestWall looks at the default wall from inside.
func TestWall(t *testing.T) {
	h := newHost(t)
	status := func(name, value string) [2]string {
		return [2]string{"grep " + name + ": /proc/self/status", regexp.QuoteMeta(name+":\t"+value) + "\nstatus 0"}
	}
	const refused = "(?s).*\nstatus 1"
	probes := [][2]string{ // a command, and what it must say: a regular expression for all of it
		{"echo $$", "1\nstatus 0"},
		{"hostname", "[0-9a-f]{12}\nstatus 0"},
		{"pwd", "/\nstatus 0"},
		{"id", `uid=0\(root\) gid=0\(root\) groups=0\(root\)` + "\nstatus 0"},
		{"env", "(?s)HOME=/root\nHOSTNAME=[0-9a-f]{12}\nPATH=/bin\n.*status 0"},
		{"ls /sys/class/net", "lo\nstatus 0"},
		{"cat /sys/class/net/lo/flags", "0x9\nstatus 0"}, // up
		{"grep -c : /proc/net/dev", "1\nstatus 0"},
		{"cat /proc/net/unix", ".*\nstatus 0"}, // no socket, so no abstract one of the host's
		status("CapInh", "0000000000000000"),
		status("CapPrm", "00000000800405fb"),
		status("CapEff", "00000000800405fb"),
		status("CapBnd", "00000000800405fb"),
		status("CapAmb", "0000000000000000"),
		status("NoNewPrivs", "1"),
		status("Seccomp", "2"),
		status("Seccomp_filters", "1"),
		status("Umask", "0022"),
		status("TracerPid", "0"),
		{"grep Groups: /proc/self/status", "Groups:\t0 ?\nstatus 0"},
		{"grep core /proc/self/limits", "Max core file size +0 +0 +bytes *\nstatus 0"},
		{"ls /dev", "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\nstatus 0"},
		{"ls /dev/pts /dev/shm /dev/mqueue", "(?s)/dev/pts:\nptmx\n+/dev/shm:\n+/dev/mqueue:\nstatus 0"},
		{"cat /proc/self/cgroup", "(?s)([0-9]+:[^:]*:/\n)+status 0"},
		{"uname -r", regexp.QuoteMeta(hostFile(t, "/proc/sys/kernel/osrelease")) + "\nstatus 0"},
		{"cat /proc/sys/kernel/random/boot_id", hostFile(t, "/proc/sys/kernel/random/boot_id") + "\nstatus 0"},
		{"echo x > /proc/sys/kernel/hostname", ".*(?i)read-only file system\nstatus 1"},
		{"echo x > /sys/kernel/profiling", ".*(?i)(read-only file system|no such file).*\nstatus 1"},
		{"mkdir /sys/fs/cgroup/memory/x /sys/fs/cgroup/x", "(?s).*(?i)read-only file system.*\nstatus 1"},
		{"mount -t tmpfs none /tmp", refused},
		{"hostname other", refused},
		{"dmesg", refused},
		{"ls /proc/1/root/etc", "(?s).*os-release.*status 0"}, // its own root
		{"ls -d /host /proc/" + fmt.Sprint(os.Getpid()), refused},
	}
	for _, path := range spec.Default().Linux.MaskedPaths {
		// Not there, or an empty file, or an empty directory that stays so.
		probes = append(probes,
			[2]string{"cat " + path, `status 0|(?s).*(?i)(no such file or directory|is a directory)\nstatus 1`},
			[2]string{"ls " + path, regexp.QuoteMeta(path) + `\nstatus 0|status 0|.*(?i)no such file or directory\nstatus 1`},
			[2]string{"mkdir " + path + "/x", ".*(?i)(read-only file system|no such file or directory|not a directory)\nstatus 1"})
	}
	for _, path := range spec.Default().Linux.ReadonlyPaths {
		probes = append(probes, [2]string{"mkdir " + path + "/x", ".*(?i)(read-only file system|no such file or directory|not a directory)\nstatus 1"})
	}
	var commands []string
	for _, p := range probes {
		commands = append(commands, p[0])
	}
	said := h.inside(t, nil, commands...)
	for _, p := range probes {
		if !regexp.MustCompile(`^(?:` + p[1] + `)$`).MatchString(said[p[0]]) {
			t.Errorf("%s\n says: %s\nnot as: %s", p[0], said[p[0]], p[1])
		}
	}
}

// mountsWanted are the mounts of the default wall, with the options of each
// and the type of its file system, but for cgroups and masks.
var mountsWanted = map[string]string{
	"/":              "rw,relatime overlay",
	"/proc":          "rw,nosuid,nodev,noexec,relatime proc",
	"/dev":           "rw,nosuid,noexec tmpfs",
	"/dev/pts":       "rw,nosuid,noexec,relatime devpts",
	"/dev/shm":       "rw,nosuid,nodev,noexec,relatime tmpfs",
	"/dev/mqueue":    "rw,nosuid,nodev,noexec,relatime mqueue",
	"/sys":           "ro,nosuid,nodev,noexec,relatime sysfs",
	"/sys/fs/cgroup": "ro,nosuid,nodev,noexec,relatime tmpfs",
}

// TestWallMounts reads the container's list of mounts: those that are wanted,
// with exactly these options, and none that anyone else could see.
func TestWallMounts(t *testing.T) {
	h := newHost(t)
	text := h.must(t, "run", "tiny", "cat", "/proc/self/mountinfo")
	wall := spec.Default().Linux
	seen := make(map[string]bool)
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		at, options, optional := words[4], words[5], words[6]
		left, right, _ := strings.Cut(line, " - ")
		fstype := strings.Fields(right)[0]
		got, want := options+" "+fstype, mountsWanted[at]
		switch {
		case optional != "-":
			t.Errorf("%s is shared with others: %s", at, left)
		case seen[at]:
			t.Errorf("two mounts at %s", at)
		case at == "/sys/fs/cgroup" && fstype == "cgroup2", strings.HasPrefix(at, "/sys/fs/cgroup/"):
			want = "ro,nosuid,nodev,noexec,relatime " + fstype
			if root := words[3]; root != "/" || !strings.HasPrefix(fstype, "cgroup") {
				t.Errorf("%s shows more than the container's own cgroup: %s", at, line)
			}
		case contains(wall.ReadonlyPaths, at):
			want = "ro,nosuid,nodev,noexec,relatime proc"
		case contains(wall.MaskedPaths, at) && fstype == "tmpfs":
			want = "ro,relatime tmpfs"
		case contains(wall.MaskedPaths, at):
			if words[3] != "/null" {
				t.Errorf("%s is masked with %s", at, words[3])
			}
			continue
		}
		if seen[at] = true; got != want {
			t.Errorf("%s is mounted as %q, want %q", at, got, want)
		}
	}
	for at := range mountsWanted {
		if !seen[at] {
			t.Errorf("nothing is mounted at %s", at)
		}
	}
}

func contains(list []string, s string) bool {
	return slices.Contains(list, s)
}

// TestWallFromOutside looks at a container's process from the host: its
// descriptors, its namespaces, its root and its program.
func TestWallFromOutside(t *testing.T) {
	h := newHost(t)
	secret, err := os.Open("/etc/shadow") // and an open file that was left to the runtime
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	cmd := h.command("run", "tiny", "pause")
	cmd.ExtraFiles = []*os.File{secret}
	c := h.started(t, cmd)
	pid := c.first(t)
	dir := fmt.Sprintf("/proc/%d/", pid)
	eventually(t, "the program is there", func() bool { return c.program(t) == "pause" })
	fds, err := os.ReadDir(dir + "fd")
	if err != nil || len(fds) != 3 {
		t.Errorf("it has %d descriptors: %v %v", len(fds), fds, err)
	}
	for _, ns := range []string{"cgroup", "ipc", "mnt", "net", "pid", "uts"} {
		if link(t, dir+"ns/"+ns) == link(t, "/proc/self/ns/"+ns) {
			t.Errorf("it is in the host's %s namespace", ns)
		}
	}
	if exe := link(t, dir+"exe"); exe != "/bin/pause" {
		t.Errorf("its program is %s", exe)
	}
	status := fields(hostFile(t, dir+"status"))
	if want := fmt.Sprintf("%d\t1", pid); status["NSpid"] != want || status["NSsid"] != want {
		t.Errorf("it is process %q of session %q, want %q for both", status["NSpid"], status["NSsid"], want)
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		var st, host unix.Stat_t
		if err := errors.Join(unix.Lstat(dir+"root/dev/"+name, &st), unix.Lstat("/dev/"+name, &host)); err != nil {
			t.Error(err)
		}
		if st.Rdev != host.Rdev || st.Mode != unix.S_IFCHR|0o666 || st.Uid != 0 {
			t.Errorf("/dev/%s is %#x, mode %o, of user %d", name, st.Rdev, st.Mode, st.Uid)
		}
	}
	for _, p := range c.group.Places {
		if !strings.Contains(hostFile(t, p.Dir+"/cgroup.procs"), fmt.Sprint(pid)) {
			t.Errorf("it is not in %s", p.Dir)
		}
	}
	h.must(t, "rm", "-f", c.id)
	c.wait(t)
}

// first is the container's first process.
func (r *running) first(t *testing.T) int {
	t.Helper()
	pids, err := r.group.Procs()
	if err != nil || len(pids) == 0 {
		t.Fatalf("no processes: %v", err)
	}
	return pids[0]
}

// program is what the container's first process executes at the moment.
func (r *running) program(t *testing.T) string {
	t.Helper()
	return hostFile(t, fmt.Sprintf("/proc/%d/comm", r.first(t)))
}

func link(t *testing.T, name string) string {
	t.Helper()
	target, err := os.Readlink(name)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// TestSessionKeyring gives the runtime a key that only its session may read.
// Nobody inside can, not even without the filter that forbids keyctl(2).
func TestSessionKeyring(t *testing.T) {
	h := newHost(t)
	runtime.LockOSThread() // keys belong to threads; this one ends with the test
	if _, err := unix.KeyctlJoinSessionKeyring("minictr-it"); err != nil {
		t.Fatal(err)
	}
	key, err := unix.AddKey("user", "minictr-it", []byte("secret"), unix.KEY_SPEC_SESSION_KEYRING)
	if err != nil {
		t.Fatal(err)
	}
	reader := filepath.Join(temp(t), "reader") // ends with 0 if it may read the key
	if err := os.WriteFile(reader, tinyProgram(t, &plan.Step{Call: plan.Call{
		Name: "keyctl", Number: unix.SYS_KEYCTL, Args: []plan.Arg{plan.Num{Value: unix.KEYCTL_READ}, plan.Num{Value: uint64(key)}, plan.Num{}, plan.Num{}},
	}}), 0o755); err != nil {
		t.Fatal(err)
	}
	if r := finish(t, h.outside(reader)); r.status != 0 {
		t.Fatalf("the host itself can't read its key: %v", r)
	}
	for _, without := range [][]string{nil, {"--without", "seccomp"}} {
		args := append(append([]string{"run", "-v", reader + ":/reader"}, without...), "tiny", "/reader")
		if r := h.minictr(t, args...); r.status != 127 {
			t.Errorf("%q: it reads the host's key: %v", without, r)
		}
	}
}
