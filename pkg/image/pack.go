package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/overlay"
	"github.com/minictr/minictr/pkg/sys"
)

// Pack writes the tar of what overlayfs shows of the directories, the top one
// first, without their roots: the names in order, and all that a layer can
// hold of a file, so that the same tree is always the same archive. A time
// later than newest, unless that is zero, becomes newest.
func Pack(w io.Writer, dirs []string, newest time.Time) error { return pack(w, dirs, nil, newest) }

// PackUpper writes the layer that the upper directory of an overlayfs is. What
// overlayfs has there for itself, the layer says in its own words: a device 0:0
// is a whiteout, and the attribute of an opaque directory an entry in it
// (image-spec, layer.md). An empty file that a mount has covered says nothing and
// is left out.
func PackUpper(w io.Writer, dir string, covered []string) error {
	return pack(w, []string{dir}, covered, time.Time{})
}

// Pack writes the tar of a file that Find has found, and of all that is in it,
// under another name; that of a directory's contents is ".". Others may change
// the tree meanwhile: no device and no pipe is opened, and no link is followed.
// What is in /proc and other file systems of the kernel's is left out.
func (f *File) Pack(w io.Writer, name string, owner Owner) error {
	p := &packer{out: tar.NewWriter(w), links: map[inode]string{}, owner: owner}
	if err := p.entry(name, f.Base, []*os.File{f.Dir}); err != nil {
		return fmt.Errorf("pack: %.300q: %w", name, err)
	}
	return p.out.Close()
}

// pack packs the upper directory of an overlayfs if covered is not nil.
func pack(w io.Writer, dirs, covered []string, newest time.Time) (err error) {
	p := &packer{out: tar.NewWriter(w), layer: covered != nil, covered: covered, newest: newest, links: map[inode]string{}}
	var roots []*os.File
	defer func() { err = errors.Join(err, closeAll(roots)) }()
	for _, dir := range dirs {
		root, err := os.Open(dir)
		if err != nil {
			return err
		}
		roots = append(roots, root)
		if isOpaque(int(root.Fd())) {
			break
		}
	}
	if err := p.directory("", roots); err != nil {
		return err
	}
	return p.out.Close()
}

// packer writes one archive. The files may be changed meanwhile, by whoever
// lives in them: each is opened relative to its directory, and never through a
// symbolic link.
type packer struct {
	out     *tar.Writer
	layer   bool
	covered []string // "/etc/hosts"
	newest  time.Time
	links   map[inode]string // the first name of each file that has several
	owner   Owner            // nil: they are as they are
}

type inode struct{ dev, ino uint64 }

func closeAll(files []*os.File) (err error) {
	for _, f := range files {
		err = errors.Join(err, f.Close())
	}
	return err
}

// directory writes what is in the directories of one name, the top one first.
func (p *packer) directory(name string, dirs []*os.File) error {
	top := map[string]int{}
	for i, dir := range dirs {
		names, err := dir.Readdirnames(-1)
		if err != nil {
			return fmt.Errorf("pack: %w", err)
		}
		for _, base := range names {
			if _, found := top[base]; !found {
				top[base] = i
			}
		}
	}
	for _, base := range slices.Sorted(maps.Keys(top)) {
		full := path.Join(name, base)
		if err := p.entry(full, base, dirs[top[base]:]); err != nil && !errors.Is(err, unix.ENOENT) { // else it has just been removed
			return fmt.Errorf("pack: %.300q: %w", full, err)
		}
	}
	return nil
}

// entry writes what the first of the directories has under the name base.
func (p *packer) entry(name, base string, dirs []*os.File) error {
	dir := int(dirs[0].Fd())
	var stat unix.Stat_t
	if err := unix.Fstatat(dir, base, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return os.NewSyscallError("fstatat", err)
	}
	switch {
	case overlay.IsWhiteout(&stat) && !p.layer:
		return nil
	case overlay.IsWhiteout(&stat):
		return p.out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path.Join(path.Dir(name), whiteoutPrefix+base), ModTime: mtime(&stat), Format: tar.FormatPAX})
	case p.layer && strings.HasPrefix(base, whiteoutPrefix):
		return errors.New("in a layer this name says that another one is deleted: rename it")
	}
	hdr := &tar.Header{
		Name: name, Mode: int64(stat.Mode & 0o7777), Uid: int(stat.Uid), Gid: int(stat.Gid), ModTime: mtime(&stat), Format: tar.FormatPAX,
	}
	if err := p.owned(hdr); err != nil {
		return err
	}
	if !p.newest.IsZero() && hdr.ModTime.After(p.newest) {
		hdr.ModTime = p.newest
	}
	kind := stat.Mode & unix.S_IFMT
	if kind == unix.S_IFSOCK || kind == unix.S_IFREG && stat.Size == 0 && slices.Contains(p.covered, "/"+name) {
		return nil // nothing without the process that listens, or what was mounted
	}
	if id := (inode{stat.Dev, stat.Ino}); stat.Nlink > 1 && kind != unix.S_IFDIR {
		if first, found := p.links[id]; found {
			hdr.Typeflag, hdr.Linkname = tar.TypeLink, first
			return p.out.WriteHeader(hdr)
		}
		p.links[id] = name
	}
	if err := p.xattrs(hdr, dir, base); err != nil {
		return err
	}
	switch kind {
	case unix.S_IFDIR:
		return p.subdirectory(hdr, base, dirs)
	case unix.S_IFREG:
		return p.file(hdr, dir, base)
	case unix.S_IFLNK:
		target := make([]byte, maxLinkText+1)
		n, err := unix.Readlinkat(dir, base, target)
		if err != nil {
			return os.NewSyscallError("readlinkat", err)
		}
		hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, string(target[:n])
	case unix.S_IFIFO:
		hdr.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		hdr.Typeflag = tar.TypeBlock
		if kind == unix.S_IFCHR {
			hdr.Typeflag = tar.TypeChar
		}
		hdr.Devmajor, hdr.Devminor = int64(unix.Major(stat.Rdev)), int64(unix.Minor(stat.Rdev))
	}
	return p.out.WriteHeader(hdr)
}

