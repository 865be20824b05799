package conformance_test

import (
	"errors"
	"fmt"
	"os"
	"regexp"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// notCreated is for what must be an error.
func notCreated(b *box) error { return b.refuses("create", "--bundle", b.dir, b.id()) }

// missing is a limit of a controller that this host has not mounted. Where it
// has, there is nothing to be said.
func missing(controller, text string, set func(*specs.LinuxResources)) must {
	return must{section: "config.md, Valid values", text: text, edit: limits(set), check: func(b *box) error {
		if _, err := os.Stat("/sys/fs/cgroup/" + controller); err == nil {
			return nil
		}
		return notCreated(b)
	}}
}

// disk is the first one that the kernel lists.
func disk() (major, minor int64) {
	text, _ := os.ReadFile("/proc/partitions")
	if numbers := regexp.MustCompile(`(?m)^ +(\d+) +(\d+) `).FindSubmatch(text); numbers != nil {
		_, _ = fmt.Sscan(string(numbers[1])+" "+string(numbers[2]), &major, &minor)
	}
	return major, minor
}

func throttle() []specs.LinuxThrottleDevice {
	var d specs.LinuxThrottleDevice
	d.Major, d.Minor = disk()
	d.Rate = 1 << 20
	return []specs.LinuxThrottleDevice{d}
}

func listed(last bool) func(*specs.Spec) {
	return func(s *specs.Spec) {
		for _, allow := range []bool{!last, last} {
			s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, specs.LinuxDeviceCgroup{Allow: allow, Type: "c", Major: new(int64(1)), Minor: new(int64(11)), Access: "rwm"})
		}
	}
}

const tryKmsg = "mknod /tmp/kmsg c 1 11; (: >/tmp/kmsg) 2>&1 | grep -o 'not permitted' || echo allowed"

