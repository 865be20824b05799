// Package volume keeps directories that outlive containers, by name.
package volume

import (
	"crypto/rand"
	"encoding/hex"
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

	"github.com/minictr/minictr/pkg/sys"
)

// version is that of a volume's note. An unknown one is refused, never
// rewritten.
const version = 1

// A Volume is a directory with a name.
type Volume struct {
	Version int
	Name    string
	Created time.Time
	Labels  map[string]string `json:",omitempty"`
	// Anonymous says that it was made for one container, and goes with it where
	// that is asked for. Of is that container's ID, if it goes with it always.
	Anonymous bool   `json:",omitempty"`
	Of        string `json:",omitempty"`
}

// Errors of volumes.
var (
	ErrNotExist = errors.New("no such volume")
	ErrInUse    = errors.New("volume is in use")
)

// A Store keeps volumes in one directory:
//
//	NAME/volume.json  what is known of it
//	NAME/_data/       its files
//	NAME/full/        what an image has for it, on its way to _data, see Fill
//	.NAME             one that is being made or removed
//
// The directory is locked, flock(2), by who makes or removes one, and a volume's
// own by who fills it. A name that begins with a dot is nobody's once the lock
// is free: its maker was killed.
type Store struct{ Root string }

// Names in a volume's directory.
const (
	note  = "volume.json"
	files = "_data"
	full  = "full"
)

// ValidateName refuses names that are no name of a file, or are hidden.
func ValidateName(name string) error {
	letter := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' }
	first := true
	bad := strings.IndexFunc(name, func(r rune) bool {
		ok := letter(r) || !first && strings.ContainsRune("_.-", r)
		first = false
		return !ok
	})
	if name == "" || len(name) > 200 || bad >= 0 {
		return fmt.Errorf("invalid volume name %q: letters, digits and _.- are allowed, at most 200, and a letter or a digit comes first", name)
	}
	return nil
}

// NewName is a random name for a volume that is given none.
func NewName() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // it never fails, crypto/rand
	return hex.EncodeToString(b)
}

func (s *Store) dir(name string) string { return filepath.Join(s.Root, name) }

// Path is the directory of a volume's files.
func (s *Store) Path(name string) string { return filepath.Join(s.dir(name), files) }

// lock opens a directory and locks it.
func lock(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := sys.Call("flock", func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX) }); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", dir, err), f.Close())
	}
	return f, nil
}

// Lock keeps others from making and removing volumes. Who makes a container
// holds it until the container can be seen to use its volumes.
func (s *Store) Lock() (unlock func() error, err error) {
	if err := os.MkdirAll(s.Root, 0o711); err != nil {
		return nil, err
	}
	f, err := lock(s.Root)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(s.Root)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") { // a killed command has left it
			err = errors.Join(err, sys.RemoveAll(s.dir(e.Name())))
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}

// locked does something under the lock.
func (s *Store) locked(do func() error) error {
	unlock, err := s.Lock()
	if err != nil {
		return err
	}
	return errors.Join(do(), unlock())
}

// Create makes a volume, or finds the one of that name, whose labels stay. One
// without a name gets a random one.
func (s *Store) Create(v Volume) (made *Volume, err error) {
	err = s.locked(func() error {
		made, err = s.CreateLocked(v)
		return err
	})
	return made, err
}

// CreateLocked is Create of who holds the lock.
func (s *Store) CreateLocked(v Volume) (*Volume, error) {
	if v.Name == "" {
		v.Name, v.Anonymous = NewName(), true
	}
	if found, err := s.Get(v.Name); !errors.Is(err, ErrNotExist) {
		return found, err
	}
	v.Version, v.Created = version, time.Now().UTC()
	if err := s.make(&v); err != nil {
		return nil, fmt.Errorf("volume %s: %w", v.Name, err)
	}
	return &v, nil
}

// make makes a volume whole or not at all.
func (s *Store) make(v *Volume) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	partial := s.dir("." + v.Name)
	data := filepath.Join(partial, files)
	err = errors.Join(os.Mkdir(partial, 0o700), os.Mkdir(data, 0o755), os.Chmod(data, 0o755)) // whatever the umask is
	if err != nil {
		return err
	}
	err = sys.Replace(filepath.Join(partial, note), partial, func(f *os.File) error {
		_, err := f.Write(append(text, '\n'))
		return err
	})
	if err == nil {
		err = os.Rename(partial, s.dir(v.Name))
	}
	if err == nil {
		err = syncDir(s.Root)
	}
	return err
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Get finds a volume. The error wraps ErrNotExist.
func (s *Store) Get(name string) (*Volume, error) {
	if err := ValidateName(name); err != nil {
		return nil, err
	}
	file := filepath.Join(s.dir(name), note)
	text, err := sys.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotExist, name)
	}
	if err != nil {
		return nil, err
	}
	v := new(Volume)
	if err := json.Unmarshal(text, v); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if v.Version != version {
		return nil, fmt.Errorf("%s: version %d is not known to this minictr", file, v.Version)
	}
	return v, nil
}

// List returns all volumes by name. One that can't be read is told of in the
// error, and no obstacle for the others.
func (s *Store) List() (list []*Volume, err error) {
	entries, err := os.ReadDir(s.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		switch v, e := s.Get(e.Name()); {
		case errors.Is(e, ErrNotExist): // it has just been removed
		case e != nil:
			err = errors.Join(err, e)
		default:
			list = append(list, v)
		}
	}
	return list, err
}

// Users are the containers that use each volume.
type Users func() (map[string][]string, error)

// Remove removes a volume that no container uses. The error wraps ErrInUse or
// ErrNotExist.
func (s *Store) Remove(name string, users Users) error {
	return s.locked(func() error {
		if _, err := s.Get(name); err != nil {
			return err
		}
		used, err := users()
		if err == nil && len(used[name]) > 0 {
			err = fmt.Errorf("remove %s: %w - [%s]", name, ErrInUse, strings.Join(used[name], ", "))
		}
		if err != nil {
			return err
		}
		return s.remove(name)
	})
}

// Prune removes the volumes that no container uses and that which says yes to.
// It returns them, and how many bytes became free.
func (s *Store) Prune(users Users, which func(*Volume) bool) (removed []*Volume, freed int64, err error) {
	err = s.locked(func() error {
		used, err := users()
		if err != nil {
			return err
		}
		list, err := s.List()
		for _, v := range slices.DeleteFunc(list, func(v *Volume) bool { return len(used[v.Name]) > 0 || !which(v) }) {
			size, e := sys.TreeSize(s.Path(v.Name))
			err = errors.Join(err, e)
			if e = s.remove(v.Name); e != nil {
				err = errors.Join(err, e)
				continue
			}
			removed, freed = append(removed, v), freed+size
		}
		return err
	})
	return removed, freed, err
}

// remove removes a volume: the name first, so that it is there whole or not at
// all.
func (s *Store) remove(name string) error {
	gone := s.dir("." + name)
	if err := os.Rename(s.dir(name), gone); err != nil {
		return err
	}
	return errors.Join(syncDir(s.Root), sys.RemoveAll(gone))
}
