// Package overlay tells what overlayfs shows of a stack of directories without
// mounting it (Documentation/filesystems/overlayfs.rst).
package overlay

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

// OpaqueXattr is the attribute of a directory that hides those of its name in
// lower layers: its value is "y". Root of a user namespace may set none that is
// called trusted; there overlayfs is mounted with userxattr.
func OpaqueXattr() string {
	if sys.Nested() {
		return "user.overlay.opaque"
	}
	return "trusted.overlay.opaque"
}

// IsWhiteout tells whether a file hides those of its name in lower layers: it
// is the character device 0:0.
func IsWhiteout(stat *unix.Stat_t) bool {
	return stat.Mode&unix.S_IFMT == unix.S_IFCHR && stat.Rdev == 0
}

// IsOpaque tells whether a directory hides those of its name in lower layers.
func IsOpaque(dir string) bool {
	var value [1]byte
	n, err := unix.Lgetxattr(dir, OpaqueXattr(), value[:])
	return err == nil && n == 1 && value[0] == 'y'
}

// A Visit is told of one file of the stack: the name that it has in the stack,
// "." for the root, the path of the file itself, and its status. A directory is
// visited before what is in it.
type Visit func(name, path string, stat *unix.Stat_t) error

// Walk visits all files that overlayfs would show of the directories, the top
// one first, each directory's in the order of their names. A directory has the
// files of all directories of its name, and the attributes of the top one.
func Walk(dirs []string, visit Visit) error { return walk(".", dirs, visit) }

func walk(name string, dirs []string, visit Visit) error {
	stat, err := lstat(dirs[0])
	if err != nil {
		return err
	}
	if err := visit(name, dirs[0], &stat); err != nil {
		return err
	}
	seen := make(map[string]int) // which of the directories has it first
	for i, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if _, found := seen[e.Name()]; !found {
				seen[e.Name()] = i
			}
		}
	}
	for _, base := range slices.Sorted(maps.Keys(seen)) {
		if err := walkEntry(filepath.Join(name, base), dirs[seen[base]:], base, visit); err != nil {
			return err
		}
	}
	return nil
}

// walkEntry visits what the first of the directories has under the base name.
func walkEntry(name string, dirs []string, base string, visit Visit) error {
	path := filepath.Join(dirs[0], base)
	stat, err := lstat(path)
	if err != nil {
		return err
	}
	switch {
	case IsWhiteout(&stat):
		return nil
	case stat.Mode&unix.S_IFMT != unix.S_IFDIR:
		return visit(name, path, &stat)
	}
	merged, err := Merge(dirs, base)
	if err != nil {
		return err
	}
	return walk(name, merged, visit)
}

// Merge returns the directories of that name in the directories, the top one
// first, as far as one does not hide the next: none, if what is on top is no
// directory.
func Merge(dirs []string, name string) (merged []string, err error) {
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		stat, err := lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
			break
		}
		if merged = append(merged, path); IsOpaque(path) {
			break
		}
	}
	return merged, nil
}

func lstat(path string) (stat unix.Stat_t, err error) {
	if err := unix.Lstat(path, &stat); err != nil {
		return stat, fmt.Errorf("lstat %s: %w", path, err)
	}
	return stat, nil
}
