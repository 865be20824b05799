package applet

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A mountpoint is a line of /proc/self/mountinfo, proc_pid_mountinfo(5).
type mountpoint struct {
	root, path, options  string
	kind, source, shared string
}

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
	return mountpoint{
		root: unescape(l[3]), path: unescape(l[4]), options: l[5] + "," + r[2], shared: strings.Join(l[6:], " "),
		kind: r[0], source: unescape(r[1]),
	}, true
}

// unescape turns the octal of mountinfo, "\040", into the character.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// mount lists the mounts, or makes one: mount [-t TYPE] [-o OPTIONS] SOURCE
// DIRECTORY; -o bind, rbind and remount are the kernel's flags.
func mount(std Stdio, args []string) error {
	for i, a := range args { // the long spellings that people use
		switch a {
		case "--bind", "--rbind", "--move", "--make-private", "--make-rprivate", "--make-shared", "--make-slave":
			args[i] = "-o" + strings.TrimPrefix(strings.TrimPrefix(a, "--"), "make-")
		}
	}
	o, err := parse(args, "t:o:rwa")
	if err != nil {
		return err
	}
	switch {
	case len(o.args) == 0:
		return listMounts(std)
	case len(o.args) == 1:
		o.args = []string{"none", o.args[0]}
	}
	flags, data := mountOptions(o.value['o'])
	if o.has('r') {
		flags |= unix.MS_RDONLY
	}
	source, target := o.args[0], o.args[1]
	if err := unix.Mount(source, target, o.value['t'], flags, data); err != nil {
		return fmt.Errorf("%s on %s: %w", source, target, err)
	}
	const remount = unix.MS_BIND | unix.MS_RDONLY // mount(2): a bind mount takes no other flag at once
	if flags&remount == remount && flags&unix.MS_REMOUNT == 0 {
		if err := unix.Mount("", target, "", flags|unix.MS_REMOUNT, ""); err != nil {
			return fmt.Errorf("%s read-only: %w", target, err)
		}
	}
	return nil
}

func listMounts(std Stdio) error {
	all, err := mountpoints()
	if err != nil {
		return err
	}
	out := bufio.NewWriter(std.Out)
	for _, m := range all {
		fmt.Fprintf(out, "%s on %s type %s (%s)\n", m.source, m.path, m.kind, m.options)
	}
	return out.Flush()
}

// mountOptions splits -o into the flags of mount(2) and the file system's own.
func mountOptions(list string) (flags uintptr, data string) {
	var rest []string
	for opt := range strings.SplitSeq(list, ",") {
		set, ok := mountFlag(opt)
		switch no, isNo := mountFlag("no" + opt); {
		case opt == "" || opt == "rw" || opt == "defaults":
		case ok:
			flags |= set
		case isNo:
			flags &^= no
		default:
			rest = append(rest, opt)
		}
	}
	return flags, strings.Join(rest, ",")
}

func mountFlag(name string) (uintptr, bool) {
	for _, f := range [...]struct {
		name string
		flag uintptr
	}{
		{"ro", unix.MS_RDONLY}, {"nosuid", unix.MS_NOSUID}, {"nodev", unix.MS_NODEV}, {"noexec", unix.MS_NOEXEC},
		{"bind", unix.MS_BIND}, {"rbind", unix.MS_BIND | unix.MS_REC}, {"remount", unix.MS_REMOUNT}, {"move", unix.MS_MOVE},
		{"private", unix.MS_PRIVATE}, {"rprivate", unix.MS_PRIVATE | unix.MS_REC}, {"shared", unix.MS_SHARED},
		{"slave", unix.MS_SLAVE}, {"noatime", unix.MS_NOATIME},
	} {
		if f.name == name {
			return f.flag, true
		}
	}
	return 0, false
}

func umount(_ Stdio, args []string) error {
	o, err := parse(args, "lf")
	if err != nil {
		return err
	}
	if err := o.need(1, "umount [-lf] DIRECTORY..."); err != nil {
		return err
	}
	flags := 0
	if o.has('l') {
		flags |= unix.MNT_DETACH
	}
	if o.has('f') {
		flags |= unix.MNT_FORCE
	}
	return o.each(func(path string) error {
		if err := unix.Unmount(path, flags); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	})
}

// df prints the space of the file systems that have any, or of those that
// hold the operands, statfs(2).
func df(std Stdio, args []string) error {
	o, err := parse(args, "hkaPT")
	if err != nil {
		return err
	}
	all, err := mountpoints()
	if err != nil {
		return err
	}
	rows := [][]string{{"Filesystem", "Type", "1K-blocks", "Used", "Available", "Use%", "Mounted on"}}
	if o.has('h') {
		rows[0][2] = "Size"
	}
	add := func(m mountpoint, st *unix.Statfs_t) {
		unit := uint64(st.Frsize)
		show := func(blocks uint64) string {
			if o.has('h') {
				return human(blocks * unit)
			}
			return strconv.FormatUint(blocks*unit/1024, 10)
		}
		used, percent := st.Blocks-st.Bfree, "-"
		if sum := used + st.Bavail; sum > 0 {
			percent = strconv.FormatUint((100*used+sum-1)/sum, 10) + "%"
		}
		rows = append(rows, []string{cmp.Or(m.source, "none"), m.kind, show(st.Blocks), show(used), show(st.Bavail), percent, m.path})
	}
	var st unix.Statfs_t
	err = o.each(func(path string) error {
		if err := unix.Statfs(path, &st); err != nil {
			return &os.PathError{Op: "statfs", Path: path, Err: err}
		}
		add(holding(all, path), &st)
		return nil
	})
	for _, m := range all {
		if len(o.args) == 0 && unix.Statfs(m.path, &st) == nil && (st.Blocks > 0 || o.has('a')) {
			add(m, &st)
		}
	}
	out := bufio.NewWriter(std.Out)
	columns(out, rows, " ", false)
	return errors.Join(err, out.Flush())
}

// holding is the mount that path lies on, by its device number.
func holding(all []mountpoint, path string) (found mountpoint) {
	var st, at unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return mountpoint{path: path}
	}
	found = mountpoint{path: path, kind: "-"}
	for _, m := range all {
		if unix.Stat(m.path, &at) == nil && at.Dev == st.Dev && strings.HasPrefix(path, m.path) {
			found = m
		}
	}
	return found
}
