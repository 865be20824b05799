package applet

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func mkdir(_ Stdio, args []string) error {
	o, err := parse(args, "pm:")
	if err != nil {
		return err
	}
	if err := o.need(1, "mkdir [-p] [-m MODE] DIRECTORY..."); err != nil {
		return err
	}
	return o.each(func(name string) error {
		if o.has('p') {
			err = os.MkdirAll(name, 0o777)
		} else {
			err = os.Mkdir(name, 0o777)
		}
		if err != nil || !o.has('m') {
			return err
		}
		return changeMode(name, o.value['m'])
	})
}

func rmdir(_ Stdio, args []string) error {
	o, err := parse(args, "")
	if err != nil {
		return err
	}
	return o.each(func(name string) error {
		if err := unix.Rmdir(name); err != nil {
			return &os.PathError{Op: "rmdir", Path: name, Err: err}
		}
		return nil
	})
}

func rm(_ Stdio, args []string) error {
	o, err := parse(args, "rRf")
	if err != nil {
		return err
	}
	if !o.has('f') {
		if err := o.need(1, "rm [-rf] FILE..."); err != nil {
			return err
		}
	}
	return o.each(func(name string) error {
		info, err := os.Lstat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist) && o.has('f'):
			return nil
		case err != nil:
			return err
		case !info.IsDir():
			return os.Remove(name)
		case !o.has('r') && !o.has('R'):
			return fmt.Errorf("%s: is a directory (-r removes it)", name)
		}
		return os.RemoveAll(name)
	})
}

// into is where an operand goes: the target, or below it if it is a directory.
func into(target, source string) string {
	if info, err := os.Stat(target); err == nil && info.IsDir() {
		return filepath.Join(target, filepath.Base(source))
	}
	return target
}

// transfer splits the operands of cp, mv and ln and calls f for each source.
func transfer(o *options, usage string, f func(source, target string) error) error {
	if err := o.need(2, usage); err != nil {
		return err
	}
	target := o.args[len(o.args)-1]
	o.args = o.args[:len(o.args)-1]
	if info, err := os.Stat(target); len(o.args) > 1 && (err != nil || !info.IsDir()) {
		return fmt.Errorf("%s: not a directory", target)
	}
	return o.each(func(source string) error { return f(source, into(target, source)) })
}

func cp(_ Stdio, args []string) error {
	o, err := parse(args, "rRapf")
	if err != nil {
		return err
	}
	recursive := o.has('r') || o.has('R') || o.has('a')
	return transfer(o, "cp [-rap] SOURCE... TARGET", func(source, target string) error {
		stat := os.Stat
		if recursive {
			stat = os.Lstat
		}
		info, err := stat(source)
		if err != nil {
			return err
		}
		if info.IsDir() && !recursive {
			return fmt.Errorf("%s: is a directory (-r copies it)", source)
		}
		return copyTree(source, target, info, o.has('p') || o.has('a'))
	})
}

func copyTree(source, target string, info fs.FileInfo, keep bool) error {
	if err := copyOne(source, target, info); err != nil {
		return err
	}
	if info.IsDir() {
		entries, err := os.ReadDir(source)
		if err != nil {
			return err
		}
		for _, e := range entries {
			below, err := e.Info()
			if err != nil {
				return err
			}
			if err := copyTree(filepath.Join(source, e.Name()), filepath.Join(target, e.Name()), below, keep); err != nil {
				return err
			}
		}
	}
	if !keep || info.Mode()&fs.ModeSymlink != 0 {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Lstat(source, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: source, Err: err}
	}
	return errors.Join(os.Lchown(target, int(st.Uid), int(st.Gid)), os.Chmod(target, info.Mode()),
		os.Chtimes(target, info.ModTime(), info.ModTime()))
}

func copyOne(source, target string, info fs.FileInfo) error {
	switch mode := info.Mode(); mode.Type() {
	case fs.ModeDir:
		if err := os.Mkdir(target, mode.Perm()|0o700); !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	case fs.ModeSymlink:
		link, err := os.Readlink(source)
		if err != nil {
			return err
		}
		return os.Symlink(link, target)
	case 0:
		if to, err := os.Stat(target); err == nil && os.SameFile(info, to) {
			return fmt.Errorf("%s and %s are the same file", source, target)
		}
		return copyFile(source, target, mode.Perm())
	default:
		return fmt.Errorf("%s: neither file, directory nor link", source)
	}
}

func copyFile(source, target string, perm fs.FileMode) error {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// mv renames, and copies only where rename(2) can't: between file systems.
func mv(_ Stdio, args []string) error {
	o, err := parse(args, "f")
	if err != nil {
		return err
	}
	return transfer(o, "mv SOURCE... TARGET", func(source, target string) error {
		err := os.Rename(source, target)
		if !errors.Is(err, unix.EXDEV) {
			return err
		}
		info, err := os.Lstat(source)
		if err != nil {
			return err
		}
		if err := copyTree(source, target, info, true); err != nil {
			return err
		}
		return os.RemoveAll(source)
	})
}

func ln(_ Stdio, args []string) error {
	o, err := parse(args, "sf")
	if err != nil {
		return err
	}
	return transfer(o, "ln [-sf] SOURCE... TARGET", func(source, target string) error {
		if o.has('f') {
			if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if o.has('s') {
			return os.Symlink(source, target)
		}
		return os.Link(source, target)
	})
}

func touch(_ Stdio, args []string) error {
	o, err := parse(args, "c")
	if err != nil {
		return err
	}
	return o.each(func(name string) error {
		now := time.Now()
		err := os.Chtimes(name, now, now)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if o.has('c') {
			return nil
		}
		f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o666)
		if err != nil {
			return err
		}
		return f.Close()
	})
}

// walk calls f for name and, if recursive, all below it.
func walk(name string, recursive bool, f func(string) error) error {
	if !recursive {
		return f(name)
	}
	return filepath.WalkDir(name, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return f(path)
	})
}

