// Package sys does what takes more than one system call to be done right.
package sys

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Call makes a system call, again for as long as signals interrupt it, and
// names it in its error. A file system that waits for somebody else, such as
// FUSE or NFS, may say EINTR of any call (signal(7)), and the Go runtime sends
// itself signals all the time.
func Call(name string, do func() error) error {
	for {
		if err := do(); !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError(name, err)
		}
	}
}

// Close closes a descriptor, which is closed even if a signal has interrupted
// that (close(2)).
func Close(fd int) error {
	if err := unix.Close(fd); !errors.Is(err, unix.EINTR) {
		return os.NewSyscallError("close", err)
	}
	return nil
}

// Number is Call for those that return a number.
func Number(name string, do func() (int, error)) (n int, err error) {
	err = Call(name, func() (err error) {
		n, err = do()
		return err
	})
	return n, err
}
