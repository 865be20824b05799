package cgroup

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

func TestWeight(t *testing.T) {
	for shares, want := range map[uint64]uint64{
		0: 1, 1: 1, 2: 1, 3: 2, 10: 4, 102: 17, 512: 59, 1024: 100, 2048: 174, 10240: 639, 262143: 10000, 262144: 10000, 1 << 63: 10000,
	} {
		if got := weight(shares); got != want {
			t.Errorf("weight(%d) = %d, want %d", shares, got, want)
		}
	}
	for shares := uint64(2); shares < 262144; shares++ {
		if weight(shares) > weight(shares+1) {
			t.Fatalf("the weight falls from %d to %d shares", shares, shares+1)
		}
	}
}

func TestIOWeight(t *testing.T) {
	for weight, want := range map[uint16]int{1: 1, 10: 1, 100: 910, 500: 4950, 1000: 10000} {
		if got := ioWeightV2(weight); got != want {
			t.Errorf("ioWeightV2(%d) = %d, want %d", weight, got, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct{ host, resources, want string }{
		{"v2", `{"memory": {"limit": -2}}`, "/linux/resources/memory/limit: -2 is neither a number of bytes nor -1"},
		{"v2", `{"memory": {"limit": 20, "swap": 10}}`, "/linux/resources/memory/swap: memory and swap together cannot be limited to 10, less than memory alone (20)"},
		{"v2", `{"memory": {"limit": -1, "swap": 10}}`, "/linux/resources/memory/swap: memory and swap together cannot be limited to 10, less than memory alone (-1)"},
		{"v2", `{"memory": {"swap": 10}}`, "/linux/resources/memory/swap: cgroup v2 limits swap alone, which is 10 less memory/limit, and that is not set"},
		{"hybrid", `{"memory": {"swappiness": 101}}`, "/linux/resources/memory/swappiness: 101 is not within 0 to 100"},
		{"hybrid", `{"memory": {"kernel": 5}}`, "/linux/resources/memory/kernel: the kernel's memory counts as memory, and Linux 5.16 removed the limit of its own"},
		{"v2", `{"memory": {"useHierarchy": false}}`, "/linux/resources/memory/useHierarchy: cgroups below always count, since Linux 5.11"},
		{"v2", `{"memory": {"swappiness": 1}}`, "/linux/resources/memory/swappiness: exists in cgroup v1 only"},
		{"v2", `{"memory": {"disableOOMKiller": true}}`, "/linux/resources/memory/disableOOMKiller: exists in cgroup v1 only"},
		{"hybrid", `{"cpu": {"quota": 10, "burst": 11}}`, "/linux/resources/cpu/burst: 11 is more than the quota (10)"},
		{"hybrid", `{"cpu": {"idle": 2}}`, "/linux/resources/cpu/idle: 2 is neither 0 nor 1"},
		{"v2", `{"cpu": {"realtimePeriod": 2}}`, "/linux/resources/cpu/realtimePeriod: exists in cgroup v1 only"},
		{"hybrid", `{"blockIO": {"leafWeight": 10}}`, "/linux/resources/blockIO/leafWeight: only the CFQ scheduler had leaf weights, and Linux 5.0 removed it"},
		{"hybrid", `{"blockIO": {"weightDevice": [{"major": 1, "minor": 1, "leafWeight": 10}]}}`, "/linux/resources/blockIO/weightDevice/0/leafWeight: only the CFQ scheduler had leaf weights, and Linux 5.0 removed it"},
		{"v2", `{"blockIO": {"weightDevice": [{"major": 1, "minor": 1}]}}`, "/linux/resources/blockIO/weightDevice/0: neither weight nor leafWeight is set"},
		{"hybrid", `{"blockIO": {"throttleReadBpsDevice": [{"major": -1, "minor": 1, "rate": 10}]}}`, "/linux/resources/blockIO/throttleReadBpsDevice/0: -1:1 is no device number"},
		{"joined", `{"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}`, `/linux/resources/hugepageLimits/0/pageSize: "../2MB" is no size such as 64KB, 2MB or 1GB`},
		{"joined", `{"hugepageLimits": [{"pageSize": "2M", "limit": 1}]}`, `/linux/resources/hugepageLimits/0/pageSize: "2M" is no size such as 64KB, 2MB or 1GB`},
		{"joined", `{"rdma": {"a b": {"hcaObjects": 1}}}`, `/linux/resources/rdma/a b: "a b" is no name of a device`},
		{"joined", `{"rdma": {"a/b": {}}}`, "/linux/resources/rdma/a~1b: neither hcaHandles nor hcaObjects is set"},
		{"joined", `{"network": {"priorities": [{"name": "", "priority": 1}]}}`, `/linux/resources/network/priorities/0: "" is no name of a network interface`},
		{"v2", `{"unified": {"../memory.max": "1"}}`, `/linux/resources/unified/..~1memory.max: "../memory.max" is no name of a cgroup file`},
		{"v2", `{"unified": {"memory": "1"}}`, `/linux/resources/unified/memory: "memory" is no name of a cgroup file`},
		{"v2", `{"unified": {"net_cls.classid": "1"}}`, "/linux/resources/unified/net_cls.classid: this host has no v2 net_cls controller mounted (v2)"},
		{"bare", `{"pids": {"limit": 1}}`, "/linux/resources/pids/limit: this host has no pids controller mounted (none)"},
	}
	for _, tt := range tests {
		var r specs.LinuxResources
		if err := json.Unmarshal([]byte(tt.resources), &r); err != nil {
			t.Fatal(err)
		}
		g, err := hosts[tt.host].layout().Group("/x")
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Create(plan.New(), &r); err == nil || err.Error() != tt.want {
			t.Errorf("%s on %s:\n%v, want\n%s", tt.resources, tt.host, err, tt.want)
		}
	}
}

func TestMissingErrorHasFields(t *testing.T) {
	g, _ := hosts["hybrid"].layout().Group("/x")
	err := g.Create(plan.New(), &specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 1}}})
	var missing *MissingError
	if !errors.As(err, &missing) || *missing != (MissingError{"/linux/resources/hugepageLimits/0", "hugetlb", Hybrid}) {
		t.Errorf("%#v", err)
	}
}

