package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// RemoveBundle removes a directory with all that is in it. A container can
// have made directories in directories, deeper than a process can have
// descriptors open or a path can be long; those are moved up first.
func RemoveBundle(dir string) error {
	err := os.RemoveAll(dir)
	for moved := 0; errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENAMETOOLONG); {
		n, e := flatten(dir, moved)
		if e != nil || n == moved {
			return errors.Join(err, e)
		}
		moved, err = n, os.RemoveAll(dir)
	}
	return err
}

// levels is how deep flatten leaves a tree, and pathLength how long it lets a
// path become: both far below the kernel's limits.
const levels, pathLength = 50, 3000

// flatten moves directories that lie deep in a tree to its top, under numbers
// that begin at moved, and returns the next number.
func flatten(top string, moved int) (int, error) {
	var descend func(dir string, depth int) error
	descend = func(dir string, depth int) error {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			switch {
			case !e.IsDir():
			case depth < levels && len(path) < pathLength:
				err = descend(path, depth+1)
			default:
				err = os.Rename(path, filepath.Join(top, fmt.Sprintf("deep-%d", moved)))
				moved++
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	err := descend(top, 1)
	return moved, err
}
