package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/spec"
	"github.com/minictr/minictr/pkg/sys"
)

// stateVersion is that of the state file. An unknown one is refused, never
// rewritten.
const stateVersion = 2

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
	PID     int    `json:"-"` // 0 before the process is there
	Birth   uint64 `json:"-"` // of the process, in clock ticks since boot: with the PID it is unmistakable
	Phase   Phase  `json:"-"`
	Created time.Time
	Bundle  string
	Owned   bool // the bundle is removed with the container,
	Kept    bool `json:",omitempty"` // unless it is kept for the next start
	// Detached says that the container outlives the process that makes it.
	Detached bool
	Hooks    bool // config.json asks for hooks
	// Host is what the plan was compiled with: with config.json, which is kept
	// beside the state, it gives the same plan again.
	Host Host

	UID int // of whose it is

	// Runtime and RuntimeBirth are the PID and the birth of the process that
	// runs the container, or made it.
	Runtime      int
	RuntimeBirth uint64
}

// A Phase is how far a container has come by its runtime's doing.
type Phase string

// Phases, in their order; of a container in the foreground only the first is
// told. Whether the process has begun is seen by the pipe that it waits at.
const (
	Creating Phase = "creating" // the wall is being built
	Created  Phase = "created"  // it stands
)

// Errors of a runtime's containers.
var (
	ErrExist    = errors.New("container with given ID already exists")
	ErrNotExist = errors.New("container does not exist")
	ErrRunning  = errors.New("container is running")
	ErrStopped  = errors.New("container not running")

	errBroken = errors.New("the state is broken")
)

// A Runtime keeps its containers' states in one directory, on a file system
// that a reboot empties. A container's directory is locked, flock(2), by the
// process that runs it: when that dies, whatever the cause, the lock is free.
// Directories are made and removed under a lock of the whole.
type Runtime struct {
	Root string // "/run/minictr"
	// Notify is the address of the caller's service manager; "" without one.
	Notify string
	// Warn, if not nil, takes what is no failure of the container's.
	Warn func(error)
	// Units, if not nil, is systemd.
	Units Units
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

// A lock is an open directory that is locked; closing it gives the lock back.
type lock int

func flock(dir string, how int) (lock, error) {
	fd, err := sys.LockDir(dir, how)
	return lock(fd), err
}

func (l lock) close() error { return unix.Close(int(l)) }

// lock takes the lock of the whole.
func (r *Runtime) lock() (lock, error) {
	all, err := flock(r.Root, unix.LOCK_EX)
	if errors.Is(err, unix.ENOENT) {
		if err := os.MkdirAll(r.Root, 0o711); err != nil {
			return -1, err
		}
		return flock(r.Root, unix.LOCK_EX)
	}
	return all, err
}

// claim makes the directory of a new container and locks it for this process.
func (r *Runtime) claim(s *State) (own lock, err error) {
	all, err := r.lock()
	if err != nil {
		return -1, err
	}
	defer func() { err = errors.Join(err, all.close()) }()
	if s.Name != "" {
		if other, err := r.Load(s.Name); err == nil {
			return -1, fmt.Errorf("%w: the name %q is that of container %s", ErrExist, s.Name, other.ID)
		} else if !errors.Is(err, ErrNotExist) {
			return -1, err
		}
	}
	dir := r.dir(s.ID)
	if err := unix.Mkdir(dir, 0o711); err != nil {
		if errors.Is(err, unix.EEXIST) {
			return -1, fmt.Errorf("%w: %s", ErrExist, s.ID)
		}
		return -1, fmt.Errorf("mkdir %s: %w", dir, err)
	}
	own, err = flock(dir, unix.LOCK_EX)
	if err == nil && s.Owned {
		err = r.write(s)
	}
	if err != nil {
		return -1, errors.Join(err, os.RemoveAll(dir))
	}
	return own, nil
}

func (r *Runtime) dir(id string) string { return filepath.Join(r.Root, id) }

// Has says whether an ID is taken, or may be: only its absence is certain.
func (r *Runtime) Has(id string) bool {
	_, err := os.Stat(r.dir(id))
	return !errors.Is(err, fs.ErrNotExist)
}

// The files of a container's directory. The process has its own, since it
// comes later and is all that changes.
const (
	stateFile   = "state.json"
	processFile = "process"
	startFifo   = "start"  // by which a process that waits is told to begin
	reportFifo  = "report" // by which it answers
	temporary   = ".tmp"
)

// files are all that a container's directory can hold but for the directory of
// its socket, the state last.
var files = [...]string{
	processFile, processFile + temporary, startFifo, reportFifo, spec.ConfigFile, spec.ConfigFile + temporary, stateFile + temporary, stateFile,
}

// write writes the state file.
func (r *Runtime) write(s *State) error {
	s.Version = stateVersion
	for _, path := range []string{s.Bundle, s.Host.Cgroup.Path} {
		if !utf8.ValidString(path) {
			return fmt.Errorf("%q is not UTF-8: it would not be found again by what the state says", path)
		}
	}
	return writeFile(filepath.Join(r.dir(s.ID), stateFile), spec.Marshal(s))
}

// writeProcess notes the process of a container, and how far it has come.
func (r *Runtime) writeProcess(s *State) error {
	return writeFile(filepath.Join(r.dir(s.ID), processFile), fmt.Appendf(nil, "%d %d %s\n", s.PID, s.Birth, s.Phase))
}

// writeFile writes a file as a whole: a reader sees it complete or not at all,
// and so does who comes after a power cut.
func writeFile(name string, data []byte) error {
	fd, err := unix.Open(name+temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	n, err := unix.Write(fd, data)
	if err == nil && n < len(data) {
		err = unix.ENOSPC // what else stops a write to a file short
	}
	if err == nil {
		err = unix.Fsync(fd)
	}
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return fmt.Errorf("write to %s: %w", name, err)
	}
	if err := unix.Rename(name+temporary, name); err != nil {
		return fmt.Errorf("rename %s: %w", name+temporary, err)
	}
	return nil
}

// Load reads the state of a container, by its ID or name.
func (r *Runtime) Load(id string) (*State, error) {
	if ValidateID(id) == nil {
		if s, err := r.read(id); !errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
	}
	all, _ := r.List() // one that can't be read is no obstacle for the others
	for _, s := range all {
		if s.Name == id {
			return s, nil
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrNotExist, id)
}

func (r *Runtime) read(id string) (*State, error) {
	name := filepath.Join(r.dir(id), stateFile)
	data, err := sys.ReadFile(name)
	if err != nil {
		return nil, err
	}
	s := new(State)
	if err := spec.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name, errBroken, err)
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("%s: version %d is not known to this minictr", name, s.Version)
	}
	if process, err := sys.ReadFile(filepath.Join(r.dir(id), processFile)); err == nil {
		if _, err := fmt.Sscan(string(process), &s.PID, &s.Birth, &s.Phase); err != nil {
			return nil, fmt.Errorf("%s/%s: %w: %w", r.dir(id), processFile, errBroken, err)
		}
	}
	return s, nil
}

