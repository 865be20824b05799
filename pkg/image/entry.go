package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/overlay"
	"github.com/minictr/minictr/pkg/sys"
)

const (
	holeSize = 4096 // zero bytes of a block that becomes a hole
	paxXattr = "SCHILY.xattr."

	aclDefault = "system.posix_acl_default" // of a directory, for what is made in it
)

// entry is one entry of the archive: base is to be made in parent.
type entry struct {
	parent  step
	base    string
	path    string      // from the root, without links
	hdr     *tar.Header // unlistedHeader, if the archive has none
	content io.Reader
}

// mode is what the entry is made with: its own permissions, of which the umask
// takes its part away.
func (e entry) mode() uint32 { return uint32(e.hdr.Mode) & 0o777 }

// create makes the entry, in place of anything of that name but a directory
// whose entry is listed again.
func (u *unpacker) create(e entry) error {
	switch e.hdr.Typeflag {
	case tar.TypeDir:
		delete(u.unlisted, e.path)
		fresh, err := u.mkdir(e)
		if err != nil {
			return err
		}
		for i := range u.steps { // through a link it may be open
			if u.steps[i].path == e.path {
				u.steps[i].become(e.hdr)
			}
		}
		return u.finish(e, fresh)
	case tar.TypeLink:
		return u.link(e)
	}
	err := u.createNode(e)
	if errors.Is(err, unix.EEXIST) {
		if err = u.clear(e); err == nil {
			err = u.createNode(e)
		}
	}
	if err != nil || u.live() && kindOf(e.hdr.Typeflag) == unix.S_IFREG {
		return err // such a file is finished
	}
	return u.finish(e, true)
}

// createNode makes everything that is no directory and no hard link. When the
// error is EEXIST, nothing has been read of the content.
func (u *unpacker) createNode(e entry) error {
	switch e.hdr.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return u.writeFile(e)
	case tar.TypeSymlink:
		return sys.Call("symlinkat", func() error { return unix.Symlinkat(e.hdr.Linkname, e.parent.fd, e.base) })
	case tar.TypeFifo:
		return sys.Call("mknodat", func() error { return unix.Mknodat(e.parent.fd, e.base, unix.S_IFIFO|e.mode(), 0) })
	case tar.TypeChar, tar.TypeBlock:
		return mknod(e)
	}
	return fmt.Errorf("entry type %q is unknown", e.hdr.Typeflag)
}

func mknod(e entry) error {
	major, minor := e.hdr.Devmajor, e.hdr.Devminor
	if major < 0 || major >= 1<<12 || minor < 0 || minor >= 1<<20 {
		return fmt.Errorf("device %d:%d does not exist", major, minor)
	}
	mode := uint32(unix.S_IFBLK)
	if e.hdr.Typeflag == tar.TypeChar {
		mode = unix.S_IFCHR
	}
	if major == 0 && minor == 0 {
		return errors.New("device 0:0 belongs to overlayfs")
	}
	return sys.Call("mknodat", func() error {
		return unix.Mknodat(e.parent.fd, e.base, mode|e.mode(), int(unix.Mkdev(uint32(major), uint32(minor))))
	})
}

// clear removes what has the entry's name. The descriptor of the parent stays
// good, but its path may have led through what is gone.
func (u *unpacker) clear(e entry) error {
	u.stale = true
	if u.live() {
		err := sys.Call("unlinkat", func() error { return unix.Unlinkat(e.parent.fd, e.base, 0) })
		if errors.Is(err, unix.EISDIR) {
			return &ConflictError{Name: e.path, Dir: true}
		}
		return err
	}
	return sys.RemoveAllAt(e.parent.fd, e.base)
}

