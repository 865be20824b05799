package sys

import (
	"errors"
	"os"
	"path/filepath"
)

// Replace gives a file what write writes, to a file in the directory temporary:
// after a crash there is the old or the new, never part of one. It has mode 0600.
func Replace(name, temporary string, write func(*os.File) error) error {
	f, err := os.CreateTemp(temporary, "."+filepath.Base(name)+"-")
	if err != nil {
		return err
	}
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}
