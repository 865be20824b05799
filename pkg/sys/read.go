package sys

import (
	"errors"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"
)

// ReadFile is os.ReadFile without the poller of Go's runtime. To set that up
// takes a process several times as long as to read a small file.
func ReadFile(name string) ([]byte, error) {
	fd, err := Number("open", func() (int, error) { return unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.Unwrap(err)}
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written
	for data := make([]byte, 0, 4096); ; data = slices.Grow(data, 1) {
		n, err := Number("read", func() (int, error) { return unix.Read(fd, data[len(data):cap(data)]) })
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: name, Err: errors.Unwrap(err)}
		}
		if n == 0 {
			return data, nil
		}
		data = data[:len(data)+n]
	}
}
