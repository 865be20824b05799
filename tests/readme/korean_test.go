package readme_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// same holds two languages of a page together: what is not prose, which is
// commands, links and the kinds of headings, is the same.
func same(t *testing.T, english, korean string) {
	t.Helper()
	parts := regexp.MustCompile("(?ms)^```.*?^```$|^#+ |\\]\\([^)]+\\)|`(minictr|make|go|docker|podman)\\s[^`]+`")
	var found [2][]string
	for i, name := range []string{english, korean} {
		text, err := os.ReadFile("../../" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range parts.FindAllString(string(text), -1) {
			part = strings.ReplaceAll(part, ".ko.md)", ".md)")
			found[i] = append(found[i], strings.Join(strings.Fields(part), " "))
		}
	}
	// The order within a sentence is the language's own.
	for i := range found {
		slices.Sort(found[i])
	}
	for _, part := range found[0] {
		if n := slices.Index(found[1], part); n < 0 {
			t.Errorf("%s lacks %s", korean, part)
		} else {
			found[1] = slices.Delete(found[1], n, n+1)
		}
	}
	for _, part := range found[1] {
		t.Errorf("%s lacks %s", english, part)
	}
}

func TestKoreanReadme(t *testing.T) { same(t, "README.md", "README.ko.md") }

func TestKoreanLessons(t *testing.T) { same(t, "docs/lessons.md", "docs/lessons.ko.md") }
