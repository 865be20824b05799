package applet

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A mountpoint is a line of /proc/self/mountinfo, proc_pid_mountinfo(5).
type mountpoint struct{ path, options, kind, source string }

func mountpoints() ([]mountpoint, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var all []mountpoint
	for line := range strings.Lines(string(data)) {
		if m, ok := parseMountinfo(line); ok {
			all = append(all, m)
		}
	}
	return all, nil
}

func parseMountinfo(line string) (mountpoint, bool) {
	left, right, ok := strings.Cut(line, " - ")
	l, r := strings.Fields(left), strings.Fields(right)
	if !ok || len(l) < 6 || len(r) < 3 {
		return mountpoint{}, false
	}
	plain := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	return mountpoint{path: plain.Replace(l[4]), options: l[5] + "," + r[2], kind: r[0], source: plain.Replace(r[1])}, true
}

// mount lists the mounts, or makes one, mount(2).
func mount(c *call) error {
	if len(c.Args) == 0 {
		all, err := mountpoints()
		for _, m := range all {
			fmt.Fprintf(c.out, "%s on %s type %s (%s)\n", m.source, m.path, m.kind, m.options)
		}
		return err
	}
	source, target := c.Args[0], c.Args[len(c.Args)-1]
	flags, data := mountOptions(c.value['o'])
	if err := unix.Mount(source, target, c.value['t'], flags, data); err != nil {
		return fmt.Errorf("%s on %s: %w", source, target, err)
	}
	if flags&unix.MS_BIND != 0 && flags&unix.MS_RDONLY != 0 { // mount(2) takes no other flag at once with bind
		return failed("remount", target, unix.Mount("", target, "", flags|unix.MS_REMOUNT, ""))
	}
	return nil
}

// mountOptions splits -o into the flags of mount(2) and the file system's own.
func mountOptions(list string) (flags uintptr, data string) {
	known := map[string]uintptr{
		"": 0, "rw": 0, "defaults": 0, "ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV,
		"noexec": unix.MS_NOEXEC, "bind": unix.MS_BIND, "rbind": unix.MS_BIND | unix.MS_REC, "remount": unix.MS_REMOUNT,
	}
	var rest []string
	for option := range strings.SplitSeq(list, ",") {
		flag, ok := known[option]
		flags |= flag
		if !ok {
			rest = append(rest, option)
		}
	}
	return flags, strings.Join(rest, ",")
}

// umount takes mounts away; with -l, once nobody uses them.
func umount(c *call) error {
	flags := 0
	if c.Has('l') {
		flags = unix.MNT_DETACH
	}
	return c.each(func(path string) error { return failed("umount", path, unix.Unmount(path, flags)) })
}

// df prints the space, statfs(2), of the file systems that have any, or of
// those that are mounted on the operands.
func df(c *call) error {
	all, err := mountpoints()
	fmt.Fprintf(c.out, "%-12s %-9s %9s %9s %9s %4s %s\n", "Filesystem", "Type", "Size", "Used", "Available", "Use%", "Mounted on")
	for _, m := range all {
		if len(c.Args) == 0 || slices.Contains(c.Args, m.path) {
			c.space(m) // what can't be looked at has no space to show
		}
	}
	return err
}

func (c *call) space(m mountpoint) {
	var st unix.Statfs_t
	if err := unix.Statfs(m.path, &st); err != nil || st.Blocks == 0 {
		return
	}
	unit, used := uint64(st.Frsize), st.Blocks-st.Bfree
	fmt.Fprintf(c.out, "%-12s %-9s %9s %9s %9s %3d%% %s\n", m.source, m.kind, c.bytes(st.Blocks*unit), c.bytes(used*unit),
		c.bytes(st.Bavail*unit), 100*used/max(used+st.Bavail, 1), m.path)
}
