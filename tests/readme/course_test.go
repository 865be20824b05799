package readme_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/minictr/minictr/pkg/vm"
)

// rows are the rows of a page's tables, without their headings.
func rows(t *testing.T, page string) (list [][]string) {
	t.Helper()
	text, err := os.ReadFile("../../" + page)
	if err != nil {
		t.Fatal(err)
	}
	body := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case !strings.HasPrefix(line, "|"):
			body = false
		case strings.HasPrefix(line, "|---"):
			body = true
		case body:
			list = append(list, strings.Split(strings.Trim(line, "|"), "|"))
		}
	}
	return list
}

// The patterns of what cells point to.
var (
	proof   = regexp.MustCompile("`((?:tests|pkg)/\\w+)`|`(Test\\w+)(?:/([\\w-]+))?`")
	lessons = regexp.MustCompile(`\[(\d+)\]\((\.\./pkg/lesson/lessons/(\d+)-[\w-]+\.txt)\)`)
	page    = regexp.MustCompile(`\]\((\.\./[^)#]+)`)
	command = regexp.MustCompile("`(minictr [^`]+)`")
)

// TestCourse is that the course's table has no gap: what a row points to is
// there, and what it tells to type runs.
func TestCourse(t *testing.T) {
	all := rows(t, "docs/course.md")
	if len(all) < 20 {
		t.Fatalf("%d rows", len(all))
	}
	var commands []string
	for _, row := range all {
		if len(row) != 3 || slices.ContainsFunc(row, func(cell string) bool { return strings.TrimSpace(cell) == "" }) {
			t.Errorf("a cell is empty, or one too many: %q", row)
			continue
		}
		for _, m := range lessons.FindAllStringSubmatch(row[1], -1) {
			if m[1] != strings.TrimPrefix(m[3], "0") {
				t.Errorf("lesson %s is %s", m[1], m[2])
			}
		}
		for _, m := range page.FindAllStringSubmatch(row[1], -1) {
			if _, err := os.Stat(filepath.Join("../../docs", m[1])); err != nil {
				t.Error(err)
			}
		}
		proves(t, row)
		for _, m := range command.FindAllStringSubmatch(row[1], -1) {
			commands = append(commands, m[1])
		}
	}
	t.Run("commands", func(t *testing.T) { run(t, commands) })
}

// proves is that the last cell names tests, each after its package.
func proves(t *testing.T, row []string) {
	t.Helper()
	var source string
	tests := 0
	for _, m := range proof.FindAllStringSubmatch(row[2], -1) {
		if m[1] != "" {
			source = ""
			files, _ := filepath.Glob("../../" + m[1] + "/*_test.go")
			for _, f := range files {
				text, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				source += string(text)
			}
			continue
		}
		tests++
		if !strings.Contains(source, "\nfunc "+m[2]+"(t *testing.T)") {
			t.Errorf("no test %s: %s", m[2], row[2])
		}
		if _, err := os.Stat("../../pkg/lesson/lessons/" + m[3] + ".txt"); m[3] != "" && err != nil {
			t.Errorf("%s/%s: %v", m[2], m[3], err)
		}
	}
	if tests == 0 {
		t.Errorf("no test is named: %q", row)
	}
}

// run carries commands out, those that need a machine if there is one.
func run(t *testing.T, commands []string) {
	t.Helper()
	needRoot(t)
	dir := clone(t)
	script := `export PATH="$PATH:."; exec 2>&1
CGO_ENABLED=0 go build ./cmd/minictr
`
	for _, c := range commands {
		if word := strings.Fields(c)[1]; vm.Missing() == nil || word != "vm" && word != "compare" {
			script += "echo '$ " + c + "'\n" + c + "\n"
		}
	}
	if out, err := sandbox(t, dir, script); err != nil || strings.Count(out, "\n$ ")+1 < 5 {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestUnderContainerd is that the page configures containerd as the test does
// that runs under it.
func TestUnderContainerd(t *testing.T) {
	text, err := os.ReadFile("../../docs/course.md")
	if err != nil {
		t.Fatal(err)
	}
	proved, err := os.ReadFile("../peers/containerd_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, snippet, _ := strings.Cut(string(text), "```toml\nversion")
	snippet, _, _ = strings.Cut("version"+snippet, "```")
	if !strings.Contains(snippet, "BinaryName") {
		t.Fatalf("the page has no such file: %q", snippet)
	}
	for line := range strings.Lines(snippet) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "/") // of a path
		if !strings.Contains(line, "SystemdCgroup") && !strings.Contains(strings.ReplaceAll(string(proved), "%[2]s", ""), line) {
			t.Errorf("%s is not proved", line)
		}
	}
}

// The Korean page has the same rows, with the same commands, tests and links.
func TestKoreanCourse(t *testing.T) {
	same(t, "docs/course.md", "docs/course.ko.md")
	english, korean := rows(t, "docs/course.md"), rows(t, "docs/course.ko.md")
	if len(english) != len(korean) {
		t.Fatalf("%d rows, and %d", len(english), len(korean))
	}
	for i, row := range english {
		if len(korean[i]) != len(row) {
			t.Fatalf("%d cells, and %d: %s", len(row), len(korean[i]), korean[i])
		}
		for j, cell := range row {
			for _, pattern := range []*regexp.Regexp{proof, lessons, command} {
				if a, b := pattern.FindAllString(cell, -1), pattern.FindAllString(korean[i][j], -1); !slices.Equal(a, b) {
					t.Errorf("%q, and in Korean %q", a, b)
				}
			}
			if strings.TrimSpace(korean[i][j]) == "" {
				t.Errorf("a cell is empty: %q", korean[i])
			}
		}
	}
}
