// Package applet is the commands of the built-in image: small, close to the
// kernel, and enough for a lesson. Each is a function that reads files of
// proc(5) and sysfs(5) or makes a few system calls; options are those of
// POSIX that people really type.
//
// Nothing here runs before its command is called for, because the program
// that holds these commands is also a container runtime that has to start
// fast.
package applet

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Stdio is the three standard streams of a command.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
}

// A Func is a command; args[0] is its name. An error that is a Status says
// nothing and is the exit status; any other error is printed after the name,
// line by line, and the exit status is 1.
type Func func(std Stdio, args []string) error

// A Status is an exit status without a message.
type Status int

func (s Status) Error() string { return "exit status " + strconv.Itoa(int(s)) }

type command struct {
	name string
	run  Func
}

// commands is sorted by name. The linker lays it out, so it costs no start.
var commands = [...]command{
	{"burn-cpu", burnCPU},
	{"burn-disk", burnDisk},
	{"cat", cat},
	{"chmod", chmod},
	{"chown", chown},
	{"chroot", chroot},
	{"clear", clearScreen},
	{"cp", cp},
	{"date", date},
	{"dd", dd},
	{"df", df},
	{"dmesg", dmesg},
	{"echo", echo},
	{"env", env},
	{"false", no},
	{"free", free},
	{"grep", grep},
	{"head", head},
	{"hostname", hostname},
	{"id", id},
	{"ip", ip},
	{"kill", kill},
	{"ln", ln},
	{"ls", ls},
	{"mkdir", mkdir},
	{"mknod", mknod},
	{"mount", mount},
	{"mv", mv},
	{"nproc", nproc},
	{"ping", ping},
	{"ps", ps},
	{"pwd", pwd},
	{"readlink", readlink},
	{"rm", rm},
	{"rmdir", rmdir},
	{"seq", seq},
	{"sleep", sleep},
	{"sort", sortLines},
	{"stat", stat},
	{"tail", tail},
	{"touch", touch},
	{"true", yes},
	{"tty", tty},
	{"umount", umount},
	{"uname", uname},
	{"wc", wc},
	{"which", which},
}

// Names lists the commands, sorted.
func Names() []string {
	names := make([]string, len(commands))
	for i, c := range commands {
		names[i] = c.name
	}
	return names
}

// Lookup finds a command.
func Lookup(name string) (Func, bool) {
	i, ok := slices.BinarySearchFunc(commands[:], name, func(c command, n string) int { return strings.Compare(c.name, n) })
	if !ok {
		return nil, false
	}
	return commands[i].run, true
}

// Run runs a command on the process's own standard streams and returns its
// exit status.
func Run(f Func, args []string) int {
	return run(f, Stdio{os.Stdin, os.Stdout, os.Stderr}, args)
}

func run(f Func, std Stdio, args []string) int {
	err := f(std, args)
	var status Status
	if err == nil {
		return 0
	}
	if errors.As(err, &status) {
		return int(status)
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(std.Err, "%s: %s\n", args[0], strings.TrimSuffix(line, "\n"))
	}
	return 1
}

// options are the single-letter options of one call, and what is left.
type options struct {
	value [128]string
	count [128]int
	args  []string
}

// parse reads options as getopt(3) does: letters that a colon follows take a
// value, and options may stand behind operands, until "--".
func parse(args []string, letters string) (*options, error) {
	o := &options{}
	for i := 1; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			o.args = append(o.args, args[i+1:]...)
			return o, nil
		}
		if len(a) < 2 || a[0] != '-' {
			o.args = append(o.args, a)
			continue
		}
		for a = a[1:]; a != ""; {
			c := a[0]
			at := strings.IndexByte(letters, c)
			if at < 0 || c == ':' {
				return nil, fmt.Errorf("unknown option -%c", c)
			}
			o.count[c]++
			a = a[1:]
			if at+1 == len(letters) || letters[at+1] != ':' {
				continue
			}
			if a == "" {
				if i++; i == len(args) {
					return nil, fmt.Errorf("option -%c needs a value", c)
				}
				a = args[i]
			}
			o.value[c], a = a, ""
		}
	}
	return o, nil
}

func (o *options) has(c byte) bool { return o.count[c] > 0 }

// number is the value of an option, or what it is when not given.
func (o *options) number(c byte, unset int64) (int64, error) {
	if !o.has(c) {
		return unset, nil
	}
	return size(o.value[c])
}

// need is an error unless there are at least n operands.
func (o *options) need(n int, usage string) error {
	if len(o.args) < n {
		return fmt.Errorf("usage: %s", usage)
	}
	return nil
}

// each calls f for every operand and joins the errors.
func (o *options) each(f func(string) error) error {
	var errs []error
	for _, a := range o.args {
		errs = append(errs, f(a))
	}
	return errors.Join(errs...)
}

// size reads a number of bytes: "4096", "64k", "10M", "1G".
func size(s string) (int64, error) {
	digits := strings.TrimRight(s, "kKMGB")
	shift, ok := 0, true
	switch strings.TrimSuffix(s[len(digits):], "B") {
	case "":
	case "k", "K":
		shift = 10
	case "M":
		shift = 20
	case "G":
		shift = 30
	default:
		ok = false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || !ok || n<<shift>>shift != n {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	return n << shift, nil
}

func yes(Stdio, []string) error { return nil }

func no(Stdio, []string) error { return Status(1) }
