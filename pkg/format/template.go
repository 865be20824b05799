// Package format prints what --format asks for: JSON, tables, and templates in
// the language of text/template.
//
// Templates are parsed by text/template/parse and executed here, over values of
// JSON's kinds: nil, bool, int64, float64, string, []any, map[string]any and
// what [Document] makes. text/template itself calls methods by their names, and
// so would keep every method of the program.
package format

import (
	"errors"
	"fmt"
	"strings"
	"text/template/parse"
)

// A Template is a parsed text with actions in {{ }}. Outside of them \t and \n
// are a tab and a new line, as Docker has it.
type Template struct {
	root   *parse.ListNode
	titles bool // values are titles of columns, which functions leave as they are
}

// Parse parses a template. Its errors say what is wrong, and name the functions
// that there are.
func Parse(text string) (*Template, error) {
	known := make(map[string]any)
	for _, f := range functions() {
		known[f.name] = true
	}
	tree, err := parse.New("").Parse(text, "", "", make(map[string]*parse.Tree), known)
	if err != nil {
		message := strings.TrimPrefix(err.Error(), "template: :1: ")
		if strings.HasPrefix(message, "function ") {
			message += "; there are " + functionNames()
		}
		return nil, fmt.Errorf("--format %q: %s", text, message)
	}
	return &Template{root: tree.Root}, nil
}

// Execute returns the template's text for a value.
func (t *Template) Execute(value any) (string, error) {
	x := &execution{titles: t.titles, variables: []variable{{"$", value}}}
	if err := x.walk(value, t.root); err != nil {
		return "", fmt.Errorf("--format: %w", err)
	}
	return x.out.String(), nil
}

// An execution of a template writes its text.
type execution struct {
	out       strings.Builder
	variables []variable // the innermost last
	titles    bool
}

type variable struct {
	name  string
	value any
}

// How the body of a range ends early.
var (
	errBreak    = errors.New("break outside of range")
	errContinue = errors.New("continue outside of range")
)

func (x *execution) walk(dot any, n parse.Node) error {
	switch n := n.(type) {
	case *parse.ListNode:
		for _, node := range n.Nodes {
			if err := x.walk(dot, node); err != nil {
				return err
			}
		}
	case *parse.TextNode:
		x.out.WriteString(strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(string(n.Text)))
	case *parse.ActionNode:
		value, err := x.pipeline(dot, n.Pipe)
		if err == nil && len(n.Pipe.Decl) == 0 {
			x.out.WriteString(text(value))
		}
		return err
	case *parse.IfNode:
		return x.branch(&n.BranchNode, dot, func(any) any { return dot })
	case *parse.WithNode:
		return x.branch(&n.BranchNode, dot, func(value any) any { return value })
	case *parse.RangeNode:
		return x.loop(n, dot)
	case *parse.BreakNode:
		return errBreak
	case *parse.ContinueNode:
		return errContinue
	default: // define, block, template: a format is one line
		return fmt.Errorf("%s is not supported", n)
	}
	return nil
}

// branch walks one of two lists; the first one's dot is made of the pipeline's
// value.
func (x *execution) branch(n *parse.BranchNode, dot any, inner func(any) any) error {
	defer x.leave(len(x.variables))
	value, err := x.pipeline(dot, n.Pipe)
	switch {
	case err != nil:
		return err
	case truth(value):
		return x.walk(inner(value), n.List)
	case n.ElseList != nil:
		return x.walk(dot, n.ElseList)
	}
	return nil
}

// leave forgets the variables of an inner scope.
func (x *execution) leave(outer int) { x.variables = x.variables[:outer] }

