package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/forkexec"
	"github.com/minictr/minictr/pkg/lang"
	"github.com/minictr/minictr/pkg/plan"
)

// pageOf is the page of a code, "" if there is none.
func pageOf(code string, l lang.Language) string {
	var text bytes.Buffer
	p := page{&text, l}
	if !p.ofKind(code) && !p.ofStep(code) {
		return ""
	}
	return text.String()
}

// brickOf is what is known of a brick.
func brickOf(name string) brick {
	i := slices.IndexFunc(bricks[:], func(b brick) bool { return b.name == name })
	if i < 0 {
		return brick{}
	}
	return bricks[i]
}

// TestBricks holds what is known of bricks against the code that lays them, and
// their calls against the plans of 40 configurations.
func TestBricks(t *testing.T) {
	laid := make(map[string][]string)
	read := func(pattern string) (text string) {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(file, "_test.go") {
				text += string(data)
			}
		}
		return text
	}
	for _, m := range regexp.MustCompile(`\.Section\(plan\.\w+, "(\w+)", "([^"]+)"\)`).FindAllStringSubmatch(read("../../pkg/*/*.go"), -1) {
		laid[m[1]] = append(laid[m[1]], m[2])
	}
	for _, b := range bricks {
		if got, want := slices.Sorted(slices.Values(b.titles)), slices.Sorted(slices.Values(laid[b.name])); !slices.Equal(got, slices.Compact(want)) {
			t.Errorf("%s is %q, and laid as %q", b.name, got, want)
		}
		delete(laid, b.name)
	}
	if len(laid) > 0 {
		t.Errorf("nothing is known of %q", slices.Sorted(maps.Keys(laid)))
	}
	head := regexp.MustCompile(`^(\w+): .* \((parent|child|stub)\)$`)
	step := regexp.MustCompile(`^(?:[-+] | *\d+  )(?:\$[^ ]+ = )?(.*)$`)
	var section []string
	calls := 0
	for line := range strings.Lines(read("../../pkg/container/testdata/plans/*.txt")) {
		line = strings.TrimSuffix(line, "\n")
		if m := head.FindStringSubmatch(line); m != nil {
			section = m
			continue
		}
		m := step.FindStringSubmatch(line)
		if m == nil || section == nil {
			continue
		}
		calls++
		name, _, _ := strings.Cut(m[1], "(")
		if !slices.ContainsFunc(strings.Fields(brickOf(section[1]).calls), func(own string) bool {
			if section[2] == plan.Parent.String() && !strings.HasPrefix(m[1], "clone3({") {
				return strings.HasPrefix(m[1], own) || strings.Contains(line, " "+own)
			}
			return own == name
		}) {
			t.Errorf("%s does not know its call %s", section[1], m[1])
		}
	}
	if calls < 1000 {
		t.Errorf("%d calls: the test does not find them", calls)
	}
}

// TestCausesHavePages is that each likely cause stands on a page, and on one
// that the error's code leads to.
func TestCausesHavePages(t *testing.T) {
	for _, c := range causes {
		pages := 0
		for _, b := range bricks {
			if !b.makes(c.call, c.field) {
				continue
			}
			step := &forkexec.StepError{Section: &plan.Section{Brick: b.name}, Step: &plan.Step{}, Err: c.errno}
			if strings.Contains(pageOf(codeOf(step), lang.English), "  "+c.hint+"\n") {
				pages++
			}
		}
		if pages == 0 {
			t.Errorf("%s, %v, %s is on no page", c.call, c.errno, c.field)
		}
	}
	for _, m := range meanings[1:] {
		if !slices.ContainsFunc(slices.Collect(errnos), func(e unix.Errno) bool { return plan.ErrnoName(e) == m.name }) {
			t.Errorf("no errno is called %s", m.name)
		}
	}
	for e := range errnos {
		if code := codeOf(&forkexec.StepError{Section: &plan.Section{Brick: "root"}, Err: e}); pageOf(code, lang.English) == "" {
			t.Errorf("no page for %s", code)
		}
	}
}

// errnos are all that a call can return.
func errnos(yield func(unix.Errno) bool) {
	for e := unix.Errno(1); e < 512 && yield(e); e++ {
	}
}

// TestExplainSpeaksKorean reads every page and the list in Korean: no sentence
// is left in English.
func TestExplainSpeaksKorean(t *testing.T) {
	hangul := func(line string) bool {
		return strings.ContainsFunc(line, func(r rune) bool { return unicode.Is(unicode.Hangul, r) })
	}
	code := regexp.MustCompile(`^ *([A-Z0-9]+-[A-Z0-9.-]+ ?)+$`)
	var text bytes.Buffer
	page{&text, lang.Korean}.list()
	for _, k := range kinds(nil) {
		text.WriteString(pageOf(k.code, lang.Korean))
	}
	for _, b := range bricks {
		for _, m := range meanings {
			text.WriteString(strings.Replace(pageOf(wallCode(b.name, m.name), lang.Korean), "   "+b.made()+"\n", "", 1))
		}
	}
	for e := range errnos {
		text.WriteString(strings.Replace(pageOf(wallCode("root", plan.ErrnoName(e)), lang.Korean), "   "+brickOf("root").made()+"\n", "", 1))
	}
	seen := make(map[string]bool)
	for line := range strings.Lines(text.String()) {
		line = strings.TrimSuffix(line, "\n")
		if line != "" && !hangul(line) && !code.MatchString(line) && !seen[line] {
			seen[line] = true
			t.Errorf("no Korean: %q", line)
		}
	}
	for _, why := range []string{"", "it is nowhere"} {
		for _, errno := range []unix.Errno{unix.ENOENT, unix.EACCES, unix.ENOEXEC} {
			step := &forkexec.StepError{Section: &plan.Section{Brick: "exec"}, Step: &plan.Step{Call: plan.Execve("x", nil, nil), Spec: "/process/args", Why: why}, Err: errno}
			if _, hint, _, _ := explain(step); !hangul(lang.Korean.Line(hint)) {
				t.Errorf("no Korean: %q", hint)
			}
		}
	}
	step := &forkexec.StepError{Section: &plan.Section{Brick: "x"}, Step: new(plan.Step), Err: unix.EDOM}
	if _, hint, _, _ := explain(step); !hangul(lang.Korean.Line(hint)) {
		t.Errorf("no Korean: %q", hint)
	}
}

// TestNextIsAnother is that no page sends its reader to itself.
func TestNextIsAnother(t *testing.T) {
	for errno, want := range map[string]bool{"EPERM": false, "EINVAL": true} {
		if page := pageOf("WALL-ROOT-"+errno, lang.English); strings.Contains(page, "minictr explain WALL-ROOT-EPERM") != want {
			t.Errorf("%s:\n%s", errno, page)
		}
	}
}

// TestNear is which codes are named when one is mistyped.
func TestNear(t *testing.T) {
	for typed, want := range map[string]string{
		"WALL-ROT-EINVAL": "WALL-ROOT-EINVAL", "IMAGE-MISING": "IMAGE-MISSING", "WALL-MOUNT-ENODEV": "WALL-MOUNTS-ENODEV", "": "VM-BOOT",
	} {
		if got := near(typed); got[0] != want {
			t.Errorf("%q: got %q, want %s first", typed, got, want)
		}
	}
}
