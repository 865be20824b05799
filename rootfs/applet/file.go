package applet

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func mkdir(c *call) error {
	make := os.Mkdir
	if c.Has('p') {
		make = os.MkdirAll
	}
	return c.each(func(name string) error { return make(name, 0o777) })
}

func rmdir(c *call) error {
	return c.each(func(name string) error { return failed("rmdir", name, unix.Rmdir(name)) })
}

// failed says of what a system call failed, if it did.
func failed(call, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: call, Path: path, Err: err}
}

func rm(c *call) error {
	return c.each(func(name string) error {
		if c.Has('r') {
			return os.RemoveAll(name)
		}
		err := unix.Unlink(name)
		if c.Has('f') && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return failed("unlink", name, err)
	})
}

func mv(c *call) error { return os.Rename(c.Args[0], c.Args[1]) }

func ln(c *call) error {
	link := os.Link
	if c.Has('s') {
		link = os.Symlink
	}
	return link(c.Args[0], c.Args[1])
}

func touch(c *call) error {
	return c.each(func(name string) error {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o666)
		if err != nil {
			return err
		}
		return errors.Join(f.Close(), os.Chtimes(name, time.Now(), time.Now()))
	})
}

func chmod(c *call) error {
	mode, err := strconv.ParseUint(c.Args[0], 8, 12)
	if err != nil {
		return fmt.Errorf("%q is not a mode in octal", c.Args[0])
	}
	c.Args = c.Args[1:]
	return c.each(func(name string) error { return failed("chmod", name, unix.Chmod(name, uint32(mode))) })
}

// readlink prints where a link points.
func readlink(c *call) error {
	return c.each(func(name string) error {
		target, err := os.Readlink(name)
		if err == nil {
			fmt.Fprintln(c.out, target)
		}
		return err
	})
}

// dd copies blocks and says how many bytes that were.
func dd(c *call) (err error) {
	in, out := c.in, io.Writer(c.out)
	block, count := int64(512), int64(-1)
	for _, operand := range c.Args {
		key, value, _ := strings.Cut(operand, "=")
		switch key {
		case "if":
			file, err := os.Open(value)
			if err != nil {
				return err
			}
			defer file.Close() // opened to read
			in = file
		case "of":
			file, openErr := os.Create(value)
			if openErr != nil {
				return openErr
			}
			defer func() { err = errors.Join(err, file.Close()) }()
			out = file
		case "bs":
			block, err = size(value)
		case "count":
			count, err = size(value)
		default:
			err = fmt.Errorf("%q is no operand of dd", operand)
		}
		if err != nil {
			return err
		}
	}
	if block < 1 || block > 1<<30 {
		return fmt.Errorf("bs=%d: want 1 to 1G", block)
	}
	if count >= 0 {
		in = io.LimitReader(in, block*count)
	}
	start := time.Now()
	n, err := io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{in}, make([]byte, block)) // no short cuts of files
	fmt.Fprintf(c.err, "%d bytes (%s) copied, %.3f s\n", n, human(uint64(n)), time.Since(start).Seconds())
	return err
}
