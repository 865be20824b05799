package cgroup

import (
	"errors"
	"io/fs"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
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
	fd, err := sys.Number("open", func() (int, error) { return unix.Open(path, flags|unix.O_CLOEXEC, 0) })
	if err != nil {
		return -1, &FileError{Op: "open", Path: path, Err: errors.Unwrap(err)}
	}
	return fd, nil
}

// write gives a file of cgroupfs its values, each in one write(2), which the
// kernel takes whole or not at all.
func write(path string, values ...string) error {
	fd, err := open(path, unix.O_WRONLY)
	if err != nil {
		return &FileError{Op: "write", Path: path, Value: values[0], Err: errors.Unwrap(err)}
	}
	defer func() { _ = unix.Close(fd) }() // cgroupfs has done its work in write
	for _, v := range values {
		if _, err := sys.Number("write", func() (int, error) { return unix.Write(fd, []byte(v)) }); err != nil {
			return &FileError{Op: "write", Path: path, Value: v, Err: errors.Unwrap(err)}
		}
	}
	return nil
}

// read returns the content of a file of cgroupfs or procfs.
func read(path string) (string, error) {
	data, err := sys.ReadFile(path)
	if failed, is := errors.AsType[*fs.PathError](err); is {
		return "", &FileError{Op: failed.Op, Path: path, Err: failed.Err}
	}
	return string(data), err
}

// gone tells whether a call failed because its cgroup was removed: before a
// file of it was opened, or after.
func gone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) }
