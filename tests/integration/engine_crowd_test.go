package integration_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// crowd is how many containers run at once.
const crowd = 200

// TestCrowd has many containers that run detached at once, and ends them. What
// it measures is told, and no test.
func TestCrowd(t *testing.T) {
	h := newEngine(t)
	h.must(t, "run", "tiny", "true") // its image is there
	begun := time.Now()
	queue := make(chan int)
	var starters sync.WaitGroup
	for range 4 {
		starters.Go(func() {
			for range queue {
				if r := finish(t, h.command("run", "-d", "tiny", "sleep", "1000")); r.status != 0 {
					t.Errorf("run -d: %v", r)
				}
			}
		})
	}
	for i := range crowd {
		queue <- i
	}
	close(queue)
	starters.Wait()
	t.Logf("%v a start, four at a time", time.Since(begun)/crowd)

	begun = time.Now()
	ids := strings.Fields(h.must(t, "ps", "-q"))
	t.Logf("ps -q takes %v", time.Since(begun))
	begun = time.Now()
	if out := h.must(t, "ps"); len(ids) != crowd || strings.Count(out, " Up ") != crowd {
		t.Fatalf("%d containers run:\n%s", len(ids), out)
	}
	t.Logf("ps takes %v", time.Since(begun))
	monitors, first := 0, 0
	for _, id := range ids {
		monitors += pss(t, int(h.status(t, id)["Monitor"].(float64)))
		first += pss(t, h.pid(t, id))
	}
	t.Logf("a monitor has %d kB, and a container's first process %d kB (PSS, mean of %d)", monitors/crowd, first/crowd, crowd)

	begun = time.Now()
	h.must(t, append([]string{"stop", "-t", "0"}, ids...)...)
	t.Logf("%v a stop", time.Since(begun)/crowd)
	if out := h.must(t, "ps", "-q"); out != "" {
		t.Errorf("after stop there run %q", out)
	}
	begun = time.Now()
	h.must(t, append([]string{"rm"}, ids...)...)
	t.Logf("%v a removal", time.Since(begun)/crowd)
}

// pss is a process's share of memory in kB, proc_pid_smaps(5).
func pss(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSuffix(fields(string(text))["Pss"], " kB"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
