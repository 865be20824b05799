package integration_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestOneWinner starts ten containers of one ID, and ten of one name, at once:
// one of each runs.
func TestOneWinner(t *testing.T) {
	for _, v := range victims {
		t.Run(v.name, func(t *testing.T) {
			h := newHost(t)
			args := v.args(t)
			type outcome struct {
				up  bool
				out string
			}
			outcomes := make(chan outcome)
			for range 10 {
				go func() {
					cmd := h.command(args...)
					stdout, err := cmd.StdoutPipe()
					var errs strings.Builder
					cmd.Stderr = &errs
					if err == nil {
						err = cmd.Start()
					}
					if err != nil {
						outcomes <- outcome{false, err.Error()}
						return
					}
					in := bufio.NewReader(stdout)
					line, _ := in.ReadString('\n')
					up := line == "up\n"
					if up {
						outcomes <- outcome{true, ""}
					}
					_, _ = io.Copy(io.Discard, in)
					_ = cmd.Wait()
					if up {
						outcomes <- outcome{false, fmt.Sprint("the winner: ", cmd.ProcessState)}
					} else {
						outcomes <- outcome{false, fmt.Sprint(errs.String(), cmd.ProcessState)}
					}
				}()
			}
			winners := 0
			for range 10 {
				o := <-outcomes
				switch {
				case o.up:
					winners++
				case !strings.Contains(o.out, "already exists") || !strings.HasSuffix(o.out, "exit status 1") && !strings.HasSuffix(o.out, "exit status 125"):
					t.Errorf("a loser says %s", o.out)
				}
			}
			if winners != 1 {
				t.Errorf("%d containers of one ID run", winners)
			}
			h.must(t, "rm", "-f", "victim")
			for range winners {
				if o := <-outcomes; o.out != "the winner: exit status 137" {
					t.Error(o.out)
				}
			}
		})
	}
}

// TestManyAtOnce runs containers four at a time, and then one after the other.
func TestManyAtOnce(t *testing.T) {
	h := newHost(t)
	run := func(id string) error {
		out, err := h.command("run", "--name", id, "tiny", "sh", "-c", "hostname; exit 7").CombinedOutput()
		if err == nil || err.Error() != "exit status 7" {
			return fmt.Errorf("%s: %w: %s", id, err, out)
		}
		return nil
	}
	var crowd sync.WaitGroup
	for lane := range 4 {
		crowd.Go(func() {
			for i := range 10 {
				if err := run(fmt.Sprintf("lane-%d-%d", lane, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	crowd.Wait()
	dir := newBundle(t, newSpec("row", "done"), "row")
	for range 50 {
		h.must(t, "run", "--bundle", dir, "row")
	}
}

// asking are calls that change nothing, and can fail all the same.
var asking = [...]changer{{"read", 30}, {"poll", 3}, {"ppoll", 3}, {"newfstatat", 8}, {"getdents64", 4}, {"prctl", 60}, {"fstat", 9}, {"fstatfs", 3}}

// errnos take turns.
var errnos = [...]string{"EIO", "EPERM", "ENOSPC", "ENOMEM", "EMFILE", "EINTR"}

// TestErrnoAtEveryCall has calls of the runtime and of the container's process
// fail in turn. Each is tolerated, or ends in one line and our status; and
// when the next command has run, nothing is left.
func TestErrnoAtEveryCall(t *testing.T) {
	h := newHost(t)
	dir := newBundle(t, newSpec("errno", "done"), "errno")
	before := machine(h)
	points := 0
	for _, call := range append(changing[:], asking[:]...) {
		first := 1
		if call.name == "fcntl" {
			first = 4 // Go's runtime looks at the three standard streams, and gives up
		}
		for n, hit := first, true; hit && n <= call.most; n += 1 + n/8 {
			errno := errnos[points%len(errnos)]
			points++
			var r result
			r, hit = h.inject(t, fmt.Sprintf("%s:error=%s:when=%d", call.name, errno, n), "run", "--bundle", dir, "errno")
			what := fmt.Sprintf("%s %d fails with %s", call.name, n, errno)
			ours := strings.Count(r.stderr, "\n") == 1 && strings.HasPrefix(r.stderr, "minictr: ")
			if r.status != 0 && (!r.refused() || !ours) {
				t.Errorf("%s: %v", what, r)
			}
			h.must(t, "ps")
			if before.compare(t, h, what); t.Failed() {
				t.Fatal(r)
			}
		}
	}
	t.Logf("%d points", points)
}

// inject runs minictr under strace with a fault, and tells whether there was
// such a call.
func (h host) inject(t *testing.T, fault string, args ...string) (r result, hit bool) {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("strace is not installed (Debian: strace)")
	}
	log := filepath.Join(temp(t), "trace")
	call, _, _ := strings.Cut(fault, ":")
	cmd := h.command(args...)
	cmd.Path, cmd.Args = strace, append([]string{
		strace, "-f", "-qqq", "-o", log, "-e", "trace=" + call, "-e", "signal=none", "-e", "inject=" + fault, "--", program,
	}, cmd.Args[1:]...)
	r = finish(t, cmd)
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	return r, strings.Contains(string(text), "(INJECTED)")
}
