package conformance_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A limit is a sentence about resources, whatever version of cgroups the host
// has: the files of the container's cgroup that must have a line, each as "FILE
// LINE". Where a host has no such controller, or one that has no such limit, to
// ask for it must be an error.
type limit struct {
	section, text string
	controller    string // as version 1 names it
	v1, v2        []string
	needs         string // what the host has in /sys, if it can do that; "" is the controller alone
	set           func(*specs.LinuxResources)
}

// unifiedOnly tells whether the host has cgroup version 2, and nothing else.
func unifiedOnly() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// files are those that must have a line on this host; none if it has no such
// limit.
func (l limit) files() []string {
	if _, err := os.Stat("/sys/" + l.needs); err != nil {
		return nil
	}
	if unifiedOnly() {
		return l.v2
	}
	if _, err := os.Stat("/sys/fs/cgroup/" + l.controller); err != nil {
		return nil
	}
	return l.v1
}

// place is where a controller has the container's cgroup.
func (b *box) place(controller string) string {
	if unifiedOnly() {
		controller = ""
	}
	return filepath.Join("/sys/fs/cgroup", controller, b.cgroup())
}

// must is the sentence as one of many.
func (l limit) must() must {
	return must{section: l.section, text: l.text, edit: func(s *specs.Spec) { l.set(s.Linux.Resources) }, check: func(b *box) error {
		files := l.files()
		if len(files) == 0 {
			return notCreated(b)
		}
		if err := b.create(); err != nil {
			return err
		}
		return has(b.place(l.controller), files)
	}}
}

// has checks that files have lines.
func has(dir string, files []string) (err error) {
	for _, f := range files {
		name, line, _ := strings.Cut(f, " ")
		text, e := os.ReadFile(filepath.Join(dir, name))
		if !slices.Contains(strings.Split(strings.TrimSpace(string(text)), "\n"), line) {
			err = errors.Join(err, e, fmt.Errorf("%s has %q, and no line %q", name, text, line))
		}
	}
	return err
}

func memory(m specs.LinuxMemory) func(*specs.LinuxResources) {
	return func(r *specs.LinuxResources) { r.Memory = &m }
}

func cpu(c specs.LinuxCPU) func(*specs.LinuxResources) {
	return func(r *specs.LinuxResources) { r.CPU = &c }
}

// network are limits of version 1 alone.
func network(n specs.LinuxNetwork) func(*specs.LinuxResources) {
	return func(r *specs.LinuxResources) { r.Network = &n }
}

func blockIO(o specs.LinuxBlockIO) func(*specs.LinuxResources) {
	return func(r *specs.LinuxResources) { r.BlockIO = &o }
}

// disk is a block device of the kernel's, "MAJOR:MINOR".
func disk() (d specs.LinuxThrottleDevice, numbers string) {
	devices, _ := filepath.Glob("/sys/block/*/dev")
	for _, file := range devices {
		text, _ := os.ReadFile(file)
		numbers = strings.TrimSpace(string(text))
		_, _ = fmt.Sscanf(numbers, "%d:%d", &d.Major, &d.Minor)
	}
	d.Rate = 1 << 20
	return d, numbers
}

// realtime is there if the kernel divides such time among cgroups.
const realtime = "fs/cgroup/cpu/cpu.rt_runtime_us"

// weight is where a kernel has a disk's weight: in version 2 that of the
// scheduler bfq, or that of the controller itself.
func weight() (needs, v2 string) {
	if !unifiedOnly() {
		return "fs/cgroup/blkio/blkio.bfq.io_service_bytes", ""
	}
	if _, err := os.Stat("/sys/module/bfq"); err != nil {
		return "", "io.weight default 4950"
	}
	return "", "io.bfq.weight default 500"
}

// weighted gives a device of these tests the scheduler that has weights.
func weighted(b *box) (err error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer control.Close()
	number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return err
	}
	loop, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", number), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer loop.Close()
	file, err := os.Create(b.dir + "/disk")
	if err != nil {
		return err
	}
	defer file.Close()
	if err := all(file.Truncate(1<<20), unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_SET_FD, int(file.Fd()))); err != nil {
		return err
	}
	scheduler := fmt.Sprintf("/sys/block/loop%d/queue/scheduler", number)
	defer func() {
		err = all(err, os.WriteFile(scheduler, []byte("none"), 0), unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_CLR_FD, 0))
	}()
	if err := os.WriteFile(scheduler, []byte("bfq"), 0); err != nil {
		return err
	}
	d := specs.LinuxWeightDevice{Weight: new(uint16(300))}
	d.Major, d.Minor = 7, int64(number)
	s := base(b)
	blockIO(specs.LinuxBlockIO{WeightDevice: []specs.LinuxWeightDevice{d}})(s.Linux.Resources)
	b.write(s)
	if err := b.create(); err != nil {
		return err
	}
	line := fmt.Sprintf("7:%d 300", number)
	if unifiedOnly() {
		return has(b.place(""), []string{"io.bfq.weight " + line})
	}
	return has(b.place("blkio"), []string{"blkio.bfq.weight_device " + line})
}

