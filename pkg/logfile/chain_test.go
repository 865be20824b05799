package logfile

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNeighbours goes from file to file and back while each record begins a new
// one: as long as a file is there, those beside it are its neighbours.
func TestNeighbours(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := create(t, path, Rotation{1, 12})
	write(t, w, stdout, "0\n")
	var ended atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 1; !ended.Load(); i++ {
			fmt.Fprintln(w.Stream(stdout), i)
		}
	}()
	defer func() { ended.Store(true); <-done }()

	number := func(f *os.File) (n int) {
		for {
			text, err := io.ReadAll(io.NewSectionReader(f, 0, 100))
			if err != nil {
				t.Fatal(err)
			}
			if r, ok := parse(text); ok { // else it is not written yet
				fmt.Sscan(string(r.Text), &n)
				return n
			}
		}
	}
	var at *os.File
	checked := map[bool]int{}
	for i := range 3000 {
		older := i%4 == 3
		next, err := chain(path).open(at, older)
		if err != nil {
			t.Fatal(err)
		}
		if next == nil {
			continue
		}
		var file unix.Stat_t
		if at != nil {
			err = unix.Fstat(int(at.Fd()), &file)
		}
		if err == nil && file.Nlink > 0 {
			checked[older]++
			if step := number(next) - number(at); step != 1 && !older || step != -1 && older {
				t.Errorf("%d comes beside %d", number(next), number(at))
			}
		}
		_ = at.Close()
		at = next
	}
	_ = at.Close()
	if checked[false] < 50 || checked[true] < 50 {
		t.Errorf("only %v were there long enough", checked)
	}
	t.Log(checked)
}
