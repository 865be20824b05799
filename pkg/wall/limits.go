package wall

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/cgroup"
	"github.com/minictr/minictr/pkg/sys"
)

// A pressure is the share of the last 10, 60 and 300 seconds, in percent, in
// which some task of the cgroup waited: accounting/psi.rst.
type pressure struct {
	Avg10  float64 `json:"avg10"`
	Avg60  float64 `json:"avg60"`
	Avg300 float64 `json:"avg300"`
}

// pressureOf is nil where the kernel counts none for the cgroup: in version 1,
// in the root, and where it is switched off.
func pressureOf(l cgroup.Limits, controller string) (p *pressure, text string) {
	p = new(pressure)
	if _, err := fmt.Sscanf(l.Pressure[controller], "some avg10=%f avg60=%f avg300=%f", &p.Avg10, &p.Avg60, &p.Avg300); err != nil {
		return nil, "pressure is counted for the host alone"
	}
	return p, fmt.Sprintf("pressure %.2f", p.Avg10)
}

// limits are those around the process and those around who looks.
func (p *process) limits() (own, host cgroup.Limits, err error) {
	if own, err = cgroup.Around(p.pid); err == nil {
		host, err = cgroup.Around(os.Getpid())
	}
	return own, host, err
}

// unseen changes the brick of a controller whose cgroups can't be seen.
func unseen(b *Brick, l cgroup.Limits, controllers ...string) {
	if !slices.ContainsFunc(controllers, func(c string) bool { return slices.Contains(l.Seen, c) }) {
		b.State, b.Facts = Unknown, nil
		b.Inside = "no " + controllers[0] + " controller that can be seen from here has a cgroup of it"
		b.Means = "whether it has a limit can't be told"
	}
}

// state is what a limit at one cgroup does, if the one who looks has his at
// another, or none.
func state(stands bool, dir, host string) State {
	switch {
	case !stands:
		return Missing
	case dir == host:
		return Shared
	}
	return Walled
}

type limitFacts struct {
	Limit *uint64 `json:"limit"` // null without a limit
	Used  *uint64 `json:"used"`  // of the cgroup with the limit; null if the kernel doesn't count it
}

func factsOf(l cgroup.Limit) (f limitFacts) {
	if l.Max != cgroup.Unlimited {
		f.Limit = &l.Max
	}
	if l.Dir != "" {
		f.Used = &l.Used
	}
	return f
}

type memoryFacts struct {
	limitFacts
	OOMKills uint64    `json:"oom_kills"`
	Pressure *pressure `json:"pressure"`
}

func memory(p *process) (Brick, error) {
	b := Brick{Name: "memory", Call: `write("memory.max")`}
	own, host, err := p.limits()
	if err != nil {
		return b, err
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return b, os.NewSyscallError("sysinfo", err)
	}
	l := own.Memory
	pressure, waited := pressureOf(own, "memory")
	b.State = state(l.Max != cgroup.Unlimited, l.Dir, host.Memory.Dir)
	b.Host = "all of " + size(uint64(info.Totalram)*uint64(info.Unit))
	b.Facts = memoryFacts{factsOf(l), l.Hits, pressure}
	if b.State == Missing {
		b.Inside = "no limit; " + waited
		b.Means = "it can take all memory, and then the kernel kills whom it likes on the whole host"
	} else {
		b.Inside = fmt.Sprintf("at most %s, %s in use, %d killed; %s", size(l.Max), size(l.Used), l.Hits, waited)
		b.Means = "when it needs more, the kernel kills a process in this cgroup and none outside"
	}
	unseen(&b, own, "memory")
	return b, nil
}

// size is a number of bytes for people.
func size(n uint64) string {
	f, unit := float64(n)/(1<<10), 0
	for ; f >= 1024 && unit < 4; unit++ {
		f /= 1024
	}
	return strconv.FormatFloat(f, 'f', 1, 64) + " " + [...]string{"KiB", "MiB", "GiB", "TiB", "PiB"}[unit]
}

