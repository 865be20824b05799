package applet

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An entry is one line of ls.
type entry struct {
	name string // as printed
	path string
	st   unix.Stat_t
}

func newEntry(path, name string, follow bool) (entry, error) {
	e := entry{name: name, path: path}
	flag := unix.AT_SYMLINK_NOFOLLOW
	if follow {
		flag = 0
	}
	if err := unix.Fstatat(unix.AT_FDCWD, path, &e.st, flag); err != nil {
		return e, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return e, nil
}

// ls lists directories: -a all, -d themselves, -l with all that stat(2) says,
// -n with numbers for names, -i inode, -h units, -t -S -r order, -R below.
func ls(std Stdio, args []string) error {
	o, err := parse(args, "aAdlnihtSrR1F")
	if err != nil {
		return err
	}
	if len(o.args) == 0 {
		o.args = []string{"."}
	}
	out := bufio.NewWriter(std.Out)
	var files []entry
	var dirs []string
	err = o.each(func(name string) error {
		e, err := newEntry(name, name, !o.has('l') && !o.has('d'))
		if err != nil {
			if e, err = newEntry(name, name, false); err != nil {
				return err
			}
		}
		if e.st.Mode&unix.S_IFMT == unix.S_IFDIR && !o.has('d') {
			dirs = append(dirs, name)
			return nil
		}
		files = append(files, e)
		return nil
	})
	list(out, o, files)
	errs := []error{err}
	titled := len(o.args) > 1 || o.has('R')
	for i, dir := range dirs {
		if i > 0 || len(files) > 0 {
			fmt.Fprintln(out)
		}
		errs = append(errs, listDir(out, o, dir, titled))
	}
	return errors.Join(append(errs, out.Flush())...)
}

func listDir(out *bufio.Writer, o *options, dir string, titled bool) error {
	if titled {
		fmt.Fprintf(out, "%s:\n", dir)
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var entries []entry
	var errs []error
	add := func(name string) {
		e, err := newEntry(filepath.Join(dir, name), name, false)
		if err != nil {
			errs = append(errs, err)
			return
		}
		entries = append(entries, e)
	}
	if o.has('a') {
		add(".")
		add("..")
	}
	for _, n := range names {
		if n.Name()[0] != '.' || o.has('a') || o.has('A') {
			add(n.Name())
		}
	}
	list(out, o, entries)
	if !o.has('R') {
		return errors.Join(errs...)
	}
	for _, e := range entries {
		if e.st.Mode&unix.S_IFMT == unix.S_IFDIR && e.name != "." && e.name != ".." {
			fmt.Fprintln(out)
			errs = append(errs, listDir(out, o, e.path, true))
		}
	}
	return errors.Join(errs...)
}

func list(out *bufio.Writer, o *options, entries []entry) {
	slices.SortStableFunc(entries, func(a, b entry) int {
		c := strings.Compare(a.name, b.name)
		switch {
		case o.has('t'):
			c = cmp.Or(cmp.Compare(b.st.Mtim.Nano(), a.st.Mtim.Nano()), c)
		case o.has('S'):
			c = cmp.Or(cmp.Compare(b.st.Size, a.st.Size), c)
		}
		if o.has('r') {
			return -c
		}
		return c
	})
	rows := make([][]string, len(entries))
	for i, e := range entries {
		rows[i] = e.row(o)
	}
	columns(out, rows, " ", !o.has('l') && !o.has('n'))
}

// row is the columns of one entry, the name last.
func (e *entry) row(o *options) []string {
	var row []string
	if o.has('i') {
		row = append(row, strconv.FormatUint(e.st.Ino, 10))
	}
	name := e.name
	if o.has('F') {
		name += e.mark()
	}
	if !o.has('l') && !o.has('n') {
		return append(row, name)
	}
	owner, group := nameOf("/etc/passwd", e.st.Uid), nameOf("/etc/group", e.st.Gid)
	if o.has('n') {
		owner, group = strconv.Itoa(int(e.st.Uid)), strconv.Itoa(int(e.st.Gid))
	}
	length := strconv.FormatInt(e.st.Size, 10)
	switch e.st.Mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK:
		length = fmt.Sprintf("%d,%d", unix.Major(uint64(e.st.Rdev)), unix.Minor(uint64(e.st.Rdev)))
	case unix.S_IFLNK:
		if target, err := os.Readlink(e.path); err == nil {
			name += " -> " + target
		}
	default:
		if o.has('h') {
			length = human(uint64(e.st.Size))
		}
	}
	return append(row, modeString(e.st.Mode), strconv.FormatUint(uint64(e.st.Nlink), 10), owner, group, length,
		time.Unix(e.st.Mtim.Unix()).Format("2006-01-02 15:04"), name)
}

func (e *entry) mark() string {
	switch e.st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "/"
	case unix.S_IFLNK:
		return "@"
	case unix.S_IFREG:
		if e.st.Mode&0o111 != 0 {
			return "*"
		}
	}
	return ""
}

