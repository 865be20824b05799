package lang

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/minictr/minictr/pkg/spec"
)

// A sentence is what a place in the code says: with %s for what differs.
type sentence struct {
	text string
	at   token.Position
}

// literal puts together what an expression says: a string, a concatenation, or
// a format with its verbs. It is false for what holds no string.
func literal(e ast.Expr) (text string, ok bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		left, one := literal(e.X)
		right, other := literal(e.Y)
		if !one {
			left = "%s"
		}
		if !other {
			right = "%s"
		}
		return left + right, e.Op == token.ADD && (one || other)
	case *ast.CallExpr:
		if f, is := e.Fun.(*ast.SelectorExpr); is && f.Sel.Name == "Sprintf" {
			text, ok = literal(e.Args[0])
			return verb.ReplaceAllString(text, "%s"), ok
		}
	}
	return "", false
}

var verb = regexp.MustCompile(`%(\[\d\])?[\d.]*[a-z]`)

// source calls visit with each node of a package's files, without its tests.
func source(t *testing.T, pkg string, visit func(ast.Node, func(ast.Expr))) (all []sentence) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("..", "..", pkg, "*.go"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %d files, %v", pkg, len(names), err)
	}
	files := token.NewFileSet()
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			visit(n, func(e ast.Expr) {
				if text, ok := literal(e); ok {
					all = append(all, sentence{text, files.Position(e.Pos())})
				}
			})
			return true
		})
	}
	return all
}

// translated wants Korean for each sentence.
func translated(t *testing.T, all []sentence) {
	t.Helper()
	for _, s := range all {
		if _, ok := Translate(s.text); !ok && s.text != "" && s.text != "%s" {
			t.Errorf("%s: no Korean for %q", s.at, s.text)
		}
	}
}

// TestPlanSpeaksKorean finds the sentences where plans are made: what stands in
// the place of a reason or a title.
func TestPlanSpeaksKorean(t *testing.T) {
	argument := map[string]int{"Do": 0, "Clone": 0, "Act": 0, "Get": 1, "act": 1, "Section": 2, "Line": 0, "Say": 0, "heading": 0}
	reason := func(n ast.Expr) bool {
		name, ok := n.(*ast.Ident)
		return ok && (strings.HasPrefix(name.Name, "why") || name.Name == "Why" || name.Name == "Title" || name.Name == "Leaks")
	}
	var all []sentence
	for _, pkg := range []string{"pkg/plan", "pkg/namespace", "pkg/network", "pkg/process", "pkg/rootless", "pkg/container", "pkg/cgroup", "pkg/systemd", "pkg/spec", "cmd/minictr"} {
		all = append(all, source(t, pkg, func(n ast.Node, say func(ast.Expr)) {
			switch n := n.(type) {
			case *ast.CallExpr:
				name := ""
				switch f := n.Fun.(type) {
				case *ast.SelectorExpr:
					name = f.Sel.Name
				case *ast.Ident:
					name = f.Name
				}
				if i, ok := argument[name]; ok && i < len(n.Args) {
					say(n.Args[i])
				}
			case *ast.KeyValueExpr:
				if reason(n.Key) {
					say(n.Value)
				}
			case *ast.AssignStmt:
				for i, left := range n.Lhs {
					if reason(left) && len(n.Rhs) == len(n.Lhs) {
						say(n.Rhs[i])
					}
				}
			case *ast.ValueSpec:
				for i, name := range n.Names {
					if reason(name) && i < len(n.Values) {
						say(n.Values[i])
					}
				}
			}
		})...)
	}
	if len(all) < 200 {
		t.Fatalf("%d sentences: the test does not find them", len(all))
	}
	for _, brick := range spec.Bricks() {
		all = append(all, sentence{text: brick.Leaks})
	}
	translated(t, all)
}
