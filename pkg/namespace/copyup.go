package namespace

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// CopyUp makes, in the parent, each tmpfs that is to begin with what the
// container's root has in its place: the option tmpcopyup. What that is, a
// plan can't know. The child attaches it like a copied mount.
func CopyUp(b *plan.Builder, s *specs.Spec, h Host) {
	c := &copier{memoryOf(s)}
	for i, m := range s.Mounts {
		o := optionsOf(m.Options)
		if !o.copyUp {
			continue
		}
		if label := s.Linux.MountLabel; label != "" {
			o.data = append(o.data, "context="+label)
		}
		b.Section(plan.Parent, "sources", "copy files that a new file system will hide")
		b.At(fmt.Sprintf("/mounts/%d", i))
		b.Act("a tmpfs that begins with what the root has at "+m.Destination,
			fmt.Sprintf("%s = fsmount(tmpfs, %q), and copy(%q, %[1]s)", sourceOf(i), o.data, path.Join(h.Rootfs, m.Destination)),
			func(r *plan.Run) error {
				fd, err := tmpfs(m.Source, o)
				if err != nil {
					return err
				}
				r.Fd[sourceOf(i)] = fd
				return c.copyUp(h.Rootfs, m.Destination, fd)
			})
	}
}

// memoryOf is how many bytes are copied at most: what is copied here the kernel
// counts as the runtime's memory, and not as the container's.
func memoryOf(s *specs.Spec) int64 {
	if r := s.Linux.Resources; r != nil && r.Memory != nil && r.Memory.Limit != nil && *r.Memory.Limit > 0 {
		return *r.Memory.Limit
	}
	return math.MaxInt64
}

// tmpfs makes a mount that is attached nowhere.
func tmpfs(source string, o options) (mount int, err error) {
	fsfd, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fsfd)
	err = unix.FsconfigSetString(fsfd, "source", source)
	for _, d := range o.data {
		if key, value, ok := strings.Cut(d, "="); ok {
			err = errors.Join(err, unix.FsconfigSetString(fsfd, key, value))
		} else {
			err = errors.Join(err, unix.FsconfigSetFlag(fsfd, d))
		}
	}
	if err = errors.Join(err, unix.FsconfigCreate(fsfd)); err != nil {
		return -1, fmt.Errorf("fsconfig: %w", err)
	}
	attr := (o.one.set | o.all.set) &^ unix.MOUNT_ATTR_RDONLY // it is filled first, and read-only once it is attached
	if mount, err = unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, int(attr)); err != nil {
		return -1, fmt.Errorf("fsmount: %w", err)
	}
	return mount, nil
}

// A copier copies files, as long as there is room for them in memory.
type copier struct{ budget int64 }

// entrySize is about what the kernel takes for a file in memory, in bytes.
const entrySize = 1 << 10

// maxDepth is how many directories may lie in one another: some descriptors are
// open for each.
const maxDepth = 200

func (c *copier) take(bytes int64) error {
	if c.budget -= bytes; c.budget < 0 {
		return fmt.Errorf("there is more to copy than the memory that the container may have: %w", unix.ENOSPC)
	}
	return nil
}

// copyUp copies what is at a name inside a root to a directory. A name that is
// not there has nothing to copy.
func (c *copier) copyUp(root, name string, to int) error {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", root, err)
	}
	defer unix.Close(dir)
	from, err := unix.Openat2(dir, name, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: inRoot})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s inside %s: %w", name, root, err)
	}
	defer unix.Close(from)
	// A mount's own descriptor is an O_PATH one.
	top, err := unix.Openat(to, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(top)
	return c.tree(from, top, 0)
}

// tree copies the owner and the mode of a directory, and all that is in
// it. Entries are opened by their directories, and no link is followed.
func (c *copier) tree(from, to, depth int) error {
	if depth == maxDepth {
		return fmt.Errorf("more than %d directories in one another: %w", maxDepth, unix.ELOOP)
	}
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return err
	}
	if err := errors.Join(unix.Fchown(to, int(st.Uid), int(st.Gid)), unix.Fchmod(to, st.Mode&0o7777)); err != nil {
		return err
	}
	again, err := unix.Openat(from, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(again), "a directory to be copied")
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	for _, name := range names {
		if err := c.entry(from, to, name, depth); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return err
}

func (c *copier) entry(from, to int, name string, depth int) error {
	if err := c.take(entrySize); err != nil {
		return err
	}
	// To open a device does something, so what it is comes first.
	source, err := unix.Openat(from, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(source)
	var st unix.Stat_t
	if err := unix.Fstat(source, &st); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if err := unix.Mkdirat(to, name, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		return both(source, to, name, unix.O_RDONLY|unix.O_DIRECTORY, func(in, out int) error { return c.tree(in, out, depth+1) })
	case unix.S_IFREG:
		return both(source, to, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, func(in, out int) error {
			if err := errors.Join(unix.Fchown(out, int(st.Uid), int(st.Gid)), unix.Fchmod(out, st.Mode&0o7777)); err != nil {
				return err
			}
			return c.file(in, out, st.Size)
		})
	case unix.S_IFLNK:
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(source, "", target)
		if err == nil {
			err = unix.Symlinkat(string(target[:n]), to, name)
		}
		return errors.Join(err, unix.Fchownat(to, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW))
	default: // a device or a socket is not copied into memory
		return nil
	}
}

// both opens a file or a directory, and what it is copied to.
func both(source, to int, name string, flags int, do func(in, out int) error) error {
	in, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", source), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(in)
	out, err := unix.Openat(to, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	err = do(in, out)
	return errors.Join(err, unix.Close(out))
}

// file copies what is written in a file, and leaves its holes.
func (c *copier) file(in, out int, size int64) error {
	if err := unix.Ftruncate(out, size); err != nil {
		return err
	}
	for at := int64(0); at < size; {
		data, err := unix.Seek(in, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // nothing but a hole follows
		}
		if err != nil {
			return err
		}
		if at, err = unix.Seek(in, data, unix.SEEK_HOLE); err != nil {
			return err
		}
		if err := c.take(at - data); err != nil {
			return err
		}
		if err := copyRange(in, out, data, at); err != nil {
			return err
		}
	}
	return nil
}

func copyRange(in, out int, from, to int64) error {
	if _, err := unix.Seek(out, from, unix.SEEK_SET); err != nil {
		return err
	}
	for from < to {
		n, err := unix.Sendfile(out, in, &from, int(min(to-from, 1<<30)))
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
	}
	return nil
}
