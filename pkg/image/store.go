package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

// formatVersion is the content of the file version. A store with another is
// refused and left as it is.
const formatVersion = "minictr image store 2\n"

// Store keeps images in one directory, which is an OCI image layout with
// unpacked layers beside the blobs:
//
//	version             the format of this directory
//	oci-layout          the version of the image layout
//	index.json          the images and their names; the only list there is
//	blobs/sha256/HEX    manifests, configurations and layers as they came
//	layers/HEX/         the files of a layer, by the digest of its plain tar, and
//	                    a note of directories that it does not list
//	images/HEX/l/N      links to an image's layers, 0 on top, by its ID
//	tmp/                what is being made; nothing in it survives its maker
//	lock, index.lock    held by flock(2), see write and editIndex
//
// Blobs are kept as they came, because their digests, and so the manifest's,
// could not be had again from the files. Everything in the directories comes
// there by rename(2) from tmp, verified and synced, and is gone when nothing
// in index.json leads to it. Readers take no lock.
type Store struct {
	// Warn, if not nil, is told what could not be removed; a later operation
	// tries again.
	Warn func(error)
	// Limits, if not nil, is asked for the limits of what is added.
	Limits func() (Limits, error)

	root string
}

// Open opens the store in the directory root, and makes it if it is missing.
func Open(root string) (*Store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("image: open store: %w", err)
	}
	s := &Store{root: root}
	version, err := os.ReadFile(s.path("version"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = s.create()
	case err == nil && string(version) != formatVersion:
		err = fmt.Errorf("format %.60q is unknown, want %q: another version of minictr made it; move it away, or name another directory with --data-root", strings.TrimSpace(string(version)), strings.TrimSpace(formatVersion))
	}
	if err != nil {
		return nil, fmt.Errorf("image: open store %s: %w", root, err)
	}
	return s, nil
}

// create makes an empty store. Only the root can be searched by others: a
// layer may hold set-user-ID programs with known holes. The file version
// comes last, so that an interrupted create is begun anew; and one that was
// done by another process meanwhile, too, which changes nothing.
func (s *Store) create() (err error) {
	if err := os.MkdirAll(s.root, 0o711); err != nil {
		return err
	}
	lock, err := s.lock("lock", unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	for _, dir := range []string{"blobs", "blobs/sha256", "layers", "images", "tmp"} {
		if err := os.Mkdir(s.path(dir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	layout := []byte(`{"imageLayoutVersion":"` + layoutVersion + `"}`)
	if err := s.replaceFile("oci-layout", layout); err != nil {
		return err
	}
	return s.replaceFile("version", []byte(formatVersion))
}

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.root}, elem...)...)
}

func (s *Store) blobPath(d Digest) string  { return s.path("blobs", "sha256", d.Hex()) }
func (s *Store) layerPath(d Digest) string { return s.path("layers", d.Hex()) }
func (s *Store) imagePath(d Digest) string { return s.path("images", d.Hex()) }

