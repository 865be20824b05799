package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

// An Owner says whose a file becomes that is another's. Who unpacks it is -1: then
// it has no power that its owner before gave it, as after chown(2).
type Owner func(uid, gid int) (int, int, error)

// ConflictError is one of a copy that would put a file in the place of a
// directory, or the other way round.
type ConflictError struct {
	Name string
	Dir  bool // there is a directory
}

func (e *ConflictError) Error() string {
	if e.Dir {
		return fmt.Sprintf("cannot overwrite directory %q with non-directory", e.Name)
	}
	return fmt.Sprintf("cannot overwrite non-directory %q with directory", e.Name)
}

// Extract unpacks the plain tar that r is into an open directory in which others
// may be at work, and hostile: nothing leads out of the directory, and each file
// gets its owner, mode, attributes and times by a descriptor of the one that was
// made. A file takes the place of another; a directory is merged with the one
// that is there. The error is a *ConflictError where the two would meet. Names
// of whiteouts are names like others.
func Extract(ctx context.Context, r io.Reader, dir *os.File, owner Owner) (err error) {
	root, err := unix.Openat(int(dir.Fd()), ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("openat", err)
	}
	u := newUnpacker(ctx, newBudget(Limits{Bytes: math.MaxInt64, Entries: math.MaxInt64}), unix.PathMax*maxLinks)
	u.owner = owner
	defer func() { err = errors.Join(err, u.ascend(0)) }()
	if err := u.push(".", ".", root); err != nil {
		return err
	}
	if u.rootPath, err = os.Readlink("/proc/self/fd/" + strconv.Itoa(root)); err != nil {
		return err
	}
	return u.all(tar.NewReader(r))
}

// live says whether others may change the tree meanwhile.
func (u *unpacker) live() bool { return u.owner != nil }

// finishLive is finish for what is no regular file.
func (u *unpacker) finishLive(e entry) (err error) {
	fd, err := sys.Number("openat", func() (int, error) {
		return unix.Openat(e.parent.fd, e.base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd) // O_PATH: nothing to lose
	var stat unix.Stat_t
	if err := sys.Call("fstat", func() error { return unix.Fstat(fd, &stat) }); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT != kindOf(e.hdr.Typeflag) {
		return errReplaced
	}
	return u.finishFile(fd, e.hdr)
}

var errReplaced = errors.New("has just become another file")

// kindOf is the kind of a file, inode(7), that an entry makes.
func kindOf(typeflag byte) uint32 {
	switch typeflag {
	case tar.TypeDir:
		return unix.S_IFDIR
	case tar.TypeSymlink:
		return unix.S_IFLNK
	case tar.TypeFifo:
		return unix.S_IFIFO
	case tar.TypeChar:
		return unix.S_IFCHR
	case tar.TypeBlock:
		return unix.S_IFBLK
	}
	return unix.S_IFREG
}

// finishFile gives an open file what its entry says. It may be opened with
// O_PATH, so procfs has to name it.
func (u *unpacker) finishFile(fd int, hdr *tar.Header) error {
	uid, gid, err := u.owner(hdr.Uid, hdr.Gid)
	if err != nil {
		return err
	}
	if err := sys.Call("fchownat", func() error { return unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH) }); err != nil {
		return err
	}
	file := "/proc/self/fd/" + strconv.Itoa(fd)
	ours, mode := uid < 0, uint32(hdr.Mode)&0o7777
	if ours && hdr.Typeflag != tar.TypeDir {
		mode &^= unix.S_ISUID | unix.S_ISGID
	}
	if hdr.Typeflag != tar.TypeSymlink {
		if err := sys.Call("chmod", func() error { return unix.Chmod(file, mode) }); err != nil {
			return err
		}
	}
	for key, value := range hdr.PAXRecords {
		name, found := strings.CutPrefix(key, paxXattr)
		if !found || !isXattrNamespace(name) || ours && strings.HasPrefix(name, "security.") {
			continue
		}
		err := sys.Call("setxattr", func() error { return unix.Setxattr(file, name, []byte(value), 0) })
		if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) { // as between any two file systems
			return fmt.Errorf("set attribute %q: %w", name, err)
		}
	}
	if hdr == &unlistedHeader {
		return nil // it is new
	}
	atime, mtime := timesOf(hdr)
	return sys.Call("utimensat", func() error {
		return unix.UtimesNanoAt(unix.AT_FDCWD, file, []unix.Timespec{atime, mtime}, 0)
	})
}

// A File is one name in an open directory: what is there, if anything is, is
// found by it and nothing else.
type File struct {
	Dir  *os.File // O_PATH
	Base string   // "." for the directory itself
	Stat unix.Stat_t
	// Exists says that there was something when it was looked up.
	Exists bool
}

// IsDir says whether it is a directory.
func (f *File) IsDir() bool { return f.Exists && f.Stat.Mode&unix.S_IFMT == unix.S_IFDIR }

// Find looks a name up below an open directory, which is the root for it and for
// every symbolic link on the way. The last name's link is followed if follow
// says so. The directory that the last name is in must be there.
func Find(root *os.File, name string, follow bool) (*File, error) {
	for range maxLinks {
		parent, base := path.Split(strings.TrimRight(name, "/"))
		if base == "" || base == "." || base == ".." {
			parent, base = name+"/.", "."
		}
		f, err := find(root, parent, base)
		if err != nil || !follow || f.Stat.Mode&unix.S_IFMT != unix.S_IFLNK {
			return f, err
		}
		buf := make([]byte, maxLinkText+1)
		n, err := sys.Number("readlinkat", func() (int, error) { return unix.Readlinkat(int(f.Dir.Fd()), base, buf) })
		if err = errors.Join(err, f.Dir.Close()); err != nil {
			return nil, err
		}
		if name = string(buf[:n]); !path.IsAbs(name) {
			name = parent + name // not cleaned: ".." is the kernel's to resolve
		}
	}
	return nil, unix.ELOOP
}

func find(root *os.File, parent, base string) (*File, error) {
	fd, err := openInRoot(int(root.Fd()), "./"+parent, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	f := &File{Dir: os.NewFile(uintptr(fd), parent), Base: base}
	err = sys.Call("fstatat", func() error { return unix.Fstatat(fd, base, &f.Stat, unix.AT_SYMLINK_NOFOLLOW) })
	if f.Exists = err == nil; err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, errors.Join(err, f.Dir.Close())
	}
	return f, nil
}

// Open opens a directory that Find has found.
func (f *File) Open() (*os.File, error) {
	fd, err := sys.Number("openat", func() (int, error) {
		return unix.Openat(int(f.Dir.Fd()), f.Base, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Base), nil
}
