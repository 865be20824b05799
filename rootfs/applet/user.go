package applet

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// row finds the line of /etc/passwd or /etc/group, passwd(5), whose column
// holds the value.
func row(file string, column int, value string) []string {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil // without the file, users have only numbers
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Split(strings.TrimSpace(line), ":"); len(f) > 2 && f[column] == value {
			return f
		}
	}
	return nil
}

// nameOf is the name of a user or group, or its number if it has none.
func nameOf(file string, number uint32) string {
	n := strconv.FormatUint(uint64(number), 10)
	if f := row(file, 2, n); f != nil {
		return f[0]
	}
	return n
}

// number is the number of a user or group; -1, which changes nothing, for "".
func number(file, name string) (int, error) {
	if name == "" {
		return -1, nil
	}
	n := name
	if f := row(file, 0, name); f != nil {
		n = f[2]
	}
	v, err := strconv.ParseUint(n, 10, 32)
	if err != nil || v == 1<<32-1 {
		return 0, fmt.Errorf("%q is neither in %s nor a number", name, file)
	}
	return int(v), nil
}

func id(std Stdio, args []string) error {
	o, err := parse(args, "ugnG")
	if err != nil {
		return err
	}
	uid, gid := uint32(unix.Geteuid()), uint32(unix.Getegid())
	show := func(file string, n uint32) string {
		if o.has('n') {
			return nameOf(file, n)
		}
		return strconv.FormatUint(uint64(n), 10)
	}
	both := func(file string, n uint32) string {
		if f := row(file, 2, strconv.FormatUint(uint64(n), 10)); f != nil {
			return f[2] + "(" + f[0] + ")"
		}
		return strconv.FormatUint(uint64(n), 10)
	}
	groups, err := unix.Getgroups()
	if err != nil {
		return fmt.Errorf("getgroups: %w", err)
	}
	names := []string{both("/etc/group", gid)}
	numbers := []string{show("/etc/group", gid)}
	for _, g := range groups {
		if uint32(g) != gid {
			names = append(names, both("/etc/group", uint32(g)))
			numbers = append(numbers, show("/etc/group", uint32(g)))
		}
	}
	switch {
	case o.has('u'):
		_, err = fmt.Fprintln(std.Out, show("/etc/passwd", uid))
	case o.has('g'):
		_, err = fmt.Fprintln(std.Out, show("/etc/group", gid))
	case o.has('G'):
		_, err = fmt.Fprintln(std.Out, strings.Join(numbers, " "))
	default:
		_, err = fmt.Fprintf(std.Out, "uid=%s gid=%s groups=%s\n",
			both("/etc/passwd", uid), both("/etc/group", gid), strings.Join(names, ","))
	}
	return err
}