// owned gives an entry another owner, if that is asked for.
func (p *packer) owned(hdr *tar.Header) (err error) {
	if p.owner != nil {
		hdr.Uid, hdr.Gid, err = p.owner(hdr.Uid, hdr.Gid)
	}
	return err
}

func mtime(stat *unix.Stat_t) time.Time { return time.Unix(stat.Mtim.Sec, stat.Mtim.Nsec) }

// subdirectory writes a directory and what is in it, in the lower ones too.
func (p *packer) subdirectory(hdr *tar.Header, base string, dirs []*os.File) (err error) {
	var merged []*os.File
	defer func() { err = errors.Join(err, closeAll(merged)) }()
	opaque := false
	for _, dir := range dirs {
		fd, err := unix.Openat(int(dir.Fd()), base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT {
			continue
		}
		if err == unix.ENOTDIR || err == unix.ELOOP {
			break // what lies below a file is hidden
		}
		if err != nil {
			return os.NewSyscallError("openat", err)
		}
		merged = append(merged, os.NewFile(uintptr(fd), base))
		if opaque = isOpaque(fd); opaque {
			break
		}
	}
	name := hdr.Name
	hdr.Typeflag, hdr.Name = tar.TypeDir, name+"/"
	if err := p.out.WriteHeader(hdr); err != nil {
		return err
	}
	if p.layer && opaque {
		err := p.out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path.Join(name, opaqueName), ModTime: hdr.ModTime, Format: tar.FormatPAX})
		if err != nil {
			return err
		}
	}
	if len(merged) > 0 && isKernels(int(merged[0].Fd())) {
		return nil
	}
	return p.directory(name, merged)
}

// isKernels says whether a directory shows what the kernel makes up: such files
// have no size, and no end.
func isKernels(dir int) bool {
	var fs unix.Statfs_t
	if err := sys.Call("fstatfs", func() error { return unix.Fstatfs(dir, &fs) }); err != nil {
		return false
	}
	switch fs.Type {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC, mqueueMagic:
		return true
	}
	return false
}

const mqueueMagic = 0x19800202 // ipc/mqueue.c

// file writes a regular file. Its holes are not read.
func (p *packer) file(hdr *tar.Header, dir int, base string) (err error) {
	f, err := openRegular(dir, base)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	fd := int(f.Fd())
	hdr.Typeflag, hdr.Size = tar.TypeReg, info.Size()
	if err := p.out.WriteHeader(hdr); err != nil {
		return err
	}
	for at := int64(0); at < hdr.Size; {
		data, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			data = hdr.Size // there is none up to the end
		} else if err != nil {
			return os.NewSyscallError("lseek", err)
		}
		if data = min(data, hdr.Size); data > at {
			if _, err := io.CopyN(p.out, zeros{}, data-at); err != nil {
				return err
			}
		}
		hole := data
		if data < hdr.Size {
			if hole, err = unix.Seek(fd, data, unix.SEEK_HOLE); err != nil {
				return os.NewSyscallError("lseek", err)
			}
			hole = min(hole, hdr.Size)
		}
		if _, err := io.CopyN(p.out, io.NewSectionReader(f, data, hole-data), hole-data); err != nil {
			return fmt.Errorf("is shorter than it was: %w", err)
		}
		at = hole
	}
	return nil
}

// openRegular opens a file that is nothing but regular: to open a device may do
// something, and a pipe waits.
func openRegular(dir int, base string) (*os.File, error) {
	fd, err := sys.Number("openat", func() (int, error) {
		return unix.Openat(dir, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd) // O_PATH: nothing to lose
	var stat unix.Stat_t
	if err := sys.Call("fstat", func() error { return unix.Fstat(fd, &stat) }); err != nil {
		return nil, err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errReplaced
	}
	return os.OpenFile("/proc/self/fd/"+strconv.Itoa(fd), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0) // a lease would hold us up
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// xattrs adds the extended attributes. Those of overlayfs say what is said
// otherwise, and a label of SELinux belongs to this machine's policy.
func (p *packer) xattrs(hdr *tar.Header, dir int, base string) error {
	file := "/proc/self/fd/" + strconv.Itoa(dir) + "/" + base
	list, err := readXattr("llistxattr", func(b []byte) (int, error) { return unix.Llistxattr(file, b) })
	if err != nil && !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	for name := range strings.SplitSeq(string(list), "\x00") {
		if name == "trusted.overlay.redirect" || name == "trusted.overlay.metacopy" {
			return fmt.Errorf("attribute %s: overlayfs keeps only a reference here: mount with redirect_dir=off and metacopy=off", name)
		}
		if name == "" || isOverlayXattr(name) || name == "security.selinux" || strings.Contains(name, "=") {
			continue // PAX can't have the last
		}
		value, err := readXattr("lgetxattr", func(b []byte) (int, error) { return unix.Lgetxattr(file, name, b) })
		if err != nil {
			return fmt.Errorf("attribute %q: %w", name, err)
		}
		if hdr.PAXRecords == nil {
			hdr.PAXRecords = map[string]string{}
		}
		hdr.PAXRecords[paxXattr+name] = string(value)
	}
	return nil
}
