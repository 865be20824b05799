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
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
)

// unpacker extracts one layer into one directory (image-spec, layer.md).
//
// Every name in the archive is hostile. It is split into a parent and a last
// component; openat2(2) finds the parent below root, by RESOLVE_IN_ROOT, once,
// and everything else is done to the last component relative to that
// descriptor, without following it. The directory is private to us until it
// is whole, so that nobody swaps anything between two calls.
type unpacker struct {
	root      int    // O_PATH descriptor of the directory
	parentDir string // what parent refers to, or "-" for nothing
	parent    int
	dirTimes  []dirTime
	left      int64 // bytes that files may still have
	zero, buf []byte
}

// dirTime is a directory's time of modification, which is set when nothing
// more is made in it.
type dirTime struct {
	name string
	time time.Time
}

// untar extracts the layer that r is the plain tar of into the directory dir,
// which it makes. It reads r to the end of the archive, not to its own end.
func untar(ctx context.Context, r io.Reader, dir string) (err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	u := &unpacker{root: root, parentDir: "-", parent: -1, left: MaxLayerBytes, zero: make([]byte, holeSize), buf: make([]byte, 32*holeSize)}
	defer func() { err = errors.Join(err, u.close()) }()
	if err := u.finishImplicit(entry{parent: root, base: ".", implicitDir: true}); err != nil {
		return err
	}
	u.dirTimes = append(u.dirTimes, dirTime{".", time.Unix(0, 0)})
	archive := tar.NewReader(r)
	for range MaxLayerEntries {
		hdr, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return u.setDirTimes()
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if err := u.extract(hdr, archive); err != nil {
			return &EntryError{Name: hdr.Name, Err: err}
		}
	}
	return &LimitError{What: "entries in a layer", Limit: MaxLayerEntries}
}

func (u *unpacker) close() error {
	u.forgetParent()
	return os.NewSyscallError("close", unix.Close(u.root))
}

// extract makes one entry of the archive.
func (u *unpacker) extract(hdr *tar.Header, content io.Reader) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := entryName(hdr.Name)
	if err != nil {
		return err
	}
	if err := checkHeader(hdr); err != nil {
		return err
	}
	if name == "." {
		if hdr.Typeflag != tar.TypeDir {
			return errors.New("the root of a layer must be a directory")
		}
		u.dirTimes = append(u.dirTimes, dirTime{name, hdr.ModTime})
		return u.finish(entry{parent: u.root, base: ".", hdr: hdr})
	}
	parent, err := u.openParent(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	if hidden, found := strings.CutPrefix(base, whiteoutPrefix); found {
		return u.whiteout(parent, base, hidden)
	}
	return u.create(entry{parent: parent, base: base, name: name, hdr: hdr, content: content})
}

// entryName returns a name of the archive as a clean path relative to the
// root. It may begin with "/" and "./" and end with "/".
func entryName(name string) (string, error) {
	switch clean := path.Clean(strings.TrimLeft(name, "/")); {
	case name == "" || strings.ContainsRune(name, 0):
		return "", errors.New("is not a name")
	case len(name) > MaxPath:
		return "", &LimitError{What: "bytes in a path", Limit: MaxPath}
	case clean == ".." || strings.HasPrefix(clean, "../"):
		return "", errors.New("leaves the root")
	default:
		return clean, nil
	}
}

// checkHeader refuses what the kernel would read as something else. An id of
// 2³²−1 means "unchanged" to chown(2).
func checkHeader(hdr *tar.Header) error {
	for _, id := range []int{hdr.Uid, hdr.Gid} {
		if id < 0 || id >= math.MaxUint32 {
			return fmt.Errorf("id %d is not between 0 and 2^32-2", id)
		}
	}
	for key := range hdr.PAXRecords {
		if name, found := strings.CutPrefix(key, paxXattr); found && isOverlayXattr(name) {
			return fmt.Errorf("attribute %q belongs to overlayfs", name)
		}
	}
	return nil
}

// whiteout makes what overlayfs takes for a name that is hidden: a character
// device 0:0, or an attribute of a directory whose lower entries all are. A
// whiteout hides what lower layers have, never what its own layer has.
func (u *unpacker) whiteout(parent int, base, hidden string) error {
	if base == opaqueName {
		return setOpaque(parent, ".")
	}
	if hidden == "" || hidden == "." || hidden == ".." || strings.HasPrefix(hidden, whiteoutPrefix) {
		return fmt.Errorf("a whiteout can't hide %q", hidden)
	}
	var stat unix.Stat_t
	err := unix.Fstatat(parent, hidden, &stat, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == unix.ENOENT:
		err = unix.Mknodat(parent, hidden, unix.S_IFCHR, 0)
		return os.NewSyscallError("mknodat", err)
	case err != nil:
		return os.NewSyscallError("fstatat", err)
	case stat.Mode&unix.S_IFMT == unix.S_IFDIR:
		return setOpaque(parent, hidden)
	}
	return nil
}

func isWhiteout(stat *unix.Stat_t) bool {
	return stat.Mode&unix.S_IFMT == unix.S_IFCHR && stat.Rdev == 0
}

// setDirTimes sets the times of the directories, those that came last first,
// so that of two entries for one directory the last one counts. A directory
// that a later entry has replaced is passed over.
func (u *unpacker) setDirTimes() error {
	done := map[string]bool{}
	for i := len(u.dirTimes) - 1; i >= 0; i-- {
		d := u.dirTimes[i]
		if done[d.name] {
			continue
		}
		done[d.name] = true
		fd, err := openInRoot(u.root, d.name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
		if isMissing(err) || errors.Is(err, unix.ELOOP) {
			continue
		}
		if err != nil {
			return &EntryError{Name: d.name, Err: os.NewSyscallError("openat2", err)}
		}
		err = setTimes(fd, ".", d.time, d.time)
		if err = errors.Join(err, unix.Close(fd)); err != nil {
			return &EntryError{Name: d.name, Err: err}
		}
	}
	return nil
}
