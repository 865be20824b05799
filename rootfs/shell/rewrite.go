package shell

import (
	"strings"

	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// Builtins that this package does itself are called by names that no program
// has, so that the interpreter asks exec for them.
const own = "builtin "

// rewrite changes a program where the interpreter would only imitate what a
// process does: "x &" becomes a call that starts a shell with the program x,
// exec becomes ours where no goroutine is in its way, and $! and $0 become
// variables.
func (s *shell) rewrite(node syntax.Node) {
	inside := 0 // of how many constructs that the interpreter runs as goroutines
	var stack []bool
	syntax.Walk(node, func(n syntax.Node) bool {
		if n == nil {
			if last := len(stack) - 1; stack[last] {
				inside--
			}
			stack = stack[:len(stack)-1]
			return true
		}
		goroutine := false
		switch n := n.(type) {
		case *syntax.Stmt:
			if n.Background {
				n.Background = false
				*n = *call(own+"spawn", quoted(text(n)))
				return false // the walk says no end of what it did not enter
			}
		case *syntax.FuncDecl:
			s.functions = append(s.functions, text(n)+"\n")
		case *syntax.ParamExp:
			name(n)
		case *syntax.CallExpr:
			if inside == 0 && len(n.Args) > 1 && n.Args[0].Lit() == "exec" {
				n.Args[0] = quoted(own + "exec")
			}
		case *syntax.Subshell, *syntax.CmdSubst, *syntax.ProcSubst:
			goroutine = true
		case *syntax.BinaryCmd:
			goroutine = n.Op == syntax.Pipe || n.Op == syntax.PipeAll
		}
		if goroutine {
			inside++
		}
		stack = append(stack, goroutine)
		return true
	})
}

// name gives parameters that the interpreter makes up the names of variables.
func name(n *syntax.ParamExp) {
	if n.Param == nil {
		return
	}
	switch n.Param.Value {
	case "!":
		n.Param.Value = lastJob
	case "0":
		n.Param.Value = shellName
	}
	n.Short = false
}

// text is the source of a part of a program.
func text(n syntax.Node) string {
	var b strings.Builder
	if err := syntax.NewPrinter().Print(&b, n); err != nil {
		panic(err) // a Builder takes everything, and the nodes are the parser's
	}
	return b.String()
}

// call is a statement that calls a command with words, "$0" and "$@".
func call(command string, words ...*syntax.Word) *syntax.Stmt {
	args := append([]*syntax.Word{quoted(command)}, words...)
	for _, parameter := range []string{shellName, "@"} {
		args = append(args, &syntax.Word{Parts: []syntax.WordPart{&syntax.DblQuoted{Parts: []syntax.WordPart{
			&syntax.ParamExp{Param: &syntax.Lit{Value: parameter}},
		}}}})
	}
	return &syntax.Stmt{Cmd: &syntax.CallExpr{Args: args}}
}

func quoted(s string) *syntax.Word {
	return &syntax.Word{Parts: []syntax.WordPart{&syntax.SglQuoted{Value: s}}}
}

// execLast puts "exec" before the last command of a program if it is the name
// of a program: nothing is left to do for the shell then. So PID 1 of
// "sh -c 'sleep 100'" is sleep.
func execLast(file *syntax.File) {
	if len(file.Stmts) == 0 {
		return
	}
	last := file.Stmts[len(file.Stmts)-1]
	c, ok := last.Cmd.(*syntax.CallExpr)
	if !ok || last.Negated || len(c.Assigns) > 0 || len(c.Args) == 0 {
		return
	}
	command := c.Args[0].Lit()
	if command == "" || interp.IsBuiltin(command) || defined(file, command) {
		return
	}
	c.Args = append([]*syntax.Word{quoted(own + "exec")}, c.Args...)
}

// defined says whether a program may give the name another meaning, or waits
// for signals or its own end, or has more to do than calls.
func defined(file *syntax.File, command string) (found bool) {
	syntax.Walk(file, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.FuncDecl:
			found = found || n.Name.Value == command
		case *syntax.CallExpr:
			if len(n.Args) > 0 {
				switch n.Args[0].Lit() {
				case "trap", "alias", ".", "source", "eval", "set":
					found = true
				}
			}
		}
		return true
	})
	return found
}