func TestFileError(t *testing.T) {
	err := write(t.TempDir()+"/none", "5")
	if !errors.Is(err, unix.ENOENT) || !strings.HasPrefix(err.Error(), `write("`) || !strings.HasSuffix(err.Error(), `/none", "5"): no such file or directory`) {
		t.Error(err)
	}
	if _, err := read("/none/such"); err == nil || err.Error() != `open("/none/such"): no such file or directory` {
		t.Error(err)
	}
}

func TestSettingAlternatives(t *testing.T) {
	dir := t.TempDir()
	s := setting{file: "a", value: "1", or: &setting{file: "b", value: "2"}}
	s.in(dir)
	if err := s.apply(); !errors.Is(err, unix.ENOENT) {
		t.Errorf("neither file: %v", err)
	}
	s.or.absent = true
	if err := s.apply(); err != nil {
		t.Errorf("a file that may be missing: %v", err)
	}
}

func TestParseStatistics(t *testing.T) {
	if got := parseNumber("9223372036854771712\n"); got != Unlimited {
		t.Error(got)
	}
	if got := parseNumber("max\n"); got != Unlimited {
		t.Error(got)
	}
	if got := parseTable("low 0\nmax 3\noom_kill 2\n"); got["oom_kill"] != 2 || len(got) != 3 {
		t.Error(got)
	}
	if got := parseTable("a\n\nb x\n"); got["b"] != 0 || len(got) != 1 {
		t.Error(got)
	}
}

