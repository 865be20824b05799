package cgroup

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

func TestFreeze(t *testing.T) {
	onEach(t, func(t *testing.T, l Layout) {
		g, run := create(t, l, nil)
		c := start(t, g, run)
		if err := g.Freeze(); err != nil {
			t.Fatal(err)
		}
		if frozen, err := g.Frozen(); !frozen || err != nil {
			t.Fatalf("frozen: %v, %v", frozen, err)
		}
		c.tell("hog 1")
		if err := c.cmd.Process.Signal(unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if err := g.Thaw(); err != nil {
			t.Fatal(err)
		}
		if frozen, err := g.Frozen(); frozen || err != nil {
			t.Fatalf("frozen: %v, %v", frozen, err)
		}
		c.expect("fed 1")
	})
}

func TestKillFrozen(t *testing.T) {
	onEach(t, func(t *testing.T, l Layout) {
		g, run := create(t, l, nil)
		children := []*child{start(t, g, run), start(t, g, run)}
		pids, err := g.Procs()
		want := []int{children[0].cmd.Process.Pid, children[1].cmd.Process.Pid}
		slices.Sort(want)
		if err != nil || !slices.Equal(pids, want) {
			t.Fatalf("procs %v, %v; want %v", pids, err, want)
		}
		if err := g.Freeze(); err != nil {
			t.Fatal(err)
		}
		if err := g.Kill(); err != nil {
			t.Fatal(err)
		}
		for _, c := range children {
			if got := c.ended(); got != unix.SIGKILL {
				t.Errorf("a child ended by %v, want SIGKILL", got)
			}
		}
	})
}

func TestDelete(t *testing.T) {
	onEach(t, func(t *testing.T, l Layout) {
		g, run := create(t, l, nil)
		for _, p := range g.Places {
			if err := os.MkdirAll(p.Dir+"/a/b", 0o755); err != nil {
				t.Fatal(err)
			}
		}
		c := start(t, g, run)
		go func() {
			time.Sleep(50 * time.Millisecond)
			_ = c.cmd.Process.Kill()
		}()
		if err := g.Delete(); err != nil { // has to wait for the child
			t.Fatal(err)
		}
		for _, p := range g.Places {
			if _, err := os.Stat(p.Dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: %v", p.Dir, err)
			}
		}
		if err := g.Delete(); err != nil {
			t.Errorf("a second time: %v", err)
		}
		if err := g.Kill(); err != nil {
			t.Errorf("kill of nothing: %v", err)
		}
		if _, err := g.Stats(); !errors.Is(err, unix.ENOENT) {
			t.Errorf("stats of nothing: %v", err)
		}
	})
}

// Containers that come and go at the same time share the parents of their
// cgroups, which one makes while another takes them away.
func TestParallel(t *testing.T) {
	onEach(t, func(t *testing.T, l Layout) {
		parent := group(t, l, "/")
		var workers sync.WaitGroup
		for n := range 8 {
			workers.Go(func() {
				for range 10 {
					if err := comeAndGo(l, fmt.Sprint(parent.Path, "/", n)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		workers.Wait()
	})
}

func comeAndGo(l Layout, path string) error {
	g, err := l.Group(path)
	if err != nil {
		return err
	}
	b := plan.New()
	if err := g.Create(b, nil); err != nil {
		return err
	}
	run := &plan.Run{Fd: make(map[plan.Reg]int)}
	for _, s := range b.Plan().Sections[0].Steps {
		if err := s.Act(run); err != nil {
			return fmt.Errorf("%s: %w", s.Call, err)
		}
	}
	for _, fd := range run.Fd {
		_ = unix.Close(fd)
	}
	return errors.Join(g.Delete(), g.Prune())
}
