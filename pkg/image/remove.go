package image

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxHeld is how many directories removeTree holds open, one in the other. A
// layer can lead it deeper through links than a process may have descriptors.
const maxHeld = 64

// removeAll removes a file or a directory with all that is in it, if it is
// there.
func removeAll(name string) error {
	err := removeTree(unix.AT_FDCWD, name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// removeTree removes base and what is below it, following no link.
func removeTree(parent int, base string) error {
	r := remover{top: -1}
	return r.remove(parent, base, 0)
}

// A remover empties one directory.
type remover struct {
	top   int // its descriptor, negative before it is open
	moved int // directories that were moved up into it
}

// empty removes what is in the directory dir, which lies that deep below top.
// What lies too deep is moved up, and comes later.
func (r *remover) empty(dir, depth int) error {
	buf := make([]byte, 8<<10)
	for removed := false; ; {
		n, err := number("getdents64", func() (int, error) { return unix.ReadDirent(dir, buf) })
		if err != nil {
			return err
		}
		if n == 0 { // only this is the end: a signal can cut what is read short, to nothing but "." and ".."
			if !removed {
				return nil
			}
			if _, err := unix.Seek(dir, 0, io.SeekStart); err != nil {
				return os.NewSyscallError("lseek", err)
			}
			removed = false
		}
		_, _, names := unix.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			if err := r.remove(dir, name, depth); err != nil {
				return err
			}
			removed = true
		}
	}
}

func (r *remover) remove(dir int, name string, depth int) error {
	err := call("unlinkat", func() error { return unix.Unlinkat(dir, name, 0) })
	if !errors.Is(err, unix.EISDIR) {
		return err
	}
	if depth == maxHeld {
		return r.moveUp(dir, name)
	}
	fd, err := number("openat", func() (int, error) {
		return unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return err
	}
	if r.top < 0 {
		r.top = fd
	}
	err = r.empty(fd, depth+1)
	if err = errors.Join(err, closeFile(fd)); err != nil {
		return err
	}
	return call("unlinkat", func() error { return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) })
}

func (r *remover) moveUp(dir int, name string) error {
	for {
		r.moved++
		err := call("renameat2", func() error {
			return unix.Renameat2(dir, name, r.top, "deep-"+strconv.Itoa(r.moved), unix.RENAME_NOREPLACE)
		})
		if !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
}
