package lang

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestTranslate(t *testing.T) {
	for english, korean := range map[string]string{
		"wait":                "기다린다",
		"mount it at /proc":   "/proc에 마운트한다",
		"share its host name": "호스트 이름을(를) 함께 쓴다", // what fills a %s is translated too
		"Process 7 of the host is process 1 inside: on":                               "호스트(host)의 프로세스(process) 7번은 안에서 1번이다: on", // but one word is a name
		"the same files that the host has at /a, and no mount made inside comes back": "호스트의 /a에 있는 것과 같은 파일들. 안에서 만든 마운트는 밖으로 나오지 않는다",
		"WITHOUT the brick net: it has the host's name":                               "벽돌(brick) net 없음(WITHOUT): 호스트의 이름을 가진다",
	} {
		if got, ok := Translate(english); !ok || got != korean {
			t.Errorf("%q: %q, %t; want %q", english, got, ok, korean)
		}
	}
	if got, ok := Translate("no catalog has this"); ok || got != "no catalog has this" {
		t.Errorf("%q, %t", got, ok)
	}
}

func TestSay(t *testing.T) {
	for l, want := range map[Language][]string{English: {"wait"}, Korean: {"기다린다"}, Both: {"wait", "기다린다"}} {
		if got := l.Say("wait"); !slices.Equal(got, want) {
			t.Errorf("%s: %q", l, got)
		}
	}
	if got := Both.Line("wait"); got != "wait / 기다린다" {
		t.Errorf("%q", got)
	}
	if got := Both.Say("no catalog has this"); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

func TestLocal(t *testing.T) {
	for _, env := range []struct {
		all, messages, lang string
		want                Language
	}{
		{"", "", "", English},
		{"", "", "ko_KR.UTF-8", Korean},
		{"", "", "ko", Korean},
		{"", "", "kok_IN", English},
		{"", "C", "ko_KR.UTF-8", English},
		{"ko_KR", "C", "C", Korean},
	} {
		t.Setenv("LC_ALL", env.all)
		t.Setenv("LC_MESSAGES", env.messages)
		t.Setenv("LANG", env.lang)
		if got := Local(); got != env.want {
			t.Errorf("%+v: %s", env, got)
		}
	}
	if _, err := Parse("de"); err == nil {
		t.Error("German is taken")
	}
}

// TestCatalog wants of each entry that it says something, once, and as much in
// Korean as in English.
func TestCatalog(t *testing.T) {
	seen := make(map[string]bool)
	for english, korean := range paragraphs(read()) {
		if seen[english] {
			t.Errorf("twice: %q", english)
		}
		seen[english] = true
		if strings.Count(english, "%s") != strings.Count(korean, "%") {
			t.Errorf("another number of %%s: %q, %q", english, korean)
		}
		if english == korean || !strings.ContainsFunc(korean, func(r rune) bool { return r >= 0xac00 && r <= 0xd7a3 }) {
			t.Errorf("no Korean: %q, %q", english, korean)
		}
	}
	files, err := os.ReadDir("ko")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile("ko/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for part := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
			lines := slices.DeleteFunc(strings.Split(part, "\n"), func(l string) bool { return l == "" || strings.HasPrefix(l, "# ") })
			if len(lines) != 2 && len(lines) != 0 {
				t.Errorf("%s: an entry has two lines: %q", f.Name(), part)
			}
		}
	}
}

func TestColumns(t *testing.T) {
	for s, want := range map[string]int{"": 0, "wall": 4, "벽": 2, "격리(isolation)": 15, "é": 1, "ｗ": 2} {
		if got := Width(s); got != want {
			t.Errorf("%q: %d columns, want %d", s, got, want)
		}
	}
	if got := Pad("벽", 4); got != "벽  " {
		t.Errorf("%q", got)
	}
	if got := Pad("walls", 4); got != "walls" {
		t.Errorf("%q", got)
	}
	if got := Fold("한 프로세스가 벽 뒤에 있다", 12); !slices.Equal(got, []string{"한", "프로세스가", "벽 뒤에 있다"}) {
		t.Errorf("%q", got)
	}
}
