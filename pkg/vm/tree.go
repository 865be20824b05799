package vm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// layers adds to the archive, below the directory name, what overlayfs would
// show of the directories, the top one first: a directory is all of those of
// its name, unless one is opaque, and a whiteout, the device 0:0, hides what
// lies below it.
func (a *archive) layers(name string, dirs []string) error {
	var st unix.Stat_t
	if err := lstat(dirs[0], &st); err != nil {
		return err
	}
	if err := a.file(name, dirs[0], &st); err != nil {
		return err
	}
	seen := make(map[string]bool)
	for i, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if seen[e.Name()] {
				continue
			}
			seen[e.Name()] = true
			if err := a.entry(filepath.Join(name, e.Name()), dirs[i:], e.Name()); err != nil {
				return err
			}
		}
		if opaque(dir) {
			break
		}
	}
	return nil
}

// resolve follows the symbolic links by which directories are named.
func resolve(dirs []string) (list []string, err error) {
	for _, dir := range dirs {
		real, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return nil, err
		}
		list = append(list, real)
	}
	return list, nil
}

// entry adds what the first of the directories has under the base name.
func (a *archive) entry(name string, dirs []string, base string) error {
	var st unix.Stat_t
	path := filepath.Join(dirs[0], base)
	if err := lstat(path, &st); err != nil {
		return err
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0:
		return nil
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return a.file(name, path, &st)
	}
	merged := []string{path}
	for i := 0; i+1 < len(dirs) && !opaque(dirs[i]) && !opaque(filepath.Join(dirs[i], base)); i++ {
		lower := filepath.Join(dirs[i+1], base)
		err := lstat(lower, &st)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			break
		}
		merged = append(merged, lower)
	}
	return a.layers(name, merged)
}

// copy adds a file of the host, or a directory with all that is in it, and the
// directories above it, which the image may not have.
func (a *archive) copy(name, path string) error {
	var parents func(dir string) error
	parents = func(dir string) error {
		if a.made[dir] || dir == "." || dir == newRoot {
			return nil
		}
		a.made[dir] = true
		if err := parents(filepath.Dir(dir)); err != nil {
			return err
		}
		return a.dir(dir)
	}
	if err := parents(filepath.Dir(name)); err != nil {
		return err
	}
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	return filepath.WalkDir(path, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := lstat(p, &st); err != nil {
			return err
		}
		return a.file(filepath.Join(name, p[len(path):]), p, &st)
	})
}

func lstat(path string, st *unix.Stat_t) error {
	if err := unix.Lstat(path, st); err != nil {
		return fmt.Errorf("lstat %s: %w", path, err)
	}
	return nil
}

// opaque tells whether a directory hides those below it, overlayfs.rst.
func opaque(dir string) bool {
	var value [1]byte
	n, err := unix.Lgetxattr(dir, "trusted.overlay.opaque", value[:])
	return err == nil && n == 1 && value[0] == 'y'
}
