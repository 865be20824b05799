package applet

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ls lists directories: -a all, -d themselves, -l with what stat(2) says, -n
// with numbers for names, -i with inodes.
func ls(c *call) error {
	if len(c.Args) == 0 {
		c.Args = []string{"."}
	}
	return c.each(func(name string) error {
		info, err := os.Lstat(name)
		if target, err := os.Stat(name); err == nil && !c.Has('l') {
			info = target
		}
		if err != nil || !info.IsDir() || c.Has('d') {
			return c.entry(name, name)
		}
		if len(c.Args) > 1 {
			fmt.Fprintf(c.out, "%s:\n", name)
		}
		return c.directory(name)
	})
}

func (c *call) directory(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	list := &call{Options: &Options{}, out: c.out}
	if c.Has('a') {
		list.Args = []string{".", ".."}
	}
	for _, e := range entries {
		if e.Name()[0] != '.' || c.Has('a') {
			list.Args = append(list.Args, e.Name())
		}
	}
	return list.each(func(name string) error { return c.entry(filepath.Join(path, name), name) })
}

// entry is one line of ls.
func (c *call) entry(path, name string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return failed("lstat", path, err)
	}
	if c.Has('i') {
		fmt.Fprintf(c.out, "%8d ", st.Ino)
	}
	if !c.Has('l') && !c.Has('n') {
		fmt.Fprintln(c.out, name)
		return nil
	}
	owner, group := nameOf(passwd, st.Uid), nameOf(groups, st.Gid)
	if c.Has('n') {
		owner, group = strconv.Itoa(int(st.Uid)), strconv.Itoa(int(st.Gid))
	}
	size := strconv.FormatInt(st.Size, 10)
	if kind := st.Mode & unix.S_IFMT; kind == unix.S_IFCHR || kind == unix.S_IFBLK {
		size = device(st.Rdev)
	}
	fmt.Fprintf(c.out, "%s %3d %-8s %-8s %9s %s %s\n", modeString(st.Mode), st.Nlink, owner, group, size,
		time.Unix(st.Mtim.Unix()).Format("2006-01-02 15:04"), arrow(path, name))
	return nil
}

// arrow is the name, and what it points to if it is a link.
func arrow(path, name string) string {
	if target, err := os.Readlink(path); err == nil {
		return name + " -> " + target
	}
	return name
}

func device(number uint64) string {
	return fmt.Sprintf("%d,%d", unix.Major(number), unix.Minor(number))
}

// modeString is the mode as ls prints it: "drwxr-xr-x".
func modeString(mode uint32) string {
	s := []byte("?pc?d?b?-?l?s???"[mode>>12&15:][:1] + "rwxrwxrwx")
	for i := range 9 {
		if mode&(0o400>>i) == 0 {
			s[i+1] = '-'
		}
	}
	for i, letter := range []byte("sst") { // set-user-ID, set-group-ID, sticky
		x := &s[3+3*i]
		switch {
		case mode&(unix.S_ISUID>>i) == 0:
		case *x == 'x':
			*x = letter
		default:
			*x = letter - 'a' + 'A'
		}
	}
	return string(s)
}

// stat prints what stat(2) knows of the file itself, not of what a link
// points to.
func stat(c *call) error {
	return c.each(func(name string) error {
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return failed("lstat", name, err)
		}
		fmt.Fprintf(c.out, "  File: %s\n", arrow(name, name))
		fmt.Fprintf(c.out, "  Size: %d\tBlocks: %d\tLinks: %d\n", st.Size, st.Blocks, st.Nlink)
		fmt.Fprintf(c.out, "Device: %s\tInode: %d\tDevice type: %s\n", device(st.Dev), st.Ino, device(st.Rdev))
		fmt.Fprintf(c.out, "  Mode: (%04o/%s)\tUid: (%d/%s)\tGid: (%d/%s)\n", st.Mode&0o7777, modeString(st.Mode),
			st.Uid, nameOf(passwd, st.Uid), st.Gid, nameOf(groups, st.Gid))
		for i, t := range []unix.Timespec{st.Atim, st.Mtim, st.Ctim} {
			fmt.Fprintf(c.out, "%s: %s\n", [...]string{"Access", "Modify", "Change"}[i],
				time.Unix(t.Unix()).Format("2006-01-02 15:04:05.000000000 -0700"))
		}
		return nil
	})
}

const (
	passwd = "/etc/passwd"
	groups = "/etc/group"
)

// nameOf is the name that passwd(5) or group(5) gives a number, which is the
// number itself where they don't know it.
func nameOf(file string, number uint32) string {
	n := strconv.FormatUint(uint64(number), 10)
	data, err := os.ReadFile(file)
	if err != nil {
		return n
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Split(line, ":"); len(f) > 2 && f[2] == n {
			return f[0]
		}
	}
	return n
}

// id prints the user and the groups of the process itself; with -u only the
// user's number.
func id(c *call) error {
	uid, gid := unix.Geteuid(), unix.Getegid()
	if c.Has('u') {
		fmt.Fprintln(c.out, uid)
		return nil
	}
	fmt.Fprintf(c.out, "uid=%s gid=%[2]s groups=%[2]s", both(passwd, uid), both(groups, gid))
	more, err := unix.Getgroups()
	for _, g := range more {
		if g != gid {
			fmt.Fprintf(c.out, ",%s", both(groups, g))
		}
	}
	fmt.Fprintln(c.out)
	return err
}

// both is a number with the name that it has: "0(root)".
func both(file string, number int) string {
	return fmt.Sprintf("%d(%s)", number, nameOf(file, uint32(number)))
}
