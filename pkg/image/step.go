package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

// A step is a directory on the way from the layer's root to the entries at
// hand. It stays open for the entries that follow, most of which lie in it.
type step struct {
	name   string // by which the archive leads to it, "." for the root
	path   string // of the directory itself, without links
	fd     int    // O_PATH
	setgid bool   // files that are made in it take its group
	// Its times are set again when it is left, for what is made in it changes
	// them: so nothing need be remembered of a directory but while it is open.
	atime, mtime unix.Timespec
}

// become notes what an entry makes of a directory that is open.
func (s *step) become(hdr *tar.Header) {
	s.atime, s.mtime = timesOf(hdr)
	s.setgid = hdr.Mode&unix.S_ISGID != 0
}

// descend opens the directory dir of the layer, and makes what is missing of
// it. Every step goes one component down from a descriptor, and follows no
// link; one that is a link is resolved from the root.
func (u *unpacker) descend(dir string) (step, error) {
	keep := 1
	for keep < len(u.steps) && !u.stale && isBelow(dir, u.steps[keep].name) {
		keep++
	}
	if err := u.ascend(keep); err != nil {
		return step{}, err
	}
	u.stale = false
	if dir == "." {
		return u.steps[0], nil
	}
	rest := dir
	if keep > 1 {
		rest = strings.TrimPrefix(dir[len(u.steps[keep-1].name):], "/")
	}
	for rest != "" {
		var component string
		component, rest, _ = strings.Cut(rest, "/")
		if err := u.enter(component); err != nil {
			return step{}, fmt.Errorf("parent directory: %w", err)
		}
	}
	return u.steps[len(u.steps)-1], nil
}

// isBelow tells whether the path dir is that of the directory, or leads
// through it.
func isBelow(dir, directory string) bool {
	rest, found := strings.CutPrefix(dir, directory)
	return found && (rest == "" || rest[0] == '/')
}

// ascend leaves all directories but the first n.
func (u *unpacker) ascend(n int) (err error) {
	for len(u.steps) > n {
		last := u.steps[len(u.steps)-1]
		u.steps = u.steps[:len(u.steps)-1]
		var e error
		if !u.live() || !u.unlisted[last.path] { // what others made keeps the time of its change
			e = setTimes(last.fd, ".", last.atime, last.mtime)
		}
		_ = unix.Close(last.fd) // O_PATH: there is nothing to lose
		if e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", last.name, e))
		}
	}
	return err
}

// enter goes into a directory, which is made if it is missing.
func (u *unpacker) enter(component string) error {
	top := u.steps[len(u.steps)-1]
	name := path.Join(top.name, component)
	if len(u.steps) > maxDepth {
		return &LimitError{What: "directories in a path", Limit: maxDepth}
	}
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
	real := path.Join(top.path, component)
	open := func() (int, error) { return unix.Openat(top.fd, component, flags|unix.O_NOFOLLOW, 0) }
	fd, err := sys.Number("openat", open)
	if errors.Is(err, unix.ENOTDIR) {
		if fd, err = openInRoot(u.steps[0].fd, name, flags); err == nil {
			real, err = u.pathOf(fd)
		}
	}
	if isMissing(err) {
		if err := u.makeUnlisted(entry{parent: top, base: component, path: real, hdr: &unlistedHeader}); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fd, err = sys.Number("openat", open)
	}
	if err == nil && int64(len(real)) > u.maxPath { // links lead further than names
		err = &LimitError{What: "bytes in a path", Limit: u.maxPath}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, errors.Join(err, closeIf(fd)))
	}
	return u.push(name, real, fd)
}

// closeIf closes a descriptor, if it is one.
func closeIf(fd int) error {
	if fd >= 0 {
		return sys.Close(fd)
	}
	return nil
}

// pathOf returns the path of a directory in the layer.
func (u *unpacker) pathOf(fd int) (string, error) {
	full, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	return path.Clean("." + strings.TrimPrefix(full, u.rootPath)), err
}

// push makes an open directory the last step.
func (u *unpacker) push(name, path string, fd int) error {
	var stat unix.Stat_t
	if err := sys.Call("fstat", func() error { return unix.Fstat(fd, &stat) }); err != nil {
		return errors.Join(err, sys.Close(fd))
	}
	u.steps = append(u.steps, step{name: name, path: path, fd: fd, setgid: stat.Mode&unix.S_ISGID != 0, atime: stat.Atim, mtime: stat.Mtim})
	return nil
}

// unlistedHeader is the entry of a directory that has none: root's, mode 0755,
// of the time zero. The layer's note says so, see fixer.
var unlistedHeader = tar.Header{Typeflag: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(0, 0)}

// makeUnlisted makes a directory that the archive has not listed so far.
func (u *unpacker) makeUnlisted(e entry) error {
	if err := errors.Join(u.budget.entries.take(1), u.budget.unlisted.take(int64(len(e.path)))); err != nil {
		return err
	}
	u.unlisted[e.path] = true
	fresh, err := u.mkdir(e)
	if err != nil {
		return err
	}
	return u.finish(e, fresh)
}

// openInRoot opens name below the directory root, as chroot(2) would make
// name and every symbolic link in it mean (openat2(2)).
func openInRoot(root int, name string, flags uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := sys.Number("openat2", func() (int, error) { return unix.Openat2(root, name, &how) })
		if !errors.Is(err, unix.EAGAIN) { // something was renamed meanwhile
			return fd, err
		}
	}
}

// isMissing tells whether a directory must be made, or takes the place of a
// whiteout.
func isMissing(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) }

func setTimes(parent int, base string, atime, mtime unix.Timespec) error {
	times := []unix.Timespec{atime, mtime}
	return sys.Call("utimensat", func() error { return unix.UtimesNanoAt(parent, base, times, unix.AT_SYMLINK_NOFOLLOW) })
}

func timespec(t time.Time) unix.Timespec {
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}