// limits are those of config-linux.md.
func limits() []limit {
	device, numbers := disk()
	weightNeeds, weightV2 := weight()
	all := []specs.LinuxThrottleDevice{device}
	return []limit{
		{"config-linux.md, Memory", "limit", "memory", []string{"memory.limit_in_bytes 67108864"}, []string{"memory.max 67108864"}, "", memory(specs.LinuxMemory{Limit: new(int64(64 << 20))})},
		{"config-linux.md, Memory", "reservation", "memory", []string{"memory.soft_limit_in_bytes 33554432"}, []string{"memory.low 33554432"}, "", memory(specs.LinuxMemory{Reservation: new(int64(32 << 20))})},
		{
			"config-linux.md, Memory", "swap", "memory",
			[]string{"memory.memsw.limit_in_bytes 100663296"},
			[]string{"memory.swap.max 33554432"},
			"",
			memory(specs.LinuxMemory{Limit: new(int64(64 << 20)), Swap: new(int64(96 << 20))}),
		},
		{"config-linux.md, Memory", "kernel, which no kernel limits any more", "memory", nil, nil, "", memory(kernelMemory(64 << 20))},
		{"config-linux.md, Memory", "kernelTCP", "memory", []string{"memory.kmem.tcp.limit_in_bytes 1048576"}, nil, "", memory(specs.LinuxMemory{KernelTCP: new(int64(1 << 20))})},
		{"config-linux.md, Memory", "swappiness", "memory", []string{"memory.swappiness 7"}, nil, "", memory(specs.LinuxMemory{Swappiness: new(uint64(7))})},
		{"config-linux.md, Memory", "disableOOMKiller", "memory", []string{"memory.oom_control oom_kill_disable 1"}, nil, "", memory(specs.LinuxMemory{DisableOOMKiller: new(true)})},
		{"config-linux.md, Memory", "useHierarchy", "memory", []string{"memory.use_hierarchy 1"}, []string{"memory.max max"}, "", memory(specs.LinuxMemory{UseHierarchy: new(true)})},
		{"config-linux.md, Memory", "-1 is unlimited", "memory", []string{"memory.limit_in_bytes 9223372036854771712"}, []string{"memory.max max"}, "", memory(specs.LinuxMemory{Limit: new(int64(-1))})},
		{"config-linux.md, CPU", "shares", "cpu", []string{"cpu.shares 512"}, []string{"cpu.weight 59"}, "", cpu(specs.LinuxCPU{Shares: new(uint64(512))})},
		{
			"config-linux.md, CPU", "quota and period", "cpu",
			[]string{"cpu.cfs_quota_us 20000", "cpu.cfs_period_us 50000"},
			[]string{"cpu.max 20000 50000"},
			"",
			cpu(specs.LinuxCPU{Quota: new(int64(20000)), Period: new(uint64(50000))}),
		},
		{
			"config-linux.md, CPU", "burst", "cpu",
			[]string{"cpu.cfs_burst_us 10000"},
			[]string{"cpu.max.burst 10000"},
			"",
			cpu(specs.LinuxCPU{Quota: new(int64(20000)), Burst: new(uint64(10000))}),
		},
		{"config-linux.md, CPU", "idle", "cpu", []string{"cpu.idle 1"}, []string{"cpu.idle 1"}, "", cpu(specs.LinuxCPU{Idle: new(int64(1))})},
		{
			"config-linux.md, CPU", "realtimeRuntime and realtimePeriod", "cpu",
			[]string{"cpu.rt_runtime_us 10000", "cpu.rt_period_us 500000"},
			nil, realtime,
			cpu(specs.LinuxCPU{RealtimeRuntime: new(int64(10000)), RealtimePeriod: new(uint64(500000))}),
		},
		{"config-linux.md, CPU", "cpus and mems", "cpuset", []string{"cpuset.cpus 0", "cpuset.mems 0"}, []string{"cpuset.cpus 0", "cpuset.mems 0"}, "", cpu(specs.LinuxCPU{Cpus: "0", Mems: "0"})},
		{"config-linux.md, PIDs", "limit", "pids", []string{"pids.max 33"}, []string{"pids.max 33"}, "", func(r *specs.LinuxResources) { r.Pids = &specs.LinuxPids{Limit: new(int64(33))} }},
		{"config-linux.md, PIDs", "-1 is unlimited", "pids", []string{"pids.max max"}, []string{"pids.max max"}, "", func(r *specs.LinuxResources) { r.Pids = &specs.LinuxPids{Limit: new(int64(-1))} }},
		{
			"config-linux.md, Block IO", "throttled bytes and operations, of reads and writes", "blkio",
			[]string{
				"blkio.throttle.read_bps_device " + numbers + " 1048576", "blkio.throttle.write_bps_device " + numbers + " 1048576",
				"blkio.throttle.read_iops_device " + numbers + " 1048576", "blkio.throttle.write_iops_device " + numbers + " 1048576",
			},
			[]string{"io.max " + numbers + " rbps=1048576 wbps=1048576 riops=1048576 wiops=1048576"},
			"",
			blockIO(specs.LinuxBlockIO{ThrottleReadBpsDevice: all, ThrottleWriteBpsDevice: all, ThrottleReadIOPSDevice: all, ThrottleWriteIOPSDevice: all}),
		},
		{"config-linux.md, Block IO", "weight", "blkio", []string{"blkio.bfq.weight 500"}, []string{weightV2}, weightNeeds, blockIO(specs.LinuxBlockIO{Weight: new(uint16(500))})},
		{"config-linux.md, Block IO", "leafWeight, which no kernel has any more", "blkio", nil, nil, "", blockIO(specs.LinuxBlockIO{LeafWeight: new(uint16(500))})},
		{
			"config-linux.md, Huge page limits", "of what is used, and what is reserved", "hugetlb",
			[]string{"hugetlb.2MB.limit_in_bytes 4194304", "hugetlb.2MB.rsvd.limit_in_bytes 4194304"},
			[]string{"hugetlb.2MB.max 4194304", "hugetlb.2MB.rsvd.max 4194304"},
			"kernel/mm/hugepages/hugepages-2048kB",
			func(r *specs.LinuxResources) {
				r.HugepageLimits = []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}}
			},
		},
		{"config-linux.md, Network", "classID", "net_cls", []string{"net_cls.classid 1048577"}, nil, "", network(specs.LinuxNetwork{ClassID: new(uint32(1<<20 + 1))})},
		{
			"config-linux.md, Network", "priorities", "net_prio",
			[]string{"net_prio.ifpriomap lo 5"},
			nil, "",
			network(specs.LinuxNetwork{Priorities: []specs.LinuxInterfacePriority{{Name: "lo", Priority: 5}}}),
		},
		{
			"config-linux.md, RDMA", "of a device that the host does not have", "rdma", nil, nil, "",
			func(r *specs.LinuxResources) {
				r.Rdma = map[string]specs.LinuxRdma{"nosuch": {HcaHandles: new(uint32(3))}}
			},
		},
		{
			"config-linux.md, Unified", "files of controllers, and files that a runtime knows nothing of", "", nil,
			[]string{"memory.high 67108864", "cgroup.max.descendants 7"},
			"",
			func(r *specs.LinuxResources) {
				r.Unified = map[string]string{"memory.high": "67108864", "cgroup.max.descendants": "7"}
			},
		},
		{
			"config-linux.md, Unified", "a controller that is not there", "", nil, nil, "",
			func(r *specs.LinuxResources) { r.Unified = map[string]string{"nosuch.max": "1"} },
		},
	}
}