// List returns the states of all containers, in the order of their IDs.
func (r *Runtime) List() (list []*State, err error) { return r.ListBut(nil) }

// ListBut is List without those that the caller knows already.
func (r *Runtime) ListBut(known map[string]bool) (list []*State, err error) {
	dirs, err := os.ReadDir(r.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, d := range dirs {
		if known[d.Name()] {
			continue
		}
		s, e := r.read(d.Name())
		switch {
		case !d.IsDir(): // it is no container's
		case errors.Is(e, fs.ErrNotExist): // it is just being made or removed
		case e != nil:
			err = errors.Join(err, e)
		default:
			list = append(list, s)
		}
	}
	return list, err
}

// birth is when a process began, field 22 of proc_pid_stat(5), and whether it
// is dead already, and only waited for, or waits itself: the first process of a
// PID namespace ends when all others of it have been waited for. A leader that
// ends while there are other threads leaves its place to one of them, which
// executes a program.
func birth(pid int) (ticks uint64, dead bool, err error) {
	for {
		data, err := sys.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, true, err
		}
		// The second field is the program's name in parentheses, and may hold any.
		fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
		const state, flags, threads, starttime = 0, 9 - 3, 20 - 3, 22 - 3 // the third field is the first here
		if len(fields) <= starttime {
			return 0, true, fmt.Errorf("/proc/%d/stat: only %d fields", pid, len(fields))
		}
		if fields[threads] == "0" {
			continue // it is just leaving its PID, perhaps to another thread
		}
		ticks, err = strconv.ParseUint(fields[starttime], 10, 64)
		const exiting = 0x4 // PF_EXITING: it has left its cgroup and its mounts
		set, e := strconv.ParseUint(fields[flags], 10, 64)
		ends := fields[state] == "Z" || fields[state] == "X" || set&exiting != 0
		return ticks, ends && fields[threads] == "1", errors.Join(err, e)
	}
}

// abandoned says whether the process that runs a container is dead.
func (r *Runtime) abandoned(id string) bool {
	s, err := r.read(id)
	if err != nil || s.settled() {
		return false // it is just being made or removed, or needs nobody
	}
	b, dead, err := birth(s.Runtime)
	return err != nil || dead || b != s.RuntimeBirth
}
