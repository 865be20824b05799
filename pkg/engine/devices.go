package engine

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// setDevices shows devices of the host, each with a rule that says how it may
// be used. A directory stands for all devices below it.
func setDevices(w *wall, o Options) error {
	for _, text := range o.Devices {
		host, inside, access, err := parseDevice(text)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Stat(host, &st); err != nil {
			return fmt.Errorf("--device: %s: %w", host, err)
		}
		devices := []specs.LinuxDevice{nodeOf(host, &st)}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			devices = devicesBelow(host)
		}
		if len(devices) == 0 || devices[0].Type == "" {
			return fmt.Errorf("--device: %q is neither a device nor a directory of devices", host)
		}
		for _, d := range devices {
			shown := d.Path
			d.Path = path.Join(inside, strings.TrimPrefix(d.Path, host))
			if o.Nested != nil { // root of a user namespace makes no node, mknod(2)
				w.Mounts = append(w.Mounts, specs.Mount{Destination: d.Path, Type: "bind", Source: shown, Options: []string{"bind", "rprivate"}})
				continue
			}
			addNode(w.Spec, d)
			if !o.Privileged {
				rule := specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor, Access: access}
				w.Linux.Resources.Devices = append(w.Linux.Resources.Devices, rule)
			}
		}
	}
	return nil
}

// parseDevice reads HOST[:CONTAINER[:rwm]]; HOST:rwm is short for the same name
// inside.
func parseDevice(text string) (host, inside, access string, err error) {
	parts := strings.Split(text, ":")
	isAccess := func(s string) bool { return s != "" && strings.Trim(s, "rwm") == "" }
	host, inside, access = parts[0], parts[0], "rwm"
	switch {
	case len(parts) == 2 && isAccess(parts[1]):
		access = parts[1]
	case len(parts) == 2 || len(parts) == 3 && isAccess(parts[2]):
		inside = parts[1]
		access = strings.Join(append(parts[2:], access)[:1], "")
	case len(parts) != 1:
		host = ""
	}
	if !path.IsAbs(host) || !path.IsAbs(inside) || path.Clean(inside) == "/" {
		return "", "", "", fmt.Errorf("--device: %q is not HOST[:CONTAINER[:rwm]], with absolute paths", text)
	}
	return path.Clean(host), inside, access, nil
}

// nodeOf describes a device of the host; its type is "" if it is none.
func nodeOf(name string, st *unix.Stat_t) specs.LinuxDevice {
	mode := os.FileMode(st.Mode & 0o777)
	d := specs.LinuxDevice{
		Path: name, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
		FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		d.Type = "c"
	case unix.S_IFBLK:
		d.Type = "b"
	}
	return d
}

// addNode adds a device, in the place of one of the same name.
func addNode(s *specs.Spec, d specs.LinuxDevice) {
	s.Linux.Devices = slices.DeleteFunc(s.Linux.Devices, func(have specs.LinuxDevice) bool { return have.Path == d.Path })
	s.Linux.Devices = append(s.Linux.Devices, d)
}

// devicesBelow lists the devices in a directory of the host, sorted by name,
// but for those that every container has of its own: its terminals and its
// console. What goes away meanwhile is not there.
func devicesBelow(dir string) (list []specs.LinuxDevice) {
	_ = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil //nolint:nilerr // it is gone
		case slices.Contains([]string{"/dev/pts", "/dev/shm", "/dev/mqueue"}, name) && d.IsDir():
			return fs.SkipDir
		case d.Type()&fs.ModeDevice == 0 || name == "/dev/console" || name == "/dev/ptmx":
			return nil
		}
		var st unix.Stat_t
		if unix.Lstat(name, &st) == nil {
			if node := nodeOf(name, &st); node.Type != "" {
				list = append(list, node)
			}
		}
		return nil
	})
	return list
}
