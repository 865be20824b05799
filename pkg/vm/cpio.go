package vm

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// An archive is an initramfs, a file in cpio's "newc" format, which the kernel
// unpacks into its first root:
// Documentation/driver-api/early-userspace/buffer-format.rst. It has no
// extended attributes, so what is in them (file capabilities) is lost.
type archive struct {
	out   *bufio.Writer
	size  int64
	inode uint32
	links map[[2]uint64]uint32 // inodes of files with several names, by device and inode
	made  map[string]bool      // directories that are there
}

func newArchive(w io.Writer) *archive {
	return &archive{out: bufio.NewWriterSize(w, 1<<20), links: make(map[[2]uint64]uint32), made: make(map[string]bool)}
}

// A header is the part of an entry before its name.
type header struct {
	inode, mode, uid, gid, nlink uint32
	mtime, size                  int64
	major, minor                 uint32 // of a device node
}

func (a *archive) header(name string, h header) error {
	if h.size > math.MaxUint32 {
		return fmt.Errorf("vm: %s has %d bytes, more than an initramfs can hold in a file", name, h.size)
	}
	if h.inode == 0 {
		a.inode++
		h.inode = a.inode
	}
	n, err := fmt.Fprintf(a.out, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		h.inode, h.mode, h.uid, h.gid, max(h.nlink, 1), uint32(h.mtime), h.size, 0, 0, h.major, h.minor, len(name)+1, 0, name)
	a.size += int64(n)
	a.pad()
	return err
}

// pad fills up to a multiple of four.
func (a *archive) pad() {
	n, _ := a.out.Write(make([]byte, -a.size&3)) // its error sticks, bufio.Writer
	a.size += int64(n)
}

func (a *archive) dir(name string) error {
	return a.header(name, header{mode: unix.S_IFDIR | 0o755, nlink: 2})
}

// bytes adds a file of these bytes.
func (a *archive) bytes(name string, mode uint32, data []byte) error {
	if err := a.header(name, header{mode: unix.S_IFREG | mode, size: int64(len(data))}); err != nil {
		return err
	}
	return a.data(data)
}

func (a *archive) data(data []byte) error {
	n, err := a.out.Write(data)
	a.size += int64(n)
	a.pad()
	return err
}

// file adds the file that lies at path on the host, whatever its type, and
// calls it name.
func (a *archive) file(name, path string, st *unix.Stat_t) error {
	h := header{
		mode: st.Mode, uid: st.Uid, gid: st.Gid, nlink: uint32(st.Nlink), mtime: st.Mtim.Sec,
		major: unix.Major(st.Rdev), minor: unix.Minor(st.Rdev),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		h.size = int64(len(target))
		if err := a.header(name, h); err != nil {
			return err
		}
		return a.data([]byte(target))
	case unix.S_IFREG:
		return a.regular(name, path, h, st)
	}
	return a.header(name, h)
}

// regular adds a file with content. Of several names of one file the first
// brings the content.
func (a *archive) regular(name, path string, h header, st *unix.Stat_t) error {
	if st.Nlink > 1 {
		key := [2]uint64{uint64(st.Dev), st.Ino}
		if h.inode = a.links[key]; h.inode != 0 {
			return a.header(name, h)
		}
		a.inode++
		h.inode, a.links[key] = a.inode, a.inode
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h.size = st.Size
	if err := a.header(name, h); err != nil {
		return err
	}
	n, err := io.CopyN(a.out, f, h.size) // not a byte more: it may be written to
	a.size += n
	a.pad()
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// end finishes the archive. It is the only call whose error must be looked at.
func (a *archive) end() error {
	if err := a.header("TRAILER!!!", header{}); err != nil {
		return err
	}
	return a.out.Flush()
}
