package applet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Find looks a program up as execvp(3) does: in the directories of path,
// unless its name holds a slash.
func Find(name, path string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, name)
		var st unix.Stat_t
		if unix.Stat(file, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && unix.Access(file, unix.X_OK) == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, os.ErrNotExist)
}

// execute becomes another program. It returns only an error.
func execute(std Stdio, name string, argv, environ []string) error {
	path, err := Find(argv[0], os.Getenv("PATH"))
	if err == nil {
		err = &os.PathError{Op: "execve", Path: path, Err: unix.Exec(path, argv, environ)}
	}
	fmt.Fprintf(std.Err, "%s: %v\n", name, err)
	return NotRun(err)
}

// NotRun is the exit status for a program that could not be executed: 127 if
// it is not there, 126 if it may not be.
func NotRun(err error) Status {
	if errors.Is(err, os.ErrNotExist) {
		return 127
	}
	return 126
}

func which(std Stdio, args []string) error {
	var errs []error
	for _, name := range args[1:] {
		path, err := Find(name, os.Getenv("PATH"))
		if err == nil {
			_, err = fmt.Fprintln(std.Out, path)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// env prints the environment, or changes it for a command:
// env [-i] [-u NAME] [NAME=VALUE...] [COMMAND...].
func env(std Stdio, args []string) error {
	environ := os.Environ()
	args = args[1:]
	drop := func(name string) {
		environ = slices.DeleteFunc(environ, func(e string) bool { return strings.HasPrefix(e, name+"=") })
	}
	for ; len(args) > 0 && args[0][:min(1, len(args[0]))] == "-"; args = args[1:] {
		switch {
		case args[0] == "-i" || args[0] == "-":
			environ = nil
		case args[0] == "-u" && len(args) > 1:
			args = args[1:]
			drop(args[0])
		default:
			return errors.New("usage: env [-i] [-u NAME] [NAME=VALUE...] [COMMAND...]")
		}
	}
	for ; len(args) > 0 && strings.Contains(args[0], "="); args = args[1:] {
		name, _, _ := strings.Cut(args[0], "=")
		drop(name)
		environ = append(environ, args[0])
	}
	if len(args) > 0 {
		return execute(std, "env", args, environ)
	}
	for _, e := range environ {
		if _, err := fmt.Fprintln(std.Out, e); err != nil {
			return err
		}
	}
	return nil
}

// chroot runs a command, a shell if none is named, with another root: which
// is not a container, because nothing else changes.
func chroot(std Stdio, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: chroot DIRECTORY [COMMAND...]")
	}
	if err := unix.Chroot(args[1]); err != nil {
		return &os.PathError{Op: "chroot", Path: args[1], Err: err}
	}
	if err := unix.Chdir("/"); err != nil {
		return &os.PathError{Op: "chdir", Path: "/", Err: err}
	}
	argv := args[2:]
	if len(argv) == 0 {
		argv = []string{"/bin/sh"}
	}
	return execute(std, "chroot", argv, os.Environ())
}
