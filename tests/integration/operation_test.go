package integration_test

import (
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// reapAll takes leave of all processes that were left to us, and have ended.
// Nothing else may wait for any meanwhile.
func reapAll() {
	for {
		if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != nil && !errors.Is(err, unix.EINTR) || pid == 0 && err == nil {
			return
		}
	}
}

// TestKilledOperations kills each operation of the runtime at each call by
// which it changes the machine. One delete --force takes away what is left,
// and the ID can be used again.
func TestKilledOperations(t *testing.T) {
	c, dir := newOCI(t, "victim", newSpec("victim", "pause"))
	c.call("delete", "--force", c.id)
	before := machine(c.host)
	for _, operation := range []string{"create", "start", "exec", "delete"} {
		points := 0
		for _, call := range changing {
			for n := 1; n <= call.most; n += 1 + n/8 {
				if operation != "create" {
					c.must("create", "--bundle", dir, c.id)
				}
				if operation == "exec" || operation == "delete" {
					c.must("start", c.id)
				}
				args := map[string][]string{
					"create": {"create", "--bundle", dir, c.id}, "start": {"start", c.id},
					"exec": {"exec", c.id, "done"}, "delete": {"delete", "--force", c.id},
				}[operation]
				killed := c.killed(call.name, n, args...)
				c.must("delete", "--force", c.id)
				reapAll()
				before.compare(t, c.host, fmt.Sprintf("%s killed at %s %d", operation, call.name, n))
				if t.Failed() {
					t.FailNow()
				}
				if !killed { // there is no such call any more
					break
				}
				points++
			}
		}
		t.Logf("%s killed at %d points", operation, points)
		if points < 10 {
			t.Errorf("%s was killed at %d points only", operation, points)
		}
		c.must("create", "--bundle", dir, c.id)
		c.must("start", c.id)
		c.must("delete", "--force", c.id)
		reapAll()
	}
}

// killed runs a command under strace, which kills it, or the process that it
// makes, at the nth call of a name.
func (c *oci) killed(call string, n int, args ...string) bool {
	c.t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		c.t.Fatal("strace is not installed (Debian: strace)")
	}
	cmd := c.command(args...)
	cmd.Path, cmd.Args = strace, append([]string{
		strace, "-D", "-f", "-qqq", "-o", "/dev/null", "-e", "trace=" + call, "-e", "signal=none",
		"-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", call, n), "--", program,
	}, cmd.Args[1:]...)
	cmd.Stdout, cmd.Stderr = c.said, c.said
	_ = cmd.Run()
	return !cmd.ProcessState.Success()
}

// TestRaces has commands of one container run against each other, and many
// containers at once. None hangs, and nothing is left.
func TestRaces(t *testing.T) {
	c, dir := newOCI(t, "race", newSpec("race", "pause"))
	before := machine(c.host)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 6 {
				for _, args := range [][]string{
					{"create", "--bundle", dir, c.id}, {"start", c.id}, {"exec", c.id, "true"}, {"kill", c.id, "KILL"}, {"delete", "--force", c.id},
				} {
					c.quiet(args...) // whatever comes of it
				}
			}
		})
	}
	all.Wait()
	c.must("delete", "--force", c.id)
	reapAll()
	before.compare(t, c.host, "after races")

	for i := range 8 {
		id := fmt.Sprintf("crowd-%d", i)
		s := newSpec(id, "done")
		bundle := newBundle(t, s, id)
		all.Go(func() {
			for range 20 {
				for _, args := range [][]string{{"create", "--bundle", bundle, id}, {"start", id}, {"delete", "--force", id}} {
					if err := c.quiet(args...); err != nil {
						t.Errorf("minictr %q: %v", args, err)
					}
				}
			}
		})
	}
	all.Wait()
	reapAll()
	before.compare(t, c.host, "after 8 × 20 containers")
}

// quiet runs a command without a word.
func (c *oci) quiet(args ...string) error { return c.command(args...).Run() }

// TestThousand makes a thousand containers, one after the other. Nothing is
// left. How long the first and the last took is logged.
func TestThousand(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	c, dir := newOCI(t, "thousand", newSpec("thousand", "done"))
	before := machine(c.host)
	var first, last time.Duration // of a hundred
	for i := range 1000 {
		begin := time.Now()
		c.create(dir)
		c.must("start", c.id)
		if ws := c.reap(); ws != 0 {
			t.Fatalf("container %d ends with %v", i, ws)
		}
		c.must("delete", c.id)
		switch {
		case i < 100:
			first += time.Since(begin)
		case i >= 900:
			last += time.Since(begin)
		}
	}
	before.compare(t, c.host, "after a thousand containers")
	t.Logf("the first hundred took %v, the last %v", first, last)
}
