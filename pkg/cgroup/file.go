package cgroup

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

// A FileError is a call on a cgroup's file or directory that failed.
type FileError struct {
	Op    string // "open", "read", "write", "mkdir", "rmdir", "bpf"
	Path  string
	Value string // what was written; "" for the other calls
	Err   error  // a unix.Errno
}

func (e *FileError) Error() string { return e.call() + ": " + e.Err.Error() }

func (e *FileError) call() string {
	if e.Value == "" {
		return callText(e.Op, e.Path)
	}
	return callText(e.Op, e.Path, e.Value)
}

// Unwrap returns the errno.
func (e *FileError) Unwrap() error { return e.Err }

// callText is a call as a plan prints it.
func callText(op, path string, values ...string) string {
	text := op + "(" + quote(path)
	for _, v := range values {
		text += ", " + quote(v)
	}
	if op == "mkdir" {
		text += ", 0755"
	}
	return text + ")"
}

// quote is strconv.Quote, which takes its time, for what needs no escapes.
func quote(s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' || s[i] == '"' || s[i] == '\\' {
			return strconv.Quote(s)
		}
	}
	return `"` + s + `"`
}

// open opens a file, whatever signals arrive.
func open(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		switch {
		case err == nil:
			return fd, nil
		case !errors.Is(err, unix.EINTR):
			return -1, &FileError{Op: "open", Path: path, Err: err}
		}
	}
}

// write gives a file of cgroupfs its values, each in one write(2), which the
// kernel takes whole or not at all.
func write(path string, values ...string) error {
	fd, err := open(path, unix.O_WRONLY)
	if err != nil {
		return &FileError{Op: "write", Path: path, Value: values[0], Err: errno(err)}
	}
	defer func() { _ = unix.Close(fd) }() // cgroupfs has done its work in write
	for _, v := range values {
		for {
			_, err = unix.Write(fd, []byte(v))
			if !errors.Is(err, unix.EINTR) {
				break
			}
		}
		if err != nil {
			return &FileError{Op: "write", Path: path, Value: v, Err: err}
		}
	}
	return nil
}

// read returns the content of a file of cgroupfs or procfs, whose size
// fstat(2) does not tell.
func read(path string) (string, error) {
	fd, err := open(path, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer func() { _ = unix.Close(fd) }()
	buf := make([]byte, 4096)
	for n := 0; ; {
		if n == len(buf) {
			buf = append(buf, make([]byte, len(buf))...)
		}
		m, err := unix.Read(fd, buf[n:])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return "", &FileError{Op: "read", Path: path, Err: err}
		case m == 0:
			return string(buf[:n]), nil
		default:
			n += m
		}
	}
}

// errno takes the errno out of a FileError.
func errno(err error) error {
	var f *FileError
	if errors.As(err, &f) {
		return f.Err
	}
	return err
}

// gone tells whether a call failed because its cgroup was removed: before a
// file of it was opened, or after.
func gone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) }
