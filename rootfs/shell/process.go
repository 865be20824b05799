package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"

	"github.com/minictr/minictr/rootfs/applet"
)

// self is the file to execute for a shell of our own.
const self = "/proc/self/exe"

// A job is a background process.
type job struct {
	pid    int
	number int // in the order of their starts
	text   string
	done   chan struct{} // closed when status is known
	status int
}

// exec is what the interpreter calls for every command that is no builtin.
func (s *shell) exec(ctx context.Context, args []string) error {
	hc := interp.HandlerCtx(ctx)
	switch args[0] {
	case own + "exec":
		return s.become(hc, args[1:])
	case own + "spawn":
		return s.spawn(hc, args[1], args[2:])
	case own + "kill":
		return s.kill(hc, args)
	case own + "wait":
		return s.wait(ctx, hc, args[1:])
	case own + "jobs":
		return s.list(hc)
	case own + "trap":
		return s.trap(ctx, hc, args[1:])
	case own + "umask":
		return builtin(hc, "umask", umask(hc.Stdout, args[1:]))
	case own + "ulimit":
		return builtin(hc, "ulimit", ulimit(hc.Stdout, args[1:]))
	}
	cmd, err := command(hc, args)
	if err != nil {
		return s.notRun(hc, args[0], err)
	}
	if err := cmd.Start(); err != nil {
		if errors.Is(err, unix.ENOEXEC) { // a script without its first line
			return s.exec(ctx, append([]string{self, cmd.Path}, args[1:]...))
		}
		return s.notRun(hc, args[0], err)
	}
	code := ended(hc.Stderr, cmd.Wait(), cmd)
	if err := s.runTraps(ctx, hc); err != nil {
		return err
	}
	return exitStatus(code)
}

// exitStatus is a status as the interpreter takes it.
func exitStatus(code int) error {
	if code == 0 {
		return nil
	}
	return interp.ExitStatus(code)
}

// builtin prints the error of a builtin and makes it a status.
func builtin(hc interp.HandlerContext, name string, err error) error {
	if err == nil {
		return nil
	}
	fmt.Fprintf(hc.Stderr, "%s: %v\n", name, err)
	return interp.ExitStatus(1)
}

// command prepares a program: found in PATH, in the shell's directory, with
// what is exported and the streams as they stand.
func command(hc interp.HandlerContext, args []string) (*exec.Cmd, error) {
	path, err := applet.Find(args[0], hc.Env.Get("PATH").String())
	if err != nil {
		return nil, err
	}
	if args[0] == self {
		args = append([]string{"sh"}, args[1:]...)
	}
	return &exec.Cmd{
		Path: path, Args: args, Dir: hc.Dir, Env: exported(hc.Env),
		Stdin: hc.Stdin, Stdout: hc.Stdout, Stderr: hc.Stderr,
	}, nil
}

func exported(env expand.Environ) []string {
	list := []string{}
	for name, v := range env.Each {
		list = slices.DeleteFunc(list, func(e string) bool { return strings.HasPrefix(e, name+"=") })
		if v.IsSet() && v.Exported && v.Kind == expand.String {
			list = append(list, name+"="+v.String())
		}
	}
	return list
}

// notRun says why a program was not executed, in the kernel's words.
func (s *shell) notRun(hc interp.HandlerContext, name string, err error) error {
	code := applet.NotRun(err)
	var cause unix.Errno
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(hc.Stderr, "sh: %s: not found\n", name)
	case errors.As(err, &cause) && (cause == unix.EAGAIN || cause == unix.ENOMEM):
		fmt.Fprintf(hc.Stderr, "sh: can't fork: %v\n", cause)
	case errors.As(err, &cause):
		fmt.Fprintf(hc.Stderr, "sh: %s: %v\n", name, cause)
	default:
		fmt.Fprintf(hc.Stderr, "sh: %s: %v\n", name, err)
	}
	return exitStatus(int(code))
}