func (x *execution) loop(n *parse.RangeNode, dot any) error {
	defer x.leave(len(x.variables))
	value, err := x.pipeline(dot, n.Pipe)
	if err != nil {
		return err
	}
	keys, elements, err := entries(value)
	if err != nil {
		return fmt.Errorf("range %s: %w", n.Pipe, err)
	}
	if len(elements) == 0 && n.ElseList != nil {
		return x.walk(dot, n.ElseList)
	}
	inner := len(x.variables)
	for i, element := range elements {
		switch names := n.Pipe.Decl; len(names) {
		case 1:
			err = x.assign(names[0].Ident[0], element)
		case 2:
			err = errors.Join(x.assign(names[0].Ident[0], keys[i]), x.assign(names[1].Ident[0], element))
		}
		if err == nil {
			err = x.walk(element, n.List)
		}
		x.leave(inner)
		switch {
		case errors.Is(err, errBreak):
			return nil
		case errors.Is(err, errContinue):
			err = nil
		case err != nil:
			return err
		}
	}
	return nil
}

func (x *execution) find(name string) (*variable, error) {
	for i := len(x.variables) - 1; i >= 0; i-- {
		if x.variables[i].name == name {
			return &x.variables[i], nil
		}
	}
	return nil, fmt.Errorf("undefined variable %s", name)
}

func (x *execution) assign(name string, value any) error {
	v, err := x.find(name)
	if err == nil {
		v.value = value
	}
	return err
}

// pipeline returns the value of commands, each of which has that of the one
// before as its last argument.
func (x *execution) pipeline(dot any, p *parse.PipeNode) (value any, err error) {
	var last []any
	for _, cmd := range p.Cmds {
		if value, err = x.command(dot, cmd, last); err != nil {
			return nil, err
		}
		last = []any{value}
	}
	for _, d := range p.Decl {
		if p.IsAssign {
			err = errors.Join(err, x.assign(d.Ident[0], value))
		} else {
			x.variables = append(x.variables, variable{d.Ident[0], value})
		}
	}
	return value, err
}

func (x *execution) command(dot any, cmd *parse.CommandNode, last []any) (any, error) {
	if function, ok := cmd.Args[0].(*parse.IdentifierNode); ok {
		return x.call(dot, function.Ident, cmd.Args[1:], last)
	}
	args, err := x.arguments(dot, cmd.Args[1:], last)
	if err != nil {
		return nil, err
	}
	if _, ok := cmd.Args[0].(*parse.NilNode); ok {
		return nil, errors.New("nil is an argument alone")
	}
	return x.operand(dot, cmd.Args[0], args)
}

func (x *execution) arguments(dot any, nodes []parse.Node, last []any) (args []any, err error) {
	for _, n := range nodes {
		value, err := x.operand(dot, n, nil)
		if err != nil {
			return nil, err
		}
		args = append(args, value)
	}
	return append(args, last...), nil
}

// operand returns the value of a node; fields alone may have arguments.
func (x *execution) operand(dot any, n parse.Node, args []any) (value any, err error) {
	var path []string
	switch n := n.(type) {
	case *parse.FieldNode:
		value, path = dot, n.Ident
	case *parse.VariableNode:
		v, err := x.find(n.Ident[0])
		if err != nil {
			return nil, err
		}
		value, path = v.value, n.Ident[1:]
	case *parse.ChainNode:
		value, err = x.operand(dot, n.Node, nil)
		path = n.Field
	case *parse.PipeNode:
		value, err = x.pipeline(dot, n)
	case *parse.IdentifierNode:
		value, err = x.call(dot, n.Ident, nil, nil)
	case *parse.DotNode:
		value = dot
	default:
		value, err = constant(n)
	}
	if err == nil && len(path) == 0 && len(args) > 0 {
		err = fmt.Errorf("%s takes no arguments", n)
	}
	for i := 0; err == nil && i < len(path); i++ {
		var given []any
		if i == len(path)-1 {
			given = args
		}
		value, err = field(value, path[i], given)
	}
	return value, err
}

func constant(n parse.Node) (any, error) {
	switch n := n.(type) {
	case *parse.StringNode:
		return n.Text, nil
	case *parse.BoolNode:
		return n.True, nil
	case *parse.NilNode:
		return nil, nil
	case *parse.NumberNode:
		if n.IsInt {
			return n.Int64, nil
		}
		if n.IsFloat {
			return n.Float64, nil
		}
	}
	return nil, fmt.Errorf("%s is not supported", n)
}
