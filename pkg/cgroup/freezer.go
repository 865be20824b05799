package cgroup

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// The freezer: admin-guide/cgroup-v1/freezer-subsystem.rst, and
// cgroup.freeze in admin-guide/cgroup-v2.rst. Where there is a version 2
// hierarchy, bare or not, its freezer serves: it lets a frozen process die.

// patience bounds the waits of this package for what the kernel does in its
// own time: a process in the middle of a slow system call neither freezes nor
// dies before that call is over.
const patience = 10 * time.Second

// ErrTimeout is wrapped by the errors of Freeze, Thaw, Kill and Delete when the
// kernel has not done its part within ten seconds.
var ErrTimeout = errors.New("cgroup: timed out")

// wait asks until the answer is yes, ever less often.
func wait(what string, done func() (bool, error)) error {
	deadline := time.Now().Add(patience)
	for pause := 50 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		ok, err := done()
		switch {
		case err != nil:
			return err
		case ok:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%w: %s", ErrTimeout, what)
		}
		time.Sleep(pause)
	}
}

// A freezer is the pair of files that stop a cgroup and tell of it.
type freezer struct {
	control, freeze, thaw string // a file, and what to write
	state, frozen         string // a file, and the line it has when all stand still
}

func (g Group) freezer() (*freezer, error) {
	if p := g.unifiedPlace(); p != nil {
		return &freezer{p.Dir + "/cgroup.freeze", "1", "0", p.Dir + "/cgroup.events", "frozen 1"}, nil
	}
	if p := g.place("freezer"); p != nil {
		file := p.Dir + "/freezer.state"
		return &freezer{file, "FROZEN", "THAWED", file, "FROZEN"}, nil
	}
	return nil, &MissingError{g.Pointer, "freezer", g.version()}
}

// Freeze stops all threads of the cgroup, and returns when they stand still.
// If they do not in time, they run again, and the error wraps ErrTimeout.
func (g Group) Freeze() error {
	f, err := g.freezer()
	if err != nil {
		return err
	}
	if err := write(f.control, f.freeze); err != nil {
		return err
	}
	if err := wait(g.Path+" does not freeze", f.isFrozen); err != nil {
		return errors.Join(err, write(f.control, f.thaw))
	}
	return nil
}

// Thaw lets the threads of the cgroup run again; where it is gone there are
// none.
func (g Group) Thaw() error {
	f, err := g.freezer()
	if err != nil {
		return err
	}
	if err := write(f.control, f.thaw); err != nil && !gone(err) {
		return err
	}
	return wait(g.Path+" does not thaw", func() (bool, error) {
		frozen, err := f.isFrozen()
		return !frozen, err
	})
}

// Frozen tells whether all threads of the cgroup stand still. Who enters a
// frozen cgroup stands still too.
func (g Group) Frozen() (bool, error) {
	f, err := g.freezer()
	if err != nil {
		return false, err
	}
	return f.isFrozen()
}

func (f *freezer) isFrozen() (bool, error) {
	text, err := read(f.state)
	if gone(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(text) {
		if strings.TrimSuffix(line, "\n") == f.frozen {
			return true, nil
		}
	}
	return false, nil
}