// mkdir makes a directory, or keeps the one there is. One that replaces a
// whiteout hides what lower layers have of that name: it becomes opaque.
func (u *unpacker) mkdir(e entry) (fresh bool, err error) {
	err = sys.Call("mkdirat", func() error { return unix.Mkdirat(e.parent.fd, e.base, e.mode()) })
	if !errors.Is(err, unix.EEXIST) {
		return true, err
	}
	var stat unix.Stat_t
	if err := sys.Call("fstatat", func() error { return unix.Fstatat(e.parent.fd, e.base, &stat, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
		return false, err
	}
	if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		return false, nil
	}
	if u.live() {
		return false, &ConflictError{Name: e.path}
	}
	if e.hdr == &unlistedHeader && !overlay.IsWhiteout(&stat) {
		return false, errors.New("is not a directory")
	}
	if err := u.clear(e); err != nil {
		return false, err
	}
	if err := sys.Call("mkdirat", func() error { return unix.Mkdirat(e.parent.fd, e.base, e.mode()) }); err != nil {
		return false, err
	}
	if overlay.IsWhiteout(&stat) {
		delete(u.unlisted, e.path) // it is another one than below, and has no attributes from there
		return true, setOpaque(e.parent.fd, e.base)
	}
	return true, nil
}

// link makes a hard link to a file of the same layer. The file keeps the
// attributes of its own entry.
func (u *unpacker) link(e entry) error {
	target, err := entryName(e.hdr.Linkname, u.maxPath)
	if err != nil {
		return fmt.Errorf("hard link to %.300q: %w", e.hdr.Linkname, err)
	}
	if err := u.linkTo(e, target); err != nil {
		return fmt.Errorf("hard link to %.300q: %w", e.hdr.Linkname, err)
	}
	return nil
}

func (u *unpacker) linkTo(e entry, target string) error {
	dir, err := openInRoot(u.steps[0].fd, path.Dir(target), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(dir) // O_PATH: nothing to lose
	base := path.Base(target)
	var from, to unix.Stat_t
	if err := sys.Call("fstatat", func() error { return unix.Fstatat(dir, base, &from, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
		return err
	}
	if overlay.IsWhiteout(&from) {
		return unix.ENOENT // a second one would hide another name
	}
	link := func() error { return unix.Linkat(dir, base, e.parent.fd, e.base, 0) }
	if err := sys.Call("linkat", link); !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := sys.Call("fstatat", func() error { return unix.Fstatat(e.parent.fd, e.base, &to, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
		return err
	}
	if from.Ino == to.Ino {
		return nil
	}
	if err := u.clear(e); err != nil {
		return err
	}
	return sys.Call("linkat", link)
}

// writeFile makes a regular file. Blocks of zero bytes become holes, whether
// or not the archive called the file sparse.
func (u *unpacker) writeFile(e entry) (err error) {
	if err := u.budget.sizes.take(e.hdr.Size); err != nil {
		return err
	}
	fd, err := sys.Number("openat", func() (int, error) {
		return unix.Openat(e.parent.fd, e.base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, e.mode())
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sys.Close(fd)) }()
	var size, written int64
	for {
		n, readErr := io.ReadFull(e.content, u.buf)
		end, err := u.writeBlocks(fd, u.buf[:n], size)
		if err = errors.Join(err, u.ctx.Err()); err != nil {
			return err
		}
		size += int64(n)
		written = max(written, end)
		switch {
		case readErr == nil:
		case size != e.hdr.Size, readErr != io.EOF && readErr != io.ErrUnexpectedEOF:
			return readErr
		case written < size: // it ends with a hole
			if err := sys.Call("ftruncate", func() error { return unix.Ftruncate(fd, size) }); err != nil {
				return err
			}
			fallthrough
		default:
			if u.live() {
				return u.finishFile(fd, e.hdr)
			}
			return nil
		}
	}
}

// writeBlocks writes p at offset in as few calls as the holes allow, and
// returns where the last of them ended.
func (u *unpacker) writeBlocks(fd int, p []byte, offset int64) (written int64, err error) {
	for start := 0; start < len(p); {
		end := start
		for end < len(p) && !u.isHole(p[end:]) {
			end = min(end+holeSize, len(p))
		}
		for start < end {
			n, err := unix.Pwrite(fd, p[start:end], offset+int64(start))
			if err != nil && err != unix.EINTR {
				return written, os.NewSyscallError("pwrite64", err)
			}
			start += max(n, 0)
			written = offset + int64(start)
		}
		start = min(end+holeSize, len(p))
	}
	return written, nil
}

func (u *unpacker) isHole(p []byte) bool {
	return len(p) >= holeSize && bytes.Equal(p[:holeSize], u.zero)
}

// finish gives the entry its owner, mode, attributes and times, in the one
// order that keeps them: chown(2) clears set-user-ID and capabilities, and
// changes times. What a fresh entry has by itself needs no call.
func (u *unpacker) finish(e entry, fresh bool) (err error) {
	if u.live() {
		return u.finishLive(e)
	}
	hdr, mode := e.hdr, uint32(e.hdr.Mode)&0o7777
	ours := fresh && !e.parent.setgid // the group is that of this process, and the mode is what was asked for
	if !ours || hdr.Uid != u.uid || hdr.Gid != u.gid {
		err = sys.Call("fchownat", func() error { return unix.Fchownat(e.parent.fd, e.base, hdr.Uid, hdr.Gid, unix.AT_SYMLINK_NOFOLLOW) })
	}
	asked := ours && !u.acl && mode&^(0o777&^u.umask) == 0
	if err == nil && !asked && hdr.Typeflag != tar.TypeSymlink {
		err = sys.Call("fchmodat", func() error { return unix.Fchmodat(e.parent.fd, e.base, mode, 0) })
	}
	if err == nil && fresh {
		err = u.dropACLs(e)
	}
	for key, value := range hdr.PAXRecords {
		name, found := strings.CutPrefix(key, paxXattr)
		if err == nil && found && isXattrNamespace(name) {
			u.acl = u.acl || name == aclDefault
			err = setXattr(e.parent.fd, e.base, name, value)
			if sys.Nested() && errors.Is(err, unix.EPERM) {
				err = nil // it is for the host's root, and no file of a user namespace has it
			}
		}
	}
	if err != nil {
		return err
	}
	atime, mtime := timesOf(hdr)
	return setTimes(e.parent.fd, e.base, atime, mtime)
}

// dropACLs takes away what a file has from the default of its directory.
func (u *unpacker) dropACLs(e entry) error {
	if !u.acl || e.hdr.Typeflag == tar.TypeSymlink {
		return nil
	}
	return dropACLs("/proc/self/fd/" + strconv.Itoa(e.parent.fd) + "/" + e.base)
}

// dropACLs takes a file's access control lists away, acl(5).
func dropACLs(file string) error {
	for _, name := range []string{"system.posix_acl_access", aclDefault} {
		err := sys.Call("lremovexattr", func() error { return unix.Lremovexattr(file, name) })
		if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
			return err
		}
	}
	return nil
}

// timesOf returns the entry's times. Most archives have one only.
func timesOf(hdr *tar.Header) (atime, mtime unix.Timespec) {
	if mtime = timespec(hdr.ModTime); hdr.AccessTime.IsZero() {
		return mtime, mtime
	}
	return timespec(hdr.AccessTime), mtime
}

// umask is the mask of modes of this process, proc_pid_status(5), or all of
// them where it can't be known: asking umask(2) would change it.
func umask() uint32 {
	status, err := os.ReadFile("/proc/thread-self/status")
	_, rest, found := strings.Cut(string(status), "\nUmask:\t")
	digits, _, _ := strings.Cut(rest, "\n")
	mask, e := strconv.ParseUint(digits, 8, 32)
	if err != nil || !found || e != nil {
		return 0o777
	}
	return uint32(mask)
}

func setOpaque(parent int, base string) error {
	return setXattr(parent, base, overlay.OpaqueXattr(), "y")
}

// setXattr sets an extended attribute of any kind of file. No system call
// older than 6.13 takes a descriptor and a name, so the descriptor is named
// through procfs.
func setXattr(parent int, base, name, value string) error {
	file := "/proc/self/fd/" + strconv.Itoa(parent) + "/" + base
	if err := sys.Call("lsetxattr", func() error { return unix.Lsetxattr(file, name, []byte(value), 0) }); err != nil {
		return fmt.Errorf("set attribute %q: %w", name, err)
	}
	return nil
}

// isXattrNamespace tells whether Linux has attributes of this kind. Archives
// from other systems have others, which mean nothing here.
func isXattrNamespace(name string) bool {
	for _, namespace := range []string{"user.", "trusted.", "security.", "system."} {
		if strings.HasPrefix(name, namespace) {
			return true
		}
	}
	return false
}

func isOverlayXattr(name string) bool {
	return strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.")
}
