package main

import (
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	for _, c := range []struct {
		name, tier, events string
		want               counts
	}{
		{"passed", "root", `{"Action":"pass","Package":"p","Test":"A"} {"Action":"pass","Package":"p"}`, counts{passed: 1}},
		{"failed", "root", `{"Action":"fail","Package":"p","Test":"A"} {"Action":"fail","Package":"p"}`, counts{failed: 1}},
		{
			"permitted", "core",
			`{"Action":"output","Package":"p","Test":"A","Output":"needs root"} {"Action":"skip","Package":"p","Test":"A"}`,
			counts{skipped: 1},
		},
		{
			"not permitted", "root",
			`{"Action":"output","Package":"p","Test":"A","Output":"needs root"} {"Action":"skip","Package":"p","Test":"A"}`,
			counts{failed: 1},
		},
		{
			"without the collection", "root",
			`{"Action":"output","Package":"p","Test":"A","Output":"the collection of images is not here"} {"Action":"skip","Package":"p","Test":"A"}`,
			counts{skipped: 1},
		},
		{"does not build", "root", `{"Action":"build-fail","ImportPath":"p"} {"Action":"fail","Package":"p","FailedBuild":"p"}`, counts{failed: 1}},
		{"without tests", "root", `{"Action":"skip","Package":"p"}`, counts{}},
		{"cut off", "root", `{"Action":"pass","Package":"p","Test":"A"} {"Act`, counts{passed: 1, failed: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(collection, "nowhere")
			s := &suite{tier: c.tier}
			r := newReport(s, "")
			r.read(strings.NewReader(c.events))
			if s.counts != c.want || r.failed != c.want.failed {
				t.Errorf("%v, %d failed in it, want %v", s.counts, r.failed, c.want)
			}
		})
	}
}

func TestWithout(t *testing.T) {
	got := without([]string{"a", "b", "d"}, []string{"a", "c", "d"}, "new: ")
	if len(got) != 1 || got[0] != "new: b" {
		t.Errorf("%q", got)
	}
}
