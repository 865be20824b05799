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
	"time"

	"golang.org/x/sys/unix"
)

const (
	holeSize    = 4096 // zero bytes of a block that becomes a hole
	paxXattr    = "SCHILY.xattr."
	opaqueXattr = "trusted.overlay.opaque"
)

// entry is one entry of the archive: base is to be made in parent.
type entry struct {
	parent      int
	base        string
	name        string // from the root
	hdr         *tar.Header
	content     io.Reader
	implicitDir bool // a directory that the archive doesn't list; no hdr
}

// create makes the entry, in place of anything of that name but a directory
// whose entry is listed again.
func (u *unpacker) create(e entry) error {
	switch e.hdr.Typeflag {
	case tar.TypeDir:
		u.dirTimes = append(u.dirTimes, dirTime{e.name, e.hdr.ModTime})
		if err := u.mkdir(e); err != nil {
			return err
		}
	case tar.TypeLink:
		return u.link(e)
	default:
		err := u.createNode(e)
		if errors.Is(err, unix.EEXIST) {
			if err = u.clear(e); err == nil {
				err = u.createNode(e)
			}
		}
		if err != nil {
			return err
		}
	}
	return u.finish(e)
}

// createNode makes everything that is no directory and no hard link. When the
// error is EEXIST, nothing has been read of the content.
func (u *unpacker) createNode(e entry) error {
	switch e.hdr.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return u.writeFile(e)
	case tar.TypeSymlink:
		return os.NewSyscallError("symlinkat", unix.Symlinkat(e.hdr.Linkname, e.parent, e.base))
	case tar.TypeFifo:
		return os.NewSyscallError("mknodat", unix.Mknodat(e.parent, e.base, unix.S_IFIFO|0o600, 0))
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
	return os.NewSyscallError("mknodat", unix.Mknodat(e.parent, e.base, mode|0o600, int(unix.Mkdev(uint32(major), uint32(minor)))))
}

// clear removes what has the entry's name. The descriptor of the parent stays
// good, but its path may have led through what is gone.
func (u *unpacker) clear(e entry) error {
	u.parentDir = "-"
	return removeTree(e.parent, e.base)
}

// mkdir makes a directory, or keeps the one there is. One that replaces a
// whiteout hides what lower layers have of that name: it becomes opaque.
func (u *unpacker) mkdir(e entry) error {
	err := unix.Mkdirat(e.parent, e.base, 0o700)
	if err != unix.EEXIST {
		return os.NewSyscallError("mkdirat", err)
	}
	var stat unix.Stat_t
	if err := unix.Fstatat(e.parent, e.base, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return os.NewSyscallError("fstatat", err)
	}
	if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil
	}
	if e.implicitDir && !isWhiteout(&stat) {
		return errors.New("is not a directory")
	}
	if err := u.clear(e); err != nil {
		return err
	}
	if err := unix.Mkdirat(e.parent, e.base, 0o700); err != nil {
		return os.NewSyscallError("mkdirat", err)
	}
	if isWhiteout(&stat) {
		return setOpaque(e.parent, e.base)
	}
	return nil
}

// link makes a hard link to a file of the same layer. The file keeps the
// attributes of its own entry.
func (u *unpacker) link(e entry) error {
	target, err := entryName(e.hdr.Linkname)
	if err != nil {
		return fmt.Errorf("hard link to %.300q: %w", e.hdr.Linkname, err)
	}
	if err := u.linkTo(e, target); err != nil {
		return fmt.Errorf("hard link to %.300q: %w", e.hdr.Linkname, err)
	}
	return nil
}

