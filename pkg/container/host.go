package container

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/cgroup"
	"github.com/minictr/minictr/pkg/namespace"
	"github.com/minictr/minictr/pkg/spec"
	"github.com/minictr/minictr/pkg/sys"
)

// Inspect finds out what Compile needs to know of this machine for a bundle.
// It changes nothing and needs no privilege. Units, if not nil, is who is to
// make the cgroup. Enters says that a user who is not root will be that of a user
// namespace before. Made are files that are yet to be made, and directories, with a
// slash at the end.
func Inspect(id, bundle string, s *specs.Spec, units Units, enters bool, made ...string) (h Host, err error) {
	if h.Bundle, err = filepath.Abs(bundle); err != nil {
		return h, err
	}
	if h.Rootfs, err = rootfs(h.Bundle, s); err != nil {
		return h, err
	}
	if h.Files, err = sources(h.Bundle, s, made); err != nil {
		return h, err
	}
	h.ID, h.OwnPIDs = id, namespace.IsNew(s, specs.PIDNamespace)
	if err := h.rootless(s, enters); err != nil {
		return h, err
	}
	if err := h.nodes(s); err != nil {
		return h, err
	}
	h.Process.LastCap, h.Process.OwnStdio = lastCap(), ownStdio(s)
	if h.Process.AppArmor, err = appArmor(s); err != nil {
		return h, err
	}
	if err := seLinux(s); err != nil {
		return h, err
	}
	if !namespace.Layered(s) {
		h.Process.Home = home(h.Rootfs, s)
	}
	if s.Annotations[spec.Unlimited] != "" {
		return h, nil
	}
	if h.Cgroup, err = place(id, s.Linux.CgroupsPath, units); err != nil {
		return h, fmt.Errorf("/linux/cgroupsPath: %w", err)
	}
	if s.Linux.CgroupsPath == "" {
		h.Cgroup.Pointer = "/linux"
	}
	if h.Process.Rootless && units == nil {
		err = h.delegated(s)
	}
	for _, p := range h.Cgroup.Places {
		h.Cgroups = append(h.Cgroups, namespace.Cgroup{Name: p.Name, Source: p.Dir, V2: p.V2})
	}
	return h, err
}

// place is the container's place among the cgroups.
func place(id, path string, units Units) (cgroup.Group, error) {
	if units != nil {
		pid, err := units.PID()
		if err != nil {
			return cgroup.Group{}, err
		}
		layout, err := cgroup.DetectUnits(pid)
		if err != nil {
			return cgroup.Group{}, err
		}
		return layout.Scope(path, id)
	}
	layout, err := cgroup.Detect()
	if err != nil {
		return cgroup.Group{}, err
	}
	if path == "" {
		path = id
	}
	return layout.Group(path)
}

// rootfs is the root's directory, without symbolic links: move_mount(2)
// follows none at the end of a path.
func rootfs(bundle string, s *specs.Spec) (string, error) {
	path := s.Root.Path
	if !filepath.IsAbs(path) {
		path = filepath.Join(bundle, path)
	}
	if namespace.Layered(s) {
		return path, nil // it is made with the bundle
	}
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("/root/path: %w", err)
	}
	if fi, err := os.Stat(resolved); err != nil || !fi.IsDir() {
		return "", fmt.Errorf("/root/path: %s is not a directory", path)
	}
	return resolved, nil
}

// appArmor is the file by which a profile is set, below /proc/PID/attr. Kernels
// before Linux 5.8 have one for all LSMs.
func appArmor(s *specs.Spec) (file string, err error) {
	if s.Process.ApparmorProfile == "" {
		return "", nil
	}
	if on, _ := sys.ReadFile("/sys/module/apparmor/parameters/enabled"); !bytes.HasPrefix(on, []byte("Y")) {
		return "", errors.New("/process/apparmorProfile: AppArmor is not enabled on this host")
	}
	if err := unix.Access("/proc/self/attr/apparmor/exec", unix.F_OK); err != nil {
		return "exec", nil //nolint:nilerr // an older kernel
	}
	return "apparmor/exec", nil
}

