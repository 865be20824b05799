package cgroup

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/plan"
)

// TestAround has a process in a cgroup below another: one is tighter in memory,
// the other in processes and processor time. A process in there dies of the
// limit, and one is held back.
func TestAround(t *testing.T) {
	onEach(t, func(t *testing.T, l Layout) {
		major, minor := disk(t)
		throttle := specs.LinuxThrottleDevice{Rate: 1 << 20}
		throttle.Major, throttle.Minor = major, minor
		r := offered(t, l, &specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: new(int64(32 << 20))},
			CPU:    &specs.LinuxCPU{Quota: new(int64(8000)), Period: new(uint64(100000))},
			Pids:   &specs.LinuxPids{Limit: new(int64(60))},
		})
		outer, _ := create(t, l, r)
		inner, run := createBelow(t, l, outer, offered(t, l, &specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: new(int64(64 << 20))},
			CPU:    &specs.LinuxCPU{Quota: new(int64(10000)), Period: new(uint64(400000))}, // less time than outer, and so little that a busy machine gives it, too
			Pids:   &specs.LinuxPids{Limit: new(int64(40))},
		}), throttle)
		if r.Memory != nil {
			hog := start(t, inner, run)
			hog.tell("hog 60")
			_ = hog.ended()
		}
		c := start(t, inner, run)
		c.tell("burn")
		c.expect("burnt")
		got, err := Around(c.cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		if p := outer.place("memory"); p != nil && (got.Memory.Dir != p.Dir || got.Memory.Max != 32<<20 || got.Memory.Hits != 1 || got.Memory.Used == 0 || got.Memory.Used > 32<<20) {
			t.Errorf("memory: %+v, want one killed of 32 MiB at %s", got.Memory, p.Dir)
		}
		if p := inner.place("pids"); p != nil && (got.Pids.Dir != p.Dir || got.Pids.Max != 40 || got.Pids.Used == 0 || got.Pids.Used > 40) {
			t.Errorf("pids: %+v, want 40 at %s", got.Pids, p.Dir)
		}
		if p := inner.place("cpu"); p != nil && (got.CPU.Dir != p.Dir || got.CPU.Quota != 10000 || got.CPU.Period != 400000 || got.CPU.Throttled == 0 || got.CPU.Throttled > got.CPU.Periods) {
			t.Errorf("cpu: %+v, want 10000 of 400000 at %s, and throttled", got.CPU, p.Dir)
		}
		if p := ioPlace(inner); p != nil && !slices.Equal(got.IO, []Throttle{{p.Dir, fmt.Sprintf("%d:%d", major, minor), "rbps", 1 << 20}}) {
			t.Errorf("io: %+v", got.IO)
		}
		_, err = os.Stat("/proc/pressure/cpu") // the kernel can be told to count none
		if p := inner.unifiedPlace(); p != nil && err == nil && !strings.HasPrefix(got.Pressure["cpu"], "some avg10=") {
			t.Errorf("pressure: %q", got.Pressure)
		}
		if r.Memory != nil { // else it is in the root of others
			c.tell(fmt.Sprintf("around %d", c.cmd.Process.Pid))
			c.expect("sees false <nil>")
		}
	})
}

func ioPlace(g Group) *Place {
	if p := g.place("blkio"); p != nil {
		return p
	}
	return g.place("io")
}

// createBelow makes a cgroup in another, which is removed with it.
func createBelow(t *testing.T, l Layout, outer Group, r *specs.LinuxResources, throttle specs.LinuxThrottleDevice) (Group, *plan.Run) {
	t.Helper()
	g, err := l.Group(outer.Path + "/inner")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(g.Kill(), g.Delete()); err != nil {
			t.Error(err)
		}
	})
	if ioPlace(g) != nil {
		r.BlockIO = &specs.LinuxBlockIO{ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{throttle}}
	}
	b := plan.New()
	if err := g.Create(b, r); err != nil {
		t.Fatal(err)
	}
	return g, carryOut(t, b)
}

// TestAroundEvents has version 2 count refused forks at the limit, or where the
// fork was, as Linux did before 6.11; the dead are counted at their limit.
func TestAroundEvents(t *testing.T) {
	outer := t.TempDir()
	inner := outer + "/inner"
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, forks := range [][2]string{{"max 0\n", "max 3\n"}, {"max 3\n", "max 0\n"}} {
		for dir, files := range map[string]map[string]string{
			inner: {"cgroup.type": "domain\n", "pids.max": "max\n", "pids.events": forks[0], "memory.max": "max\n", "memory.events": "oom_kill 1\n"},
			outer: {"cgroup.type": "domain\n", "pids.max": "9\n", "pids.events": forks[1], "memory.max": "4096\n", "memory.events": "oom_kill 2\n"},
		} {
			for name, text := range files {
				if err := os.WriteFile(dir+"/"+name, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		a := Limits{Memory: Limit{Max: Unlimited}, Pids: Limit{Max: Unlimited}, Pressure: make(map[string]string)}
		a.tighten(&counters{v2: true, dir: inner}, true)
		c := counters{v2: true, dir: outer}
		if a.tighten(&c, false); c.err != nil || a.Pids.Dir != outer || a.Pids.Hits != 3 || a.Memory.Dir != outer || a.Memory.Hits != 2 {
			t.Errorf("%+v, %v", a, c.err)
		}
	}
}

// TestAroundUnlimited looks at a cgroup that sets nothing.
func TestAroundUnlimited(t *testing.T) {
	onEach(t, func(t *testing.T, l Layout) {
		g, run := create(t, l, nil)
		c := start(t, g, run)
		got, err := Around(c.cmd.Process.Pid)
		own := func(dir string) bool { return strings.HasSuffix(dir, g.Path) }
		if err != nil || own(got.Memory.Dir) && got.Memory.Max != Unlimited || own(got.Pids.Dir) && got.Pids.Max != Unlimited || own(got.CPU.Dir) || len(got.IO) > 0 {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// TestHiddenGuards has a cgroup of version 1 allow all devices, which may hide
// what it refuses.
func TestHiddenGuards(t *testing.T) {
	onEach(t, func(t *testing.T, l Layout) {
		g, run := create(t, l, nil)
		p := g.place("devices")
		if p == nil {
			return // version 2 shows its programs
		}
		if err := os.WriteFile(p.Dir+"/devices.deny", []byte("c 1:11 r"), 0); err != nil {
			t.Fatal(err)
		}
		c := start(t, g, run)
		if got, err := DeviceGuards(c.cmd.Process.Pid); err != nil || got.List != AllDevices || !got.Hidden {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// TestDeviceGuards reads back what guards a cgroup and the one above it.
func TestDeviceGuards(t *testing.T) {
	onEach(t, func(t *testing.T, l Layout) {
		rules := []specs.LinuxDeviceCgroup{{Allow: false}, {Allow: true, Type: "c", Major: new(int64(1)), Minor: new(int64(3)), Access: "rw"}}
		g, run := create(t, l, &specs.LinuxResources{Devices: rules})
		c := start(t, g, run)
		got, err := DeviceGuards(c.cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		if g.place("devices") != nil {
			if !got.Listed || got.List != "c 1:3 rw\n" {
				t.Errorf("the list is %q", got.List)
			}
			return
		}
		parsed, err := parseRules(rules)
		if err != nil {
			t.Fatal(err)
		}
		want := encode(assemble(parsed))
		if !slices.ContainsFunc(got.Programs, func(p []byte) bool { return string(p) == string(want) }) {
			t.Errorf("the programs are %x, without %x", got.Programs, want)
		}
	})
}
