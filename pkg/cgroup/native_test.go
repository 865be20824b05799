package cgroup

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// offered takes from r what the hierarchies of the layout have controllers for.
func offered(t *testing.T, l Layout, r *specs.LinuxResources) *specs.LinuxResources {
	t.Helper()
	g, err := l.Group("/x")
	if err != nil {
		t.Fatal(err)
	}
	kept := *r
	if g.place("memory") == nil {
		kept.Memory = nil
	}
	if g.place("cpu") == nil {
		kept.CPU = nil
	}
	if g.place("pids") == nil {
		kept.Pids = nil
	}
	return &kept
}

// limits reads back the files that hold what was asked for.
func limits(t *testing.T, g Group, r *specs.LinuxResources) map[string]string {
	t.Helper()
	list, err := g.settings(r)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, s := range list {
		text, err := os.ReadFile(s.file)
		if errors.Is(err, os.ErrNotExist) && s.absent {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got[filepath.Base(s.file)] = strings.TrimSpace(string(text))
	}
	return got
}

func TestCreateSetsLimits(t *testing.T) {
	r := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: new(int64(64 << 20)), Reservation: new(int64(32 << 20)), Swap: new(int64(-1))},
		CPU:    &specs.LinuxCPU{Shares: new(uint64(512)), Quota: new(int64(50000)), Period: new(uint64(200000)), Cpus: "0", Mems: "0"},
		Pids:   &specs.LinuxPids{Limit: new(int64(20))},
	}
	want := map[string]string{
		"memory.limit_in_bytes": "67108864", "memory.soft_limit_in_bytes": "33554432",
		"memory.memsw.limit_in_bytes": "9223372036854771712",
		"cpu.shares":                  "512", "cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "200000",
		"cpuset.cpus": "0", "cpuset.mems": "0", "pids.max": "20",
		"memory.max": "67108864", "memory.low": "33554432", "memory.swap.max": "max",
		"cpu.weight": "59", "cpu.max": "50000 200000",
	}
	onEach(t, func(t *testing.T, l Layout) {
		r := offered(t, l, r)
		g, _ := create(t, l, r)
		got := limits(t, g, r)
		for file, value := range got {
			if want[file] != value {
				t.Errorf("%s holds %q, want %q", file, value, want[file])
			}
		}
		t.Logf("%d values read back", len(got))
		if r.Memory != nil && len(got) < 7 {
			t.Errorf("only %d values were set: %v", len(got), got)
		}
	})
}

