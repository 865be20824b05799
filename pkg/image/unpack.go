package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/overlay"
)

// Unpack makes the directory dir, with the files of the image as a container
// sees them: owners, modes, attributes, times, hard links and holes are as in
// its layers. Device nodes are made only if devices says so: outside a container
// no device cgroup guards them; left are the names of those that were not made.
// See MakeDir for what dir may be.
func (i *Image) Unpack(ctx context.Context, dir string, devices bool) (left []string, err error) {
	defer annotate(&err, "unpack")
	unlock, err := i.store.Reserve(false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	layers, err := i.LayerDirs()
	if err != nil {
		return nil, err
	}
	err = MakeDir(dir, func(partial string) error {
		c := copier{ctx: ctx, to: partial, devices: devices, links: map[[2]uint64]string{}}
		err := overlay.Walk(layers, c.copy)
		left = c.left
		return errors.Join(err, c.setDirTimes())
	})
	return left, err
}

// MakeDir makes a directory whole or not at all: fill fills one beside it, with
// ".partial" at the end of its name, which then takes its place. What a killed
// MakeDir has left under that name goes. The directory must not exist, or be
// empty.
func MakeDir(dir string, fill func(partial string) error) (err error) {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return &fs.PathError{Op: "make", Path: dir, Err: unix.ENOTEMPTY}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	partial := filepath.Clean(dir) + ".partial"
	lock, err := makeAlone(partial)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err = fill(partial); err == nil {
		err = os.NewSyscallError("rename", unix.Rename(partial, dir)) // os.Rename refuses an empty directory
	}
	if err != nil {
		err = errors.Join(err, removeAll(partial))
	}
	return err
}

// makeAlone makes a directory, in the place of one that was left, and keeps
// others out of it for as long as the result is open.
func makeAlone(dir string) (*os.File, error) {
	for {
		err := os.Mkdir(dir, 0o700)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		made := err == nil
		f, err := os.Open(dir)
		if err != nil {
			return nil, err
		}
		if err = flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: another process is at work there: %w", dir, err), f.Close())
		}
		if made {
			return f, nil
		}
		if err := errors.Join(removeAll(dir), f.Close()); err != nil {
			return nil, err
		}
	}
}

// A copier copies files of layers into one tree.
type copier struct {
	ctx     context.Context
	to      string
	devices bool
	links   map[[2]uint64]string // files of several names, by device and inode
	dirs    [][2]string          // those that were copied: from and to
	left    []string
}

func (c *copier) copy(name, from string, stat *unix.Stat_t) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	to := filepath.Join(c.to, name)
	kind := stat.Mode & unix.S_IFMT
	if (kind == unix.S_IFCHR || kind == unix.S_IFBLK) && !c.devices {
		c.left = append(c.left, name)
		return nil
	}
	inode := [2]uint64{stat.Dev, stat.Ino}
	if kind != unix.S_IFDIR && stat.Nlink > 1 {
		if first, found := c.links[inode]; found {
			return os.Link(first, to)
		}
		c.links[inode] = to
	}
	if err := c.make(name, from, to, stat); err != nil {
		return err
	}
	if err := copyAttributes(from, to); err != nil {
		return err
	}
	if kind == unix.S_IFDIR {
		c.dirs = append(c.dirs, [2]string{from, to})
		return nil
	}
	return setTimes(unix.AT_FDCWD, to, stat.Atim, stat.Mtim)
}

func (c *copier) make(name, from, to string, stat *unix.Stat_t) error {
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if name == "." {
			return nil
		}
		return os.Mkdir(to, 0o700)
	case unix.S_IFREG:
		return c.copyFile(from, to, stat.Size)
	case unix.S_IFLNK:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	if err := unix.Mknod(to, stat.Mode&unix.S_IFMT|0o600, int(stat.Rdev)); err != nil {
		return &fs.PathError{Op: "mknod", Path: to, Err: err}
	}
	return nil
}

// setDirTimes gives the directories their times, when nothing more is made in
// them.
func (c *copier) setDirTimes() error {
	for _, dir := range c.dirs {
		if err := copyTimes(dir[0], dir[1]); err != nil {
			return err
		}
	}
	return nil
}

// copyFile copies the parts of a file that are no holes, which the kernel does
// by itself, copy_file_range(2), and shares where the file system can.
func (c *copier) copyFile(from, to string, size int64) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	for at := int64(0); at < size && err == nil; err = c.ctx.Err() {
		start, e := src.Seek(at, unix.SEEK_DATA)
		if errors.Is(e, unix.ENXIO) {
			break // there is no more
		}
		if e != nil {
			return e
		}
		if at, e = src.Seek(start, unix.SEEK_HOLE); e != nil {
			return e
		}
		if _, e = src.Seek(start, io.SeekStart); e == nil {
			_, e = dst.Seek(start, io.SeekStart)
		}
		if e == nil {
			_, e = io.CopyN(dst, src, at-start)
		}
		if e != nil {
			return e
		}
	}
	return errors.Join(err, dst.Truncate(size))
}
