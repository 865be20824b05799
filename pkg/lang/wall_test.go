package lang

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// forPeople tells a sentence from calls, formats of files and lists of names: it
// has a blank in it, and a word of small letters.
func forPeople(text string) bool {
	return strings.Contains(strings.TrimSpace(text), " ") && smallWord.MatchString(text)
}

var smallWord = regexp.MustCompile(`(^| )[a-z]{2,}[,;:.]?( |$)`)

// TestWallSpeaksKorean finds the sentences of package wall: all strings that
// look like one, but for those of errors, and calls that lay a brick.
func TestWallSpeaksKorean(t *testing.T) {
	var done token.Pos // all before it has been looked at
	all := source(t, "pkg/wall", func(n ast.Node, say func(ast.Expr)) {
		switch e, ok := n.(ast.Expr); {
		case n == nil || n.Pos() < done:
		case mute(n):
			done = n.End()
		case ok:
			if _, says := literal(e); says {
				say(e)
				done = n.End()
			}
		}
	})
	sentences := all[:0]
	for _, s := range all {
		if forPeople(s.text) {
			sentences = append(sentences, s)
		}
	}
	if len(sentences) < 30 {
		t.Fatalf("%d sentences: the test does not find them", len(sentences))
	}
	for _, word := range []string{"walled", "shared", "missing", "unknown", "inside", "outside"} {
		sentences = append(sentences, sentence{text: word})
	}
	translated(t, sentences)
}

// mute says whether what stands below a node is not for people, or an error; why
// a call is dangerous is said to those who read the code.
func mute(n ast.Node) bool {
	name := ""
	switch n := n.(type) {
	case *ast.CallExpr:
		if f, ok := n.Fun.(*ast.SelectorExpr); ok {
			name = f.Sel.Name
		}
	case *ast.KeyValueExpr:
		if key, ok := n.Key.(*ast.Ident); ok {
			name = key.Name
		}
	case *ast.AssignStmt:
		if f, ok := n.Lhs[0].(*ast.SelectorExpr); ok {
			name = f.Sel.Name
		}
	case *ast.FuncDecl:
		name = n.Name.Name
	case *ast.ValueSpec:
		name = n.Names[0].Name
	case *ast.Field:
		return n.Tag != nil
	}
	return slices.Contains([]string{"Call", "dangerous", "Error", "Errorf", "Fields", "Fprintf", "New", "NewReplacer", "Sscanf"}, name)
}
