package applet

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// try runs a command as Run does, with the input, and returns what it writes.
func try(t *testing.T, input string, args ...string) (out, errs string, code int) {
	t.Helper()
	f, ok := Lookup(args[0])
	if !ok {
		t.Fatalf("no command %s", args[0])
	}
	var o, e bytes.Buffer
	code = f(Stdio{strings.NewReader(input), &o, &e}, args)
	return o.String(), e.String(), code
}

func TestNamesAreSorted(t *testing.T) {
	if !slices.IsSorted(Names()) {
		t.Error("the names are not sorted")
	}
	for _, n := range Names() {
		if _, ok := Lookup(n); !ok {
			t.Errorf("%s is not found", n)
		}
	}
}

func TestOutput(t *testing.T) {
	t.Setenv("PATH", "/usr/bin:/bin") // all of it can be read by whoever runs the test
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.WriteFile("file", []byte("one\ntwo\nthree\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args      string
		input     string
		out, errs string
		code      int
	}{
		{args: "cat file -", input: "x", out: "one\ntwo\nthree\nx"},
		{args: "cat nosuch file", out: "one\ntwo\nthree\n", errs: "cat: open nosuch: no such file or directory\n", code: 1},
		{args: "cat -z", errs: "cat: unknown option -z\n", code: 1},
		{args: "head -1 file -", input: "a\nb\n", out: "one\na\n"},
		{args: "head -n", errs: "head: option -n needs a value\n", code: 1},
		{args: "tail -1 file", out: "three\n"},
		{args: "wc file", out: "3 3 14 file\n"},
		{args: "kill -9", errs: "kill: which process?\n", code: 1},
		{args: "kill -NONE 1", errs: "kill: \"NONE\" is not a signal\n", code: 1},
		{args: "rm", errs: "rm: usage: rm [-rf] FILE...\n", code: 1},
		{args: "rm -f nosuch"},
		{args: "rm .", errs: "rm: unlink .: is a directory\n", code: 1},
		{args: "dd if=file bs=2 count=3", out: "one\ntw", errs: "-"},
		{args: "dd count=1 nosuch", errs: "dd: \"nosuch\" is no operand of dd\n", code: 1},
		{args: "sleep x", errs: "sleep: \"x\" is not a time\n", code: 1},
		{args: "ip route add", errs: "-"},
		{args: "ip x", errs: "ip: \"x\" is not addr, link or route\n", code: 1},
		{args: "listen 65536", errs: "listen: listen tcp4: address 65536: invalid port\n", code: 1},
		{args: "date -s x", errs: "date: \"x\" is not a number of seconds\n", code: 1},
		{args: "ping -c x localhost", errs: "ping: \"x\" is not a number\n", code: 1},
		{args: "grep two nosuch", errs: "grep: open nosuch: no such file or directory\n", code: 2},
		{args: "env -i", out: ""},
		{args: "env nosuch", errs: "env: execve nosuch: no such file or directory\n", code: 127},
		{args: "env ./file", errs: "env: execve ./file: permission denied\n", code: 126},
		{args: "chmod u+x file", errs: "chmod: \"u+x\" is not a mode in octal\n", code: 1},
		{args: "sort -n", input: "10 x\n9\ny\n-3\n", out: "-3\ny\n9\n10 x\n"},
		{args: "sort -nru", input: "10 x\n9\n10\n", out: "10 x\n9\n"},
		{args: "ls -1", out: "file\n"},
		{args: "ls nosuch", errs: "ls: lstat nosuch: no such file or directory\n", code: 1},
		{args: "false", code: 1},
		{args: "echo -n a b", out: "a b"},
		{args: "kill x", errs: "kill: \"x\" is not a process number\n", code: 1},
		{args: "rmdir file", errs: "rmdir: rmdir file: not a directory\n", code: 1},
		{args: "dd bs=0", errs: "dd: bs=0: want 1 to 1G\n", code: 1},
	} {
		t.Run(c.args, func(t *testing.T) {
			out, errs, code := try(t, c.input, strings.Fields(c.args)...)
			if c.errs == "-" {
				errs, c.errs = "", "" // how long it took, or what this machine has
			}
			if strings.HasPrefix(c.args, "ip route") {
				out = ""
			}
			if out != c.out || errs != c.errs || code != c.code {
				t.Errorf("out %q, want %q\nerr %q, want %q\nstatus %d, want %d", out, c.out, errs, c.errs, code, c.code)
			}
		})
	}
}

// The same input through busybox gives the same output.
func TestAsBusybox(t *testing.T) {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("busybox is not installed; TestOutput covers the same commands")
	}
	text := "b 10 x\na 9 y\nc  2 (z)\na 9 y\n\nB|C 1\n-3 neg\nlast"
	for _, args := range [][]string{
		{"sort"},
		{"sort", "-r"},
		{"sort", "-u"},
		{"head", "-n", "2"},
		{"head", "-3"},
		{"head", "-n", "0"},
		{"head", "-n", "99"},
		{"tail", "-n", "2"},
		{"tail", "-3"},
		{"tail", "-n", "0"},
		{"tail", "-n", "99"},
		{"wc", "-l"},
		{"wc", "-w"},
		{"wc", "-c"},
		{"grep", "a"},
		{"grep", "-v", "a"},
		{"grep", "-c", "a"},
		{"grep", "-n", "y$"},
		{"grep", "-i", "b"},
		{"grep", "nosuch"},
		{"grep", "a\\|c"},
		{"grep", "-E", "a|c"},
		{"grep", "-E", "(z)"},
		{"grep", "B|C"},
		{"grep", "-q", "a"},
		{"grep", "[]x]"},
		{"grep", "[^a-z]$"},
		{"grep", "^a\\|^b"},
		{"grep", "--", "-3"},
		{"cat"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			cmd := exec.Command(busybox, args...)
			cmd.Stdin = strings.NewReader(text)
			want, err := cmd.Output()
			if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			got, _, code := try(t, text, args...)
			if got != string(want) || code != cmd.ProcessState.ExitCode() {
				t.Errorf("%q, status %d; busybox: %q, status %d", got, code, want, cmd.ProcessState.ExitCode())
			}
		})
	}
}

