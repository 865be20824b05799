package sys

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxHeld is how many directories a removal holds open, one in the other. A
// container, or the links of a layer, can lead it deeper than a process may
// have descriptors or a path can be long.
const maxHeld = 64

// RemoveAll removes a file or a directory with all that is in it, if it is
// there. It follows no link and goes into no mount, and what can't be removed
// keeps nothing else.
func RemoveAll(name string) error { return RemoveAllAt(unix.AT_FDCWD, name) }

// RemoveAllAt is RemoveAll in an open directory.
func RemoveAllAt(dir int, name string) error {
	r := remover{top: -1}
	if err := r.remove(dir, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove %w", err)
	}
	return nil
}

// A remover empties one directory. Its errors begin with the name of the file.
type remover struct {
	top   int // its descriptor, negative before it is open
	moved int // directories that were moved up into it
}

// empty removes what is in the directory dir, which lies that deep below top.
// What lies too deep is moved up, and comes later.
func (r *remover) empty(dir, depth int) (failed error) {
	buf := make([]byte, 8<<10)
	for removed := false; ; {
		n, err := Number(".: getdents64", func() (int, error) { return unix.ReadDirent(dir, buf) })
		if err != nil {
			return err
		}
		if n == 0 { // only this is the end: a signal can cut what is read short, to nothing but "." and ".."
			if !removed {
				return failed
			}
			if _, err := unix.Seek(dir, 0, io.SeekStart); err != nil {
				return os.NewSyscallError(".: lseek", err)
			}
			removed, failed = false, nil
		}
		_, _, names := unix.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			switch err := r.remove(dir, name, depth); {
			case err == nil:
				removed = true
			case failed == nil && !errors.Is(err, unix.ENOENT): // another may be removing the same
				failed = err
			}
		}
	}
}

func (r *remover) remove(dir int, name string, depth int) error {
	err := Call(name+": unlinkat", func() error { return unix.Unlinkat(dir, name, 0) })
	if !errors.Is(err, unix.EISDIR) {
		return err
	}
	if depth == maxHeld {
		return r.moveUp(dir, name)
	}
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC}
	if depth > 0 {
		how.Resolve = unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS
	}
	fd, err := Number(name+": openat2", func() (int, error) { return unix.Openat2(dir, name, &how) })
	if err == nil {
		if r.top < 0 {
			r.top = fd
		}
		if err = r.empty(fd, depth+1); err != nil {
			err = fmt.Errorf("%s/%w", name, err)
		}
		_ = Close(fd) // nothing was written
	}
	// An empty one that may not be opened, as overlayfs has them, can be removed.
	if e := Call(name+": unlinkat", func() error { return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) }); e == nil || err == nil {
		return e
	}
	return err
}

func (r *remover) moveUp(dir int, name string) error {
	for {
		r.moved++
		err := Call(name+": renameat", func() error { return unix.Renameat(dir, name, r.top, "deep-"+strconv.Itoa(r.moved)) })
		if !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENOTDIR) {
			return err // that name was free, or that of an empty directory
		}
	}
}