func chmod(_ Stdio, args []string) error {
	o := &options{}
	recursive := len(args) > 1 && args[1] == "-R" // "-x" is a mode, not an option
	if o.args = args[1:]; recursive {
		o.args = args[2:]
	}
	if err := o.need(2, "chmod [-R] MODE FILE..."); err != nil {
		return err
	}
	mode := o.args[0]
	o.args = o.args[1:]
	return o.each(func(name string) error {
		return walk(name, recursive, func(path string) error { return changeMode(path, mode) })
	})
}

func changeMode(path, mode string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	bits, err := newMode(st.Mode, mode)
	if err != nil {
		return err
	}
	if err := unix.Chmod(path, bits); err != nil {
		return &os.PathError{Op: "chmod", Path: path, Err: err}
	}
	return nil
}

// newMode applies "755" or "u+x,go-w" to the mode bits of a file.
func newMode(old uint32, text string) (uint32, error) {
	if n, err := strconv.ParseUint(text, 8, 12); err == nil {
		return uint32(n), nil
	}
	mode := old & 0o7777
	for clause := range strings.SplitSeq(text, ",") {
		at := strings.IndexAny(clause, "+-=")
		if at < 0 || strings.Trim(clause[:at], "ugoa") != "" || strings.Trim(clause[at+1:], "rwxXst") != "" {
			return 0, fmt.Errorf("%q is not a file mode", text)
		}
		who := uint32(0)
		for _, c := range clause[:at] {
			who |= map[rune]uint32{'u': 0o4700, 'g': 0o2070, 'o': 0o1007, 'a': 0o7777}[c]
		}
		if at == 0 {
			who = 0o7777
		}
		what := uint32(0)
		for _, c := range clause[at+1:] {
			if c == 'X' && (old&unix.S_IFMT == unix.S_IFDIR || old&0o111 != 0) {
				c = 'x'
			}
			what |= map[rune]uint32{'r': 0o444, 'w': 0o222, 'x': 0o111, 's': 0o6000, 't': 0o1000}[c]
		}
		if clause[at+1:] == "t" {
			who |= 0o1000
		}
		switch clause[at] {
		case '+':
			mode |= who & what
		case '-':
			mode &^= who & what
		default:
			mode = mode&^(who&0o777) | who&what
		}
	}
	return mode, nil
}

func chown(_ Stdio, args []string) error {
	o, err := parse(args, "Rh")
	if err != nil {
		return err
	}
	if err := o.need(2, "chown [-Rh] USER[:GROUP] FILE..."); err != nil {
		return err
	}
	user, group, _ := strings.Cut(o.args[0], ":")
	uid, err := number("/etc/passwd", user)
	if err != nil {
		return err
	}
	gid, err := number("/etc/group", group)
	if err != nil {
		return err
	}
	change := os.Chown
	if o.has('h') || o.has('R') {
		change = os.Lchown
	}
	o.args = o.args[1:]
	return o.each(func(name string) error {
		return walk(name, o.has('R'), func(path string) error { return change(path, uid, gid) })
	})
}

func readlink(std Stdio, args []string) error {
	o, err := parse(args, "fn")
	if err != nil {
		return err
	}
	return o.each(func(name string) error {
		target, err := os.Readlink(name)
		if o.has('f') {
			if target, err = filepath.EvalSymlinks(name); err == nil {
				target, err = filepath.Abs(target)
			}
		}
		if err != nil {
			return err
		}
		end := "\n"
		if o.has('n') {
			end = ""
		}
		_, err = io.WriteString(std.Out, target+end)
		return err
	})
}

// mknod makes a device node, or is told by the kernel that it may not.
func mknod(_ Stdio, args []string) error {
	o, err := parse(args, "m:")
	if err != nil {
		return err
	}
	usage := "mknod [-m MODE] NAME b|c|p [MAJOR MINOR]"
	if err := o.need(2, usage); err != nil {
		return err
	}
	kind, device := uint32(unix.S_IFIFO), 0
	if o.args[1] != "p" {
		if err := o.need(4, usage); err != nil {
			return err
		}
		major, err1 := strconv.ParseUint(o.args[2], 10, 12)
		minor, err2 := strconv.ParseUint(o.args[3], 10, 20)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		device = int(unix.Mkdev(uint32(major), uint32(minor)))
		switch o.args[1] {
		case "b":
			kind = unix.S_IFBLK
		case "c", "u":
			kind = unix.S_IFCHR
		default:
			return fmt.Errorf("usage: %s", usage)
		}
	}
	name := o.args[0]
	if err := unix.Mknod(name, kind|0o666, device); err != nil {
		return &os.PathError{Op: "mknod", Path: name, Err: err}
	}
	if o.has('m') {
		return changeMode(name, o.value['m'])
	}
	return nil
}
