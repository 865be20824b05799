package policy_test

import (
	"bytes"
	"go/parser"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// top is the root of the repository.
const top = "../.."

const maxFile = 500 // lines, in any file of Go, tests too

// budgets are ratchets: lines with code on them, without tests, and without
// tables of numbers and names. They are raised only with a reason in
// ARCHITECTURE.md.
var budgets = []struct {
	what  string
	limit int
	files []string // patterns of path.Match
}{
	// What a student reads in an afternoon.
	{"the essential path", 1500, []string{
		"pkg/plan/plan.go", "pkg/plan/call.go", "pkg/plan/build.go",
		"pkg/forkexec/fork.go", "pkg/forkexec/start.go",
		"pkg/namespace/namespace.go", "pkg/namespace/mount.go", "pkg/namespace/root.go",
		"pkg/container/compile.go", "pkg/container/run.go",
	}},
	{"the core", 12950, patterns(core)},
	{"the whole", 44700, []string{"cmd/*/*", "pkg/*/*", "rootfs/*", "rootfs/*/*"}},
}

// tables hold numbers and names, and are no code.
var tables = []string{"pkg/plan/flags.go", "pkg/seccomp/table.go"}

func patterns(packages []string) (list []string) {
	for _, p := range packages {
		list = append(list, p+"/*")
	}
	return list
}

// A file is one of this repository.
type file struct {
	path string // "pkg/plan/plan.go"
	text []byte
}

func (f file) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

func (f file) generated() bool { return bytes.HasPrefix(f.text, []byte("// Code generated ")) }

// in tells whether the file matches one of the patterns.
func (f file) in(patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		found, _ := path.Match(p, f.path)
		return found
	})
}

// files reads the texts of this repository whose names end in one way.
func files(t *testing.T, suffix string) (all []file) {
	t.Helper()
	err := filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == ".git":
			return fs.SkipDir
		case !d.Type().IsRegular() || !strings.HasSuffix(name, suffix):
			return nil
		}
		text, err := os.ReadFile(name)
		if utf8.Valid(text) {
			all = append(all, file{strings.TrimPrefix(name, top+"/"), text})
		}
		return err
	})
	if err != nil || len(all) == 0 {
		t.Fatalf("%d files, %v", len(all), err)
	}
	return all
}

// code counts the lines that hold more than comments.
func (f file) code() (lines int) {
	var s scanner.Scanner
	set := token.NewFileSet()
	handle := set.AddFile(f.path, -1, len(f.text))
	s.Init(handle, f.text, nil, 0) // without comments
	last := 0
	for {
		pos, tok, literal := s.Scan()
		if tok == token.EOF {
			return lines
		}
		if tok == token.SEMICOLON && literal == "\n" {
			continue
		}
		first := max(handle.Line(pos), last+1)
		end := handle.Line(pos) + strings.Count(literal, "\n")
		lines += max(0, end-first+1)
		last = max(last, end)
	}
}

func TestBudgets(t *testing.T) {
	all := files(t, ".go")
	for _, b := range budgets {
		lines := 0
		for _, f := range all {
			if !f.isTest() && !f.generated() && !f.in(tables) && f.in(b.files) {
				lines += f.code()
			}
		}
		if lines > b.limit {
			t.Errorf("%s has %d lines of code, more than %d", b.what, lines, b.limit)
		}
		t.Logf("%s: %d of %d lines", b.what, lines, b.limit)
	}
	for _, f := range all {
		if n := bytes.Count(f.text, []byte("\n")); n > maxFile && !f.generated() {
			t.Errorf("%s has %d lines, more than %d", f.path, n, maxFile)
		}
	}
}

func TestCode(t *testing.T) {
	code := []byte("/* a */ package p // b\n\n// c\nvar x = `d\n\n` +\n\t1 /* e\nf */\n")
	if n := (file{"p.go", code}).code(); n != 5 {
		t.Errorf("%d lines of code, want 5", n)
	}
}

func TestSource(t *testing.T) {
	documented, tested := make(map[string]bool), make(map[string]bool)
	for _, f := range files(t, ".go") {
		if bytes.HasPrefix(f.text, []byte("//go:build ignore\n")) {
			continue // a program for go generate, in no package
		}
		tree, err := parser.ParseFile(token.NewFileSet(), f.path, f.text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		dir := path.Dir(f.path)
		documented[dir] = documented[dir] || tree.Doc != nil
		if f.isTest() {
			tested[dir] = tested[dir] || test.Match(f.text)
			continue
		}
		if start.Match(f.text) {
			t.Errorf("%s does work at every start: init or a regular expression", f.path)
		}
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment", dir)
		}
		if found, has := tested[dir]; has && !found {
			t.Errorf("%s has test files, but no test", dir)
		}
	}
}

var (
	start = regexp.MustCompile(`(?m)^func init\(\)|^(var |\t)\w+ += regexp\.MustCompile`)
	test  = regexp.MustCompile(`(?m)^func (Test|Fuzz|Benchmark|Example)`)
)

func TestModule(t *testing.T) {
	text, err := os.ReadFile(top + "/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte("\ngo 1.26.0\n")) {
		t.Error("go.mod asks for another Go than 1.26.0")
	}
	if regexp.MustCompile(`(?m)^\s*(replace|toolchain)\b`).Match(text) {
		t.Error("go.mod replaces a module or names a toolchain: go install would refuse or differ")
	}
	if _, err := os.Stat(top + "/LICENSE"); err != nil {
		t.Error(err)
	}
}

// TestPlaces finds the name of the directory where this repository lies: what
// was written with it works on one machine only.
func TestPlaces(t *testing.T) {
	root, err := filepath.Abs(top)
	if err != nil {
		t.Fatal(err)
	}
	here := regexp.MustCompile(`(^|[^\w.$})/])(` + regexp.QuoteMeta(root) + `|` + regexp.QuoteMeta(filepath.Dir(root)) + `/shared)\b`)
	for _, f := range files(t, "") {
		if found := here.Find(f.text); found != nil {
			t.Errorf("%s names %q, a place on this machine", f.path, found)
		}
	}
}
