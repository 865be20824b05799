package integration_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRunFlags is what the flags of run change inside.
func TestRunFlags(t *testing.T) {
	h := newHost(t)
	dir := temp(t)
	if err := os.WriteFile(dir+"/file", []byte("content\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		flags   string
		command string
		want    string // what it says, with its exit status
	}{
		{"-u student", "id", "uid=1000(student) gid=1000(student) groups=1000(student)\nstatus 0"},
		{"-u 1000:1000", "id", "uid=1000(student) gid=1000(student) groups=1000(student)\nstatus 0"},
		{"-u 12:34", "grep -E ^[UG]id /proc/self/status", "Uid:\t12\t12\t12\t12\nGid:\t34\t34\t34\t34\nstatus 0"},
		{"-u 12:34", "grep -E 'Cap(Prm|Eff)' /proc/self/status", "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nstatus 0"},
		{"-w /new/directory", "pwd", "/new/directory\nstatus 0"},
		{"-w /usr/bin/", "pwd", "/bin\nstatus 0"}, // a link: where it leads inside
		{"--hostname other", "hostname", "other\nstatus 0"},
		{"-e A=b=c -e HOME=/x -e EMPTY=", "echo $A:$HOME:$EMPTY:", "b=c:/x::\nstatus 0"},
		{"--read-only", "{ echo x > /file; } 2>/dev/null", "status 1"},
		{"--read-only", "echo x > /dev/shm/file && cat /dev/shm/file", "x\nstatus 0"},
		{"--cap-drop ALL", "grep CapBnd /proc/self/status", "CapBnd:\t0000000000000000\nstatus 0"},
		{"--cap-drop ALL --cap-add net_raw", "grep CapEff /proc/self/status", "CapEff:\t0000000000002000\nstatus 0"},
		{"--cap-add CAP_SYS_PTRACE --cap-drop chown", "grep CapBnd /proc/self/status", "CapBnd:\t00000000800c05fa\nstatus 0"},
		{"--new-privileges", "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t0\nstatus 0"},
		{"--network none", "ls /sys/class/net", "lo\nstatus 0"},
		{"--network host", "readlink /proc/self/ns/net", link(t, "/proc/self/ns/net") + "\nstatus 0"},
		{"-v " + dir + ":/mnt", "cat /mnt/file && echo more >> /mnt/file", "content\nstatus 0"},
		{"-v " + dir + ":/mnt:ro", "cat /mnt/file; { echo x > /mnt/file; } 2>/dev/null", "content\nmore\nstatus 1"},
		{"-v " + dir + "/file:/etc/deep/new/file", "cat /etc/deep/new/file", "content\nmore\nstatus 0"},
		{"-v " + dir + "/file:/etc/passwd:ro", "cat /etc/passwd", "content\nmore\nstatus 0"},
		{"-m 64m", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null", "67108864\nstatus 1"},
	} {
		t.Run(c.flags+" "+c.command, func(t *testing.T) {
			if said := h.inside(t, strings.Fields(c.flags), c.command)[c.command]; said != c.want {
				t.Errorf("says: %s\nwant: %s", said, c.want)
			}
		})
	}
	if text := hostFile(t, dir+"/file"); text != "content\nmore" {
		t.Errorf("the host's file holds %q", text)
	}
	if r := h.minictr(t, "run", "--entrypoint", "/bin/echo", "tiny", "a", "b"); r.stdout != "a b\n" || r.status != 0 {
		t.Error(r)
	}
	if r := h.minictr(t, "run", "--entrypoint", "", "tiny", "echo", "c"); r.stdout != "c\n" || r.status != 0 {
		t.Error(r)
	}
}

// TestSoftLimits is that a container begins with the limits that the runtime
// began with: Go raises its own number of open files.
func TestSoftLimits(t *testing.T) {
	h := newHost(t)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	// A process that Go starts has the limit that was set last.
	lower := unix.Rlimit{Cur: 999, Max: old.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lower); err != nil {
		t.Fatal(err)
	}
	c := h.start(t, "run", "tiny", "pause")
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	// It is read from outside: the commands of the image are programs of Go.
	file := fmt.Sprintf("/proc/%d/limits", c.first(t))
	eventually(t, "the program is there", func() bool { return c.program(t) == "pause" })
	limits := fields(strings.ReplaceAll(hostFile(t, file), "Max open files ", "files:"))["files"]
	if words := strings.Fields(limits); len(words) != 3 || words[0] != "999" || words[1] != fmt.Sprint(old.Max) {
		t.Errorf("its limits of open files are %q, and the runtime's were 999 and %d", words, old.Max)
	}
	h.must(t, "rm", "-f", c.id)
	c.wait(t)
}

// TestImageIsUntouched is that whatever a container writes goes to its own
// layer, which ends with it.
func TestImageIsUntouched(t *testing.T) {
	h := newHost(t)
	store := func() string {
		out := finish(t, h.outside("find", h.root, "-ls")).stdout
		return out
	}
	before := store()
	said := h.inside(t, []string{"-v", "/etc/hostname:/new/place"}, "echo x > /etc/passwd; rm /etc/hosts /bin/cat; mkdir /etc/new; ls /etc /new")
	for _, out := range said {
		if !strings.Contains(out, "new") || strings.Contains(out, "hosts") || !strings.Contains(out, "place") {
			t.Errorf("the container does not see its own changes: %s", out)
		}
	}
	if after := store(); after != before {
		t.Errorf("the store has changed:\n%s\n%s", before, after)
	}
	if said := h.inside(t, nil, "cat /etc/hosts")["cat /etc/hosts"]; !strings.Contains(said, "localhost") {
		t.Errorf("the next container sees the first one's changes: %s", said)
	}
}

// TestExitStatus is the exit status of run, as docker's.
func TestExitStatus(t *testing.T) {
	h := newHost(t)
	for _, c := range []struct {
		args   string
		status int
		stderr string // a part of it; "" is nothing at all
	}{
		{"tiny true", 0, ""},
		{"tiny sh -c exit\t7", 7, ""},
		{"tiny sh -c exit\t125", 125, ""},
		{"tiny false", 1, ""},
		{"tiny nosuch", 127, `exec: "nosuch": executable file not found in $PATH`},
		{"tiny /nosuch", 127, `exec: "/nosuch": no such file or directory`},
		{"tiny /etc/passwd/x", 127, `exec: "/etc/passwd/x": not a directory`},
		{"tiny /etc/passwd", 126, `exec: "/etc/passwd": permission denied`},
		{"tiny /etc", 126, `exec: "/etc": permission denied`},
		{"--nosuch tiny true", 125, "nosuch"},
		{"-u 4294967295 tiny id", 125, `user "4294967295": 4294967295 is no id`},
		{"-u -1 tiny id", 125, `-1`},
		{"-u nobody:4294967295 tiny id", 125, `4294967295`},
		{"-u nosuch tiny id", 125, `no such user`},
		{"-v /nosuch:/x tiny true", 125, "/nosuch"},
		{"-w relative tiny true", 125, `"relative" is not an absolute path`},
		{"--cap-add nosuch tiny true", 125, `--cap-add`},
		{"-m 1k tiny true", 125, `--memory`},
	} {
		t.Run(c.args, func(t *testing.T) {
			args := []string{"run"}
			for word := range strings.SplitSeq(c.args, " ") {
				args = append(args, strings.ReplaceAll(word, "\t", " "))
			}
			r := h.minictr(t, args...)
			switch {
			case r.status != c.status || r.stdout != "":
				t.Errorf("%v, want %d", r, c.status)
			case c.stderr == "" && r.stderr != "":
				t.Errorf("a message where none is due: %v", r)
			case c.stderr != "" && (!strings.HasPrefix(r.stderr, "minictr: ") || !strings.Contains(r.stderr, c.stderr) || strings.Count(r.stderr, "\n") != 1):
				t.Errorf("%v\nwant one line with %q", r, c.stderr)
			}
		})
	}
}

// TestSignals are sent to minictr, and reach the program.
func TestSignals(t *testing.T) {
	h := newHost(t)
	// A program of one thread: of several, one that execve(2) ends may take a
	// signal with it.
	stays := []string{"--without", "pid", "-v", upFile(t) + ":/up", "tiny", "/up"}
	const handles = `trap "echo hup" HUP; trap "exit 9" TERM; echo up; while :; do sleep 0.01; done`
	for _, c := range []struct {
		name    string
		args    []string
		signals []unix.Signal
		status  int
		out     string
	}{
		{"the program decides", []string{"tiny", "sh", "-c", handles}, []unix.Signal{unix.SIGHUP, unix.SIGTERM}, 9, "up\nhup\n"},
		{"PID 1 without a handler", []string{"tiny", "sh", "-c", "echo up; sleep 0.5; exit 4"}, []unix.Signal{unix.SIGTERM, unix.SIGINT}, 4, "up\n"},
		{"no PID 1", stays, []unix.Signal{unix.SIGTERM}, 143, "up\n"},
		{"no PID 1, interrupted", stays, []unix.Signal{unix.SIGINT}, 130, "up\n"},
		{"killed", []string{"--without", "pid", "tiny", "sh", "-c", "echo up; kill -9 $$"}, nil, 137, "up\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := filepath.Join(temp(t), "out")
			f, err := os.Create(out)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			cmd := h.command(append([]string{"run"}, c.args...)...)
			var errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = f, &errs
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			says := func(text string) bool {
				said, _ := os.ReadFile(out)
				return strings.HasPrefix(string(said), text)
			}
			eventually(t, "the program is up", func() bool { return says("up\n") })
			for i, s := range c.signals {
				if err := cmd.Process.Signal(s); err != nil {
					t.Error(err)
				}
				if i < len(c.signals)-1 && c.status == 9 {
					eventually(t, fmt.Sprint(s, " reaches the program"), func() bool { return says(c.out) })
				}
			}
			_ = cmd.Wait() // its state tells
			if status := cmd.ProcessState.ExitCode(); status != c.status || !says(c.out) {
				t.Errorf("exit status %d, want %d\n%s", status, c.status, &errs)
			}
		})
	}
}