func TestStatisticsOfBothVersions(t *testing.T) {
	v1, v2 := t.TempDir(), t.TempDir()
	for path, text := range map[string]string{
		v1 + "/cpuacct.usage": "3000\n", v1 + "/cpuacct.usage_user": "1000\n", v1 + "/cpuacct.usage_sys": "2000\n",
		v1 + "/cpu.stat": "nr_periods 5\nnr_throttled 2\nthrottled_time 7000\n", v2 + "/cpu.stat": "usage_usec 3\nuser_usec 1\nsystem_usec 2\nnr_periods 5\nnr_throttled 2\nthrottled_usec 7\n",
		v1 + "/memory.stat": "total_cache 10\ntotal_rss 20\ntotal_swap 30\n", v2 + "/memory.stat": "anon 20\nfile 10\n",
		v1 + "/memory.usage_in_bytes": "60\n", v1 + "/memory.max_usage_in_bytes": "70\n", v1 + "/memory.limit_in_bytes": "9223372036854771712\n",
		v1 + "/memory.memsw.limit_in_bytes": "100\n", v1 + "/memory.failcnt": "4\n", v1 + "/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
		v2 + "/memory.current": "60\n", v2 + "/memory.peak": "70\n", v2 + "/memory.max": "max\n", v2 + "/memory.swap.current": "30\n", v2 + "/memory.swap.max": "100\n",
		v2 + "/memory.events": "low 0\nmax 4\noom_kill 1\n",
		v1 + "/pids.current":  "2\n", v1 + "/pids.max": "9\n", v1 + "/pids.events": "max 3\n",
		v2 + "/pids.current": "2\n", v2 + "/pids.max": "9\n", v2 + "/pids.events": "max 3\n",
		v1 + "/blkio.throttle.io_service_bytes_recursive": "254:0 Read 1\n254:0 Write 2\n254:0 Total 3\n8:0 Read 5\nTotal 8\n",
		v1 + "/blkio.throttle.io_serviced_recursive":      "254:0 Read 3\n254:0 Write 4\nTotal 7\n",
		v2 + "/io.stat": "254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=9 dios=9\n8:0 rbytes=5\n",
	} {
		createFile(t, path, text)
	}
	want := Stats{
		CPU:  CPUStats{Usage: 3 * time.Microsecond, User: time.Microsecond, System: 2 * time.Microsecond, Periods: 5, Throttled: 2, Waited: 7 * time.Microsecond},
		Pids: PidsStats{Current: 2, Limit: 9, Refused: 3},
	}
	memory := MemoryStats{Usage: 60, Peak: 70, Limit: Unlimited, Cache: 10, Anonymous: 20, Swap: 30, SwapLimit: 100, Refused: 4, OOMKills: 1}
	for _, p := range []Place{{Dir: v1}, {Dir: v2, Hierarchy: Hierarchy{V2: true}}} {
		s, err := Group{Places: []Place{p}}.Stats()
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Memory.Stat) < 2 {
			t.Errorf("v2 %v: memory.stat %v", p.V2, s.Memory.Stat)
		}
		s.Memory.Stat = nil
		if s.CPU != want.CPU || s.Pids != want.Pids {
			t.Errorf("v2 %v: %+v", p.V2, s)
		}
		if text, wantText := toJSON(t, s.Memory), toJSON(t, memory); text != wantText {
			t.Errorf("v2 %v: %s, want %s", p.V2, text, wantText)
		}
		if len(s.IO) != 2 || s.IO[0] != (IOStats{Major: 8, ReadBytes: 5}) || s.IO[1] != (IOStats{254, 0, 1, 2, 3, 4}) {
			t.Errorf("v2 %v: %+v", p.V2, s.IO)
		}
	}
}

// TestHandOn has controllers that are enabled, that are not, and one that
// somebody else is just enabling: its file is not there yet.
func TestHandOn(t *testing.T) {
	for _, c := range []struct {
		enabled, there string
		nearest        bool
		want           string
	}{
		{"memory pids", "pids.max", true, "memory pids"},
		{"memory", "", true, "+pids"},
		{"memory pids", "", true, "+pids"},
		{"memory pids", "", false, "memory pids"},
	} {
		dir := t.TempDir()
		control := filepath.Join(dir, "cgroup.subtree_control")
		if err := os.WriteFile(control, []byte(c.enabled), 0o600); err != nil {
			t.Fatal(err)
		}
		if c.there != "" {
			if err := os.WriteFile(filepath.Join(dir, c.there), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		need := map[string]string{"pids": filepath.Join(dir, "pids.max")}
		if err := handOn(control, []string{"memory", "pids"}, need, c.nearest); err != nil {
			t.Errorf("%v: %v", c, err)
		}
		// A file of cgroupfs keeps nothing of what was written; this one does.
		if got, _ := os.ReadFile(control); !strings.HasPrefix(string(got), c.want) {
			t.Errorf("%v: it holds %q", c, got)
		}
	}
}