func TestModeString(t *testing.T) {
	for mode, want := range map[uint32]string{
		unix.S_IFREG | 0o644: "-rw-r--r--", unix.S_IFDIR | 0o1777: "drwxrwxrwt", unix.S_IFLNK | 0o777: "lrwxrwxrwx",
		unix.S_IFCHR | 0o600: "crw-------", unix.S_IFREG | 0o4755: "-rwsr-xr-x", unix.S_IFREG | 0o2644: "-rw-r-Sr--",
	} {
		if got := modeString(mode); got != want {
			t.Errorf("%o: %s, want %s", mode, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	for s, want := range map[string]int64{"0": 0, "12": 12, "2k": 2048, "-1": -1, "3M": 3 << 20, "1G": 1 << 30, "": -1, "k": -1, "1T": -1, "9223372036854775807G": -1} {
		got, err := size(s)
		if want == -1 && err == nil || want != -1 && (got != want || err != nil) {
			t.Errorf("%q: %d, %v; want %d", s, got, err, want)
		}
	}
}

func TestParseStat(t *testing.T) {
	p, err := parseStat("7 (a) b (c)) S 1 7 7 0 -1 4194560 1 0 0 0 6100 250 0 0 20 0 1 0 5 6 7\n")
	if err != nil || p.state != "S" || p.time != "1:03" || p.command != "[a) b (c)]" {
		t.Errorf("%+v, %v", p, err)
	}
	for _, bad := range []string{"", "7 a S", "7 (a", "7 (a) S 1 2", "7 (a) S 1 7 7 0 -1 4194560 1 0 0 0 x y 0"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestParseMountinfo(t *testing.T) {
	m, ok := parseMountinfo(`36 35 98:0 /r /a\040b rw,noatime master:1 shared:2 - ext3 /dev/r\134t rw,errors=continue` + "\n")
	if !ok || m.path != "/a b" || m.source != `/dev/r\t` || m.kind != "ext3" || m.options != "rw,noatime,rw,errors=continue" {
		t.Errorf("%+v, %v", m, ok)
	}
	if _, ok := parseMountinfo("36 35 98:0 / /a rw"); ok {
		t.Error("a line without its second half is taken")
	}
}

func TestMountOptions(t *testing.T) {
	flags, data := mountOptions("ro,nosuid,bind,rw,size=1m,mode=700")
	if flags != unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_BIND || data != "size=1m,mode=700" {
		t.Errorf("%#x, %q", flags, data)
	}
}

func TestBurnDiskLeavesNothing(t *testing.T) {
	t.Chdir(t.TempDir())
	if out, errs, code := try(t, "", "burn-disk", "1"); code != 0 || !strings.HasPrefix(out, "1 MB in ") {
		t.Errorf("%q %q %d", out, errs, code)
	}
	if left, err := os.ReadDir("."); len(left) > 0 || err != nil {
		t.Errorf("%v are left, %v", left, err)
	}
}

// What the commands show of this machine has the right form.
func TestMachine(t *testing.T) {
	for _, c := range []struct{ command, want string }{
		{"ps", "PID USER"},
		{"mount", " on /proc type proc"},
		{"free", "Mem:"},
		{"ip addr", "inet 127.0.0.1/8"},
		{"ip link", "LOOPBACK"},
		{"uname -s", "Linux\n"},
		{"id", "uid="},
		{"df /", " /\n"},
		{"ls -lai /", " .\n"},
		{"stat /", "(0755/drwxr-xr-x)"},
		{"nproc", "\n"},
		{"env", "PATH="},
	} {
		out, errs, code := try(t, "", strings.Fields(c.command)...)
		if code != 0 || !strings.Contains(out, c.want) {
			t.Errorf("%s: %q %q %d", c.command, out, errs, code)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 1 2 0")
	f.Add(`36 35 98:0 / /a\040 rw - ext3 x rw`)
	f.Add(`\(a\|[]b]\)*`)
	f.Fuzz(func(_ *testing.T, s string) {
		parseStat(s)
		parseMountinfo(s)
		size(s)
		Parse(s, []string{s, "-" + s})
		(&call{Options: &Options{Args: []string{s}}}).pattern()
		mountOptions(s)
	})
}
