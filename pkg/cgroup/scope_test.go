package cgroup

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestScope(t *testing.T) {
	v2 := hosts["v2"]
	v2.own = "0::/init.scope\n"
	for path, want := range map[string]string{
		"":                         "/sys/fs/cgroup/system.slice/minictr-ID.scope",
		":crio:x":                  "/sys/fs/cgroup/system.slice/crio-x.scope",
		"a-b.slice::x":             "/sys/fs/cgroup/a.slice/a-b.slice/x.scope",
		"-.slice:p:x":              "/sys/fs/cgroup/p-x.scope",
		"kubepods-pod1_2.slice:c:": `expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "kubepods-pod1_2.slice:c:" instead`,
		"/a/b":                     "expected cgroupsPath",
		"a.slice:p:x/y":            "expected cgroupsPath",
		"a:p:x":                    `invalid slice name: "a"`,
		"a--b.slice:p:x":           "invalid slice name",
		".slice:p:x":               "invalid slice name",
	} {
		g, err := v2.layout().Scope(path, "ID")
		switch {
		case err != nil && (strings.HasPrefix(want, "/") || !errors.Is(err, ErrPath) || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, not %q", path, err, want)
		case err == nil && g.Places[0].Dir != want:
			t.Errorf("%q: %s, not %s", path, g.Places[0].Dir, want)
		}
	}
}

func TestLimitProperties(t *testing.T) {
	limit, swap, quota, period, shares := int64(1<<30), int64(3<<29), int64(12_345), uint64(50_000), uint64(1024)
	r := &specs.LinuxResources{
		Memory:  &specs.LinuxMemory{Limit: &limit, Swap: &swap},
		CPU:     &specs.LinuxCPU{Quota: &quota, Period: &period, Shares: &shares, Cpus: "0-2,9", Mems: "0"},
		Unified: map[string]string{"memory.high": "max", "io.weight": "default 50"},
	}
	// 12,345 of 50,000 µs are 24.69 %, and systemd counts whole ones.
	for kind, want := range map[string]string{
		"v2": "[MemoryMax=1073741824, MemorySwapMax=536870912, CPUWeight=100, AllowedCPUs=[7 2], AllowedMemoryNodes=[1], " +
			"IOWeight=50, MemoryHigh=18446744073709551615, CPUQuotaPeriodUSec=50000, CPUQuotaPerSecUSec=250000]",
		"hybrid": "[MemoryLimit=1073741824, CPUShares=1024, AllowedCPUs=[7 2], AllowedMemoryNodes=[1], CPUQuotaPeriodUSec=50000, CPUQuotaPerSecUSec=250000]",
	} {
		g, err := hosts[kind].layout().Scope("", "ID")
		if err != nil {
			t.Fatal(err)
		}
		if kind == "hybrid" {
			r.Unified = nil
		}
		if list, err := g.LimitProperties(r); err != nil || Names(list) != want {
			t.Errorf("%s:\n%s, %v\nwanted\n%s", kind, Names(list), err, want)
		}
		r.Unified = map[string]string{"memory.high": "max", "io.weight": "default 50"}
	}
	quota = -1
	g, _ := hosts["v2"].layout().Scope("", "ID")
	list, err := g.LimitProperties(&specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &quota}})
	if want := fmt.Sprintf("[CPUQuotaPerSecUSec=%d]", unlimited); err != nil || Names(list) != want {
		t.Errorf("%s, %v, not %s", Names(list), err, want)
	}
}
