package vm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mount makes the directory and mounts on it.
func mount(source, kind, at string, flags uintptr, options string) error {
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, at, kind, flags, options); err != nil {
		return fmt.Errorf("mount %s on %s: %w", kind, at, err)
	}
	return nil
}

// switchRoot moves a mount onto the root, with all that is mounted below it.
func switchRoot(dir string) error {
	if err := os.Chdir(dir); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move %s to /: %w", dir, err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	return os.Chdir("/")
}

// load loads a kernel module, finit_module(2). One that is built in or loaded
// already is no error.
func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("finit_module %s: %w", filepath.Base(path), err)
	}
	return nil
}

// loopback brings the interface lo up.
func loopback() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(socket)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}

// Cgroup says which cgroup hierarchies a machine mounts.
type Cgroup string

// The layouts of cgroup hierarchies.
const (
	CgroupV2     Cgroup = "v2"
	CgroupV1     Cgroup = "v1"
	CgroupHybrid Cgroup = "hybrid"
)

// mount mounts the hierarchies as systemd would, file-hierarchy(7).
func (c Cgroup) mount(top string) error {
	if c == CgroupV2 {
		return mount("cgroup2", "cgroup2", top, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	}
	if err := mount("tmpfs", "tmpfs", top, 0, "mode=0755"); err != nil {
		return err
	}
	text, err := os.ReadFile("/proc/cgroups")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line) // name, hierarchy, number of cgroups, enabled
		if len(fields) != 4 || fields[3] != "1" {
			continue
		}
		if err := mount("cgroup", "cgroup", filepath.Join(top, fields[0]), 0, fields[0]); err != nil {
			return err
		}
	}
	if err := mount("cgroup", "cgroup", filepath.Join(top, "systemd"), 0, "none,name=systemd"); err != nil || c == CgroupV1 {
		return err
	}
	return mount("cgroup2", "cgroup2", filepath.Join(top, "unified"), 0, "")
}