// replaceFile gives the file name of the root new content: after a crash it
// has the old or the new, never part of one.
func (s *Store) replaceFile(name string, content []byte) error {
	err := sys.Replace(s.path(name), s.path("tmp"), func(f *os.File) error {
		_, err := f.Write(content)
		return err
	})
	if err != nil {
		return err
	}
	return syncDir(s.root)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// lock takes a flock(2) on a file of the root, until the file is closed.
func (s *Store) lock(name string, how int) (*os.File, error) {
	f, err := os.OpenFile(s.path(name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := flock(f, how); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	return f, nil
}

// MaxDocument is how many bytes an index, a manifest or a configuration may
// have.
func (s *Store) MaxDocument() (int64, error) {
	limits, err := s.limits()
	return limits.Document, err
}

func (s *Store) limits() (limits Limits, err error) {
	if s.Limits != nil {
		limits, err = s.Limits()
	}
	return limits.Or(DefaultLimits), err
}

// Reserve keeps images from being held, until unlock is called: who removes some
// must know which are in use.
func (s *Store) Reserve() (unlock func() error, err error) { return s.reserve(unix.LOCK_EX) }

// Hold keeps an image that is in the store from being removed, until unlock is
// called. If it has just been removed the error is a NotFoundError of that name.
func (i *Image) Hold(name string) (unlock func() error, err error) {
	unlock, err = i.store.reserve(unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	x, err := i.store.readIndex()
	if err == nil && !x.has(i.Manifest.Digest) {
		err = &NotFoundError{Name: name}
	}
	if err != nil {
		return nil, errors.Join(err, unlock())
	}
	return unlock, nil
}

func (s *Store) reserve(how int) (unlock func() error, err error) {
	images, err := os.Open(s.path("images"))
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := flock(images, how); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", images.Name(), err), images.Close())
	}
	return images.Close, nil
}

func flock(f *os.File, how int) error {
	return sys.Call("flock", func() error { return unix.Flock(int(f.Fd()), how) })
}

// write runs one operation that adds to the store. Any number may run at
// once, each in a stage of its own, under a shared lock; who finds itself
// alone first removes what killed operations have left.
func (s *Store) write(opts Options, do func(*stage) error) (err error) {
	lock, err := s.lock("lock", unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := s.sweepIfAlone(lock); err != nil {
		return err
	}
	st, err := newStage(s, opts)
	if err != nil {
		return err
	}
	defer func() { s.warn(sys.RemoveAll(st.dir)) }()
	return do(st)
}

func (s *Store) warn(err error) {
	if err != nil && s.Warn != nil {
		s.Warn(fmt.Errorf("image: %w", err))
	}
}

// sweepIfAlone sweeps if no other operation holds the lock, and holds it
// shared afterwards. A conversion by flock(2) that fails loses the lock; so
// it is taken again.
func (s *Store) sweepIfAlone(lock *os.File) error {
	err := flock(lock, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = s.sweep()
	} else if errors.Is(err, unix.EWOULDBLOCK) {
		err = nil
	}
	return errors.Join(err, flock(lock, unix.LOCK_SH))
}

// sweep removes everything that index.json does not lead to. It runs under
// the exclusive lock.
func (s *Store) sweep() error {
	images, err := s.list()
	var damaged *DamagedError
	if errors.As(err, &damaged) {
		return nil // what it needs is not known, so nothing can be known to be useless
	}
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, img := range images {
		keep[s.imagePath(img.ID)] = true
		for _, diffID := range img.Config.RootFS.DiffIDs {
			keep[s.layerPath(diffID)] = true
		}
		blobs, err := img.reachable()
		if err != nil {
			s.warn(err)
			return nil // as for what is damaged
		}
		for _, d := range blobs {
			keep[s.blobPath(d)] = true
		}
	}
	s.warn(s.emptyTmp())
	for _, dir := range []string{s.path("images"), s.path("layers"), s.path("blobs", "sha256")} {
		if err := s.discard(dir, keep); err != nil {
			return fmt.Errorf("sweep: %w", err)
		}
	}
	s.warn(s.emptyTmp())
	return nil
}

// discard moves what is not to be kept out of a directory. It must be whole in
// its place or not be there, even if its removal is cut off: somebody may want
// it again.
func (s *Store) discard(dir string, keep map[string]bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	moved := false
	for _, entry := range entries {
		name := filepath.Join(dir, entry.Name())
		if keep[name] {
			continue
		}
		moved = true
		into, err := os.MkdirTemp(s.path("tmp"), "discarded-")
		if err == nil {
			err = os.Rename(name, filepath.Join(into, entry.Name()))
		}
		if err != nil {
			return err
		}
	}
	if moved {
		return syncDir(dir)
	}
	return nil
}

// emptyTmp removes what operations have left that are at an end.
func (s *Store) emptyTmp() error {
	entries, err := os.ReadDir(s.path("tmp"))
	for _, entry := range entries {
		err = errors.Join(err, sys.RemoveAll(s.path("tmp", entry.Name())))
	}
	return err
}
