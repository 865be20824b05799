package logfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

func create(t testing.TB, path string, r Rotation) *Writer {
	t.Helper()
	w, err := Open(path, r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func write(t testing.TB, w *Writer, stream, text string) {
	t.Helper()
	if n, err := w.Stream(stream).Write([]byte(text)); n != len(text) || err != nil {
		t.Errorf("wrote %d of %d bytes, %v", n, len(text), err)
	}
}

// plain is a file's text without its times, which must be there.
func plain(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		stamp, rest, _ := strings.Cut(line, " ")
		if at, err := time.Parse(time.RFC3339Nano, stamp); err != nil || time.Since(at).Abs() > time.Hour || len(stamp) != 30 {
			t.Errorf("%q: %v", line, err)
		}
		b.WriteString(rest)
	}
	return b.String()
}

func TestFormat(t *testing.T) {
	const most = 16384
	long := strings.Repeat("x", most)
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"a line", "a\n", "S F a\n"},
		{"an empty line", "\n", "S F \n"},
		{"a prompt", "a\n$ ", "S F a\nS P $ \n"},
		{"lines", "a\n\nb\n", "S F a\nS F \nS F b\n"},
		{"any bytes", "\x00\r\xff \n\r\n", "S F \x00\r\xff \nS F \r\n"},
		{"the longest line", long + "\n", "S F " + long + "\n"},
		{"a longer line", long + "y\n", "S P " + long + "\nS F y\n"},
		{"the longest piece", long, "S P " + long + "\n"},
		{"longer than a write", long + long + long + "\n", "S P " + long + "\nS P " + long + "\nS F " + long + "\n"},
		{"more lines than a write", strings.Repeat("\n", 5000), strings.Repeat("S F \n", 5000)},
	} {
		for _, stream := range []string{stdout, stderr} {
			t.Run(c.name+" of "+stream, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "log")
				write(t, create(t, path, Rotation{}), stream, c.text)
				if got, want := plain(t, path), strings.ReplaceAll(c.want, "S ", stream+" "); got != want {
					t.Errorf("got %.200q, want %.200q", got, want)
				}
			})
		}
	}
}

// TestOneWrite has the kernel count a thread's writes: a follower never sees a
// part of a piece.
func TestOneWrite(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	w := create(t, filepath.Join(t.TempDir(), "log"), Rotation{})
	writes := func() (n int) {
		text, err := os.ReadFile("/proc/thread-self/io")
		if err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(string(text), "syscw: ")
		fmt.Sscan(after, &n)
		return n
	}
	before := writes()
	write(t, w, stdout, strings.Repeat("line\n", 400)+"$ ")
	if n := writes() - before; n != 1 {
		t.Errorf("%d writes", n)
	}
}

// files lists the numbers of lines that each file of a log has, the newest first.
func files(t *testing.T, path string) (lines []int) {
	t.Helper()
	names, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for i := range names {
		text, err := os.ReadFile(chain(path).name(i))
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, bytes.Count(text, []byte("\n")))
	}
	return lines
}