// modeString is the mode as ls prints it: "drwxr-xr-x".
func modeString(mode uint32) string {
	kind := "?pc?d?b?-?l?s???"[mode>>12&15]
	s := []byte(string(kind) + "rwxrwxrwx")
	for i := range 9 {
		if mode&(0o400>>i) == 0 {
			s[i+1] = '-'
		}
	}
	for _, special := range []struct {
		bit  uint32
		at   int
		with string // without and with the execute bit
	}{{unix.S_ISUID, 3, "Ss"}, {unix.S_ISGID, 6, "Ss"}, {unix.S_ISVTX, 9, "Tt"}} {
		if mode&special.bit == 0 {
			continue
		}
		executable := 0
		if s[special.at] == 'x' {
			executable = 1
		}
		s[special.at] = special.with[executable]
	}
	return string(s)
}

// human is a number of bytes with a unit, as -h prints it.
func human(n uint64) string {
	if n < 1024 {
		return strconv.FormatUint(n, 10)
	}
	v, unit := float64(n)/1024, 0
	for v >= 1000 && unit < 4 {
		v, unit = v/1024, unit+1
	}
	if v < 10 {
		return fmt.Sprintf("%.1f%c", v, "KMGTP"[unit])
	}
	return fmt.Sprintf("%.0f%c", v, "KMGTP"[unit])
}

// columns prints rows aligned: numbers to the right, the last column as it is.
// With plain, rows have too little to be aligned.
func columns(out *bufio.Writer, rows [][]string, gap string, plain bool) {
	var width []int
	var right []bool
	for _, row := range rows {
		for i, cell := range row {
			if i == len(width) {
				width, right = append(width, 0), append(right, true)
			}
			width[i] = max(width[i], len(cell))
			if c := cell[len(cell)-1]; !strings.ContainsRune("0123456789", rune(cell[0])) || strings.Contains(cell, ":") || c == '-' {
				right[i] = false
			}
		}
	}
	for _, row := range rows {
		for i, cell := range row {
			last := i == len(row)-1
			switch {
			case last || plain:
				out.WriteString(cell)
			case right[i]:
				fmt.Fprintf(out, "%*s", width[i], cell)
			default:
				fmt.Fprintf(out, "%-*s", width[i], cell)
			}
			if !last {
				out.WriteString(gap)
			}
		}
		out.WriteByte('\n')
	}
}

// stat prints all that stat(2) knows, or what -c asks for, as coreutils do.
func stat(std Stdio, args []string) error {
	o, err := parse(args, "c:L")
	if err != nil {
		return err
	}
	if err := o.need(1, "stat [-L] [-c FORMAT] FILE..."); err != nil {
		return err
	}
	format := cmp.Or(o.value['c'], "  File: %N\n  Size: %s\tBlocks: %b\t%F\n"+
		"Device: %d\tInode: %i\tLinks: %h\tDevice type: %t,%T\n"+
		"Access: (%a/%A)\tUid: (%u/%U)\tGid: (%g/%G)\n"+
		"Access: %x\nModify: %y\nChange: %z")
	return o.each(func(name string) error {
		e, err := newEntry(name, name, o.has('L'))
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(std.Out, e.format(format))
		return err
	})
}

func (e *entry) format(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		fmt.Fprint(&b, e.fact(s[i]))
	}
	return b.String()
}

// fact is what one letter of stat's format stands for.
func (e *entry) fact(letter byte) any {
	st := &e.st
	moment := func(ts unix.Timespec) string {
		return time.Unix(ts.Unix()).Format("2006-01-02 15:04:05.000000000 -0700")
	}
	switch letter {
	case 'a':
		return strconv.FormatUint(uint64(st.Mode&0o7777), 8)
	case 'A':
		return modeString(st.Mode)
	case 'b':
		return st.Blocks
	case 'd':
		return uint64(st.Dev)
	case 'F':
		return kind(st)
	case 'g':
		return st.Gid
	case 'G':
		return nameOf("/etc/group", st.Gid)
	case 'h':
		return st.Nlink
	case 'i':
		return st.Ino
	case 'n':
		return e.name
	case 'N':
		if target, err := os.Readlink(e.path); err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return e.name + " -> " + target
		}
		return e.name
	case 's':
		return st.Size
	case 't':
		return strconv.FormatUint(uint64(unix.Major(uint64(st.Rdev))), 16)
	case 'T':
		return strconv.FormatUint(uint64(unix.Minor(uint64(st.Rdev))), 16)
	case 'u':
		return st.Uid
	case 'U':
		return nameOf("/etc/passwd", st.Uid)
	case 'x':
		return moment(st.Atim)
	case 'X':
		return st.Atim.Sec
	case 'y':
		return moment(st.Mtim)
	case 'Y':
		return st.Mtim.Sec
	case 'z':
		return moment(st.Ctim)
	case 'Z':
		return st.Ctim.Sec
	case '%':
		return "%"
	}
	return "?"
}

// kind is the file type in words, as stat prints it.
func kind(st *unix.Stat_t) string {
	switch fs.FileMode(st.Mode & unix.S_IFMT) {
	case unix.S_IFREG:
		if st.Size == 0 {
			return "regular empty file"
		}
		return "regular file"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symbolic link"
	case unix.S_IFCHR:
		return "character special file"
	case unix.S_IFBLK:
		return "block special file"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	}
	return "unknown"
}
