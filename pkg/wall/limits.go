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
		return nil, "no pressure is counted for it"
	}
	return p, fmt.Sprintf("pressure %.2f", p.Avg10)
}

// limits are those around the process and those around who looks.
type limits struct{ own, host cgroup.Limits }

func (p *process) around() (l limits, err error) {
	if l.own, err = cgroup.Around(p.pid); err == nil {
		l.host, err = cgroup.Around(os.Getpid())
	}
	return l, err
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
	l, err := p.limits()
	if err != nil {
		return b, err
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return b, os.NewSyscallError("sysinfo", err)
	}
	m := l.own.Memory
	pressure, waited := pressureOf(l.own, "memory")
	b.State = state(m.Max != cgroup.Unlimited, m.Dir, l.host.Memory.Dir)
	b.Host = "all of " + size(uint64(info.Totalram)*uint64(info.Unit))
	b.Facts = memoryFacts{factsOf(m), m.Hits, pressure}
	if b.State == Missing {
		b.Inside = "no limit; " + waited
		b.Means = "it can take all memory, and then the kernel kills whom it likes on the whole host"
	} else {
		b.Inside = fmt.Sprintf("at most %s, %s in use, %d killed; %s", size(m.Max), size(m.Used), m.Hits, waited)
		b.Means = "when it needs more, the kernel kills a process in this cgroup and none outside"
	}
	unseen(&b, l.own, "memory")
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
	l, err := p.limits()
	if err != nil {
		return b, err
	}
	q := l.own.CPU
	pressure, waited := pressureOf(l.own, "cpu")
	facts := cpuFacts{Throttled: q.Throttled, Periods: q.Periods, CPUs: l.own.CPUs, Pressure: pressure}
	b.State = state(q.Dir != "", q.Dir, l.host.CPU.Dir)
	b.Host = "processors " + l.host.CPUs
	if b.State == Missing {
		b.Inside = fmt.Sprintf("no quota, processors %s; %s", l.own.CPUs, waited)
		b.Means = "when others are idle it can use every one of these processors all the time"
	} else {
		facts.Quota, facts.Period = &q.Quota, &q.Period
		b.Inside = fmt.Sprintf("at most %.2f of processors %s, throttled in %d of %d periods; %s",
			float64(q.Quota)/float64(q.Period), l.own.CPUs, q.Throttled, q.Periods, waited)
		b.Means = "in each period it runs at full speed until its time is used up, and then not at all"
	}
	if l.own.CPUs != l.host.CPUs {
		b.State = Walled
	}
	b.Facts = facts
	unseen(&b, l.own, "cpu", "cpuset")
	return b, nil
}

type pidsFacts struct {
	limitFacts
	Refused uint64 `json:"refused"` // forks that failed for the limit
}

func pids(p *process) (Brick, error) {
	b := Brick{Name: "pids", Call: `write("pids.max")`}
	l, err := p.limits()
	if err != nil {
		return b, err
	}
	all, err := sys.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		return b, err
	}
	n := l.own.Pids
	b.State = state(n.Max != cgroup.Unlimited, n.Dir, l.host.Pids.Dir)
	b.Host = strings.TrimSpace(string(all)) + " numbers for all"
	b.Facts = pidsFacts{factsOf(n), n.Hits}
	if b.State == Missing {
		b.Inside = "no limit"
		b.Means = "a fork bomb in there takes the numbers and the memory of the whole host"
	} else {
		b.Inside = fmt.Sprintf("at most %d, %d there, %d forks refused", n.Max, n.Used, n.Hits)
		b.Means = "one process or thread more than this, and fork fails in there; the host does not notice"
	}
	unseen(&b, l.own, "pids")
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
	l, err := p.limits()
	if err != nil {
		return b, err
	}
	pressure, waited := pressureOf(l.own, "io")
	facts := ioFacts{Limits: []ioLimit{}, Pressure: pressure}
	var list []string
	for _, t := range l.own.IO {
		facts.Limits = append(facts.Limits, ioLimit{t.Device, t.Kind, t.Max})
		list = append(list, fmt.Sprintf("%s %s=%d", t.Device, t.Kind, t.Max))
		switch {
		case !slices.Contains(l.host.IO, t):
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
		b.Means = "its reads and direct writes on these disks are no faster; writes that the kernel puts off may be"
	}
	unseen(&b, l.own, "io", "blkio")
	return b, nil
}
