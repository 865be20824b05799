package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkLoad loads an image of one layer with 2,000 files.
func BenchmarkLoad(b *testing.B) {
	var entries []tar.Header
	for i := range 2000 {
		entries = append(entries, file(fmt.Sprintf("dir%d/file%d", i/50, i), strings.Repeat("content ", 1000)))
	}
	l := newLayout(b)
	archive := l.add(l.image(host(), tarOf(b, entries...)), "").tar("")
	b.SetBytes(int64(len(archive)))
	for b.Loop() {
		s, err := Open(filepath.Join(b.TempDir(), "store"))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.LoadStream(b.Context(), bytes.NewReader(archive), Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
