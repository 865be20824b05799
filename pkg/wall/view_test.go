package wall

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/lang"
)

// TestCover reads what a process has put in the place of a file, while it puts
// other things there: a pipe would hold up who reads it, and a device is none of
// its business.
func TestCover(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "turning")
	for name, create := range map[string]func(path string) error{
		"file": func(path string) error { return os.WriteFile(path, []byte("text\n"), 0o600) },
		"pipe": func(path string) error { return unix.Mkfifo(path, 0o600) },
		"link": func(path string) error { return os.Symlink(filepath.Base(path), path) },
	} {
		if err := create(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	done, ended := make(chan bool), make(chan error)
	go func() {
		for {
			for _, name := range [...]string{"file", "pipe"} {
				if err := os.Link(filepath.Join(dir, name), path+".new"); err != nil {
					ended <- err
					return
				}
				if err := os.Rename(path+".new", path); err != nil {
					ended <- err
					return
				}
			}
			select {
			case <-done:
				ended <- nil
				return
			default:
			}
		}
	}()
	p := &process{pid: os.Getpid()}
	read := make(chan int)
	go func() {
		texts := 0
		for range 2000 {
			switch text, err := p.cover(path); {
			case err != nil || text != "" && text != "text\n":
				t.Errorf("%q, %v", text, err)
			case text != "":
				texts++
			}
		}
		read <- texts
	}()
	select {
	case texts := <-read:
		if texts == 0 {
			t.Error("the file was never read")
		}
	case <-time.After(time.Minute):
		t.Error("it waits at the pipe")
	}
	close(done)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if text, err := p.cover(filepath.Join(dir, "link")); err != nil || text != "" {
		t.Errorf("a link to itself: %q, %v", text, err)
	}
}

// TestLong shows what a container has made long: little of it, and at once.
func TestLong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "long")
	if err := os.WriteFile(path, []byte(strings.Repeat("글", 1<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := (&process{pid: os.Getpid()}).cover(path)
	if err != nil || len(text) != most {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if s := short(text + "\nmore"); s != strings.Repeat("글", longest/len("글")) {
		t.Errorf("%q", s)
	}
	if s := short("one\ntwo"); s != "one" {
		t.Errorf("%q", s)
	}
	for text, want := range map[string]string{strings.Repeat("글", 1<<20): "글글...", strings.Repeat("x", 1<<20) + " y": "xxxxx... y", "short": "short"} {
		if got := clip(text, 8); got != want || lang.Width(strings.Fields(got)[0]) > 8 {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
