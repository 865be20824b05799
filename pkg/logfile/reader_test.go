package logfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// split prints a log, each stream for itself.
func split(t testing.TB, path string, o Options) (out, err string) {
	t.Helper()
	var a, b bytes.Buffer
	if err := Print(t.Context(), path, o, &a, &b, false); err != nil {
		t.Error(err)
	}
	return a.String(), b.String()
}

// show prints a log as a terminal has it.
func show(t testing.TB, path string, o Options) string {
	t.Helper()
	var both bytes.Buffer
	if err := Print(t.Context(), path, o, &both, &both, false); err != nil {
		t.Error(err)
	}
	return both.String()
}

func at(second int) time.Time { return time.Date(2026, 1, 1, 0, 0, second, 5000, time.UTC) }

// made makes a log of files, the newest first, in which "0 stdout F a" is a
// line of second 0.
func made(t *testing.T, files ...string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "log")
	for i, text := range files {
		for second := range 10 {
			stamp := at(second).Format(layout)
			text = strings.ReplaceAll("\n"+text, fmt.Sprintf("\n%d ", second), "\n"+stamp+" ")[1:]
		}
		if err := os.WriteFile(chain(path).name(i), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestRead(t *testing.T) {
	const three = "1 stdout F a\n2 stderr F b\n3 stdout F c\n"
	huge := strings.Repeat("y", 100<<10)
	for _, c := range []struct {
		name    string
		files   []string
		options Options
		want    string
	}{
		{"nothing", []string{""}, Options{Tail: -1}, ""},
		{"no log yet", nil, Options{Tail: 5}, ""},
		{"lines", []string{three}, Options{Tail: -1}, "a\nb\nc\n"},
		{"pieces", []string{"1 stdout P a\n2 stdout P b\n3 stdout F \n4 stderr P $ \n"}, Options{Tail: -1}, "ab\n$ "},
		{"files", []string{"7 stdout F c\n", "5 stdout F b\n", "3 stdout F a\n"}, Options{Tail: -1}, "a\nb\nc\n"},
		{"a gap between files", []string{"7 stdout F c\n", "", "3 stdout F a\n"}, Options{Tail: -1}, "a\nc\n"},
		{"half a record", []string{"1 stdout F a\n2 stdout F b"}, Options{Tail: -1}, "a\n"},
		{"half a record and a tail", []string{"1 stdout F a\n2 stdout F b"}, Options{Tail: 1}, "a\n"},
		{"no record", []string{"1 stdout F a\noh\n\n1 stdin F x\n1 stdout X x\n1 stdout F\n2 stdout F b\n"}, Options{Tail: -1}, "a\noh\n\n" + at(1).Format(layout) + " stdin F x\n" + at(1).Format(layout) + " stdout X x\n" + at(1).Format(layout) + " stdout F\nb\n"},
		{"another's times and tags", []string{"2026-01-01T00:00:00+09:00 stdout P:x a\n2026-01-01T00:00:00.5Z stderr F:y:z b\n"}, Options{Tail: -1}, "ab\n"},
		{"holes", []string{"\x00\x00\n1 stdout F a\n"}, Options{Tail: -1}, "\x00\x00\na\n"},
		{"longer than any record", []string{"1 stdout F a\n2 stderr F " + huge + "\n3 stdout F b\n"}, Options{Tail: -1}, "a\n" + huge + "\nb\n"},
		{"longer than any record, and a tail", []string{"1 stdout F a\n2 stderr F " + huge + "\n3 stdout F b\n"}, Options{Tail: 1}, "b\n"},
		{"since", []string{three}, Options{Tail: -1, Since: at(2)}, "b\nc\n"},
		{"until", []string{three}, Options{Tail: -1, Until: at(2)}, "a\nb\n"},
		{"times", []string{three, "0 stdout F 0\n"}, Options{Tail: -1, Since: at(1), Until: at(2)}, "a\nb\n"},
		{"damaged lines have the times of others", []string{"1 stdout F a\nx\n2 stdout F b\ny\n"}, Options{Tail: -1, Since: at(2)}, "b\ny\n"},
		{"a tail since", []string{three}, Options{Tail: 2, Since: at(3)}, "c\n"},
		{"no tail", []string{three}, Options{Tail: 0}, ""},
		{"no tail, new file", []string{"", three}, Options{Tail: 0}, ""},
		{"a tail", []string{three}, Options{Tail: 2}, "b\nc\n"},
		{"a long tail", []string{three}, Options{Tail: 20}, "a\nb\nc\n"},
		{"a tail of files", []string{"7 stdout F e\n", "5 stdout F c\n6 stdout F d\n", "3 stdout F a\n4 stdout F b\n"}, Options{Tail: 4}, "b\nc\nd\ne\n"},
		{"a tail, a file", []string{"7 stdout F e\n", "5 stdout F c\n6 stdout F d\n", "3 stdout F a\n4 stdout F b\n"}, Options{Tail: 3}, "c\nd\ne\n"},
		{"a tail of pieces", []string{"1 stdout F a\n2 stdout P b\n3 stdout F c\n4 stdout P d\n5 stdout P e\n"}, Options{Tail: 2}, "bc\nde"},
		{"a tail of pieces in files", []string{"4 stdout F c\n", "3 stdout P b\n", "1 stdout F 0\n2 stdout P a\n"}, Options{Tail: 1}, "abc\n"},
		{"a tail of both", []string{"1 stderr F 0\n1 stderr P a\n2 stdout F b\n3 stderr F c\n"}, Options{Tail: 2}, "ab\nc\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := made(t, c.files...)
			if got := show(t, path, c.options); got != c.want {
				t.Errorf("got %.300q, want %.300q", got, c.want)
			}
			// Following shows the same, and ends when nobody writes.
			c.options.Follow, c.options.Ended = true, func() bool { return true }
			if got := show(t, path, c.options); got != c.want {
				t.Errorf("followed: got %.300q, want %.300q", got, c.want)
			}
		})
	}
}

func TestRecords(t *testing.T) {
	path := made(t, "1 stdout P a\n2 stderr F b\ndamaged\n")
	var got []string
	err := Read(t.Context(), path, Options{Tail: -1}, func(r Record) error {
		got = append(got, fmt.Sprintf("%d %s %v %s", r.Time.Second(), r.Stream, r.Partial, r.Text))
		return nil
	})
	if want := "1 stdout true a|2 stderr false b|2 stderr false damaged"; strings.Join(got, "|") != want || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if err := Read(t.Context(), path, Options{Tail: -1}, func(Record) error { return io.ErrClosedPipe }); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
	if err := Read(t.Context(), filepath.Join(path, "none"), Options{}, nil); err == nil {
		t.Error("a directory that can't be read is none")
	}
}

func TestTimes(t *testing.T) {
	path := made(t, "1 stdout P a\n2 stderr F b\n3 stdout F c\n2026-01-01T09:00:04+09:00 stdout F d\n")
	var out, err bytes.Buffer
	if err := Print(t.Context(), path, Options{Tail: -1}, &out, &err, true); err != nil {
		t.Error(err)
	}
	if out.String() != "2026-01-01T00:00:01.000005000Z ac\n2026-01-01T00:00:04.000000000Z d\n" || err.String() != "2026-01-01T00:00:02.000005000Z b\n" {
		t.Errorf("got %q and %q", &out, &err)
	}
}

// TestReadEnds has a program write a line for each that is read.
func TestReadEnds(t *testing.T) {
	for _, most := range []int64{0, 200} {
		path := filepath.Join(t.TempDir(), "log")
		w := create(t, path, Rotation{most, 1000})
		write(t, w, stdout, strings.Repeat("a\n", 20))
		n := 0
		err := Read(t.Context(), path, Options{Tail: -1}, func(Record) error {
			write(t, w, stdout, "b\n")
			if n++; n > 1000 {
				return errors.New("it never ends")
			}
			return nil
		})
		if err != nil || n < 20 {
			t.Errorf("%d records, %v", n, err)
		}
	}
}

// TestTailReadsLittle has the kernel count what is read.
func TestTailReadsLittle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := create(t, path, Rotation{})
	for i := range 100_000 {
		fmt.Fprintf(w.Stream(stdout), "a line with the number %d, and more in it\n", i)
	}
	read := func(o Options) (bytes int) {
		count := func() (n int) {
			text, err := os.ReadFile("/proc/self/io")
			if err != nil {
				t.Fatal(err)
			}
			fmt.Sscanf(string(text), "rchar: %d", &n)
			return n
		}
		before := count()
		show(t, path, o)
		return count() - before
	}
	if n := read(Options{Tail: 10}); n > 3*maxWrite {
		t.Errorf("%d bytes are read", n)
	}
	if n := read(Options{Tail: -1}); n < 5<<20 {
		t.Errorf("%d bytes are read of all", n)
	}
}

