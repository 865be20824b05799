// Package shell is the shell of the built-in image, sh(1p): the language is
// read and interpreted by mvdan.cc/sh, and what concerns the kernel is here:
// processes, execve(2), signals and the terminal.
//
// Every command is a process. Subshells and background jobs are not: they are
// goroutines of the interpreter, so "$!" is no process number and serves only
// to wait. A trap runs where the next command ends, and if that is in a
// subshell, its exit ends only that. There is no job control: Ctrl-C ends the
// foreground command, and Ctrl-Z does nothing.
package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"

	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"

	"github.com/minictr/minictr/rootfs/applet"
)

// Main runs a shell: sh [-eux] [-c COMMAND [NAME [ARGUMENT...]] | FILE
// [ARGUMENT...]], and returns its exit status.
func Main(args []string) int {
	s := &shell{caught: make(chan os.Signal, 16)}
	code, err := s.main(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "sh: %v\n", err)
	}
	return code
}

// A shell is one process's shell.
type shell struct {
	runner  *interp.Runner
	caught  chan os.Signal                     // that have an action
	actions sync.Map                           // of trap, by signal
	stop    atomic.Pointer[context.CancelFunc] // of the line that runs; nil at the prompt
}

// usage is the exit status for what can't even be begun.
const usage = 2

func (s *shell) main(args []string) (int, error) {
	o, err := applet.Parse("+ceuxil", args[1:])
	if err != nil {
		return usage, err
	}
	name, params := args[0], o.Args
	var source io.Reader
	switch {
	case o.Has('c') && len(params) == 0:
		return usage, errors.New("-c needs a command")
	case o.Has('c'):
		source, params = strings.NewReader(params[0]), params[1:]
		if len(params) > 0 {
			name, params = params[0], params[1:]
		}
	case len(params) > 0:
		file, err := os.Open(params[0])
		if err != nil {
			return usage, err
		}
		defer file.Close() // opened to read
		source, name, params = file, params[0], params[1:]
	}
	params = append([]string{"--"}, params...)
	for _, letter := range []byte("eux") {
		if o.Has(letter) {
			params = append([]string{"-" + string(letter)}, params...)
		}
	}
	s.runner, err = interp.New(
		interp.StdIO(os.Stdin, os.Stdout, os.Stderr),
		interp.Params(params...),
		interp.CallHandler(s.call),
		interp.ExecHandlers(s.exec),
	)
	if err != nil {
		return usage, err
	}
	if source == nil {
		return s.lines()
	}
	file, err := syntax.NewParser().Parse(source, name)
	if err != nil {
		return usage, err
	}
	return s.run(context.Background(), file)
}

// run interprets a part of a program and returns its exit status.
func (s *shell) run(ctx context.Context, node syntax.Node) (int, error) {
	markExec(node)
	err := s.runner.Run(ctx, node)
	if status, ok := errors.AsType[interp.ExitStatus](err); ok {
		return int(status), nil
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}

// call is asked before every command. What the interpreter only imitates or
// lacks gets another name here, and so comes to exec: kill, and trap for
// signals.
func (s *shell) call(_ context.Context, args []string) ([]string, error) {
	switch {
	case args[0] == "kill":
		return append([]string{kill}, args[1:]...), nil
	case args[0] == "trap" && len(args) > 2:
		return s.trap(args), nil
	}
	return args, nil
}

// trap decides what signals do: an action, nothing (""), or the default ("-").
// It returns the call that is left for the interpreter's own trap.
func (s *shell) trap(args []string) []string {
	action, rest := args[1], args[:2:2]
	for _, name := range args[2:] {
		sig, err := applet.ParseSignal(name)
		switch {
		case err != nil || sig == 0:
			rest = append(rest, name)
		case action == "":
			signal.Ignore(sig)
		case action == "-" && os.Getpid() != 1:
			signal.Reset(sig)
		default: // that of PID 1 is to do nothing, too
			s.actions.Store(sig, strings.TrimPrefix(action, "-"))
			signal.Notify(s.caught, sig)
		}
	}
	if len(rest) == 2 {
		return []string{"true"}
	}
	return rest
}

// runTrap runs the action of a signal if one has come.
func (s *shell) runTrap(ctx context.Context, hc interp.HandlerContext) error {
	select {
	case sig := <-s.caught:
		action, _ := s.actions.Load(sig)
		return hc.Builtin(ctx, []string{"eval", action.(string)})
	default:
		return nil
	}
}
