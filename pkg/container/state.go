package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/cgroup"
)

// stateVersion is that of the state file. An unknown one is refused, never
// rewritten.
const stateVersion = 1

// State is what is kept of a container while it exists, in state.json of its
// directory. It is written before the first thing is done for the container,
// so that whatever dies, the next command knows what to take away.
type State struct {
	Version int
	ID      string
	Name    string `json:",omitempty"` // for people; "" is the ID
	Image   string `json:",omitempty"` // as it was asked for
	ImageID string `json:",omitempty"`
	Command []string
	PID     int    // 0 before the process is there
	Birth   uint64 // of the process, in clock ticks since boot: with the PID it is unmistakable
	Created time.Time
	Bundle  string
	Owned   bool // the bundle is removed with the container
	Cgroup  cgroup.Group
}

// Errors of a runtime's containers.
var (
	ErrExist    = errors.New("container with given ID already exists")
	ErrNotExist = errors.New("container does not exist")
	ErrRunning  = errors.New("container is running")
)

// A Runtime keeps its containers' states in one directory, on a file system
// that a reboot empties. A container's directory is locked, flock(2), by the
// process that runs it: when that dies, whatever the cause, the lock is free.
// Directories are made and removed under a lock of the whole.
type Runtime struct {
	Root string // "/run/minictr"
}

const maxID = 128

// ValidateID refuses ids that are no name of a file or a cgroup.
func ValidateID(id string) error {
	ok := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_+-.", r)
	}
	switch {
	case id == "":
		return errors.New("container id cannot be empty")
	case len(id) > maxID, id == ".", id == "..", strings.IndexFunc(id, func(r rune) bool { return !ok(r) }) >= 0:
		return fmt.Errorf("invalid container ID format: %q: letters, digits and _+-. are allowed, at most %d", id, maxID)
	}
	return nil
}

// lock takes the lock of the whole; closing the file gives it back.
func (r *Runtime) lock() (*os.File, error) {
	if err := os.MkdirAll(r.Root, 0o711); err != nil {
		return nil, err
	}
	return flock(r.Root, unix.LOCK_EX)
}

// flock opens a directory and locks it.
func flock(dir string, how int) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("flock %s: %w", dir, err), f.Close())
	}
	return f, nil
}

// claim makes the directory of a new container and locks it for this process.
func (r *Runtime) claim(s *State) (*os.File, error) {
	all, err := r.lock()
	if err != nil {
		return nil, err
	}
	defer all.Close()
	if s.Name != "" {
		if other, err := r.Load(s.Name); err == nil {
			return nil, fmt.Errorf("%w: the name %q is that of container %s", ErrExist, s.Name, other.ID)
		} else if !errors.Is(err, ErrNotExist) {
			return nil, err
		}
	}
	dir := r.dir(s.ID)
	if err := os.Mkdir(dir, 0o711); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("%w: %s", ErrExist, s.ID)
		}
		return nil, err
	}
	own, err := flock(dir, unix.LOCK_EX)
	if err == nil && s.Owned {
		err = r.write(s)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return own, nil
}

func (r *Runtime) dir(id string) string { return filepath.Join(r.Root, id) }

// Has says whether an ID is taken.
func (r *Runtime) Has(id string) bool {
	_, err := os.Stat(r.dir(id))
	return err == nil
}

const stateFile = "state.json"

// write replaces the state file as a whole: a reader sees the old one or the
// new one.
func (r *Runtime) write(s *State) error {
	s.Version = stateVersion
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	name := filepath.Join(r.dir(s.ID), stateFile)
	f, err := os.OpenFile(name+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close(), os.Rename(name+".tmp", name))
}

// Load reads the state of a container, by its ID or name.
func (r *Runtime) Load(id string) (*State, error) {
	if ValidateID(id) == nil {
		if s, err := r.read(id); !errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
	}
	all, err := r.List()
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		if s.Name == id {
			return s, nil
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrNotExist, id)
}

func (r *Runtime) read(id string) (*State, error) {
	name := filepath.Join(r.dir(id), stateFile)
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	s := new(State)
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("%s: version %d is not known to this minictr", name, s.Version)
	}
	return s, nil
}

// List returns the states of all containers, in the order of their IDs.
func (r *Runtime) List() (list []*State, err error) {
	dirs, err := os.ReadDir(r.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, d := range dirs {
		s, e := r.read(d.Name())
		switch {
		case errors.Is(e, fs.ErrNotExist): // it is just being made or removed
		case e != nil:
			err = errors.Join(err, e)
		default:
			list = append(list, s)
		}
	}
	return list, err
}

// birth is when a process began, field 22 of proc_pid_stat(5).
func birth(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the program's name in parentheses, and may hold any.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	const starttime = 22 - 3
	var ticks uint64
	if len(fields) <= starttime {
		return 0, fmt.Errorf("/proc/%d/stat: only %d fields", pid, len(fields))
	}
	_, err = fmt.Sscan(fields[starttime], &ticks)
	return ticks, err
}