// numbers is a writer that checks that lines count up by one, and are whole.
type numbers struct {
	next int
	rest []byte
	gaps int
}

func (n *numbers) Write(p []byte) (int, error) {
	n.rest = append(n.rest, p...)
	for {
		line, rest, whole := bytes.Cut(n.rest, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		var got int
		if _, err := fmt.Sscanf(string(line), "line %d", &got); err != nil || got < n.next {
			return 0, fmt.Errorf("%q after %d", line, n.next-1)
		}
		if got != n.next {
			n.gaps++
		}
		n.next, n.rest = got+1, rest
	}
}

// TestFollowRotation follows a log that is rotated all the time, while others
// read it and its end.
func TestFollowRotation(t *testing.T) {
	const lines = 60_000
	for _, kept := range []int{1000, 2, 1} {
		t.Run(fmt.Sprint(kept, " files"), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			w := create(t, path, Rotation{20_000, kept})
			var ended atomic.Bool
			follower, done := &numbers{}, make(chan error, 2)
			o := Options{Follow: true, Tail: -1, Ended: ended.Load}
			go func() { done <- Print(t.Context(), path, o, follower, io.Discard, false) }()
			go func() {
				for !ended.Load() {
					for _, tail := range []int{-1, 300} {
						n := &numbers{}
						if err := Print(t.Context(), path, Options{Tail: tail}, n, io.Discard, false); err != nil || n.gaps > 1 && kept > 2 {
							t.Errorf("tail %d: %d gaps, %v", tail, n.gaps, err)
						}
					}
				}
				done <- nil
			}()
			for i := range lines {
				fmt.Fprintf(w.Stream(stdout), "line %d\n", i)
			}
			ended.Store(true)
			if err := errors.Join(<-done, <-done); err != nil || follower.next != lines || len(follower.rest) > 0 || follower.gaps > 0 && kept > 2 {
				t.Errorf("got %d lines, %d gaps, %q, %v", follower.next, follower.gaps, follower.rest, err)
			}
		})
	}
}

