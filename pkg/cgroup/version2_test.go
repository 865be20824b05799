package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// onVersion2 runs a test where version 2 has all controllers: in a virtual
// machine, if the host still has version 1.
func onVersion2(t *testing.T, test func(t *testing.T, l Layout)) {
	onEach(t, func(t *testing.T, l Layout) {
		g, err := l.Group("/x")
		if err != nil {
			t.Fatal(err)
		}
		u := g.unifiedPlace()
		if l.Version() == V2 && len(l.Hierarchies[0].Controllers) > 2 && g.place("memory") == nil {
			t.Fatalf("version 2 is alone, and has no controller for memory: %+v", l)
		}
		if u == nil || g.place("memory") != u {
			t.Log("the controllers are version 1's: the tier vm of tests/run has a machine where they are not")
			return
		}
		test(t, l)
	})
}

// TestEveryLimitOfVersion2 sets all that config.json can ask of version 2, and
// reads back what the kernel has of it: all but rdma, which needs a device, and
// weights of single disks, which need their scheduler.
func TestEveryLimitOfVersion2(t *testing.T) {
	onVersion2(t, func(t *testing.T, l Layout) {
		major, minor := disk(t)
		throttle := func(rate uint64) []specs.LinuxThrottleDevice {
			d := specs.LinuxThrottleDevice{Rate: rate}
			d.Major, d.Minor = major, minor
			return []specs.LinuxThrottleDevice{d}
		}
		r := &specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: new(int64(64 << 20)), Reservation: new(int64(32 << 20)), Swap: new(int64(96 << 20))},
			CPU: &specs.LinuxCPU{
				Shares: new(uint64(512)), Quota: new(int64(50000)), Period: new(uint64(200000)), Burst: new(uint64(10000)), Cpus: "0", Mems: "0",
			},
			Pids: &specs.LinuxPids{Limit: new(int64(20))},
			BlockIO: &specs.LinuxBlockIO{
				Weight:                new(uint16(500)),
				ThrottleReadBpsDevice: throttle(1 << 20), ThrottleWriteBpsDevice: throttle(2 << 20),
				ThrottleReadIOPSDevice: throttle(100), ThrottleWriteIOPSDevice: throttle(200),
			},
			HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}},
			Unified:        map[string]string{"memory.high": "50331648", "cgroup.max.descendants": "3"},
		}
		g, run := create(t, l, r)
		weight, wanted := "io.weight", "default 4950" // of 10000, as 500 is of 1000
		if _, err := os.Stat(filepath.Join(g.unifiedPlace().Dir, "io.bfq.weight")); err == nil {
			weight, wanted = "io.bfq.weight", "default 500" // a scheduler that is there has its own
		}
		for file, want := range map[string]string{
			"memory.max": "67108864", "memory.low": "33554432", "memory.swap.max": "33554432", "memory.high": "50331648",
			"cpu.weight": "59", "cpu.max": "50000 200000", "cpu.max.burst": "10000", "cpuset.cpus": "0", "cpuset.mems": "0",
			"pids.max": "20", "hugetlb.2MB.max": "4194304", "hugetlb.2MB.rsvd.max": "4194304", "cgroup.max.descendants": "3",
			weight:   wanted,
			"io.max": fmt.Sprintf("%d:%d rbps=1048576 wbps=2097152 riops=100 wiops=200", major, minor),
		} {
			text, err := os.ReadFile(filepath.Join(g.unifiedPlace().Dir, file))
			if got := strings.TrimSpace(string(text)); err != nil || got != want {
				t.Errorf("%s holds %q, want %q (%v)", file, got, want, err)
			}
		}
		c := start(t, g, run)
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
		if err != nil || !strings.Contains(string(status), "\nCpus_allowed_list:\t0\n") || !strings.Contains(string(status), "\nMems_allowed_list:\t0\n") {
			t.Errorf("the process may use other processors: %v\n%s", err, status)
		}
	})
}

// TestIOThrottles reads three seconds' worth of a disk. It may take longer, and
// a little less, since the kernel lets a first burst pass.
func TestIOThrottles(t *testing.T) {
	onVersion2(t, func(t *testing.T, l Layout) {
		major, minor := disk(t)
		d := specs.LinuxThrottleDevice{Rate: diskSize / 3}
		d.Major, d.Minor = major, minor
		g, run := create(t, l, &specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{d}}})
		c := start(t, g, run)
		began := time.Now()
		c.tell(fmt.Sprintf("read /dev/loop%d", minor))
		c.expect(fmt.Sprintf("read %d", diskSize))
		if took := time.Since(began); took < 1500*time.Millisecond {
			t.Errorf("%d bytes were read in %v, at %d a second", diskSize, took, d.Rate)
		}
	})
}

const diskSize = 3 << 20 // bytes

// disk makes a loop device, loop(4), and returns its number.
func disk(t *testing.T) (major, minor int64) {
	t.Helper()
	control, err := os.Open("/dev/loop-control")
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		t.Fatal("LOOP_CTL_GET_FREE: ", err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(diskSize); err != nil {
		t.Fatal(err)
	}
	loop, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_SET_FD, int(file.Fd())); err != nil {
		t.Fatal("LOOP_SET_FD: ", err)
	}
	t.Cleanup(func() {
		if err := unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_CLR_FD, 0); err != nil {
			t.Error("LOOP_CLR_FD: ", err)
		}
		if err := loop.Close(); err != nil {
			t.Error(err)
		}
	})
	return 7, int64(n)
}
