package cgroup

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Stats is what the kernel has counted for a cgroup and those below it. What
// its version or its mounted controllers do not count is zero.
type Stats struct {
	CPU    CPUStats
	Memory MemoryStats
	Pids   PidsStats
	IO     []IOStats // by device, in ascending order
}

// Unlimited is the value of a limit that is not set.
const Unlimited = math.MaxUint64

// CPUStats counts processor time, as the sum over all processors.
type CPUStats struct {
	Usage, User, System time.Duration

	Periods   uint64        // periods in which the cgroup wanted to run under a quota
	Throttled uint64        // how many of them used up the quota
	Waited    time.Duration // how long threads then waited, all together
}

// MemoryStats counts bytes.
type MemoryStats struct {
	Usage, Peak, Limit uint64 // Peak is the most that Usage has been

	Cache     uint64 // pages of files, also of tmpfs
	Anonymous uint64 // pages of no file: heaps and stacks
	Swap      uint64 // what lies in swap space
	SwapLimit uint64 // of swap alone (v2), of memory and swap together (v1)

	Refused  uint64 // how often the limit was hit
	OOMKills uint64 // processes that the kernel killed for memory

	Stat map[string]uint64 // memory.stat as it is; most are bytes
}

// PidsStats counts processes and threads.
type PidsStats struct {
	Current, Limit uint64
	Refused        uint64 // forks that failed for the limit
}

// IOStats counts what was read from and written to one block device.
type IOStats struct {
	Major, Minor          uint64
	ReadBytes, WriteBytes uint64
	Reads, Writes         uint64 // operations
}

// Stats reads the statistics. It fails with ENOENT if the cgroup is gone.
func (g Group) Stats() (Stats, error) {
	var s Stats
	var c counters
	for _, p := range g.Places {
		c.dir, c.v2 = p.Dir, p.V2
		s.CPU.read(&c)
		s.Memory.read(&c)
		s.Pids.read(&c)
		s.IO = append(s.IO, c.io()...)
	}
	if !c.found && c.err == nil {
		c.err = &FileError{Op: "open", Path: c.dir, Err: unix.ENOENT}
	}
	return s, c.err
}

// OOMKills is how many processes of the cgroup the kernel has killed because
// memory came to its limit.
func (g Group) OOMKills() (uint64, error) {
	p := g.place("memory")
	if p == nil {
		return 0, nil
	}
	file := "memory.oom_control"
	if p.V2 {
		file = "memory.events"
	}
	text, err := read(p.Dir + "/" + file)
	return parseTable(text)["oom_kill"], err
}

// read takes what this hierarchy knows: a controller that is not in it has no
// files, and changes nothing.
func (s *CPUStats) read(c *counters) {
	stat := c.table("cpu.stat")
	if c.v2 {
		if usage, ok := stat["usage_usec"]; ok && s.Usage == 0 {
			s.Usage = time.Duration(usage) * time.Microsecond
			s.User = time.Duration(stat["user_usec"]) * time.Microsecond
			s.System = time.Duration(stat["system_usec"]) * time.Microsecond
		}
	} else if usage := c.number("cpuacct.usage"); usage > 0 {
		s.Usage = time.Duration(usage)
		s.User = time.Duration(c.number("cpuacct.usage_user"))
		s.System = time.Duration(c.number("cpuacct.usage_sys"))
	}
	if periods, ok := stat["nr_periods"]; ok && s.Periods == 0 {
		s.Periods = periods
		s.Throttled = stat["nr_throttled"]
		s.Waited = time.Duration(stat["throttled_time"])*time.Nanosecond + time.Duration(stat["throttled_usec"])*time.Microsecond
	}
}

