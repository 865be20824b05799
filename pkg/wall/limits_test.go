package wall_test

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/cgroup"
	"github.com/minictr/minictr/pkg/wall"
)

type limitFacts struct {
	Limit, Used, Quota, Period *uint64
	OOMKills                   uint64 `json:"oom_kills"`
	Refused, Throttled         uint64
	Pressure                   *struct{ Avg10, Avg60, Avg300 float64 }
}

// TestLimits has a shell in a cgroup that has used up its time, and once more
// processes than it may have.
func TestLimits(t *testing.T) {
	needRoot(t)
	l, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	enter := confine(t, l, &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: new(int64(64 << 20))},
		CPU:    &specs.LinuxCPU{Quota: new(int64(2500)), Period: new(uint64(50000))},
		Pids:   &specs.LinuxPids{Limit: new(int64(2))},
	})
	// A shell that can't fork ends: the one that waits is not that shell.
	pid, _ := child(t, enter+"(while sleep 0.01 & do :; done) 2>&-\ni=0; while [ $i -lt 20000 ]; do i=$((i+1)); done", nil)
	is := func(n *uint64, want uint64) bool { return n != nil && *n == want }
	for name, right := range map[string]func(f limitFacts, b wall.Brick) bool{
		"memory": func(f limitFacts, b wall.Brick) bool {
			return is(f.Limit, 64<<20) && f.Used != nil && *f.Used > 0 && *f.Used <= 64<<20 && strings.HasPrefix(b.Inside, "at most 64.0 MiB, ")
		},
		"cpu": func(f limitFacts, b wall.Brick) bool {
			return is(f.Quota, 2500) && is(f.Period, 50000) && f.Throttled > 0 && strings.HasPrefix(b.Inside, "at most 0.05 of processors ")
		},
		"pids": func(f limitFacts, b wall.Brick) bool {
			return is(f.Limit, 2) && is(f.Used, 1) && f.Refused > 0 && strings.HasPrefix(b.Inside, "at most 2, 1 there, ")
		},
	} {
		var f limitFacts
		if b := brick(t, pid, name, &f); b.State != wall.Walled || !right(f, b) {
			t.Errorf("%s: %s, %s, %+v", name, b.State, b.Inside, b.Facts)
		}
	}
	var io struct {
		Limits   []any
		Pressure *struct{ Avg10 float64 }
	}
	_, err = os.Stat("/proc/pressure/io")
	counted := err == nil && l.Version() != cgroup.V1
	if b := brick(t, pid, "io", &io); b.State != wall.Missing || io.Limits == nil || len(io.Limits) > 0 || (io.Pressure != nil) != counted {
		t.Errorf("io: %s, %s, %+v", b.State, b.Inside, io)
	}
}

// limited is set where the one who looks is in the cgroup, too.
const limited = "MINICTR_WALL_TEST_LIMITED"

// TestLimitsShared looks at a child in our own cgroups, once more from a cgroup
// with limits: what holds it holds us.
func TestLimitsShared(t *testing.T) {
	needRoot(t)
	pid, _ := child(t, "", nil)
	if os.Getenv(limited) == "" {
		l, err := cgroup.Detect()
		if err != nil {
			t.Fatal(err)
		}
		enter := confine(t, l, &specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: new(int64(1 << 30))}, CPU: &specs.LinuxCPU{Quota: new(int64(90000))},
			Pids: &specs.LinuxPids{Limit: new(int64(500))}, Devices: []specs.LinuxDeviceCgroup{{Allow: false}, rule(1, -1, "rw")},
		})
		program, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", enter+`exec "$0" -test.run='^TestLimitsShared$' -test.v`, program)
		cmd.Env = append(os.Environ(), limited+"=1")
		if output, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(output, []byte("PASS")) {
			t.Errorf("in a cgroup with limits: %v\n%s", err, output)
		}
	} else {
		var devices deviceFacts
		if b := brick(t, pid, "devices", &devices); b.State != wall.Shared {
			t.Errorf("devices: %s, %s", b.State, b.Means)
		}
	}
	for _, name := range []string{"memory", "cpu", "pids", "io"} {
		var f limitFacts
		b := brick(t, pid, name, &f)
		none := f.Limit == nil && f.Quota == nil
		if b.State == wall.Walled || name != "io" && (none != (b.State == wall.Missing) || none && os.Getenv(limited) != "") {
			t.Errorf("%s: %s, %+v", name, b.State, f)
		}
	}
}
