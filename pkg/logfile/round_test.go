package logfile

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// count says how many lines records are: those that end, and one that each
// stream has begun.
func count(records []Record) (n int) {
	begun := map[string]int{}
	for _, r := range records {
		begun[r.Stream] = 1
		if !r.Partial {
			begun[r.Stream] = 0
			n++
		}
	}
	return n + begun[stdout] + begun[stderr]
}

// FuzzRound writes a text in pieces of random sizes to the two streams. What is
// read of each is what was written to it, and a tail is as many of the last
// records as have so many lines.
func FuzzRound(f *testing.F) {
	f.Add([]byte("a\nb\n$ "), []byte{2, 3, 1}, uint16(0), byte(1))
	f.Add([]byte("\x00\r\n\n\xff stdout F \n"), []byte{7, 0, 4, 11}, uint16(60), byte(2))
	f.Add(bytes.Repeat([]byte("0123456789\n"), 400), []byte{250, 251, 3, 80}, uint16(1000), byte(7))
	f.Add(bytes.Repeat([]byte("x"), 70_000), []byte{255}, uint16(40_000), byte(1))
	f.Fuzz(func(t *testing.T, text, sizes []byte, most uint16, tail byte) {
		path := filepath.Join(t.TempDir(), "log")
		size := int64(most)
		if size > 0 {
			size += int64(len(text)) // some 50 files at most
		}
		w := create(t, path, Rotation{size, 1000})
		var wrote [2]string
		for i, rest := 0, string(text); len(rest) > 0; i++ {
			size, stream := len(rest), 0
			if len(sizes) > 0 {
				next := int(sizes[i%len(sizes)])
				size, stream = min(next*next/2+1, len(rest)), next%2
			}
			write(t, w, [...]string{stdout, stderr}[stream], rest[:size])
			wrote[stream] += rest[:size]
			rest = rest[size:]
		}
		if out, err := split(t, path, Options{Tail: -1}); out != wrote[0] || err != wrote[1] {
			t.Fatalf("got %.100q and %.100q, want %.100q and %.100q", out, err, wrote[0], wrote[1])
		}
		var all, last []Record
		for _, c := range []struct {
			tail int
			to   *[]Record
		}{{-1, &all}, {int(tail), &last}} {
			if err := Read(t.Context(), path, Options{Tail: c.tail}, func(r Record) error {
				r.Text = bytes.Clone(r.Text)
				*c.to = append(*c.to, r)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		from := len(all) - len(last)
		if fmt.Sprint(all[from:]) != fmt.Sprint(last) || count(last) > int(tail) || from > 0 && count(all[from-1:]) <= int(tail) {
			t.Errorf("a tail of %d has %d of %d records, and %d of %d lines", tail, len(last), len(all), count(last), count(all))
		}
	})
}

// TestTogether has both streams written to at the same time.
func TestTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := create(t, path, Rotation{100_000, 1000})
	var done sync.WaitGroup
	var want [2]string
	for i, name := range []string{stdout, stderr} {
		want[i] = strings.Repeat(name+" says it\n", 20_000)
		done.Go(func() {
			io.CopyBuffer(w.Stream(name), struct{ io.Reader }{strings.NewReader(want[i])}, make([]byte, 777+i))
		})
	}
	done.Wait()
	if out, err := split(t, path, Options{Tail: -1}); out != want[0] || err != want[1] {
		t.Errorf("%d and %d bytes", len(out), len(err))
	}
}

func BenchmarkRead(b *testing.B) {
	path := filepath.Join(b.TempDir(), "log")
	w := create(b, path, Rotation{1 << 20, 100})
	for range 10_000 {
		write(b, w, stdout, "a line of sixty-four bytes, which is what programs write usually\n")
	}
	for _, tail := range []int{-1, 100} {
		b.Run(fmt.Sprint("tail ", tail), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := Print(b.Context(), path, Options{Tail: tail}, io.Discard, io.Discard, false); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