// resources are those of config-linux.md, and of its limits those that need
// what few hosts have.
var resources = []must{
	{section: "config-linux.md, Allowed Device list", text: "entries are applied in the listed order: denied last", edit: listed(false), script: tryKmsg, want: "not permitted"},
	{section: "config-linux.md, Allowed Device list", text: "entries are applied in the listed order: allowed last", edit: listed(true), script: tryKmsg, want: "allowed"},
	{section: "config-linux.md, Memory", text: "swappiness", edit: limits(func(r *specs.LinuxResources) { r.Memory = &specs.LinuxMemory{Swappiness: new(uint64(7))} }), script: "cat /sys/fs/cgroup/memory/memory.swappiness", want: "7"},
	{section: "config-linux.md, Memory", text: "disableOOMKiller", edit: limits(func(r *specs.LinuxResources) { r.Memory = &specs.LinuxMemory{DisableOOMKiller: new(true)} }), script: "head -n 1 /sys/fs/cgroup/memory/memory.oom_control", want: "oom_kill_disable 1"},
	{section: "config-linux.md, Memory", text: "kernelTCP", edit: limits(func(r *specs.LinuxResources) { r.Memory = &specs.LinuxMemory{KernelTCP: new(int64(1 << 20))} }), script: "cat /sys/fs/cgroup/memory/memory.kmem.tcp.limit_in_bytes", want: "1048576"},
	{section: "config-linux.md, Memory", text: "-1 is unlimited", edit: limits(func(r *specs.LinuxResources) { r.Memory = &specs.LinuxMemory{Limit: new(int64(-1))} }), script: "cat /sys/fs/cgroup/memory/memory.limit_in_bytes", want: "9223372036854771712"},
	{section: "config-linux.md, CPU", text: "burst", edit: limits(func(r *specs.LinuxResources) {
		r.CPU = &specs.LinuxCPU{Quota: new(int64(20000)), Burst: new(uint64(10000))}
	}), script: "cat /sys/fs/cgroup/cpu/cpu.cfs_burst_us", want: "10000"},
	{section: "config-linux.md, CPU", text: "idle", edit: limits(func(r *specs.LinuxResources) { r.CPU = &specs.LinuxCPU{Idle: new(int64(1))} }), script: "cat /sys/fs/cgroup/cpu/cpu.idle", want: "1"},
	{section: "config-linux.md, PIDs", text: "-1 is unlimited", edit: limits(func(r *specs.LinuxResources) { r.Pids = &specs.LinuxPids{Limit: new(int64(-1))} }), script: "cat /sys/fs/cgroup/pids/pids.max", want: "max"},
	{section: "config-linux.md, Block IO", text: "throttled bytes and operations, of reads and writes", edit: limits(func(r *specs.LinuxResources) {
		r.BlockIO = &specs.LinuxBlockIO{
			ThrottleReadBpsDevice: throttle(), ThrottleWriteBpsDevice: throttle(), ThrottleReadIOPSDevice: throttle(), ThrottleWriteIOPSDevice: throttle(),
		}
	}), script: "cd /sys/fs/cgroup/blkio; cat blkio.throttle.read_bps_device blkio.throttle.write_bps_device blkio.throttle.read_iops_device blkio.throttle.write_iops_device | cut -d' ' -f2", want: "1048576\n1048576\n1048576\n1048576"},
	{section: "config-linux.md, Block IO", text: "weight", edit: limits(func(r *specs.LinuxResources) { r.BlockIO = &specs.LinuxBlockIO{Weight: new(uint16(500))} }), script: "cat /sys/fs/cgroup/blkio/blkio.*weight", want: "500"},
	missing("hugetlb", "hugepageLimits without their controller", func(r *specs.LinuxResources) {
		r.HugepageLimits = []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}}
	}),
	missing("rdma", "rdma without its controller", func(r *specs.LinuxResources) {
		r.Rdma = map[string]specs.LinuxRdma{"mlx5_1": {HcaHandles: new(uint32(3))}}
	}),
	missing("net_cls", "network.classID without its controller", func(r *specs.LinuxResources) {
		r.Network = &specs.LinuxNetwork{ClassID: new(uint32(1 << 20))}
	}),
	missing("net_prio", "network.priorities without their controller", func(r *specs.LinuxResources) {
		r.Network = &specs.LinuxNetwork{Priorities: []specs.LinuxInterfacePriority{{Name: "lo", Priority: 5}}}
	}),
	missing("cgroup.controllers", "unified on cgroup v1", func(r *specs.LinuxResources) { r.Unified = map[string]string{"memory.high": "1048576"} }),
	{section: "config-linux.md, IntelRdt", text: "without a mounted resctrl file system it is an error", edit: func(s *specs.Spec) {
		s.Linux.IntelRdt = &specs.LinuxIntelRdt{ClosID: "x", Schemata: []string{"L3:0=f"}, EnableMonitoring: true}
	}, check: notCreated},
	{section: "config-linux.md, Memory Policy", text: "mode and nodes", edit: func(s *specs.Spec) {
		s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0"}
	}, script: "cut -d' ' -f2 /proc/self/numa_maps | head -n 1", want: "bind:0"},
	{section: "config-linux.md, Seccomp", text: "names must have an entry", edit: filter(specs.ActAllow, specs.LinuxSyscall{Action: specs.ActErrno}), check: notCreated},
	{section: "config-linux.md, Seccomp", text: "errnoRet of an action that has none is an error", edit: filter(specs.ActAllow, specs.LinuxSyscall{Names: []string{"swapon"}, Action: specs.ActKill, ErrnoRet: new(uint(5))}), check: notCreated},
	{section: "config.md, Valid values", text: "an unknown rootfsPropagation", edit: func(s *specs.Spec) { s.Linux.RootfsPropagation = "loud" }, check: notCreated},
	{section: "config.md, Valid values", text: "an unknown namespace", edit: with(specs.LinuxNamespace{Type: "moon"}), check: notCreated},
	{section: "config.md, Valid values", text: "a version that is not 1.x", edit: func(s *specs.Spec) { s.Version = "2.0.0" }, check: notCreated},
	{section: "config.md, Valid values", text: "a profile without AppArmor", edit: func(s *specs.Spec) { s.Process.ApparmorProfile = "x" }, check: notCreated},
	{section: "config.md, Valid values", text: "a label without SELinux", edit: func(s *specs.Spec) { s.Process.SelinuxLabel = "u:r:x" }, check: notCreated},
	{section: "config-linux.md, Mount Label", text: "without SELinux it is an error", edit: func(s *specs.Spec) { s.Linux.MountLabel = "u:r:x" }, check: notCreated},
	{section: "config.md, Linux Process", text: "oomScoreAdj is left as it is unless set", check: func(b *box) error {
		if err := b.create(); err != nil {
			return err
		}
		own, err := os.ReadFile("/proc/self/oom_score_adj")
		other, e := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", b.pid))
		if string(own) != string(other) {
			return fmt.Errorf("it is %s here and %s there", own, other)
		}
		return errors.Join(err, e)
	}},
}