func (u *unpacker) linkTo(e entry, target string) error {
	dir, err := openInRoot(u.root, path.Dir(target), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return os.NewSyscallError("openat2", err)
	}
	defer unix.Close(dir) // O_PATH: nothing to lose
	err = unix.Linkat(dir, path.Base(target), e.parent, e.base, 0)
	if !errors.Is(err, unix.EEXIST) {
		return os.NewSyscallError("linkat", err)
	}
	var from, to unix.Stat_t
	if err := unix.Fstatat(dir, path.Base(target), &from, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return os.NewSyscallError("fstatat", err)
	}
	if err := unix.Fstatat(e.parent, e.base, &to, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return os.NewSyscallError("fstatat", err)
	}
	if from.Ino == to.Ino {
		return nil
	}
	if err := u.clear(e); err != nil {
		return err
	}
	return os.NewSyscallError("linkat", unix.Linkat(dir, path.Base(target), e.parent, e.base, 0))
}

// writeFile makes a regular file. Blocks of zero bytes become holes, whether
// or not the archive called the file sparse.
func (u *unpacker) writeFile(e entry) (err error) {
	if u.left -= e.hdr.Size; u.left < 0 {
		return &LimitError{What: "bytes in a layer", Limit: MaxLayerBytes}
	}
	fd, err := unix.Openat(e.parent, e.base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return os.NewSyscallError("openat", err)
	}
	f := os.NewFile(uintptr(fd), e.name)
	defer func() { err = errors.Join(err, f.Close()) }()
	var size, written int64
	for {
		n, readErr := io.ReadFull(e.content, u.buf)
		end, err := u.writeBlocks(f, u.buf[:n], size)
		if err != nil {
			return err
		}
		size += int64(n)
		written = max(written, end)
		switch {
		case readErr == nil:
		case size != e.hdr.Size, readErr != io.EOF && readErr != io.ErrUnexpectedEOF:
			return readErr
		case written < size: // it ends with a hole
			return f.Truncate(size)
		default:
			return nil
		}
	}
}

// writeBlocks writes p at offset in as few calls as the holes allow, and
// returns where the last of them ended.
func (u *unpacker) writeBlocks(f *os.File, p []byte, offset int64) (written int64, err error) {
	for start := 0; start < len(p); {
		end := start
		for end < len(p) && !u.isHole(p[end:]) {
			end = min(end+holeSize, len(p))
		}
		if end > start {
			if _, err := f.WriteAt(p[start:end], offset+int64(start)); err != nil {
				return written, err
			}
			written = offset + int64(end)
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
// changes times.
func (u *unpacker) finish(e entry) error {
	hdr := e.hdr
	if err := unix.Fchownat(e.parent, e.base, hdr.Uid, hdr.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return os.NewSyscallError("fchownat", err)
	}
	if hdr.Typeflag != tar.TypeSymlink {
		if err := unix.Fchmodat(e.parent, e.base, uint32(hdr.Mode)&0o7777, 0); err != nil {
			return os.NewSyscallError("fchmodat", err)
		}
	}
	for key, value := range hdr.PAXRecords {
		name, found := strings.CutPrefix(key, paxXattr)
		if !found || !isXattrNamespace(name) {
			continue
		}
		if err := setXattr(e.parent, e.base, name, value); err != nil {
			return err
		}
	}
	atime := hdr.AccessTime
	if atime.IsZero() {
		atime = hdr.ModTime
	}
	return setTimes(e.parent, e.base, atime, hdr.ModTime)
}

// finishImplicit gives a directory that the archive does not list its attributes.
func (u *unpacker) finishImplicit(e entry) error {
	e.hdr = &tar.Header{Typeflag: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(0, 0)}
	return u.finish(e)
}

func setTimes(parent int, base string, atime, mtime time.Time) error {
	times := []unix.Timespec{timespec(atime), timespec(mtime)}
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(parent, base, times, unix.AT_SYMLINK_NOFOLLOW))
}

func timespec(t time.Time) unix.Timespec {
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

func setOpaque(parent int, base string) error { return setXattr(parent, base, opaqueXattr, "y") }

// setXattr sets an extended attribute of any kind of file. No system call
// older than 6.13 takes a descriptor and a name, so the descriptor is named
// through procfs.
func setXattr(parent int, base, name, value string) error {
	file := "/proc/self/fd/" + strconv.Itoa(parent) + "/" + base
	if err := unix.Lsetxattr(file, name, []byte(value), 0); err != nil {
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
