package sys

import (
	"errors"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// TreeSize is how many bytes the files below a directory have; one with several
// names counts once. What is not there has none.
func TreeSize(dir string) (sum int64, err error) {
	type inode struct{ dev, ino uint64 }
	counted := make(map[inode]bool)
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil && d.Type().IsRegular() {
			err = unix.Lstat(name, &st)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it has just been removed
		}
		if file := (inode{st.Dev, st.Ino}); err == nil && !counted[file] {
			counted[file] = st.Nlink > 1
			sum += st.Size
		}
		return err
	})
	return sum, err
}
