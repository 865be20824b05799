package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/cgroup"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/tests/alone"
)

// starve runs minictr where something is scarce: a container, or one line, or,
// where not even Go can begin, Go's own last words. Nothing is left.
func (h host) starve(t *testing.T, what string, shell string, args ...string) (began bool) {
	t.Helper()
	before := machine(h)
	cmd := h.command(args...)
	sh := h.outside(append([]string{"sh", "-c", shell + `; exec "$@"`, "sh"}, cmd.Args...)...)
	r := finish(t, sh)
	ours := strings.HasPrefix(r.stderr, "minictr: ") && strings.Count(r.stderr, "\n") == 1 && r.refused()
	gos := r.status == 2 && strings.Contains(r.stderr, "runtime") || r.status == 137 || r.status < 0
	if r.status != 0 && !ours && !gos {
		t.Errorf("%s: %v", what, r)
	}
	h.must(t, "ps")
	before.compare(t, h, what)
	return r.status == 0
}

// TestFewDescriptors begins with next to none, and goes up to enough.
func TestFewDescriptors(t *testing.T) {
	h := newHost(t)
	dir := newBundle(t, newSpec("few", "done"), "few")
	began := 0
	for n := 3; n <= 96; n += 1 + n/16 {
		if h.starve(t, fmt.Sprintf("%d descriptors", n), fmt.Sprintf("ulimit -n %d", n), "run", "--bundle", dir, "few") {
			began++
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	if began == 0 {
		t.Error("96 descriptors were not enough")
	}
}

// TestScarce begins in a cgroup with few processes, or little memory.
func TestScarce(t *testing.T) {
	h := newHost(t)
	dir := newBundle(t, newSpec("scarce", "done"), "scarce")
	for _, c := range []struct {
		name      string
		resources func(n int64) *specs.LinuxResources
		amounts   []int64
	}{
		{"processes", func(n int64) *specs.LinuxResources { return &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &n}} }, []int64{2, 4, 5, 6, 7, 8, 9, 10, 12, 14}},
		{"megabytes", func(n int64) *specs.LinuxResources {
			n <<= 20
			return &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &n, Swap: &n}}
		}, []int64{1, 2, 3, 4, 5, 6, 8, 12, 16}},
	} {
		for _, n := range c.amounts {
			t.Run(fmt.Sprint(n, " ", c.name), func(t *testing.T) {
				g := limited(t, c.resources(n))
				var enter strings.Builder
				for _, p := range g.Places {
					fmt.Fprintf(&enter, "echo $$ > %s/cgroup.procs;", p.Dir)
				}
				h.starve(t, c.name, enter.String()+":", "run", "--bundle", dir, "scarce")
			})
		}
	}
}

// limited makes a cgroup with limits for a test.
func limited(t *testing.T, r *specs.LinuxResources) cgroup.Group {
	t.Helper()
	layout, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	g, err := layout.Group("/" + alone.Cgroup("limited"))
	if err != nil {
		t.Fatal(err)
	}
	b := plan.New()
	if err := g.Create(b, r); err != nil {
		t.Fatal(err)
	}
	run := &plan.Run{Fd: make(map[plan.Reg]int)}
	t.Cleanup(func() {
		for _, fd := range run.Fd {
			_ = unix.Close(fd)
		}
		if err := g.Delete(); err != nil {
			t.Error(err)
		}
	})
	for n := 1; n <= b.Plan().Len(); n++ {
		if err := b.Plan().Step(n).Act(run); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

// TestStateDirectory has no room for a container's state, or can't be written.
func TestStateDirectory(t *testing.T) {
	for _, c := range []struct{ name, options string }{
		{"full", "size=4k,nr_inodes=2"}, {"almost full", "size=4k,nr_inodes=4"}, {"small", "size=4k"}, {"read-only", "ro"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			if err := os.MkdirAll(h.run, 0o755); err != nil {
				t.Fatal(err)
			}
			flags := uintptr(0)
			data := c.options
			if data == "ro" {
				flags, data = unix.MS_RDONLY, ""
			}
			if err := unix.Mount("none", h.run, "tmpfs", flags, data); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := unix.Unmount(h.run, 0); err != nil {
					t.Error(err)
				}
				if err := os.Remove(h.run); err != nil {
					t.Error(err)
				}
			}()
			before := machine(h)
			for _, args := range [][]string{{"run", "tiny", "true"}, {"run", "--bundle", newBundle(t, newSpec("state", "done"), "state"), "state"}} {
				r := h.minictr(t, args...)
				clear := r.refused() && strings.HasPrefix(r.stderr, "minictr: ") && strings.Contains(r.stderr, filepath.Base(h.run))
				if r.status != 0 && !clear || c.name == "full" && r.status == 0 || c.name == "read-only" && r.status == 0 {
					t.Error(r)
				}
				before.compare(t, h, fmt.Sprint(args))
			}
		})
	}
}