func TestCreateTwice(t *testing.T) {
	onEach(t, func(t *testing.T, l Layout) {
		g, run := create(t, l, nil)
		b := plan.New()
		if err := g.Create(b, nil); err != nil {
			t.Fatal(err)
		}
		mkdir := b.Plan().Sections[0].Steps[0]
		if err := mkdir.Act(&plan.Run{}); err != nil {
			t.Errorf("an empty cgroup that is there already: %v", err)
		}
		below := g.Places[0].Dir + "/below"
		if err := os.Mkdir(below, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(mkdir.Act(&plan.Run{}), g.Vacant()); !errors.Is(err, ErrNotEmpty) {
			t.Errorf("a cgroup with another below it: %v, want ErrNotEmpty", err)
		}
		if err := errors.Join(os.Remove(below), g.Vacant()); err != nil {
			t.Error(err)
		}
		start(t, g, run)
		if err := mkdir.Act(&plan.Run{}); !errors.Is(err, ErrNotEmpty) {
			t.Errorf("a cgroup with a process in it: %v, want ErrNotEmpty", err)
		}
	})
}

// The kernel must say of a child that it is where the group says.
func TestChildIsInTheGroup(t *testing.T) {
	for _, where := range []string{"/", ""} {
		onEach(t, func(t *testing.T, l Layout) {
			g, run := createAt(t, l, where, nil)
			c := start(t, g, run)
			seen := parseLayout(content(t, "/proc/self/mountinfo"), content(t, fmt.Sprintf("/proc/%d/cgroup", c.cmd.Process.Pid)))
			for _, h := range seen.Hierarchies {
				i := slices.IndexFunc(g.Places, func(p Place) bool { return p.Mount == h.Mount })
				if i >= 0 && g.Places[i].Dir != h.Mount+h.Self {
					t.Errorf("the child is in %s, want %s", h.Mount+h.Self, g.Places[i].Dir)
				}
			}
			if len(seen.Hierarchies) < len(g.Places) {
				t.Errorf("%d hierarchies of %d", len(seen.Hierarchies), len(g.Places))
			}
		})
	}
}

func TestMkdirWithoutBase(t *testing.T) {
	base := t.TempDir() + "/gone"
	for _, dir := range []string{"/x", "/a/b/x"} {
		err := Place{Base: base, Dir: base + dir}.mkdir(false)
		if !errors.Is(err, unix.ENOENT) || !strings.HasPrefix(err.Error(), `mkdir("`+base+dir) {
			t.Errorf("mkdir below nothing: %v", err)
		}
	}
	p := Place{Base: t.TempDir()}
	p.Dir = p.Base + "/a/b/x"
	if err := p.mkdir(false); err != nil {
		t.Error(err)
	}
}

func TestUpdateFindsTheOrder(t *testing.T) {
	resources := func(mb, quota, burst int64) *specs.LinuxResources {
		return &specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: new(mb << 20), Swap: new(mb << 20)},
			CPU:    &specs.LinuxCPU{Quota: new(quota), Burst: new(uint64(burst)), Period: new(uint64(100000))},
		}
	}
	onEach(t, func(t *testing.T, l Layout) {
		g, _ := create(t, l, offered(t, l, resources(32, 30000, 20000)))
		for _, r := range []*specs.LinuxResources{resources(64, 60000, 50000), resources(16, 20000, 10000)} {
			r := offered(t, l, r)
			if err := g.Update(r); err != nil {
				t.Fatal(err)
			}
			list, err := g.settings(r)
			if err != nil {
				t.Fatal(err)
			}
			got := limits(t, g, r)
			for _, s := range list {
				if file := filepath.Base(s.file); got[file] != s.value {
					t.Errorf("%s holds %q, want %q", file, got[file], s.value)
				}
			}
		}
	})
}

// A file of version 2 holds the quota and its period, so that the one must be
// kept when the other changes.
func TestUpdateLeavesTheRest(t *testing.T) {
	onEach(t, func(t *testing.T, l Layout) {
		r := offered(t, l, &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: new(int64(20000))}})
		g, _ := create(t, l, r)
		p := g.place("cpu")
		if p == nil {
			return
		}
		if err := g.Update(&specs.LinuxResources{CPU: &specs.LinuxCPU{Period: new(uint64(50000))}}); err != nil {
			t.Fatal(err)
		}
		quota := "/cpu.cfs_quota_us"
		if p.V2 {
			quota = "/cpu.max"
		}
		if got := field(content(t, p.Dir+quota), 0); got != "20000" {
			t.Errorf("a new period has changed the quota to %s", got)
		}
		impossible := &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "4095"}}
		if err := g.Update(impossible); err == nil || !strings.HasPrefix(err.Error(), "/linux/resources/cpu/cpus: write(") {
			t.Errorf("error %v does not name the limit", err)
		}
	})
}

func TestCheckBeforeUpdate(t *testing.T) {
	onEach(t, func(t *testing.T, l Layout) {
		g, run := create(t, l, nil)
		if g.place("memory") == nil {
			return // v2 alone of a hybrid host has no controllers
		}
		c := start(t, g, run)
		c.tell("hog 32")
		c.expect("fed 1")
		err := g.Update(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(16 << 20)), CheckBeforeUpdate: new(true)}})
		if err == nil || !strings.HasPrefix(err.Error(), "/linux/resources/memory/limit: ") {
			t.Errorf("a limit below the use: %v", err)
		}
	})
}