func (s *MemoryStats) read(c *counters) {
	stat := c.table("memory.stat")
	if stat == nil {
		return
	}
	s.Stat = stat
	if c.v2 {
		events := c.table("memory.events")
		s.Usage, s.Peak, s.Limit = c.number("memory.current"), c.number("memory.peak"), c.number("memory.max")
		s.Cache, s.Anonymous = stat["file"], stat["anon"]
		s.Swap, s.SwapLimit = c.number("memory.swap.current"), c.number("memory.swap.max")
		s.Refused, s.OOMKills = events["max"], events["oom_kill"]
		return
	}
	s.Usage, s.Peak, s.Limit = c.number("memory.usage_in_bytes"), c.number("memory.max_usage_in_bytes"), c.number("memory.limit_in_bytes")
	s.Cache, s.Anonymous = stat["total_cache"], stat["total_rss"]
	s.Swap, s.SwapLimit = stat["total_swap"], c.number("memory.memsw.limit_in_bytes")
	s.Refused, s.OOMKills = c.number("memory.failcnt")+c.number("memory.memsw.failcnt"), c.table("memory.oom_control")["oom_kill"]
}

func (s *PidsStats) read(c *counters) {
	events := c.table("pids.events")
	if events == nil {
		return
	}
	s.Current, s.Limit, s.Refused = c.number("pids.current"), c.number("pids.max"), events["max"]
}

// io reads "8:0 rbytes=1 wbytes=2 rios=3 wios=4" of version 2, or "8:0 Read 1"
// of version 1.
func (c *counters) io() []IOStats {
	var devices []IOStats
	device := func(name string) *IOStats {
		major, minor, ok := strings.Cut(name, ":")
		if !ok {
			return &IOStats{} // the line of the total
		}
		d := IOStats{Major: parseNumber(major), Minor: parseNumber(minor)}
		i := slices.IndexFunc(devices, func(o IOStats) bool { return o.Major == d.Major && o.Minor == d.Minor })
		if i < 0 {
			i, devices = len(devices), append(devices, d)
		}
		return &devices[i]
	}
	for line := range strings.Lines(c.text("io.stat")) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		d := device(words[0])
		for _, word := range words[1:] {
			key, n, _ := strings.Cut(word, "=")
			d.count(key, parseNumber(n))
		}
	}
	for _, file := range [...]struct{ name, read, write string }{
		{"blkio.throttle.io_service_bytes_recursive", "rbytes", "wbytes"},
		{"blkio.throttle.io_serviced_recursive", "rios", "wios"},
	} {
		if c.v2 {
			break
		}
		for line := range strings.Lines(c.text(file.name)) {
			switch words := strings.Fields(line); {
			case len(words) == 3 && words[1] == "Read":
				device(words[0]).count(file.read, parseNumber(words[2]))
			case len(words) == 3 && words[1] == "Write":
				device(words[0]).count(file.write, parseNumber(words[2]))
			}
		}
	}
	slices.SortFunc(devices, func(a, b IOStats) int { return int(a.Major<<20+a.Minor) - int(b.Major<<20+b.Minor) })
	return devices
}

func (d *IOStats) count(key string, n uint64) {
	switch key {
	case "rbytes":
		d.ReadBytes = n
	case "wbytes":
		d.WriteBytes = n
	case "rios":
		d.Reads = n
	case "wios":
		d.Writes = n
	}
}

// counters reads files of one directory after another, and keeps the first
// error that is not just a missing file.
type counters struct {
	dir   string
	v2    bool
	found bool
	err   error
}

func (c *counters) text(file string) string {
	text, err := read(c.dir + "/" + file)
	switch {
	case err == nil:
		c.found = true
	case !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EOPNOTSUPP) && c.err == nil:
		c.err = err
	}
	return text
}

func (c *counters) number(file string) uint64 { return parseNumber(c.text(file)) }

// table reads lines of a word and a number, nil if there are none.
func (c *counters) table(file string) map[string]uint64 { return parseTable(c.text(file)) }

func parseTable(text string) map[string]uint64 {
	var table map[string]uint64
	for line := range strings.Lines(text) {
		if key, n, ok := strings.Cut(line, " "); ok {
			if table == nil {
				table = make(map[string]uint64)
			}
			table[key] = parseNumber(n)
		}
	}
	return table
}

// unlimitedV1 is the memory limit that version 1 shows when there is none:
// the largest number of bytes that is a whole page.
const unlimitedV1 = math.MaxInt64 &^ 4095

func parseNumber(text string) uint64 {
	text = strings.TrimSpace(text)
	n, err := strconv.ParseUint(text, 10, 64)
	if text == "max" || err == nil && n >= unlimitedV1&^0xffff {
		return Unlimited // with pages of 64 KiB, version 1 shows a little less
	}
	return n
}
