// Package shell is the shell of the built-in image: the language is read and
// interpreted by mvdan.cc/sh, and what concerns the kernel is here.
//
// The interpreter runs subshells as goroutines, which is fine for scripts but
// shows in ps. So this package makes true processes where people look for
// them: a background job is a process, "$!" is its number, and exec is
// execve(2). Signals, traps, kill, wait, umask and ulimit are the kernel's.
// There is no job control, see "Job control" of sh(1p): Ctrl-C ends the
// foreground command, and Ctrl-Z does nothing.
package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// Main runs a shell: sh [-eux] [-c COMMAND [NAME [ARGUMENT...]]] | [FILE
// [ARGUMENT...]] | [-s [ARGUMENT...]], and returns its exit status.
func Main(args []string) int {
	call, err := parseArgs(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "sh: %v\n", err)
		return 2
	}
	s := &shell{name: call.name, jobs: map[int]*job{}, traps: map[unix.Signal]string{}, caught: make(chan os.Signal, 16)}
	s.runner, err = interp.New(
		interp.Env(environ{expand.ListEnviron(os.Environ()...), s}),
		interp.StdIO(os.Stdin, os.Stdout, os.Stderr),
		interp.Params(append(call.set, append([]string{"--"}, call.params...)...)...),
		interp.CallHandler(s.call),
		interp.ExecHandlers(func(interp.ExecHandlerFunc) interp.ExecHandlerFunc { return s.exec }),
	)
	if err != nil {
		fmt.Fprintf(os.Stderr, "sh: %v\n", err)
		return 1
	}
	if call.source != nil {
		return s.script(call.source)
	}
	return s.lines(call.interactive)
}

// An invocation is what the arguments of sh ask for.
type invocation struct {
	name        string // $0
	source      io.Reader
	params, set []string
	interactive bool
}

func parseArgs(args []string) (*invocation, error) {
	call := &invocation{name: args[0]}
	command, stdin := false, false
	args = args[1:]
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		flags := args[0][1:]
		args = args[1:]
		if flags == "-" {
			break
		}
		for _, c := range flags {
			switch c {
			case 'c':
				command = true
			case 's':
				stdin = true
			case 'i':
				call.interactive = true
			case 'l':
			case 'e', 'u', 'x', 'f', 'n', 'a':
				call.set = append(call.set, "-"+string(c))
			default:
				return nil, fmt.Errorf("unknown option -%c", c)
			}
		}
	}
	switch {
	case command && len(args) == 0:
		return nil, errors.New("-c needs a command")
	case command:
		call.source, args = strings.NewReader(args[0]), args[1:]
		if len(args) > 0 {
			call.name, args = args[0], args[1:]
		}
	case !stdin && len(args) > 0:
		file, err := os.ReadFile(args[0])
		if err != nil {
			return nil, err
		}
		call.source, call.name, args = strings.NewReader(string(file)), args[0], args[1:]
	default:
		call.interactive = call.interactive || terminal(0)
	}
	call.params = args
	return call, nil
}

func terminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}

// A shell is one process's shell. Its methods are called by the interpreter,
// from several goroutines when there are pipes.
type shell struct {
	name        string
	runner      *interp.Runner
	interactive bool
	functions   []string // declarations so far, for background jobs

	mu     sync.Mutex
	jobs   map[int]*job // by process number
	last   int          // $!
	traps  map[unix.Signal]string
	caught chan os.Signal
	stop   context.CancelFunc // of the line that runs; nil at the prompt
}

// Names under which the interpreter finds, as variables, what it would
// otherwise make up itself.
const (
	lastJob   = "SH_LAST_JOB" // $!
	shellName = "SH_NAME"     // $0
)

// environ adds the shell's own variables to the environment.
type environ struct {
	expand.Environ
	shell *shell
}

func (e environ) Each(f func(string, expand.Variable) bool) {
	for name, v := range e.Environ.Each {
		if !f(name, v) {
			return
		}
	}
	if f(shellName, e.Get(shellName)) {
		f(lastJob, e.Get(lastJob))
	}
}

func (e environ) Get(name string) expand.Variable {
	text := ""
	switch name {
	case shellName:
		text = e.shell.name
	case lastJob:
		e.shell.mu.Lock()
		defer e.shell.mu.Unlock()
		if e.shell.last == 0 {
			return expand.Variable{}
		}
		text = strconv.Itoa(e.shell.last)
	default:
		return e.Environ.Get(name)
	}
	return expand.Variable{Set: true, Kind: expand.String, Str: text}
}

// script runs a whole program.
func (s *shell) script(source io.Reader) int {
	file, err := syntax.NewParser().Parse(source, s.name)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", s.name, err)
		return 2
	}
	s.rewrite(file)
	execLast(file)
	return status(s.runner.Run(context.Background(), file))
}

// interrupted is the status of what SIGINT ended.
const interrupted = 128 + int(unix.SIGINT)

// status is the exit status of what ran.
func status(err error) int {
	var exit interp.ExitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	}
	fmt.Fprintf(os.Stderr, "sh: %v\n", err)
	return 1
}

// lines runs standard input line by line, with prompts if a person types it.
func (s *shell) lines(interactive bool) int {
	s.interactive = interactive
	in := &input{shell: s}
	if interactive {
		if err := s.takeTerminal(in); err != nil {
			fmt.Fprintf(os.Stderr, "sh: %v\n", err)
			return 1
		}
	}
	code := 0
	for {
		in.more = false
		parser := syntax.NewParser()
		var err error
		var stmts []*syntax.Stmt
		for stmts, err = range parser.InteractiveSeq(in) {
			if in.more = parser.Incomplete(); in.more && err == nil {
				continue
			}
			if err != nil {
				break
			}
			if code = s.line(stmts, code); s.runner.Exited() && code != interrupted {
				return code
			}
		}
		switch {
		case errors.Is(err, errInterrupted):
			fmt.Fprintln(os.Stderr)
			code = interrupted
			continue
		case err != nil:
			fmt.Fprintf(os.Stderr, "sh: %v\n", err)
			if code = 2; interactive {
				continue
			}
		case interactive && in.ended:
			fmt.Fprintln(os.Stderr, "exit")
		}
		return s.exitTrap(code)
	}
}

// line runs the statements of one line; code is the status so far.
func (s *shell) line(stmts []*syntax.Stmt, code int) int {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	s.setStop(stop)
	defer s.setStop(nil)
	for _, stmt := range stmts {
		s.rewrite(stmt)
		err := s.runner.Run(ctx, stmt)
		if ctx.Err() != nil {
			fmt.Fprintln(os.Stderr)
			return interrupted
		}
		if code = status(err); s.runner.Exited() {
			break
		}
	}
	return code
}

// exitTrap runs the trap for EXIT at the end of the input.
func (s *shell) exitTrap(code int) int {
	err := s.runner.Run(context.Background(), &syntax.File{Name: s.name})
	if err != nil && s.runner.Exited() {
		return status(err)
	}
	return code
}

func (s *shell) setStop(stop context.CancelFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop = stop
}
