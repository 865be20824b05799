package engine

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/network"
	"github.com/minictr/minictr/pkg/spec"
	"github.com/minictr/minictr/pkg/sys"
)

// recordVersion is that of a container's record and status. An unknown one is
// refused, never rewritten.
const recordVersion = 1

// A Container is one of the engine's, running or not: its record. One that runs
// in the foreground has none, and is what the runtime knows of it.
type Container struct {
	Version int
	ID      string
	Name    string // "" is the ID
	ImageID string
	Command []string // entrypoint and arguments
	Created time.Time
	Options Options // as they were asked for
	Restart Restart
	Log     Log
	// StopSignal asks it to end.
	StopSignal string
	Ports      []network.Port // that it publishes

	dir    string           // of its files
	lock   int              // on dir; 0 if it is not ours
	lone   *container.State // of one without a record
	engine *Engine
}

// A Phase is how far a container has come.
type Phase string

// Phases of a container.
const (
	Created    Phase = "created"
	Running    Phase = "running"
	Restarting Phase = "restarting" // it has ended, and its monitor waits before it starts it again
	Exited     Phase = "exited"
)

// A Status is what changes of a container as it lives, as its monitor has
// written it.
type Status struct {
	Version   int
	Phase     Phase
	ExitCode  int
	OOMKilled bool
	Error     string `json:",omitempty"` // why it did not start, or what ended it
	Started   time.Time
	Finished  time.Time
	Restarts  int
	Monitor   int    // its PID
	Boot      string // of the host, in which it was started
	Input     int    `json:",omitempty"` // the monitor's descriptor of a terminal's master or standard input
}

// Files of a container's directory that are the engine's.
const (
	recordFile  = "container.json"
	statusFile  = "status.json"
	stoppedFile = "stopped" // a person has stopped it: no policy starts it again
	logName     = "log"
)

// Title is the name that people know a container by.
func (c *Container) Title() string { return cmp.Or(c.Name, c.ID) }

// Dir is the directory of a container's files: its bundle.
func (c *Container) Dir() string { return c.dir }

// LogFile is where its output is kept; "" in the foreground.
func (c *Container) LogFile() string {
	if c.lone != nil {
		return ""
	}
	return filepath.Join(c.dir, logName)
}

// State is what the runtime knows of a container that runs. The error wraps
// container.ErrNotExist if it does not.
func (c *Container) State() (*container.State, error) {
	if c.lone != nil {
		return c.lone, nil
	}
	return c.engine.Runtime.Load(c.ID)
}

// Status reads how a container is. One whose monitor was killed is running
// until Sweep has repaired it.
func (c *Container) Status() (s Status, err error) {
	if c.lone != nil {
		s = Status{Phase: Running, Started: c.lone.Created, Monitor: c.lone.Runtime}
		if c.lone.PID == 0 {
			s.Phase = Created // it is being made
		}
		if c.lone.Detached {
			switch status, err := c.lone.Status(); {
			case err != nil:
				return s, err
			case status == "stopped":
				s.Phase = Exited
			case status == "created" || status == "creating":
				s.Phase = Created
			}
		}
		return s, nil
	}
	err = readJSON(filepath.Join(c.dir, statusFile), &s)
	if err == nil && s.Version != recordVersion {
		err = fmt.Errorf("%s: version %d is not known to this minictr", filepath.Join(c.dir, statusFile), s.Version)
	}
	return s, err
}