func TestRotation(t *testing.T) {
	const record = len("2016-10-06T00:17:09.669794202Z stdout F 1234567890\n")
	for _, c := range []struct {
		rotation Rotation
		write    []int // so many lines at once
		want     []int // lines of log, log.1, ...
	}{
		{Rotation{}, []int{1000}, []int{1000}},
		{Rotation{int64(3 * record), 3}, []int{1, 1, 1}, []int{3}},
		{Rotation{int64(3 * record), 3}, []int{1, 1, 1, 1}, []int{1, 3}},
		{Rotation{int64(4*record - 1), 3}, []int{1, 1, 1, 1}, []int{1, 3}},
		{Rotation{int64(3 * record), 3}, []int{2, 2}, []int{2, 2}},
		{Rotation{int64(3 * record), 3}, []int{7}, []int{1, 3, 3}},
		{Rotation{int64(3 * record), 3}, []int{10}, []int{1, 3, 3}},
		{Rotation{int64(3 * record), 2}, []int{10}, []int{1, 3}},
		{Rotation{int64(3 * record), 1}, []int{10}, []int{1}},
		{Rotation{int64(3 * record), 0}, []int{8}, []int{2}},
		{Rotation{1, 3}, []int{4}, []int{1, 1, 1}},
	} {
		t.Run(fmt.Sprint(c.rotation, c.write), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			w := create(t, path, c.rotation)
			for _, n := range c.write {
				write(t, w, stdout, strings.Repeat("1234567890\n", n))
			}
			if got := files(t, path); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// TestReopen has writers that were killed at each byte of a record, or while
// they rotated.
func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write(t, create(t, path, Rotation{}), stdout, "first\n"+strings.Repeat("x", 2000)+"\n")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first := bytes.IndexByte(text, '\n') + 1
	for cut := range len(text) {
		if err := os.WriteFile(path, text[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := Open(path, Rotation{})
		if err != nil {
			t.Fatal(err)
		}
		write(t, w, stderr, "second\n")
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		want := "stderr F second\n"
		if cut >= first {
			want = "stdout F first\n" + want
		}
		if got := plain(t, path); got != want {
			t.Fatalf("cut at %d: got %q", cut, got)
		}
	}
	if err := os.Rename(path, path+".2"); err != nil {
		t.Fatal(err)
	}
	w := create(t, path, Rotation{60, 3})
	write(t, w, stdout, "third\n")
	write(t, w, stdout, "fourth\n")
	if got := show(t, path, Options{Tail: -1}); got != "first\nsecond\nthird\nfourth\n" {
		t.Errorf("got %q", got)
	}
}

func TestNoDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none", "log")
	if _, err := Open(path, Rotation{}); !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "log "+path+": open: ") {
		t.Errorf("got %v", err)
	}
}

// TestAllocations has the monitor's heap stay as small as it begins.
func TestAllocations(t *testing.T) {
	w := create(t, filepath.Join(t.TempDir(), "log"), Rotation{1 << 20, 2})
	s, text := w.Stream(stdout), bytes.Repeat([]byte("a line of text\n"), 500)
	if n := testing.AllocsPerRun(50, func() { s.Write(text) }); n > 0 {
		t.Errorf("%v allocations for a write", n)
	}
}

// inMountNamespace does something on a thread with a small file system on dir.
func inMountNamespace(t *testing.T, dir string, do func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	err := sys.OnThread(func() error {
		err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k")
		}
		if err != nil {
			return err
		}
		do()
		return unix.Unmount(dir, unix.MNT_DETACH)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestDiskFull fills a disk, makes room, and fills it again. What is read and
// what is told to be lost is together what was written.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	inMountNamespace(t, dir, func() {
		path, filler := filepath.Join(dir, "log"), filepath.Join(dir, "filler")
		w, err := Open(path, Rotation{})
		if err = errors.Join(err, os.WriteFile(filler, make([]byte, 128<<10), 0o600)); err != nil {
			t.Error(err)
			return
		}
		wrote, told := 0, 0
		fill := func() {
			for i := range 40 {
				text := strings.Repeat(fmt.Sprintln("line", i), 300+i) + "rest"
				write(t, w, stdout, text)
				wrote += len(text)
			}
		}
		fill()
		if err := os.Remove(filler); err != nil {
			t.Error(err)
			return
		}
		fill()
		left := w.lost
		err = w.Close()
		if !errors.Is(err, unix.ENOSPC) || left == 0 || !strings.Contains(err.Error(), fmt.Sprintf("%d bytes of output were lost: ", left)) {
			t.Errorf("%d bytes are lost, and the error is %v", left, err)
		}
		out, notices := split(t, path, Options{Tail: -1})
		for line := range strings.Lines(notices) {
			var n int
			if _, err := fmt.Sscanf(line, "minictr: %d bytes of output were lost: no space left on device\n", &n); err != nil {
				t.Errorf("%q: %v", line, err)
			}
			told += n
		}
		if told == 0 || len(out)+told+int(left) != wrote {
			t.Errorf("%d bytes are read, %d told, %d left of %d", len(out), told, left, wrote)
		}
	})
}

// TestKilled kills a writer at any moment, again and again, with the same log.
func TestKilled(t *testing.T) {
	const env = "MINICTR_TEST_LOG"
	if path := os.Getenv(env); path != "" {
		w, err := Open(path, Rotation{1 << 20, 1000})
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; ; i++ {
			fmt.Fprintf(w.Stream(stdout), "%d%s\n", i, strings.Repeat(" long", i%6000))
		}
	}
	path := filepath.Join(t.TempDir(), "log")
	const rounds = 12
	for i := range rounds {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), env+"="+path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(30 * time.Second) // a machine may be busy
		for grown := int64(0); grown == 0 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if at, err := os.Stat(path); err == nil {
				grown = at.Size()
			}
		}
		time.Sleep(time.Duration(i*7) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
	}
	// Each began with 0, and lost at most its last line.
	begun, next := 0, 0
	for line := range strings.Lines(show(t, path, Options{Tail: -1})) {
		number, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.Atoi(number)
		if n == 0 && err == nil {
			begun++
			next = 0
		}
		if n != next || err != nil || line != fmt.Sprintf("%d%s\n", n, strings.Repeat(" long", n%6000)) {
			t.Fatalf("%d, %v, not %d: %.100q", n, err, next, line)
		}
		next++
	}
	if begun < rounds/2 {
		t.Errorf("%d writers wrote", begun)
	}
}

// TestCopy has two pipes' ends written to, and closed, in turns.
func TestCopy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var out, err [2]int
	if e := errors.Join(unix.Pipe2(out[:], unix.O_CLOEXEC|unix.O_NONBLOCK), unix.Pipe2(err[:], unix.O_CLOEXEC)); e != nil {
		t.Fatal(e)
	}
	done := make(chan error)
	w := create(t, path, Rotation{})
	go func() { done <- w.Copy(out[0], err[0]) }()
	text := strings.Repeat("0123456789\n", 20000)
	go func() {
		for p := []byte(text); len(p) > 0; {
			n, e := unix.Write(out[1], p[:min(len(p), 5000)])
			if e == nil {
				p = p[n:]
			}
		}
		unix.Close(out[1])
		unix.Write(err[1], []byte("end"))
		unix.Close(err[1])
	}()
	if e := errors.Join(<-done, unix.Close(out[0]), unix.Close(err[0]), w.Copy(-1, -1)); e != nil {
		t.Error(e)
	}
	if out, err := split(t, path, Options{Tail: -1}); out != text || err != "end" {
		t.Errorf("%d bytes and %q", len(out), err)
	}
	if e := w.Copy(-1, out[0]); !errors.Is(e, unix.EBADF) {
		t.Errorf("got %v", e)
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{64, 8 << 10} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			w := create(b, filepath.Join(b.TempDir(), "log"), Rotation{10 << 20, 3})
			s, text := w.Stream(stdout), bytes.Repeat([]byte("a line of sixty-four bytes, which is what programs write usually\n"), 200)[:size]
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				s.Write(text)
			}
		})
	}
}
