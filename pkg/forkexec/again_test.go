package forkexec_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// TestOpenatAgain opens names with ".." while files are renamed elsewhere: then the
// kernel can't tell whether the name leads out of the root, openat2(2).
func TestOpenatAgain(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(root) })
	stop, stopped := make(chan struct{}), make(chan error)
	go func() {
		a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
		err := os.Mkdir(a, 0o755)
		for err == nil {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			err = unix.Rename(a, b)
			a, b = b, a
		}
		stopped <- err
	}()
	const top plan.Reg = "root"
	name := strings.Repeat("sub/../", 100) + "sub"
	b := toProgram([]string{"/bin/true"}, func(b *plan.Builder) {
		for range 300 {
			b.Get("found", "it is in the root", plan.Openat2(top, name, unix.O_PATH, unix.RESOLVE_IN_ROOT))
			b.Do("the next one", plan.Close("found"))
		}
	})
	b.Do("the program", plan.Execve("/bin/true", []string{"true"}, nil))
	ws, err := run(t, b.Plan(), map[plan.Reg]int{top: root})
	close(stop)
	if e := <-stopped; err != nil || e != nil || ws != 0 {
		t.Errorf("status %#x, error %v, %v", int(ws), err, e)
	}
}