func readJSON(name string, v any) error {
	data, err := sys.ReadFile(name)
	if err != nil {
		return err
	}
	if !json.Valid(data) {
		return fmt.Errorf("%s: %w", name, ErrTorn)
	}
	if err := spec.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// ErrTorn is that of a file that is empty, or half there, as a power cut leaves
// one that was not synced.
var ErrTorn = errors.New("it was not written whole")

// writeJSON replaces a file. Sync has it last beyond a power cut.
func writeJSON(name string, v any, sync bool) error {
	const temporary = ".tmp"
	fd, err := unix.Open(name+temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	data := spec.Marshal(v)
	n, err := unix.Write(fd, data)
	if err == nil && n < len(data) {
		err = unix.ENOSPC
	}
	if err == nil && sync {
		err = unix.Fsync(fd)
	}
	if err = errors.Join(err, unix.Close(fd)); err == nil {
		err = unix.Rename(name+temporary, name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", name, err), os.Remove(name+temporary))
	}
	return nil
}

func (c *Container) writeRecord() error {
	c.Version = recordVersion
	return writeJSON(filepath.Join(c.dir, recordFile), c, true)
}

func (c *Container) writeStatus(s Status) error {
	s.Version = recordVersion
	return writeJSON(filepath.Join(c.dir, statusFile), &s, false)
}

// record reads the record of an ID.
func (e *Engine) record(id string) (*Container, error) {
	c := &Container{dir: e.bundle(id), engine: e}
	err := readJSON(filepath.Join(c.dir, recordFile), c)
	if errors.Is(err, ErrTorn) {
		return nil, fmt.Errorf("%w: minictr rm -f %s removes what there is", err, id)
	}
	if err != nil {
		return nil, err
	}
	if c.Version != recordVersion {
		return nil, fmt.Errorf("%s: version %d is not known to this minictr", filepath.Join(c.dir, recordFile), c.Version)
	}
	return c, nil
}

// Torn is a container whose record is not whole: it can be removed.
func (e *Engine) Torn(ref string) *Container {
	id := cmp.Or(e.named(ref), ref)
	return &Container{ID: id, dir: e.bundle(id), engine: e}
}

// lone is a container without a record.
func (e *Engine) lone(s *container.State) *Container {
	return &Container{
		ID: s.ID, Name: s.Name, ImageID: s.ImageID, Command: s.Command, Created: s.Created,
		Options: Options{Name: s.Name, Image: s.Image}, dir: s.Bundle, lone: s, engine: e,
	}
}

// ids are the IDs that have a directory of files.
func (e *Engine) ids() (ids []string, err error) {
	top, prefix := filepath.Split(e.bundle(""))
	entries, err := os.ReadDir(top)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) { // another's are not ours
		return nil, nil
	}
	for _, entry := range entries {
		if id, ours := strings.CutPrefix(entry.Name(), prefix); ours {
			ids = append(ids, id)
		}
	}
	return ids, err
}

// Containers are all containers, the oldest first. One that can't be read is
// told of in the error, and no obstacle for the others.
func (e *Engine) Containers() (list []*Container, err error) {
	ids, err := e.ids()
	known := make(map[string]bool, len(ids))
	for _, id := range ids {
		c, e := e.record(id)
		switch {
		case errors.Is(e, fs.ErrNotExist): // it is being made or removed, or in the foreground
		case e != nil:
			err = errors.Join(err, e)
		default:
			known[id] = true
			list = append(list, c)
		}
	}
	states, lost := e.Runtime.ListBut(known)
	for _, s := range states {
		list = append(list, e.lone(s))
	}
	slices.SortFunc(list, func(a, b *Container) int { return a.Created.Compare(b.Created) })
	return list, errors.Join(err, lost)
}

// Find finds a container by its ID, its name, or the beginning of one ID alone.
// The error wraps container.ErrNotExist.
func (e *Engine) Find(ref string) (*Container, error) {
	if container.ValidateID(ref) != nil {
		return nil, fmt.Errorf("%w: %s", container.ErrNotExist, ref)
	}
	for _, id := range [...]string{ref, e.named(ref)} {
		if id == "" {
			continue
		}
		if c, err := e.record(id); !errors.Is(err, fs.ErrNotExist) {
			return c, err
		}
	}
	if s, err := e.Runtime.Load(ref); !errors.Is(err, container.ErrNotExist) {
		if err != nil {
			return nil, err
		}
		return e.lone(s), nil
	}
	return e.beginning(ref)
}

// beginning finds a container by the beginning of its ID.
func (e *Engine) beginning(ref string) (found *Container, err error) {
	list, _ := e.Containers()
	for _, c := range list {
		if !strings.HasPrefix(c.ID, ref) {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("%q is the beginning of more than one container's ID: %s, %s", ref, found.ID, c.ID)
		}
		found = c
	}
	if found == nil {
		return nil, fmt.Errorf("%w: %s", container.ErrNotExist, ref)
	}
	return found, nil
}

// A container's name is a symbolic link to its ID, so that it is found, and
// taken, by one call.
func (e *Engine) nameLink(name string) string {
	return filepath.Join(e.Root, "names", filepath.Base(e.bundle(""))+name)
}

// named is the ID that has a name.
func (e *Engine) named(name string) string {
	id, _ := os.Readlink(e.nameLink(name))
	return id
}

// takeName gives a name to a container. The engine's lock is held: a link to
// nothing is what a killed command has left.
func (e *Engine) takeName(name, id string) error {
	link := e.nameLink(name)
	if err := os.MkdirAll(filepath.Dir(link), 0o711); err != nil {
		return err
	}
	err := os.Symlink(id, link)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	other := e.named(name)
	if other != id && e.has(other) {
		return fmt.Errorf("%w: the name %q is that of container %s", container.ErrExist, name, other)
	}
	return errors.Join(os.Remove(link), os.Symlink(id, link))
}

// has says whether there is something of an ID, be it half made.
func (e *Engine) has(id string) bool {
	_, gone := os.Lstat(e.bundle(id))
	return !errors.Is(gone, fs.ErrNotExist) || e.Runtime.Has(id)
}

// freeName takes a name from a container, if it is its own.
func (e *Engine) freeName(name, id string) error {
	if name == "" || e.named(name) != id {
		return nil
	}
	if err := os.Remove(e.nameLink(name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// guard takes the lock under which containers of the engine, and names, are made
// and removed.
func (e *Engine) guard() (unlock func() error, err error) {
	top := filepath.Dir(e.bundle(""))
	if err := os.MkdirAll(top, 0o711); err != nil {
		return nil, err
	}
	fd, err := sys.LockDir(top, unix.LOCK_EX)
	return func() error { return unix.Close(fd) }, err
}

// Monitored says whether a container's monitor lives.
func (c *Container) Monitored() bool {
	if c.lone != nil || c.lock > 0 {
		return c.lone != nil
	}
	fd, err := sys.LockDir(c.dir, unix.LOCK_SH|unix.LOCK_NB)
	if err == nil {
		_ = unix.Close(fd)
	}
	return errors.Is(err, unix.EWOULDBLOCK)
}
