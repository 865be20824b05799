package vm

import (
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/overlay"
)

// layers adds to the archive, below the directory name, what overlayfs would
// show of the directories, the top one first.
func (a *archive) layers(name string, dirs []string) error {
	return overlay.Walk(dirs, func(below, path string, st *unix.Stat_t) error {
		return a.file(filepath.Join(name, below), path, st)
	})
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
