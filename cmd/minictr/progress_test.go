package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/minictr/minictr/pkg/image"
)

// TestProgressFits checks that what is drawn fits on the screen, on which it is
// to be drawn over.
func TestProgressFits(t *testing.T) {
	digest := func(digit string) image.Digest {
		d, err := image.ParseDigest("sha256:" + strings.Repeat(digit, 64))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, c := range []struct {
		width, height int
		want          string
	}{
		{80, 24, "layer aaaaaaaaaaaa: [=================                     ] 2.4MB of 5.1MB\n" +
			"layer bbbbbbbbbbbb: [                                      ] 0B of 123MB\n"},
		{50, 24, "layer aaaaaaaaaaaa: [=====       ] 2.4MB of 5.1MB\nlayer bbbbbbbbbbbb: [               ] 0B of 123MB\n"},
		{30, 24, "layer aaaaaaaaaaaa: 2.4MB of \nlayer bbbbbbbbbbbb: 0B of 123\n"},
		{80, 2, "layer aaaaaaaaaaaa: [=================                     ] 2.4MB of 5.1MB\n"},
		{1, 1, ""},
	} {
		p := &progress{layer: []image.Progress{{Layer: digest("a"), Done: 2_400_000, Total: 5_100_000}, {Layer: digest("b"), Total: 123_456_789}}}
		got := p.text(c.width, c.height)
		for line := range strings.Lines(got) {
			if len(line) > c.width {
				t.Errorf("%d columns: %q", c.width, line)
			}
		}
		if strings.Count(got, "\n") >= max(c.height, 1) || got != c.want {
			t.Errorf("%d×%d:\n%s", c.width, c.height, got)
		}
	}
}

// TestProgressOnce checks that a layer is told of once, though it comes twice.
func TestProgressOnce(t *testing.T) {
	var out bytes.Buffer
	c := &call{stderr: &out}
	report, stop := c.progress(false, false)
	d, err := image.ParseDigest("sha256:" + strings.Repeat("c", 64))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int64{1, 500, 1000, 1000} {
		report(image.Progress{Layer: d, Done: n, Total: 1000})
	}
	if err := stop(); err != nil || out.String() != "layer cccccccccccc: done, 1kB\n" {
		t.Errorf("got %q, %v", &out, err)
	}
	if report, _ := c.progress(true, false); report != nil {
		t.Error("quiet is not quiet")
	}
}
