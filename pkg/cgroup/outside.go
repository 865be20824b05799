package cgroup

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Limits is what holds a process back. A limit of a cgroup binds all below it,
// so that of each kind the tightest on the way up to the root counts.
type Limits struct {
	Seen         []string // the controllers whose cgroup can be seen from here
	Memory, Pids Limit    // in bytes; in processes and threads
	CPU          Quota
	IO           []Throttle
	CPUs         string            // the processors of its cpuset: "0-3,6"
	Pressure     map[string]string // "memory", "cpu", "io": accounting/psi.rst; version 1 counts none per cgroup
}

// A Limit is the tightest of one kind.
type Limit struct {
	Dir       string // the cgroup that sets it; "" if none has such a limit
	Max, Used uint64 // Max can be Unlimited
	Hits      uint64 // processes that were killed for it, or forks that failed
}

// A Quota lets a cgroup run for so many microseconds in each period.
type Quota struct {
	Dir                string // "" without a quota
	Quota, Period      uint64
	Periods, Throttled uint64 // Throttled is how many of Periods used up the quota
}

// A Throttle limits the use of one block device.
type Throttle struct {
	Dir, Device string // "8:0"
	Kind        string // "rbps", "wbps", "riops", "wiops": bytes or operations a second
	Max         uint64
}

// Around reads the limits around any process, wherever its cgroups are below
// what is mounted here. A cgroup that lies outside of the caller's cgroup
// namespace can't be seen (cgroup_namespaces(7)).
func Around(pid int) (Limits, error) {
	a := Limits{Memory: Limit{Max: Unlimited}, Pids: Limit{Max: Unlimited}, Pressure: make(map[string]string)}
	l, err := detect(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return a, err
	}
	for _, h := range l.Hierarchies {
		if h.hidden {
			continue
		}
		a.Seen = append(a.Seen, h.Controllers...)
		c := counters{v2: h.V2}
		for dir := h.Mount + strings.TrimSuffix(h.Self, "/"); len(dir) >= len(h.Mount); dir = dir[:strings.LastIndexByte(dir, '/')] {
			own := c.dir == ""
			c.dir = dir
			a.tighten(&c, own)
		}
		if c.err != nil {
			return a, c.err
		}
	}
	return a, nil
}

// tighten takes what one cgroup adds; own is the process's own.
func (a *Limits) tighten(c *counters, own bool) {
	if c.v2 {
		a.Memory.tighten(c, "memory.max", "memory.current")
		for line := range strings.Lines(c.text("io.max")) {
			a.throttle(c, line)
		}
	} else {
		a.Memory.tighten(c, "memory.limit_in_bytes", "memory.usage_in_bytes")
	}
	a.Pids.tighten(c, "pids.max", "pids.current")
	a.CPU.tighten(c)
	if a.CPUs == "" {
		a.CPUs = strings.TrimSpace(c.text("cpuset.cpus.effective") + c.text("cpuset.effective_cpus"))
	}
	if own || c.v2 && c.dir == a.Pids.Dir { // version 2 counts where the limit stands since Linux 6.11; else it is where the fork was
		a.Pids.Hits = max(a.Pids.Hits, c.table("pids.events")["max"])
	}
	if c.v2 && c.dir == a.Memory.Dir {
		a.Memory.Hits = c.table("memory.events")["oom_kill"]
	}
	if !own {
		return
	}
	switch {
	case !c.v2:
		a.Memory.Hits += c.table("memory.oom_control")["oom_kill"]
		for _, kind := range [...][2]string{{"read_bps", "rbps"}, {"write_bps", "wbps"}, {"read_iops", "riops"}, {"write_iops", "wiops"}} {
			for line := range strings.Lines(c.text("blkio.throttle." + kind[0] + "_device")) { // it doesn't bind cgroups below
				a.throttle(c, strings.Replace(line, " ", " "+kind[1]+"=", 1))
			}
		}
	case c.text("cgroup.type") != "": // the root's pressure is the host's
		for _, controller := range [...]string{"memory", "cpu", "io"} {
			if text := c.text(controller + ".pressure"); text != "" {
				a.Pressure[controller] = text
			}
		}
	}
}

func (l *Limit) tighten(c *counters, limit, used string) {
	text := c.text(limit)
	if n := parseNumber(text); text != "" && (l.Dir == "" || n < l.Max) {
		l.Dir, l.Max, l.Used = c.dir, n, c.number(used)
	}
}

func (q *Quota) tighten(c *counters) {
	limit := strings.Fields(c.text("cpu.max"))
	if !c.v2 {
		limit = []string{strings.TrimSpace(c.text("cpu.cfs_quota_us")), c.text("cpu.cfs_period_us")}
	}
	if len(limit) < 2 {
		return
	}
	quota, err := strconv.ParseUint(limit[0], 10, 64) // "max" and -1 are none
	if period := parseNumber(limit[1]); err == nil && (q.Dir == "" || quota*q.Period < q.Quota*period) {
		stat := c.table("cpu.stat")
		*q = Quota{c.dir, quota, period, stat["nr_periods"], stat["nr_throttled"]}
	}
}

// throttle takes a line of version 2's io.max: "8:0 rbps=1048576 wbps=max".
func (a *Limits) throttle(c *counters, line string) {
	device, limits, _ := strings.Cut(line, " ")
	for word := range strings.FieldsSeq(limits) {
		kind, n, _ := strings.Cut(word, "=")
		t := Throttle{c.dir, device, kind, parseNumber(n)}
		i := slices.IndexFunc(a.IO, func(o Throttle) bool { return o.Device == device && o.Kind == kind })
		switch {
		case t.Max == Unlimited:
		case i < 0:
			a.IO = append(a.IO, t)
		case t.Max < a.IO[i].Max:
			a.IO[i] = t
		}
	}
}

// Guards are what is asked at each open and mknod of a device by a process.
type Guards struct {
	Listed   bool     // there is version 1's controller
	List     string   // its devices.list: "c 1:3 rwm"
	Hidden   bool     // List is AllDevices, below the root: there may be exceptions to that, and the kernel shows none
	Programs [][]byte // version 2's, of the cgroup and those above: all must let an access through
}

// AllDevices is the devices.list of a cgroup of version 1 that allows them all, or all but some.
const AllDevices = "a *:* rwm\n"

// DeviceGuards reads them. The error wraps ErrPath if a cgroup of the process
// can't be seen from here, and EPERM without the capabilities that bpf(2) wants.
func DeviceGuards(pid int) (g Guards, err error) {
	l, err := detect(fmt.Sprintf("/proc/%d/cgroup", pid))
	for _, h := range l.Hierarchies {
		guards := h.V2 || slices.Contains(h.Controllers, "devices")
		switch {
		case err != nil || !guards:
		case h.hidden:
			err = fmt.Errorf("%w: it is outside of what is mounted at %s", ErrPath, h.Mount)
		case h.V2:
			g.Programs, err = programs(h.Mount + h.Self)
		default:
			g.Listed = true
			g.List, err = read(h.Mount + h.Self + "/devices.list")
			_, root := os.Lstat(h.Mount + h.Self + "/release_agent") // the root alone has it
			g.Hidden = g.List == AllDevices && root != nil
		}
	}
	return g, err
}