// resources are config-linux.md, from "Control groups" to "Unified".
func resources() (list []must) {
	for _, l := range limits() {
		list = append(list, l.must())
	}
	return append(list, groups...)
}

func listed(last bool) func(*specs.Spec) {
	return func(s *specs.Spec) {
		for _, allow := range []bool{!last, last} {
			s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, specs.LinuxDeviceCgroup{Allow: allow, Type: "c", Major: new(int64(1)), Minor: new(int64(11)), Access: "rwm"})
		}
	}
}

const tryKmsg = "mknod /tmp/kmsg c 1 11; (: >/tmp/kmsg) 2>&1 | grep -o 'not permitted' || echo allowed"

// occupied has another process be in the container's cgroup.
func occupied(b *box) error {
	dir := b.place("pids")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	pid, stop, err := other(0)
	if err != nil {
		return err
	}
	defer stop()
	return all(os.WriteFile(dir+"/cgroup.procs", []byte(strconv.Itoa(pid)), 0), b.refuses("create", "--bundle", b.dir, b.id()), b.refuses("state", b.id()))
}

// narrowed has a container use memory, and get a limit below that.
func narrowed(b *box) error {
	if err := all(b.create(), b.start()); err != nil {
		return err
	}
	for b.output() == "" {
		if err := b.is(specs.StateRunning); err != nil {
			return err
		}
	}
	text, err := json.Marshal(specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(8 << 20)), CheckBeforeUpdate: new(true)}})
	if err == nil {
		err = os.WriteFile(b.dir+"/limits.json", text, 0o600)
	}
	return all(err, b.refuses("update", "--resources", b.dir+"/limits.json", b.id()), b.is(specs.StateRunning))
}

