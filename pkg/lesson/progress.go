package lesson

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

// A Record is what is known of one lesson.
type Record struct {
	Attempts int       `json:"attempts"` // answers given
	Done     time.Time `json:"done,omitzero"`
	Open     *Attempt  `json:"open,omitempty"`
}

// Progress holds the records of lessons by their names, in one file.
type Progress struct{ file string }

// Records are all that are kept.
type Records map[string]*Record

// Of returns the record of a lesson, an empty one if there is none.
func (r Records) Of(l *Lesson) *Record {
	if r[l.Name] == nil {
		r[l.Name] = new(Record)
	}
	return r[l.Name]
}

// Local is the progress of the user, where the XDG base directory specification
// has what programs remember.
func Local() (Progress, error) {
	state := os.Getenv("XDG_STATE_HOME")
	if state == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return Progress{}, fmt.Errorf("where is progress kept? XDG_STATE_HOME says it: %w", err)
		}
		state = filepath.Join(home, ".local/state")
	}
	return Progress{filepath.Join(state, "minictr/lessons.json")}, nil
}

// Read returns the records.
func (p Progress) Read() (Records, error) {
	all := make(Records)
	text, err := os.ReadFile(p.file)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.file, err)
	}
	return all, nil
}

// Update changes the record of a lesson, and no other process does meanwhile.
func (p Progress) Update(l *Lesson, change func(*Record)) (err error) {
	dir := filepath.Dir(p.file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	lock, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := sys.Call("flock", func() error { return unix.Flock(int(lock.Fd()), unix.LOCK_EX) }); err != nil {
		return err
	}
	all, err := p.Read()
	if err != nil {
		return err
	}
	killed, _ := filepath.Glob(filepath.Join(dir, "."+filepath.Base(p.file)+"-*")) // what others were writing
	for _, name := range killed {
		err = errors.Join(err, os.Remove(name))
	}
	if err != nil {
		return err
	}
	change(all.Of(l))
	return sys.Replace(p.file, dir, func(f *os.File) error {
		out := json.NewEncoder(f)
		out.SetIndent("", "  ")
		return out.Encode(all)
	})
}
