package image

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"testing"
)

// countingSource gives blobs, and counts how often.
type countingSource struct {
	blobs map[Digest][]byte
	opens atomic.Int64
}

func (s *countingSource) Open(_ context.Context, d Descriptor) (io.ReadCloser, error) {
	s.opens.Add(1)
	return io.NopCloser(bytes.NewReader(s.blobs[d.Digest])), nil
}

// TestAddTogether adds an image from several sides at once: its blobs come once.
func TestAddTogether(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	l := newLayout(t)
	d := l.image(host(), tarOf(t, file("a", "1")), tarOf(t, file("b", "2")))
	src := &countingSource{blobs: l.blobs}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			ref := Reference{Domain: "example.org", Path: "x"}
			if _, err := s.Add(t.Context(), src, d.MediaType, l.blobs[d.Digest], ref, Options{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := src.opens.Load(); n != 3 { // a configuration and two layers
		t.Errorf("blobs were fetched %d times", n)
	}
	if entries, err := os.ReadDir(s.path("tmp")); err != nil || len(entries) != 0 {
		t.Errorf("tmp has %v, %v", entries, err)
	}
}

// TestAddWaits ends the wait for another operation with the context.
func TestAddWaits(t *testing.T) {
	s := openStore(t)
	unlock, err := s.alone(t.Context(), digestBytes(nil))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.alone(ctx, digestBytes(nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}
