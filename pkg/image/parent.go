package image

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// openInRoot opens name below the directory root, as chroot(2) would make
// name and every symbolic link in it mean (openat2(2)).
func openInRoot(root int, name string, flags uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(root, name, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// openParent returns a descriptor of the directory dir of the layer, and makes
// what is missing of it. The descriptor stays open for the entries that
// follow, most of which have the same parent.
func (u *unpacker) openParent(dir string) (int, error) {
	if dir == u.parentDir {
		return u.parent, nil
	}
	u.forgetParent()
	fd, err := openInRoot(u.root, dir, unix.O_PATH|unix.O_DIRECTORY)
	if isMissing(err) {
		fd, err = u.makeParents(dir)
	}
	if err != nil {
		return -1, fmt.Errorf("parent directory: %w", err)
	}
	u.parent, u.parentDir = fd, dir
	return fd, nil
}

func (u *unpacker) forgetParent() {
	if u.parent >= 0 {
		_ = unix.Close(u.parent) // an O_PATH descriptor: there is nothing to lose
	}
	u.parent, u.parentDir = -1, "-"
}

// isMissing tells whether a directory must be made, or takes the place of a
// whiteout.
func isMissing(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) }

// makeParents makes each missing directory of dir as root's, mode 0755, of the
// time zero; an archive need not list them.
func (u *unpacker) makeParents(dir string) (int, error) {
	fd, err := openInRoot(u.root, ".", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1, os.NewSyscallError("openat2", err)
	}
	done := ""
	for component := range strings.SplitSeq(dir, "/") {
		done = path.Join(done, component)
		next, err := openInRoot(u.root, done, unix.O_PATH|unix.O_DIRECTORY)
		if isMissing(err) {
			next, err = u.makeDir(fd, component, done)
		}
		if err = errors.Join(err, unix.Close(fd)); err != nil {
			return -1, fmt.Errorf("%s: %w", done, err)
		}
		fd = next
	}
	return fd, nil
}

func (u *unpacker) makeDir(parent int, base, name string) (int, error) {
	e := entry{parent: parent, base: base, name: name, implicitDir: true}
	if err := u.mkdir(e); err != nil {
		return -1, err
	}
	if err := u.finishImplicit(e); err != nil {
		return -1, err
	}
	u.dirTimes = append(u.dirTimes, dirTime{name, time.Unix(0, 0)})
	fd, err := unix.Openat(parent, base, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	return fd, os.NewSyscallError("openat", err)
}

// removeTree removes base and what is below it, following no link.
func removeTree(parent int, base string) error {
	err := unix.Unlinkat(parent, base, 0)
	if !errors.Is(err, unix.EISDIR) {
		return os.NewSyscallError("unlinkat", err)
	}
	fd, err := unix.Openat(parent, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("openat", err)
	}
	dir := os.NewFile(uintptr(fd), base)
	names, err := dir.Readdirnames(-1)
	for _, name := range names {
		err = errors.Join(err, removeTree(fd, name))
	}
	if err = errors.Join(err, dir.Close()); err != nil {
		return err
	}
	return os.NewSyscallError("unlinkat", unix.Unlinkat(parent, base, unix.AT_REMOVEDIR))
}