type cpuFacts struct {
	Quota     *uint64   `json:"quota"`  // µs of each period; null without a quota
	Period    *uint64   `json:"period"` // µs
	Throttled uint64    `json:"throttled"`
	Periods   uint64    `json:"periods"`
	CPUs      string    `json:"cpus"` // those of its cpuset: "0-3"
	Pressure  *pressure `json:"pressure"`
}

func cpu(p *process) (Brick, error) {
	b := Brick{Name: "cpu", Call: `write("cpu.max")`}
	own, host, err := p.limits()
	if err != nil {
		return b, err
	}
	q := own.CPU
	pressure, waited := pressureOf(own, "cpu")
	facts := cpuFacts{Throttled: q.Throttled, Periods: q.Periods, CPUs: own.CPUs, Pressure: pressure}
	b.State = state(q.Dir != "", q.Dir, host.CPU.Dir)
	b.Host = "processors " + host.CPUs
	if b.State == Missing {
		b.Inside = fmt.Sprintf("no quota, processors %s; %s", own.CPUs, waited)
		b.Means = "when others are idle it can use every one of these processors all the time"
	} else {
		facts.Quota, facts.Period = &q.Quota, &q.Period
		b.Inside = fmt.Sprintf("at most %.2f of processors %s, throttled in %d of %d periods; %s",
			float64(q.Quota)/float64(q.Period), own.CPUs, q.Throttled, q.Periods, waited)
		b.Means = "in each period it runs at full speed until its time is used up, and then not at all"
	}
	if own.CPUs != host.CPUs {
		b.State = Walled
	}
	b.Facts = facts
	unseen(&b, own, "cpu", "cpuset")
	return b, nil
}

type pidsFacts struct {
	limitFacts
	Refused uint64 `json:"refused"` // forks that failed for the limit
}

func pids(p *process) (Brick, error) {
	b := Brick{Name: "pids", Call: `write("pids.max")`}
	own, host, err := p.limits()
	if err != nil {
		return b, err
	}
	all, err := sys.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		return b, err
	}
	l := own.Pids
	b.State = state(l.Max != cgroup.Unlimited, l.Dir, host.Pids.Dir)
	b.Host = strings.TrimSpace(string(all)) + " numbers for all"
	b.Facts = pidsFacts{factsOf(l), l.Hits}
	if b.State == Missing {
		b.Inside = "no limit"
		b.Means = "a fork bomb in there takes the numbers and the memory of the whole host"
	} else {
		b.Inside = fmt.Sprintf("at most %d, %d there, %d forks refused", l.Max, l.Used, l.Hits)
		b.Means = "one process or thread more than this, and fork fails in there; the host does not notice"
	}
	unseen(&b, own, "pids")
	return b, nil
}

type ioFacts struct {
	Limits   []ioLimit `json:"limits"`
	Pressure *pressure `json:"pressure"`
}

type ioLimit struct {
	Device string `json:"device"` // "8:0"
	Kind   string `json:"kind"`   // as io.max has it: "rbps", "wbps", "riops", "wiops"
	Max    uint64 `json:"max"`    // bytes or operations a second
}

func disks(p *process) (Brick, error) {
	b := Brick{Name: "io", State: Missing, Host: "no limit", Call: `write("io.max")`}
	own, host, err := p.limits()
	if err != nil {
		return b, err
	}
	pressure, waited := pressureOf(own, "io")
	facts := ioFacts{Limits: []ioLimit{}, Pressure: pressure}
	var list []string
	for _, t := range own.IO {
		facts.Limits = append(facts.Limits, ioLimit{t.Device, t.Kind, t.Max})
		list = append(list, fmt.Sprintf("%s %s=%d", t.Device, t.Kind, t.Max))
		switch {
		case !slices.Contains(host.IO, t):
			b.State = Walled
		case b.State == Missing:
			b.State = Shared
		}
	}
	b.Facts = facts
	if b.State == Missing {
		b.Inside = "no limit; " + waited
		b.Means = "it can use a disk as fast as the disk is, and others wait"
	} else {
		b.Inside = fmt.Sprintf("at most %s; %s", strings.Join(list, ", "), waited)
		b.Means = "it can't use these disks faster, whatever it does"
	}
	unseen(&b, own, "io", "blkio")
	return b, nil
}