// TestFollow has each piece come at once, before more is written.
func TestFollow(t *testing.T) {
	for _, c := range []struct {
		name    string
		options Options
		change  func(path string) error // of the directory, when the log is followed
	}{
		{"all", Options{Tail: -1}, func(string) error { return nil }},
		{"no tail", Options{Tail: 0}, func(string) error { return nil }},
		{"cut off", Options{Tail: -1}, func(path string) error {
			w, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			_, err = w.WriteString(at(1).Format(layout) + " stdout F never")
			time.Sleep(3 * patience * time.Millisecond) // the follower may have seen it
			size, _ := w.Seek(0, io.SeekEnd)
			return errors.Join(err, w.Truncate(size-int64(len(at(1).Format(layout)+" stdout F never"))), w.Close())
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			got, done := make(chan string), make(chan error)
			c.options.Follow = true
			go func() { done <- Print(ctx, path, c.options, lines(got), lines(got), false) }()
			w := create(t, path, Rotation{100, 3})
			for i := range 10 {
				if i == 5 {
					if err := c.change(path); err != nil {
						t.Fatal(err)
					}
				}
				text := fmt.Sprintf("%d? ", i)
				if i == 0 && c.options.Tail == 0 {
					time.Sleep(3 * patience * time.Millisecond) // else it may be part of the tail that is not asked for
				}
				write(t, w, stdout, text)
				select {
				case s := <-got:
					if s != text {
						t.Errorf("got %q, want %q", s, text)
					}
				case err := <-done:
					t.Fatal(err)
				}
			}
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// lines is a writer to a channel.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// TestFollowEnds has followers end without a signal of anybody.
func TestFollowEnds(t *testing.T) {
	path := made(t, "1 stdout F a\n")
	o := Options{Follow: true, Tail: -1, Until: time.Now().Add(300 * time.Millisecond)}
	if got := show(t, path, o); got != "a\n" {
		t.Errorf("until: got %q", got)
	}
	time.AfterFunc(300*time.Millisecond, func() { os.RemoveAll(filepath.Dir(path)) })
	if got := show(t, path, Options{Follow: true, Tail: -1}); got != "a\n" {
		t.Errorf("removed: got %q", got)
	}
}

// TestNews has a follower know of a write, and of a file that got its name.
func TestNews(t *testing.T) {
	dir := t.TempDir()
	w := create(t, filepath.Join(dir, "log"), Rotation{})
	r := reader{files: w.path, block: make([]byte, maxWrite), events: -1}
	r.watch(dir)
	defer r.close()
	for _, do := range []func(){
		func() { write(t, w, stdout, "a") },
		func() { os.Rename(filepath.Join(dir, "log"), filepath.Join(dir, "other")) },
	} {
		do()
		poll := []unix.PollFd{{Fd: int32(r.events), Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, 0); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if err := r.wait(); err != nil {
			t.Error(err)
		}
		if n, err := unix.Poll(poll, 0); n != 0 || err != nil {
			t.Errorf("after waiting: %d, %v", n, err)
		}
	}
}

// TestPolling follows without inotify(7), which a user may have used up.
func TestPolling(t *testing.T) {
	path := made(t, "1 stdout F a\n")
	var both bytes.Buffer
	p := printer{to: [2]io.Writer{&both, &both}}
	ended := false
	r := reader{files: chain(path), emit: p.print, block: make([]byte, maxWrite), events: -1}
	r.Options = Options{Follow: true, Ended: func() bool { return ended }, idle: func() error {
		err := p.flush()
		if ended = both.Len() > 2; !ended {
			write(t, create(t, path, Rotation{}), stdout, "b\n")
		}
		return err
	}}
	defer r.close()
	if err := r.read(t.Context()); err != nil || both.String() != "a\nb\n" {
		t.Errorf("got %q, %v", &both, err)
	}
}
