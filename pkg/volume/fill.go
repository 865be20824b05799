package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/image"
	"github.com/minictr/minictr/pkg/sys"
)

// Fill copies what the layers, the top one first, have in the directory path
// into an empty volume, with owners, modes, attributes and times. A volume that
// has files, or layers that have no such directory, are left as they are.
//
// The copy is made beside the volume's files, and its parts are moved to them
// when it is whole: a killed Fill is gone on with by the next, and a container
// that has the volume already keeps it.
func (s *Store) Fill(ctx context.Context, name string, layers []string, path string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("volume %s: fill it from %s of the image: %w", name, path, err)
		}
	}()
	own, err := lock(s.dir(name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, own.Close()) }()
	from, to := filepath.Join(s.dir(name), full), s.Path(name)
	switch _, err := os.Lstat(from); {
	case err == nil:
		return move(from, to)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	entries, err := os.ReadDir(to)
	if err != nil || len(entries) > 0 {
		return err
	}
	err = image.MakeDir(from, func(partial string) error { return copyFull(ctx, layers, path, partial) })
	if err == nil {
		err = move(from, to)
	}
	if errors.Is(err, errNothing) {
		return nil
	}
	return err
}

// What a directory full holds.
const (
	fullTree = "tree" // the files
	fullRoot = "root" // an empty directory with the attributes of the tree: its own change as it is emptied
)

var errNothing = errors.New("the image has nothing there")

// copyFull makes what a directory full holds.
func copyFull(ctx context.Context, layers []string, path, dir string) error {
	tree, root := filepath.Join(dir, fullTree), filepath.Join(dir, fullRoot)
	found, err := image.CopyDir(ctx, layers, path, tree)
	if err == nil && !found {
		err = errNothing
	}
	if err == nil {
		err = os.Mkdir(root, 0o700)
	}
	if err == nil {
		err = image.CopyAttributes(tree, root)
	}
	return err
}

// move moves what a directory full holds to the volume's files, where what is
// there already stays, and removes it. What is gone was moved before.
func move(from, to string) error {
	tree := filepath.Join(from, fullTree)
	entries, err := os.ReadDir(tree)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		err := sys.Call("renameat2", func() error {
			return unix.Renameat2(unix.AT_FDCWD, filepath.Join(tree, e.Name()), unix.AT_FDCWD, filepath.Join(to, e.Name()), unix.RENAME_NOREPLACE)
		})
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s: %w", e.Name(), err)
		}
	}
	if err := image.CopyAttributes(filepath.Join(from, fullRoot), to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return sys.RemoveAll(from)
}
