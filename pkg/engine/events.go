package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/spec"
	"github.com/minictr/minictr/pkg/sys"
)

// An Event is a line of the engine's diary: something has happened to a
// container.
type Event struct {
	Time       time.Time
	Action     string // "create", "start", "die", "oom", "kill", "stop", "pause", "unpause", "rename", "destroy"
	ID         string
	Name       string            `json:",omitempty"`
	Image      string            `json:",omitempty"`
	Attributes map[string]string `json:",omitempty"`
}

// maxEvents is how long the diary grows, in bytes, before it is begun anew; one
// older is kept.
const maxEvents = 1 << 20

// EventsFile is the engine's diary, one JSON document a line. There is one more,
// with .1 at its end, for what is older.
func (e *Engine) EventsFile() string { return filepath.Join(e.Root, "events") }

// event writes a line into the diary. What can't be written is no failure of
// what has happened.
func (e *Engine) event(c *Container, action string, attributes map[string]string) {
	line := append(spec.Marshal(&Event{time.Now().UTC(), action, c.ID, c.Name, c.Options.Image, attributes}), '\n')
	f, err := e.openDiary(os.O_WRONLY|os.O_CREATE|os.O_APPEND, unix.LOCK_EX)
	if err != nil {
		return
	}
	_, _ = f.Write(line)
	if fi, err := f.Stat(); err == nil && fi.Size() > maxEvents {
		_ = os.Rename(e.EventsFile(), e.EventsFile()+".1") // the next one tries again
	}
	_ = f.Close()
}

// openDiary opens the diary and locks it, flock(2): who writes the last line
// into a file renames it under the lock, so that nothing comes after that.
func (e *Engine) openDiary(flags, how int) (*os.File, error) {
	for {
		f, err := os.OpenFile(e.EventsFile(), flags, 0o600)
		if err != nil {
			return nil, err
		}
		err = sys.Call("flock", func() error { return unix.Flock(int(f.Fd()), how) })
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		now, err := os.Stat(e.EventsFile())
		if own, failed := f.Stat(); err == nil && failed == nil && os.SameFile(own, now) {
			return f, nil
		}
		_ = f.Close() // it was begun anew while we waited
	}
}

// EventOptions say which events are meant.
type EventOptions struct {
	Since, Until time.Time // zero is no bound
	Follow       bool      // those to come, too, up to Until
}

// eventPause is how long a reader sleeps before it looks for more.
const eventPause = 100 * time.Millisecond

// Events reads the diary, and may stay to see what comes, until the context or
// the time ends.
func (e *Engine) Events(ctx context.Context, o EventOptions, emit func(Event) error) error {
	file, older, err := e.diary()
	defer func() { _ = file.Close() }()
	for line := range strings.Lines(string(older)) {
		if err := emitEvent(line, o, emit); err != nil {
			return err
		}
	}
	for ; errors.Is(err, fs.ErrNotExist) && o.Follow && ctx.Err() == nil; file, err = os.Open(e.EventsFile()) {
		time.Sleep(eventPause)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var next *os.File // the diary, when it was begun anew; the old one is read to its end
	lines := bufio.NewReader(file)
	for rest := ""; ; {
		line, err := lines.ReadString('\n')
		rest += line
		switch {
		case err == nil:
			if err := emitEvent(rest, o, emit); err != nil {
				return err
			}
			rest = ""
			continue
		case !errors.Is(err, io.EOF):
			return err
		case next != nil:
			_ = file.Close()
			file, next = next, nil
			lines.Reset(file)
			continue
		case !o.Follow, ctx.Err() != nil, !o.Until.IsZero() && time.Now().After(o.Until):
			return nil
		}
		time.Sleep(eventPause)
		if next, err = os.Open(e.EventsFile()); err != nil {
			next = nil // it is just begun anew
		} else if sameFile(file, next) {
			_ = next.Close()
			next = nil
		}
	}
}

func sameFile(a, b *os.File) bool {
	x, err := a.Stat()
	y, other := b.Stat()
	return err == nil && other == nil && os.SameFile(x, y)
}

// diary opens the diary, and reads the older one, which stays that meanwhile. The
// error is that of the diary: there may be an older one alone.
func (e *Engine) diary() (file *os.File, older []byte, err error) {
	file, err = e.openDiary(os.O_RDONLY, unix.LOCK_SH)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	older, failed := sys.ReadFile(e.EventsFile() + ".1")
	if failed != nil && !errors.Is(failed, fs.ErrNotExist) {
		_ = file.Close()
		return nil, nil, failed
	}
	if err == nil {
		err = sys.Call("flock", func() error { return unix.Flock(int(file.Fd()), unix.LOCK_UN) })
	}
	return file, older, err
}

// emitEvent passes over what is damaged, and what is not meant.
func emitEvent(line string, o EventOptions, emit func(Event) error) error {
	var event Event
	if spec.Unmarshal([]byte(line), &event) != nil || event.Time.Before(o.Since) || !o.Until.IsZero() && event.Time.After(o.Until) {
		return nil
	}
	return emit(event)
}

// lastStatus is the exit status of a container that was removed when it ended.
func (e *Engine) lastStatus(c *Container) (status int, err error) {
	found := false
	err = e.Events(context.Background(), EventOptions{}, func(event Event) error {
		if event.ID == c.ID && event.Action == "die" {
			found = true
			status, _ = strconv.Atoi(event.Attributes["exitCode"])
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: %s", container.ErrNotExist, c.Title())
	}
	return status, err
}
