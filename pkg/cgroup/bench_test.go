package cgroup

import (
	"os"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

func BenchmarkDetect(b *testing.B) {
	for b.Loop() {
		if _, err := Detect(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCreate is what a container pays: directories, limits and the
// default device rules, and the removal of it all.
func BenchmarkCreate(b *testing.B) {
	l, err := Detect()
	if err != nil || os.Getuid() != 0 {
		b.Skip("needs root and cgroups: ", err)
	}
	g, err := l.Group("/minictr-bench")
	if err != nil {
		b.Fatal(err)
	}
	r := &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"},
		{Allow: true, Access: "m"},
	}}
	for _, minor := range []int64{3, 5, 7, 8, 9} {
		r.Devices = append(r.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: new(int64(1)), Minor: new(minor), Access: "rwm"})
	}
	if g.place("memory") != nil {
		r.Memory = &specs.LinuxMemory{Limit: new(int64(64 << 20))}
		r.Pids = &specs.LinuxPids{Limit: new(int64(100))}
	}
	least := map[string]time.Duration{} // of many: what a quiet machine needs
	lap := func(what string, since time.Time) time.Time {
		now := time.Now()
		if d := now.Sub(since); least[what] == 0 || d < least[what] {
			least[what] = d
		}
		return now
	}
	for b.Loop() {
		start := time.Now()
		steps := plan.New()
		if err := g.Create(steps, r); err != nil {
			b.Fatal(err)
		}
		start = lap("compile", start)
		run := &plan.Run{Fd: make(map[plan.Reg]int)}
		for _, s := range steps.Plan().Sections[0].Steps {
			if err := s.Act(run); err != nil {
				b.Fatal(err)
			}
		}
		start = lap("make", start)
		for _, fd := range run.Fd {
			_ = unix.Close(fd)
		}
		start = lap("close", start)
		if err := g.Delete(); err != nil {
			b.Fatal(err)
		}
		lap("remove", start)
	}
	for what, d := range least {
		b.ReportMetric(float64(d)/1e3, what+"-min-µs")
	}
}
