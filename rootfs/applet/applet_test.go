package applet

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
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
	code = run(f, Stdio{strings.NewReader(input), &o, &e}, slices.Clone(args))
	return o.String(), e.String(), code
}

func TestNamesAreSorted(t *testing.T) {
	if !slices.IsSorted(Names()) {
		t.Error("Lookup searches by halves, but the names are not sorted")
	}
	for _, n := range Names() {
		if _, ok := Lookup(n); !ok {
			t.Errorf("%s is not found", n)
		}
	}
}

func TestOutput(t *testing.T) {
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
		{args: "cat -n file", out: "     1\tone\n     2\ttwo\n     3\tthree\n"},
		{args: "cat nosuch file", out: "one\ntwo\nthree\n", errs: "cat: open nosuch: no such file or directory\n", code: 1},
		{args: "cat -z", errs: "cat: unknown option -z\n", code: 1},
		{args: "head -1 file file", out: "==> file <==\none\n\n==> file <==\none\n"},
		{args: "tail -n +2 file", out: "two\nthree\n"},
		{args: "wc file", out: "3 3 14 file\n"},
		{args: "seq 3 -1 1", out: "3\n2\n1\n"},
		{args: "seq x", errs: "seq: not whole numbers: x\n", code: 1},
		{args: "stat -c %s:%a:%F:%h:%n file", out: "14:640:regular file:1:file\n"},
		{args: "ls -1", out: "file\n"},
		{args: "ls nosuch", errs: "ls: stat nosuch: no such file or directory\n", code: 1},
		{args: "false", code: 1},
		{args: "echo -n a b", out: "a b"},
		{args: "kill -9", errs: "kill: usage: kill [-SIGNAL] PID...\n", code: 1},
		{args: "kill x", errs: "kill: \"x\" is not a process number\n", code: 1},
		{args: "kill -s NONE 1", errs: "kill: \"NONE\" is not a signal\n", code: 1},
		{args: "rm", errs: "rm: usage: rm [-rf] FILE...\n", code: 1},
		{args: "rm -f nosuch"},
		{args: "rm .", errs: "rm: .: is a directory (-r removes it)\n", code: 1},
		{args: "rmdir file", errs: "rmdir: rmdir file: not a directory\n", code: 1},
		{args: "cp file file", errs: "cp: file and file are the same file\n", code: 1},
		{args: "dd bs=0", errs: "dd: bs=0: want 1 to 1G\n", code: 1},
		{args: "dd if=file bs=2 count=3 skip=2 status=none", out: "two\nth"},
		{args: "sleep -1", errs: "sleep: \"-1\" is not a time\n", code: 1},
		{args: "ip route add", errs: "", code: -1},
		{args: "ping nosuch -c x", errs: "ping: \"x\" is not a number\n", code: 1},
		{args: "burn-disk 1 f", out: "", code: -1},
	} {
		t.Run(c.args, func(t *testing.T) {
			out, errs, code := try(t, c.input, strings.Fields(c.args)...)
			if c.code == -1 {
				return // it only must not crash; what it says is the machine's
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
		{"sort"}, {"sort", "-r"}, {"sort", "-u"}, {"sort", "-n"}, {"sort", "-n", "-k", "2"}, {"sort", "-k", "2,2"},
		{"head", "-n", "2"}, {"head", "-3"}, {"head", "-c", "5"}, {"head", "-n", "0"}, {"head", "-n", "99"},
		{"tail", "-n", "2"}, {"tail", "-3"}, {"tail", "-n", "+3"}, {"tail", "-n", "0"}, {"tail", "-n", "99"},
		{"wc", "-l"}, {"wc", "-w"}, {"wc", "-c"},
		{"grep", "a"}, {"grep", "-v", "a"}, {"grep", "-c", "a"}, {"grep", "-n", "y$"}, {"grep", "-i", "b"}, {"grep", "nosuch"},
		{"grep", "a\\|c"}, {"grep", "-E", "a|c"}, {"grep", "(z)"}, {"grep", "-F", "B|C"}, {"grep", "B|C"}, {"grep", "-o", "[0-9]*"},
		{"grep", "-w", "9"}, {"grep", "-x", "a 9 y"}, {"grep", "-q", "a"}, {"grep", "[]x]"}, {"grep", "[^a-z]$"}, {"grep", "^\\(a\\|b\\) "},
		{"grep", "-e", "-3"}, {"cat", "-n"}, {"seq", "2", "5"}, {"seq", "1", "3", "8"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			cmd := exec.Command(busybox, args...)
			cmd.Stdin = strings.NewReader(text)
			want, err := cmd.Output()
			if _, exited := err.(*exec.ExitError); err != nil && !exited {
				t.Fatal(err)
			}
			got, _, code := try(t, text, args...)
			if got != string(want) || code != cmd.ProcessState.ExitCode() {
				t.Errorf("%q, status %d; busybox: %q, status %d", got, code, want, cmd.ProcessState.ExitCode())
			}
		})
	}
}

func TestNewMode(t *testing.T) {
	for _, c := range []struct {
		old  uint32
		mode string
		want uint32
	}{
		{0o644, "755", 0o755}, {0o644, "1777", 0o1777}, {0o644, "u+x", 0o744}, {0o644, "+x", 0o755}, {0o777, "go-w", 0o755},
		{0o644, "a=r,u+w", 0o644}, {0o755, "u+s", 0o4755}, {0o755, "+t", 0o1755}, {0o600, "go=u", 0}, {0o755, "o=", 0o750},
	} {
		got, err := newMode(c.old, c.mode)
		if c.want == 0 {
			if err == nil {
				t.Errorf("%q: no error", c.mode)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%#o %s: %#o, %v; want %#o", c.old, c.mode, got, err, c.want)
		}
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
	for s, want := range map[string]int64{"0": 0, "12": 12, "2k": 2048, "3M": 3 << 20, "1G": 1 << 30, "4KB": 4096, "": -1, "k": -1, "1T": -1, "9223372036854775807G": -1} {
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
	flags, data := mountOptions("ro,nosuid,bind,size=1m,mode=700")
	if flags != unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_BIND || data != "size=1m,mode=700" {
		t.Errorf("%#x, %q", flags, data)
	}
}

func TestChecksum(t *testing.T) {
	if got := checksum([]byte{8, 0, 0, 0, 0x12, 0x34, 0, 1}); got != ^uint16(0x0800+0x1234+1) {
		t.Errorf("%#x", got)
	}
}

func TestBurnDiskLeavesNothing(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if out, errs, code := try(t, "", "burn-disk", "1", name); code != 0 || !strings.HasPrefix(out, "1 MB in ") {
		t.Errorf("%q %q %d", out, errs, code)
	}
	if _, err := os.Stat(name); err == nil {
		t.Error("the file is left")
	}
}

// What the commands show of this machine has the right form.
func TestMachine(t *testing.T) {
	for _, c := range []struct{ command, want string }{
		{"ps", "PID USER"}, {"mount", " on /proc type proc"}, {"free", "Mem:"}, {"ip addr", "inet 127.0.0.1/8"},
		{"ip link", "LOOPBACK"}, {"uname -s", "Linux\n"}, {"id", "uid="}, {"df /", "Mounted on"}, {"nproc", "\n"}, {"env", "PATH="},
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
	f.Add("u+x,go=")
	f.Add(`\(a\|[]b]\)*`)
	f.Fuzz(func(_ *testing.T, s string) {
		parseStat(s)
		parseMountinfo(s)
		newMode(0o644, s)
		size(s)
		pattern(&options{value: [128]string{'e': s}})
		mountOptions(s)
	})
}