// seLinux refuses labels that nobody would heed, selinux(8).
func seLinux(s *specs.Spec) error {
	for _, l := range [...]struct{ pointer, label string }{
		{"/process/selinuxLabel", s.Process.SelinuxLabel}, {"/linux/mountLabel", s.Linux.MountLabel},
	} {
		if l.label == "" {
			continue
		}
		if known, _ := sys.ReadFile("/proc/filesystems"); !bytes.Contains(known, []byte("\tselinuxfs\n")) {
			return fmt.Errorf("%s: SELinux is not enabled on this host", l.pointer)
		}
	}
	return nil
}

// home is where the user is at home, by the container's own list of users.
func home(root string, s *specs.Spec) string {
	if spec.HasHome(s) {
		return ""
	}
	return spec.Home(reader(root), s.Process.User.UID)
}

// reader reads files of a container. They may be anybody's: no link leads out,
// and neither a long one nor a device is read.
func reader(root string) spec.FileReader {
	return func(name string) ([]byte, error) {
		path, err := locate(root, name, 0) // to open a device does something, whatever comes after it
		if err != nil {
			return nil, err
		}
		defer unix.Close(path)
		var st unix.Stat_t
		if err := unix.Fstat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxPasswd {
			return nil, errors.Join(err, fs.ErrNotExist)
		}
		fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", path), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		defer unix.Close(fd)
		text := make([]byte, st.Size)
		n, err := unix.Read(fd, text)
		return text[:max(n, 0)], err
	}
}

// Reader reads files of a running container's root, such as its list of users.
func (s *State) Reader() spec.FileReader { return reader(fmt.Sprintf("/proc/%d/root", s.PID)) }

// maxPasswd is the longest list of users that is read, in bytes.
const maxPasswd = 1 << 20

// sources tells which bind mounts are of files.
func sources(bundle string, s *specs.Spec, made []string) (map[string]bool, error) {
	files := make(map[string]bool)
	for i, m := range s.Mounts {
		if !namespace.IsBind(m) {
			continue
		}
		source := namespace.Source(m, bundle)
		if file := slices.Contains(made, m.Source); file || slices.Contains(made, m.Source+"/") {
			files[source] = file
			continue
		}
		var st unix.Stat_t
		if err := unix.Stat(source, &st); err != nil {
			return nil, fmt.Errorf("/mounts/%d/source: %s: %w", i, source, err)
		}
		files[source] = st.Mode&unix.S_IFMT != unix.S_IFDIR
	}
	return files, nil
}

// nodes finds the devices that are there already, and refuses other files in
// their place: they may be the host's.
func (h *Host) nodes(s *specs.Spec) error {
	for i, d := range s.Linux.Devices {
		top, rest := namespace.Under(s, h.Host, d)
		var st unix.Stat_t
		if top == "" || lstat(top, rest, &st) != nil { // not there, or not to be seen by us
			continue
		}
		switch is, nothing := namespace.IsNode(s, h.Host, d, &st); {
		case is:
			h.Nodes = append(h.Nodes, filepath.Clean("/"+d.Path))
		case !nothing:
			return fmt.Errorf("/linux/devices/%d/path: another file is at %s", i, d.Path)
		}
	}
	return nil
}

// lstat looks at a file below a directory as if that were the root; without a
// name at the directory's own place, where a file may be.
func lstat(top, name string, st *unix.Stat_t) error {
	if name == "" {
		return unix.Stat(top, st)
	}
	file, err := locate(top, name, unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer unix.Close(file)
	return unix.Fstat(file, st)
}

// locate finds a file below a directory as if that were the root, and opens
// nothing but its place, O_PATH.
func locate(root, name string, flags uint64) (int, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	return unix.Openat2(dir, name, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC | flags, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
}

// lastCap is the highest capability that this kernel knows.
func lastCap() int {
	last := unix.CAP_LAST_CAP
	for unix.Prctl(unix.PR_CAPBSET_READ, uintptr(last+1), 0, 0, 0) == nil {
		last++
	}
	for last > 0 && unix.Prctl(unix.PR_CAPBSET_READ, uintptr(last), 0, 0, 0) != nil {
		last--
	}
	return last
}

// ownStdio lists the standard streams that are pipes, if the container's user
// is not root: it could not open /dev/stdout otherwise, since a pipe belongs
// to whoever made it. A terminal's owner is not ours to change.
func ownStdio(s *specs.Spec) (fds []int) {
	if s.Process.User.UID == 0 || s.Process.Terminal {
		return nil
	}
	for fd := range 3 {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO {
			fds = append(fds, fd)
		}
	}
	return fds
}
