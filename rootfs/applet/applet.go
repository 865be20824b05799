// Package applet is the commands of the built-in image: small, close to the
// kernel, and enough for a lesson. Each reads files of proc(5) and sysfs(5) or
// makes a few system calls; options are those of POSIX that people really type.
//
// Nothing here runs before its command is called for, because the program
// that holds these commands is also a container runtime that has to start
// fast.
package applet

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// commands are laid out by the linker, so they cost no start.
var commands = [...]command{
	{"burn-cpu", "", 0, "[SECONDS]", burnCPU},
	{"burn-disk", "", 0, "[MEGABYTES]", burnDisk},
	{"cat", "", 0, "[FILE...]", cat},
	{"chmod", "", 2, "OCTAL FILE...", chmod},
	{"connect", "", 1, "HOST:PORT", connect},
	{"date", "s:", 0, "[-s @SECONDS]", date},
	{"dd", "", 0, "[if=FILE] [of=FILE] [bs=BYTES] [count=BLOCKS]", dd},
	{"df", "h", 0, "[-h] [PATH...]", df},
	{"dmesg", "", 0, "", dmesg},
	{"echo", "-", 0, "[-n] [WORD...]", echo},
	{"env", "+i", 0, "[-i] [NAME=VALUE...] [COMMAND [ARGUMENT...]]", env},
	{"false", "-", 0, "", no},
	{"free", "h", 0, "[-h]", free},
	{"grep", "Eivncq", 1, "[-Eivncq] PATTERN [FILE...]", grep},
	{"head", "n:", 0, "[-n LINES] [FILE...]", head},
	{"hostname", "", 0, "[NAME]", hostname},
	{"id", "u", 0, "[-u]", id},
	{"ip", "", 0, "[addr | link | route]", ip},
	{"kill", "-", 1, "[-SIGNAL] PID...", kill},
	{"listen", "", 1, "[ADDRESS:]PORT [WORD...]", listen},
	{"ln", "s", 2, "[-s] TARGET NAME", ln},
	{"ls", "ladni1", 0, "[-ladni] [FILE...]", ls},
	{"mkdir", "p", 1, "[-p] DIRECTORY...", mkdir},
	{"mount", "t:o:", 0, "[-t TYPE] [-o OPTIONS] [SOURCE DIRECTORY]", mount},
	{"mv", "", 2, "OLD NEW", mv},
	{"nproc", "", 0, "", nproc},
	{"ping", "c:", 1, "[-c COUNT] ADDRESS", ping},
	{"ps", "-", 0, "", ps},
	{"pwd", "", 0, "", pwd},
	{"readlink", "", 1, "FILE...", readlink},
	{"rm", "rf", 1, "[-rf] FILE...", rm},
	{"rmdir", "", 1, "DIRECTORY...", rmdir},
	{"setsid", "+", 1, "COMMAND [ARGUMENT...]", setsid},
	{"sleep", "", 1, "SECONDS", sleep},
	{"sort", "nru", 0, "[-nru] [FILE...]", sortLines},
	{"stat", "", 1, "FILE...", stat},
	{"tail", "n:", 0, "[-n LINES] [FILE...]", tail},
	{"touch", "", 1, "FILE...", touch},
	{"true", "-", 0, "", yes},
	{"tty", "", 0, "", tty},
	{"umount", "l", 1, "[-l] DIRECTORY...", umount},
	{"uname", "asnrvm", 0, "[-asnrvm]", uname},
	{"wc", "lwc", 0, "[-lwc] [FILE...]", wc},
}

type command struct {
	name     string
	options  string // as Parse takes them
	operands int    // that there must be at least
	usage    string
	run      func(*call) error
}

// A call is one run of a command.
type call struct {
	*Options
	in  io.Reader
	out *bufio.Writer // its error sticks and is told at the end
	err io.Writer
}

// Stdio is the three standard streams of a command.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
}

// A Func runs a command and returns its exit status; args[0] is its name.
type Func func(std Stdio, args []string) int

// A Failure is an error with an exit status of its own; that of others is 1.
// Without Err nothing is said.
type Failure struct {
	Status int
	Err    error
}

func (f *Failure) Error() string {
	if f.Err == nil {
		return ""
	}
	return f.Err.Error()
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
	for i := range commands {
		if commands[i].name == name {
			return commands[i].main, true
		}
	}
	return nil, false
}

// main is the command as a Func: here all its errors are written.
func (c *command) main(std Stdio, args []string) int {
	out := bufio.NewWriter(std.Out)
	o, err := Parse(c.options, args[1:])
	switch {
	case err != nil:
	case len(o.Args) < c.operands:
		err = fmt.Errorf("usage: %s %s", c.name, c.usage)
	default:
		err = c.run(&call{o, std.In, out, std.Err})
	}
	if err = errors.Join(err, out.Flush()); err == nil {
		return 0
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(std.Err, "%s: %s\n", args[0], strings.TrimSuffix(line, "\n"))
	}
	if failure, ok := errors.AsType[*Failure](err); ok {
		return failure.Status
	}
	return 1
}

// each calls f for every operand and joins the errors.
func (o *Options) each(f func(string) error) error {
	var errs []error
	for _, a := range o.Args {
		errs = append(errs, f(a))
	}
	return errors.Join(errs...)
}

func yes(*call) error { return nil }

func no(*call) error { return &Failure{Status: 1} }
