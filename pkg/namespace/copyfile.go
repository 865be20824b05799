package namespace

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// A mount of type tmpfs with the option copyfile shows one file, which is a copy
// of its source in memory: what is in it stands on no disk, and in no file of
// the runtime. All copies are in one file system, which the root covers.

// fileCopies is the input that is their file system.
const fileCopies plan.Reg = "copies"

// maxCopy is how long a file may be that is copied into memory, in bytes.
const maxCopy = 1 << 20

// IsCopy says whether a mount shows a copy of a file of the host.
func IsCopy(m specs.Mount) bool { return m.Type == "tmpfs" && slices.Contains(m.Options, "copyfile") }

// CopyFiles copies, in the parent, the sources of such mounts into a file
// system that is attached nowhere.
func CopyFiles(b *plan.Builder, s *specs.Spec) {
	if !slices.ContainsFunc(s.Mounts, IsCopy) {
		return
	}
	b.Section(plan.Parent, "copies", "copy files that shall be in memory only")
	b.At("/mounts")
	b.Act("their file system, which is never swapped out if the kernel knows how", fmt.Sprintf("%s = fsmount(tmpfs, noswap)", fileCopies), func(r *plan.Run) error {
		o := options{data: []string{"mode=711"}} // who shall attach a file may be nobody here
		fd, err := tmpfs("copies", options{data: append(o.data, "noswap")})
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) { // before Linux 6.4, or in a user namespace
			fd, err = tmpfs("copies", o)
		}
		if err == nil {
			r.Fd[fileCopies] = fd
		}
		return err
	})
	for i, m := range s.Mounts {
		if !IsCopy(m) {
			continue
		}
		b.At(fmt.Sprintf("/mounts/%d", i))
		b.Act("a copy of what is in "+m.Source+" now", fmt.Sprintf("sendfile(openat(%s, \"%d\"), open(%q))", fileCopies, i, m.Source),
			func(r *plan.Run) error { return copyInto(r.Fd[fileCopies], strconv.Itoa(i), m, s) })
	}
}

// copyInto makes a file of a directory a copy of a mount's source.
func copyInto(dir int, name string, m specs.Mount, s *specs.Spec) error {
	in, err := unix.Open(m.Source, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", m.Source, err)
	}
	defer unix.Close(in)
	var st unix.Stat_t
	if err := unix.Fstat(in, &st); err != nil {
		return err
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("%s is no file", m.Source)
	case st.Size > maxCopy:
		return fmt.Errorf("%s is longer than %d bytes: %w", m.Source, maxCopy, unix.EFBIG)
	}
	out, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	user, group, mode := ownerOf(m)
	uid, err := hostID(s.Linux.UIDMappings, user)
	gid, e := hostID(s.Linux.GIDMappings, group)
	if err := errors.Join(err, e); err != nil {
		return err
	}
	err = errors.Join(copyRange(in, out, 0, st.Size), unix.Fchown(out, int(uid), int(gid)), unix.Fchmod(out, mode), unix.Close(out))
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%s has become shorter meanwhile", m.Source)
	}
	return err
}

// hostID is an id as it is written outside of a user namespace with these maps.
func hostID(maps []specs.LinuxIDMapping, id uint32) (uint32, error) {
	host, ok := outside(maps, id)
	switch {
	case len(maps) == 0:
		return id, nil
	case !ok:
		return 0, fmt.Errorf("the user namespace has nobody with the id %d", id)
	}
	return host, nil
}

// ownerOf is whose file the options of a mount want, and its mode.
func ownerOf(m specs.Mount) (uid, gid, mode uint32) {
	mode = 0o400
	for _, option := range m.Options {
		key, value, _ := strings.Cut(option, "=")
		n, err := strconv.ParseUint(value, 10, 31)
		switch {
		case key == "mode":
			if bits, err := strconv.ParseUint(value, 8, 12); err == nil {
				mode = uint32(bits)
			}
		case err != nil:
		case key == "uid":
			uid = uint32(n)
		case key == "gid":
			gid = uint32(n)
		}
	}
	return uid, gid, mode
}

// keepCopies puts the copies where the root is about to cover them: of a mount
// that is attached nowhere, parts can't be mounted.
func (m *maker) keepCopies(s *specs.Spec, h Host) {
	if slices.ContainsFunc(s.Mounts, IsCopy) {
		m.At("/mounts")
		m.Do("copies of files, kept where the root will cover them", plan.MoveMountAt(fileCopies, plan.AtFdcwd, h.Rootfs))
	}
}

// showCopy mounts a copy at its place.
func (m *maker) showCopy(i int, dest string, o options) {
	m.Get("mount", "the copy of the file", plan.OpenTree(fileCopies, strconv.Itoa(i), 0))
	m.bind("mount", o)
	m.attach("mount", dest, true, inRoot)
}
