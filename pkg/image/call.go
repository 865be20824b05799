package image

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// call makes a system call, again for as long as signals interrupt it, and
// names it in its error. A file system that waits for somebody else, such as
// FUSE or NFS, may say EINTR of any call (signal(7)), and the Go runtime sends
// itself signals all the time.
func call(name string, do func() error) error {
	for {
		if err := do(); !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError(name, err)
		}
	}
}

// closeFile closes a descriptor, which is closed even if a signal has
// interrupted that (close(2)).
func closeFile(fd int) error {
	if err := unix.Close(fd); !errors.Is(err, unix.EINTR) {
		return os.NewSyscallError("close", err)
	}
	return nil
}

// number is call for those that return a number.
func number(name string, do func() (int, error)) (fd int, err error) {
	err = call(name, func() (err error) {
		fd, err = do()
		return err
	})
	return fd, err
}
