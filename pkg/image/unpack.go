package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/overlay"
	"github.com/minictr/minictr/pkg/sys"
)

// Unpack makes the directory dir, with the files of the image as a container
// sees them: owners, modes, attributes, times, hard links and holes are as in
// its layers. Device nodes are made only if devices says so: outside a container
// no device cgroup guards them; left are the names of those that were not made.
// See MakeDir for what dir may be.
func (i *Image) Unpack(ctx context.Context, dir string, devices bool) (left []string, err error) {
	defer annotate(&err, "unpack")
	unlock, err := i.Hold(i.ID.Short())
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
		if err := overlay.Walk(layers, c.copy); err != nil {
			return err
		}
		left = c.left
		return c.finish()
	})
	return left, err
}

// CopyDir makes the directory dir with what layers, the top one first, have in
// the directory name, as Unpack does, with its device nodes. It does nothing if
// that is no directory. Symbolic links lead on inside the layers.
func CopyDir(ctx context.Context, layers []string, name, dir string) (found bool, err error) {
	w := &walk{}
	defer func() { err = errors.Join(err, w.close()) }()
	merged, err := w.directory(layers, name)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return false, nil
	case err != nil:
		return false, err
	}
	dirs := make([]string, len(merged))
	for i, fd := range merged {
		if dirs[i], err = os.Readlink("/proc/self/fd/" + strconv.Itoa(fd)); err != nil {
			return false, err
		}
	}
	return true, MakeDir(dir, func(partial string) error {
		c := copier{ctx: ctx, to: partial, devices: true, links: map[[2]uint64]string{}}
		if err := overlay.Walk(dirs, c.copy); err != nil {
			return err
		}
		return c.finish()
	})
}

// CopyAttributes gives a file the owner, the mode, the extended attributes and
// the times of another, but for what overlayfs has put there.
func CopyAttributes(from, to string) error {
	if err := copyAttributes(from, to); err != nil {
		return err
	}
	return copyTimes(from, to)
}

// MakeDir makes a directory whole or not at all: fill fills one beside it, named
// ".NAME.minictr-partial", which then takes its place. What a killed MakeDir has
// left under that name goes. The directory must not exist, or be empty.
func MakeDir(dir string, fill func(partial string) error) (err error) {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return &fs.PathError{Op: "make", Path: dir, Err: unix.ENOTEMPTY}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	partial := partialOf(dir)
	lock, err := makeAlone(partial)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err = dropACLs(partial); err == nil {
		err = fill(partial)
	}
	if err == nil {
		err = sys.Call("rename", func() error { return unix.Rename(partial, dir) }) // os.Rename refuses an empty directory
	}
	if err != nil {
		err = errors.Join(err, sys.RemoveAll(partial))
	}
	return err
}

// MakeFile makes a file whole or not at all, or gives one another content: fill
// writes it in a directory beside it, which is that of MakeDir.
func MakeFile(name string, fill func(*os.File) error) (err error) {
	partial := partialOf(name)
	lock, err := makeAlone(partial)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sys.RemoveAll(partial), lock.Close()) }()
	return sys.Replace(name, partial, fill)
}

func partialOf(name string) string {
	return filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+".minictr-partial")
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
		f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has just been taken away, or become whole
		}
		if err != nil {
			return nil, err
		}
		locked, err := lockInPlace(f)
		switch {
		case locked && made:
			return f, nil
		case locked:
			err = sys.RemoveAll(dir)
		case err == nil && !made:
			err = fmt.Errorf("%s: another process is at work there: %w", dir, unix.EWOULDBLOCK)
		}
		if err = errors.Join(err, f.Close()); err != nil {
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
	if kind == unix.S_IFDIR {
		c.dirs = append(c.dirs, [2]string{from, to})
	}
	if name == "." {
		return nil // it is closed to others while it is made
	}
	if err := copyAttributes(from, to); err != nil || kind == unix.S_IFDIR {
		return err
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
	return sys.Call("mknod", func() error { return unix.Mknod(to, stat.Mode&unix.S_IFMT|0o600, int(stat.Rdev)) })
}

// finish gives the directories their times, when nothing more is made in them,
// and the root all that it has.
func (c *copier) finish() error {
	if err := copyAttributes(c.dirs[0][0], c.dirs[0][1]); err != nil {
		return err
	}
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