func TestMemoryLimitBites(t *testing.T) {
	onEach(t, func(t *testing.T, l Layout) {
		r := offered(t, l, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(20 << 20)), Swap: new(int64(20 << 20))}})
		if r.Memory == nil {
			return
		}
		g, run := create(t, l, r)
		c := start(t, g, run)
		c.tell("hog 80")
		if got := c.ended(); got != unix.SIGKILL {
			t.Errorf("the hog ended by %v, want SIGKILL", got)
		}
		kills, err := g.OOMKills()
		if err != nil || kills != 1 {
			t.Errorf("oom_kill %d, %v; want 1", kills, err)
		}
		s, err := g.Stats()
		if err != nil || s.Memory.OOMKills != 1 || s.Memory.Limit != 20<<20 || s.Memory.Peak < 15<<20 && s.Memory.Peak != 0 {
			t.Errorf("memory %+v, %v", s.Memory, err)
		}
	})
}

func TestQuotaThrottles(t *testing.T) {
	onEach(t, func(t *testing.T, l Layout) {
		r := offered(t, l, &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: new(int64(20000)), Period: new(uint64(100000))}})
		if r.CPU == nil {
			return
		}
		g, run := create(t, l, r)
		c := start(t, g, run)
		c.tell("burn")
		c.expect("burnt")
		s, err := g.Stats()
		if err != nil {
			t.Fatal(err)
		}
		if s.CPU.Throttled == 0 || s.CPU.Periods < s.CPU.Throttled || s.CPU.Waited == 0 {
			t.Errorf("cpu %+v, want it throttled", s.CPU)
		}
		if s.CPU.Usage < 20*time.Millisecond || s.CPU.Usage > 900*time.Millisecond || s.CPU.User+s.CPU.System == 0 {
			t.Errorf("cpu used %v (%v, %v) of a second, of which it was given a fifth", s.CPU.Usage, s.CPU.User, s.CPU.System)
		}
	})
}

func TestStats(t *testing.T) {
	onEach(t, func(t *testing.T, l Layout) {
		r := offered(t, l, &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64(100))}})
		g, run := create(t, l, r)
		c := start(t, g, run)
		c.tell("hog 8")
		c.expect("fed 1")
		s, err := g.Stats()
		if err != nil {
			t.Fatal(err)
		}
		if r.Pids != nil && (s.Pids.Limit != 100 || s.Pids.Current < 2 || s.Pids.Current > 50) {
			t.Errorf("pids %+v", s.Pids)
		}
		if g.place("memory") != nil && (s.Memory.Limit != Unlimited || s.Memory.Anonymous < 8<<20 || s.Memory.Usage < 8<<20 || s.Memory.Stat == nil) {
			t.Errorf("memory %+v", s.Memory)
		}
		if s.CPU.Usage == 0 {
			t.Errorf("cpu %+v", s.CPU)
		}
	})
}

// The child must be unable to open what the rules leave out, in version 1
// through the devices controller, in version 2 through the BPF program.
func TestDeviceRules(t *testing.T) {
	rules := []specs.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"},
		{Allow: true, Type: "c", Major: new(int64(1)), Access: "rwm"},
		{Allow: true, Type: "c", Major: new(int64(5)), Minor: new(int64(0)), Access: "r"},
		{Allow: false, Type: "c", Major: new(int64(5)), Access: "w"},
	}
	onEach(t, func(t *testing.T, l Layout) {
		g, run := create(t, l, &specs.LinuxResources{Devices: rules})
		c := start(t, g, run)
		for _, want := range []string{"/dev/null true", "/dev/zero true", "/dev/ptmx false", "/dev/kmsg true", "/dev/console false"} {
			path, _, _ := strings.Cut(want, " ")
			c.tell("open " + path)
			c.expect(want)
		}
	})
}

// State is kept as JSON; what comes back must serve.
func TestGroupAsJSON(t *testing.T) {
	onEach(t, func(t *testing.T, l Layout) {
		g, run := create(t, l, nil)
		start(t, g, run)
		text, err := json.Marshal(g)
		if err != nil {
			t.Fatal(err)
		}
		var kept Group
		if err := json.Unmarshal(text, &kept); err != nil {
			t.Fatal(err)
		}
		if pids, err := kept.Procs(); err != nil || len(pids) != 1 {
			t.Errorf("procs %v, %v", pids, err)
		}
	})
}
