package lang

import (
	"go/ast"
	"testing"
)

// TestWallSpeaksKorean finds what bricks and gaps mean, whatever the process.
func TestWallSpeaksKorean(t *testing.T) {
	means := func(e ast.Expr) bool {
		if s, ok := e.(*ast.SelectorExpr); ok {
			e = s.Sel
		}
		name, ok := e.(*ast.Ident)
		return ok && name.Name == "Means"
	}
	all := source(t, "pkg/wall", func(n ast.Node, say func(ast.Expr)) {
		switch n := n.(type) {
		case *ast.KeyValueExpr:
			if means(n.Key) {
				say(n.Value)
			}
		case *ast.AssignStmt:
			for i, left := range n.Lhs {
				if means(left) && len(n.Rhs) == len(n.Lhs) {
					say(n.Rhs[i])
				}
			}
		}
	})
	if len(all) < 20 {
		t.Fatalf("%d sentences: the test does not find them", len(all))
	}
	translated(t, all)
}