// owned has a cgroup that is the user's to divide, and of the files that the
// kernel lists as such one that is not there.
func owned(b *box) (err error) {
	const list = "/sys/kernel/cgroup/delegate"
	other := b.dir + "/delegate"
	if err := errors.Join(os.WriteFile(other, []byte("cgroup.procs\nnosuch.file\n"), 0o600), unix.Mount(other, list, "", unix.MS_BIND, "")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Unmount(list, 0)) }()
	if err := b.create(); err != nil || !unifiedOnly() {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat(b.place("")+"/cgroup.procs", &st); err != nil || st.Uid != 1000 {
		return fmt.Errorf("cgroup.procs is that of user %d, %w", st.Uid, err)
	}
	return nil
}

// groups are those of cgroups themselves.
var groups = []must{
	{section: "config-linux.md, Allowed Device list", text: "what is not allowed can't be opened", edit: func(s *specs.Spec) {
		s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Access: "m"})
	}, script: "mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg 2>&1 | grep -o 'not permitted'", want: "not permitted"},
	{section: "config-linux.md, Allowed Device list", text: "entries are applied in the listed order: denied last", edit: listed(false), script: tryKmsg, want: "not permitted"},
	{section: "config-linux.md, Allowed Device list", text: "entries are applied in the listed order: allowed last", edit: listed(true), script: tryKmsg, want: "allowed"},
	{section: "config-linux.md, Cgroups Path", text: "absolute is below the mount of the hierarchy", script: "cat /proc/self/cgroup | cut -d: -f3 | sort | uniq | grep -c box-", want: "1"},
	{
		section: "config-linux.md, Cgroups Path", text: "the same is the same place, twice",
		check: func(b *box) (err error) {
			var places [2]string
			for i := range places {
				if err := b.create(); err != nil {
					return err
				}
				text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", b.pid))
				places[i] = string(text)
				err := b.start()
				_, e := b.ended()
				if err := all(err, e, b.run("delete", b.id())); err != nil {
					return err
				}
			}
			if places[0] != places[1] || !strings.Contains(places[0], b.cgroup()) {
				return fmt.Errorf("it is in %q", places)
			}
			return nil
		},
	},
	{section: "config-linux.md, Control groups", text: "one with a process in it is an error", check: occupied},
	{section: "config-linux.md, Block IO", text: "weightDevice", check: weighted},
	{section: "config-linux.md, Memory", text: "checkBeforeUpdate: a limit below what is used is an error", edit: func(s *specs.Spec) {
		s.Process.Args = []string{"sh", "-c", "dd if=/dev/zero of=/mnt/file bs=1M count=24 2>/dev/null; echo filled; exec sleep 1000"}
		mount()(s)
	}, check: narrowed},
	{section: "config-linux.md, Cgroup ownership", text: "a file that is not there is no error", edit: func(s *specs.Spec) {
		with(specs.LinuxNamespace{Type: specs.CgroupNamespace})(s)
		s.Process.User.UID = 1000
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup"})
	}, check: owned},
	{section: "config-linux.md, Memory Policy", text: "mode and nodes", edit: func(s *specs.Spec) {
		s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0"}
	}, script: "cut -d' ' -f2 /proc/self/numa_maps | head -n 1", want: "bind:0"},
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

// kernelMemory is a limit that the specification still has.
func kernelMemory(bytes int64) specs.LinuxMemory {
	//lint:ignore SA1019 deprecated, and still to be answered
	return specs.LinuxMemory{Kernel: &bytes} //nolint:staticcheck // the same, for another tool
}
