package shell

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"

	"github.com/minictr/minictr/rootfs/applet"
)

// Builtins that are ours have names that no program has: execve is what exec
// is called where it takes the place of the shell.
const (
	execve = "builtin exec"
	kill   = "builtin kill"
)

// markExec finds the exec that the interpreter would not run in a goroutine.
// Elsewhere, exec is a child process and the end of the subshell after it.
func markExec(node syntax.Node) {
	syntax.Walk(node, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.Subshell, *syntax.CmdSubst, *syntax.ProcSubst, *syntax.FuncDecl:
			return false
		case *syntax.Stmt:
			return !n.Background
		case *syntax.BinaryCmd:
			return n.Op != syntax.Pipe && n.Op != syntax.PipeAll
		case *syntax.CallExpr:
			if len(n.Args) > 1 && n.Args[0].Lit() == "exec" {
				n.Args[0].Parts = []syntax.WordPart{&syntax.SglQuoted{Value: execve}}
			}
		}
		return true
	})
}

// A background context is that of a job, which Ctrl-C is not for.
type background struct{}

// exec is what the interpreter calls for every command that is no builtin;
// next makes a process of it.
func (s *shell) exec(next interp.ExecHandlerFunc) interp.ExecHandlerFunc {
	return func(ctx context.Context, args []string) error {
		hc := interp.HandlerCtx(ctx)
		var err error
		switch {
		case args[0] == execve:
			failure := become(hc, args[1:])
			fmt.Fprintf(hc.Stderr, "sh: %v\n", failure)
			return hc.Builtin(ctx, []string{"exit", strconv.Itoa(failure.Status)})
		case args[0] == kill: // here, since a limit of processes must not stop it
			args[0] = "kill"
			run, _ := applet.Lookup(args[0])
			if code := run(applet.Stdio{In: hc.Stdin, Out: hc.Stdout, Err: hc.Stderr}, args); code != 0 {
				err = interp.ExitStatus(code)
			}
		case ctx.Value(background{}) != nil:
			err = told(hc, next(ctx, append([]string{"setsid"}, args...)))
		default:
			err = told(hc, next(context.WithoutCancel(ctx), args)) // the terminal itself sends it SIGINT
		}
		return errors.Join(s.runTrap(ctx, hc), err)
	}
}

// told says which signal ended a process, as that is the whole answer that a
// student looks for, or that there could be no process.
func told(hc interp.HandlerContext, err error) error {
	status, ended := errors.AsType[interp.ExitStatus](err)
	switch sig := unix.Signal(status - 128); {
	case err != nil && !ended:
		fmt.Fprintf(hc.Stderr, "sh: can't fork or execute: %v\n", err)
		return interp.ExitStatus(126)
	case status > 128 && sig != unix.SIGINT && sig != unix.SIGPIPE:
		fmt.Fprintln(hc.Stderr, sig)
	}
	return err
}

// become executes a program in place of the shell, execve(2): found in PATH,
// in the shell's directory, with what is exported and the streams as they
// stand. It returns only if that fails.
func become(hc interp.HandlerContext, args []string) *applet.Failure {
	environ := []string{}
	for name, v := range hc.Env.Each { // an inner scope comes after those around it
		environ = slices.DeleteFunc(environ, func(e string) bool { return strings.HasPrefix(e, name+"=") })
		if v.IsSet() && v.Exported && v.Kind == expand.String {
			environ = append(environ, name+"="+v.String())
		}
	}
	for fd, stream := range []any{hc.Stdin, hc.Stdout, hc.Stderr} {
		if f, ok := stream.(*os.File); ok && f != nil && int(f.Fd()) != fd {
			if err := unix.Dup3(int(f.Fd()), fd, 0); err != nil {
				return &applet.Failure{Status: 1, Err: fmt.Errorf("dup3: %w", err)}
			}
		}
	}
	if err := os.Chdir(hc.Dir); err != nil {
		return &applet.Failure{Status: 1, Err: err}
	}
	return applet.Exec(hc.Env.Get("PATH").String(), args, environ)
}
