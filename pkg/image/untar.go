package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
)

// unpacker extracts one layer into one directory (image-spec, layer.md).
//
// Every name in the archive is hostile. It is split into a parent and a last
// component; the parent is found below root step by step, without following a
// link, or, where one is, by openat2(2) with RESOLVE_IN_ROOT; and everything
// else is done to the last component relative to that descriptor, without
// following it. The directory is private to us until it is whole, so that
// nobody swaps anything between two calls.
type unpacker struct {
	ctx   context.Context // looked at between the blocks of a file, too
	steps []step          // from the root to the directory of the last entry
	stale bool            // something that they lead through may be gone
	// rootPath is what the kernel calls the root.
	rootPath  string
	budget    *budget
	maxPath   int64
	uid, gid  int    // what new files get by themselves
	umask     uint32 // what they don't get
	acl       bool   // a directory may have a default for them
	zero, buf []byte

	owner    Owner           // of a tree that is live, see Extract
	unlisted map[string]bool // directories that were made but not listed yet
}

// budget is what the layers of one image may still take, together.
type budget struct {
	bytes    allowance // of archives
	sizes    allowance // of files, whose holes are no bytes of an archive
	entries  allowance
	unlisted allowance // bytes in the paths of directories that are not listed
}

func newBudget(l Limits) *budget {
	b := new(budget)
	b.bytes.allow(l.Bytes, "bytes in an image's layers")
	b.sizes.allow(l.Bytes, "bytes in an image's files")
	b.entries.allow(l.Entries, "entries in an image's layers")
	b.unlisted.allow(maxUnlisted, "bytes in the paths of directories that layers do not list")
	return b
}

// allowance is a number that several goroutines may take from.
type allowance struct {
	left  atomic.Int64
	limit LimitError
}

func (a *allowance) allow(n int64, what string) {
	a.left.Store(n)
	a.limit = LimitError{What: what, Limit: n}
}

func (a *allowance) take(n int64) error {
	if a.left.Add(-n) < 0 {
		return &a.limit
	}
	return nil
}

// untar extracts the layer that r is the plain tar of into the directory dir,
// which it makes. It reads r to the end of the archive, not to its own end,
// and returns the directories that it had to make but that are not listed.
func untar(ctx context.Context, r io.Reader, dir string, budget *budget, limits Limits) (unlisted []string, err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := sys.Number("open", func() (int, error) {
		return unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	u := newUnpacker(ctx, budget, limits.Path)
	defer func() { err = errors.Join(err, u.ascend(0)) }()
	if err := dropACLs(dir); err != nil { // the directory above may have given it some
		return nil, err
	}
	if u.rootPath, err = os.Readlink("/proc/self/fd/" + strconv.Itoa(root)); err != nil {
		return nil, err
	}
	if err := u.push(".", ".", root); err != nil {
		return nil, err
	}
	if err := u.setRoot(&unlistedHeader); err != nil {
		return nil, err
	}
	if err := u.all(tar.NewReader(r)); err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(u.unlisted)), nil
}

func newUnpacker(ctx context.Context, budget *budget, maxPath int64) *unpacker {
	return &unpacker{
		ctx: ctx, budget: budget, maxPath: maxPath, uid: os.Geteuid(), gid: os.Getegid(), umask: umask(),
		zero: make([]byte, holeSize), buf: make([]byte, 32*holeSize), unlisted: map[string]bool{".": true},
	}
}

// all makes all entries of an archive.
func (u *unpacker) all(archive *tar.Reader) error {
	for {
		hdr, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = errors.Join(u.ctx.Err(), u.budget.entries.take(1))
		}
		if err != nil {
			return err
		}
		if err := u.extract(hdr, archive); err != nil {
			if u.live() { // it is no image's
				return fmt.Errorf("%.300q: %w", hdr.Name, err)
			}
			return &EntryError{Name: hdr.Name, Err: err}
		}
	}
}

// setRoot gives the root of the layer its attributes.
func (u *unpacker) setRoot(hdr *tar.Header) error {
	if err := u.ascend(1); err != nil {
		return err
	}
	u.steps[0].become(hdr)
	root := &u.steps[0]
	return u.finish(entry{parent: *root, base: ".", hdr: hdr}, false)
}

// extract makes one entry of the archive.
func (u *unpacker) extract(hdr *tar.Header, content io.Reader) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := entryName(hdr.Name, u.maxPath)
	if err != nil {
		return err
	}
	if err := checkHeader(hdr); err != nil {
		return err
	}
	if sys.Alone() {
		hdr.Uid, hdr.Gid = 0, 0 // there is nobody else
	}
	if name == "." {
		if hdr.Typeflag != tar.TypeDir {
			return errors.New("the root of a layer must be a directory")
		}
		if u.live() {
			return nil // the directory is another's, and keeps what it has
		}
		delete(u.unlisted, name)
		return u.setRoot(hdr)
	}
	if sys.Nested() && (hdr.Typeflag == tar.TypeChar || hdr.Typeflag == tar.TypeBlock) {
		return nil // the kernel lets nobody make one there, and none would work
	}
	parent, err := u.descend(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	if hidden, found := strings.CutPrefix(base, whiteoutPrefix); found && !u.live() {
		return u.whiteout(parent.fd, base, hidden, path.Join(parent.path, hidden))
	}
	return u.create(entry{parent: parent, base: base, path: path.Join(parent.path, base), hdr: hdr, content: content})
}

// entryName returns a name of the archive as a clean path relative to the
// root. It may begin with "/" and "./" and end with "/".
func entryName(name string, limit int64) (string, error) {
	switch clean := path.Clean(strings.TrimLeft(name, "/")); {
	case name == "" || strings.ContainsRune(name, 0):
		return "", errors.New("is not a name")
	case int64(len(name)) > limit:
		return "", &LimitError{What: "bytes in a path", Limit: limit}
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
func (u *unpacker) whiteout(parent int, base, hidden, name string) error {
	if base == opaqueName {
		return setOpaque(parent, ".")
	}
	if hidden == "" || hidden == "." || hidden == ".." || strings.HasPrefix(hidden, whiteoutPrefix) {
		return fmt.Errorf("a whiteout can't hide %q", hidden)
	}
	var stat unix.Stat_t
	err := sys.Call("fstatat", func() error { return unix.Fstatat(parent, hidden, &stat, unix.AT_SYMLINK_NOFOLLOW) })
	switch {
	case errors.Is(err, unix.ENOENT):
		return sys.Call("mknodat", func() error { return unix.Mknodat(parent, hidden, unix.S_IFCHR, 0) })
	case err != nil:
		return err
	case stat.Mode&unix.S_IFMT == unix.S_IFDIR:
		delete(u.unlisted, name) // as in mkdir
		return setOpaque(parent, hidden)
	}
	return nil
}