// ended is the exit status of a process: 128 and the signal if one ended it,
// which is said too, as it is the whole answer that a student looks for.
func ended(stderr io.Writer, err error, cmd *exec.Cmd) int {
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintf(stderr, "sh: %s: %v\n", cmd.Args[0], err)
		return 1
	}
	code := cmd.ProcessState.ExitCode()
	if code >= 0 {
		return code
	}
	_, word, _ := strings.Cut(cmd.ProcessState.String(), "signal: ")
	if word != "interrupt" && !strings.HasPrefix(word, "broken pipe") {
		fmt.Fprintln(stderr, word)
	}
	return 128 + int(signalOf(cmd.ProcessState))
}

func signalOf(state *os.ProcessState) unix.Signal {
	if status, ok := state.Sys().(interface{ Signal() unix.Signal }); ok {
		return status.Signal()
	}
	return 0
}

// become executes a program in place of the shell, execve(2).
func (s *shell) become(hc interp.HandlerContext, args []string) error {
	cmd, err := command(hc, args)
	if err != nil {
		return exiting(hc, s.notRun(hc, args[0], err))
	}
	for fd, stream := range []any{hc.Stdin, hc.Stdout, hc.Stderr} {
		if f, ok := stream.(*os.File); ok && f != nil && int(f.Fd()) != fd {
			if err := unix.Dup3(int(f.Fd()), fd, 0); err != nil {
				return exiting(hc, s.notRun(hc, args[0], err))
			}
		}
	}
	if err := unix.Chdir(hc.Dir); err != nil {
		return exiting(hc, s.notRun(hc, args[0], err))
	}
	err = unix.Exec(cmd.Path, cmd.Args, cmd.Env)
	if errors.Is(err, unix.ENOEXEC) {
		err = unix.Exec(self, append([]string{"sh", cmd.Path}, args[1:]...), cmd.Env)
	}
	return exiting(hc, s.notRun(hc, args[0], err))
}

// exiting ends the shell with the status of what could not be executed.
func exiting(hc interp.HandlerContext, err error) error {
	code := 0
	var status interp.ExitStatus
	if errors.As(err, &status) {
		code = int(status)
	}
	return hc.Builtin(context.Background(), []string{"exit", strconv.Itoa(code)})
}

// free is the lowest job number that no job has.
func (s *shell) free() int {
	for n := 1; ; n++ {
		if !slices.ContainsFunc(slices.Collect(maps.Values(s.jobs)), func(j *job) bool { return j.number == n }) {
			return n
		}
	}
}

// spawn starts a shell with a program of its own. What only this shell knows
// goes along: its functions in the program, its variables in the environment.
func (s *shell) spawn(hc interp.HandlerContext, source string, params []string) error {
	program := source
	for _, f := range s.functions {
		name, _, _ := strings.Cut(f, "(")
		if strings.Contains(source, name) {
			program = f + program
		}
	}
	environ := exported(hc.Env)
	for name, v := range hc.Env.Each {
		switch name {
		case "IFS", "OPTIND", "UID", "EUID", "GID", shellName, lastJob:
		default:
			if v.IsSet() && !v.Exported && v.Kind == expand.String {
				environ = append(environ, name+"="+v.String())
			}
		}
	}
	cmd := &exec.Cmd{
		Path: self, Args: append([]string{"sh", "-c", program}, params...), Dir: hc.Dir, Env: environ,
		Stdin: hc.Stdin, Stdout: hc.Stdout, Stderr: hc.Stderr,
	}
	if s.interactive {
		cmd.SysProcAttr = ownGroup() // so that Ctrl-C is not for it
	} else if hc.Stdin == io.Reader(os.Stdin) {
		cmd.Stdin = strings.NewReader("") // sh(1p): without job control, a background job reads nothing
	}
	if err := cmd.Start(); err != nil {
		return s.notRun(hc, "sh", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	j := &job{pid: cmd.Process.Pid, number: s.free(), text: source, done: make(chan struct{})}
	s.jobs[j.pid], s.last = j, j.pid
	if s.interactive {
		fmt.Fprintf(os.Stderr, "[%d] %d\n", j.number, j.pid)
	}
	go func() {
		j.status = ended(io.Discard, cmd.Wait(), cmd)
		close(j.done)
	}()
	return nil
}
