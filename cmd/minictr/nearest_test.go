package main

import (
	"strings"
	"testing"
)

func TestDidYouMean(t *testing.T) {
	known := strings.Fields("run ps pull push images inspect history list logs login logout image-tree")
	for word, want := range map[string]string{
		"lgos": "logs", "hist": "history", "pul": "pull", "pu": "pull or push", "ispnect": "inspect", "imagse": "images", "log": "logs or login or logout",
		"kist": "list", "nosuch": "", "x": "", "": "", "--": "", "rum": "run", "이름": "",
	} {
		if want != "" {
			want = "did you mean " + want + "? "
		}
		if got := didYouMean(word, known); got != want {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
	for _, c := range []struct {
		from, to string
		want     int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "abc", 0}, {"ab", "ba", 1}, {"kitten", "sitting", 3}, {"가나", "나가", 1}} {
		if got := distance(c.from, c.to); got != c.want || distance(c.to, c.from) != c.want {
			t.Errorf("%s to %s: %d, want %d", c.from, c.to, got, c.want)
		}
	}
}
