package sys

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// LockDir opens a directory and locks it, flock(2). To close it is to give the
// lock back.
func LockDir(dir string, how int) (fd int, err error) {
	if fd, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return -1, fmt.Errorf("open %s: %w", dir, err)
	}
	if err := Call("flock", func() error { return unix.Flock(fd, how) }); err != nil {
		return -1, errors.Join(fmt.Errorf("%s: %w", dir, err), unix.Close(fd))
	}
	return fd, nil
}
