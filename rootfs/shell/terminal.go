package shell

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"mvdan.cc/sh/v3/syntax"
)

var errInterrupted = errors.New("interrupted")

// An input reads standard input line by line and no further, because the
// commands of a line may want to read what follows it. It prompts where a
// person types.
type input struct {
	shell       *shell
	interactive bool
	more        bool // the line goes on with the next
	interrupted atomic.Bool
	kept        []byte // the line after an interrupt
}

func (in *input) Read(p []byte) (n int, err error) {
	if n = copy(p, in.kept); n > 0 {
		in.kept = in.kept[n:]
		return n, nil
	}
	in.prompt(in.more)
	for n < len(p) && (n == 0 || p[n-1] != '\n') {
		got, err := os.Stdin.Read(p[n : n+1])
		if got == 0 && n == 0 {
			return 0, err
		}
		if got == 0 {
			p[n] = '\n' // the parser takes whole lines
		}
		n++
	}
	if in.interrupted.Swap(false) {
		in.kept = slices.Clone(p[:n])
		return 0, errInterrupted
	}
	return n, nil
}

// prompt tells a person that the shell waits, and where.
func (in *input) prompt(more bool) {
	switch {
	case !in.interactive:
	case more:
		fmt.Fprint(os.Stderr, "> ")
	default:
		host, _ := os.Hostname() // a prompt without it serves too
		mark := "$"
		if unix.Geteuid() == 0 {
			mark = "#"
		}
		fmt.Fprintf(os.Stderr, "%s:%s %s ", host, in.shell.runner.Dir, mark)
	}
}

// takeTerminal makes the shell one that a person uses: SIGINT ends the line
// that runs or is typed, and never the shell.
func (in *input) takeTerminal() {
	in.interactive = true
	signal.Ignore(unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU)
	signal.Notify(make(chan os.Signal, 1), unix.SIGQUIT, unix.SIGTERM)
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, unix.SIGINT)
	go func() {
		for range interrupts {
			fmt.Fprintln(os.Stderr)
			if stop := in.shell.stop.Load(); stop != nil {
				(*stop)()
				continue
			}
			in.interrupted.Store(true)
			in.prompt(false)
		}
	}()
}

// lines runs standard input as it comes.
func (s *shell) lines() (int, error) {
	in := &input{shell: s}
	if _, err := unix.IoctlGetTermios(0, unix.TCGETS); err == nil {
		in.takeTerminal()
	}
	for {
		code, err := s.statements(in)
		switch {
		case errors.Is(err, errInterrupted):
		case err != nil && in.interactive:
			fmt.Fprintf(os.Stderr, "sh: %v\n", err)
		default:
			return code, err
		}
	}
}

// statements runs the input until it ends, is no program, or ends the shell.
func (s *shell) statements(in *input) (int, error) {
	parser := syntax.NewParser()
	for stmts, err := range parser.InteractiveSeq(in) {
		if err != nil {
			return usage, err
		}
		if in.more = parser.Incomplete(); in.more {
			continue
		}
		for _, stmt := range stmts {
			if code, exited, err := s.statement(stmt); exited {
				return code, err
			}
		}
	}
	if in.interactive {
		fmt.Fprintln(os.Stderr, "exit")
	}
	exit := &syntax.Word{Parts: []syntax.WordPart{&syntax.Lit{Value: "exit"}}}
	return s.run(context.Background(), &syntax.CallExpr{Args: []*syntax.Word{exit}})
}

// statement runs one statement, and says whether it ended the shell.
func (s *shell) statement(stmt *syntax.Stmt) (code int, exited bool, err error) {
	ctx, stop := context.WithCancel(context.Background())
	if stmt.Background {
		ctx = context.WithValue(context.Background(), background{}, true)
	}
	s.stop.Store(&stop)
	defer s.stop.Store(nil)
	code, err = s.run(ctx, stmt)
	return code, s.runner.Exited() && ctx.Err() == nil, err
}
