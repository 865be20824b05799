package main

import (
	"maps"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"github.com/spf13/pflag"

	"github.com/minictr/minictr/pkg/cgroup"
	"github.com/minictr/minictr/pkg/namespace"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/spec"
)

// featuresCommand prints what this program can do, wherever it runs:
// features.md of the runtime specification.
func featuresCommand(*pflag.FlagSet) action {
	return func(c *call) error {
		if err := c.exactly(0, ""); err != nil {
			return err
		}
		yes, no := true, false
		return writeJSON(c.stdout, &features.Features{
			OCIVersionMin: "1.0.0",
			OCIVersionMax: specs.Version,
			Hooks:         []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"},
			MountOptions:  namespace.Options(),
			// The limits are taken away; systemd is told of what else a unit has.
			PotentiallyUnsafeConfigAnnotations: []string{spec.Unlimited, cgroup.PropertyPrefix},
			Linux: &features.Linux{
				Namespaces:   namespace.Kinds(),
				Capabilities: plan.CapNames[:],
				Cgroup:       &features.Cgroup{V1: &yes, V2: &yes, Systemd: &yes, SystemdUser: &yes, Rdma: &yes},
				Seccomp: &features.Seccomp{
					Enabled: &yes,
					Actions: words([]string{
						string(specs.ActAllow), string(specs.ActErrno), string(specs.ActKill), string(specs.ActKillProcess),
						string(specs.ActKillThread), string(specs.ActLog), string(specs.ActNotify), string(specs.ActTrace), string(specs.ActTrap),
					}),
					Operators: []string{
						string(specs.OpEqualTo), string(specs.OpGreaterEqual), string(specs.OpGreaterThan), string(specs.OpLessEqual),
						string(specs.OpLessThan), string(specs.OpMaskedEqual), string(specs.OpNotEqual),
					},
					Archs:          []string{string(specs.ArchAARCH64), string(specs.ArchARM), string(specs.ArchX32), string(specs.ArchX86), string(specs.ArchX86_64)},
					KnownFlags:     seccompFlags,
					SupportedFlags: seccompFlags,
				},
				Apparmor:        &features.Apparmor{Enabled: &yes},
				Selinux:         &features.Selinux{Enabled: &yes},
				IntelRdt:        &features.IntelRdt{Enabled: &no},
				MemoryPolicy:    &features.MemoryPolicy{Modes: plan.MemoryPolicyNames[:], Flags: slices.Sorted(maps.Keys(plan.MemoryFlags))},
				MountExtensions: &features.MountExtensions{IDMap: &features.IDMap{Enabled: &yes}},
				NetDevices:      &features.NetDevices{Enabled: &yes},
			},
		})
	}
}

var seccompFlags = []string{
	"SECCOMP_FILTER_FLAG_TSYNC", string(specs.LinuxSeccompFlagSpecAllow), string(specs.LinuxSeccompFlagLog), string(specs.LinuxSeccompFlagWaitKillableRecv),
}

// An event is a line of what events prints, as runc does.
type event struct {
	Type string `json:"type"`
	ID   string `json:"id"`
	Data any    `json:"data,omitempty"`
}

type (
	usage struct {
		Limit   uint64 `json:"limit"`
		Usage   uint64 `json:"usage"`
		Max     uint64 `json:"max"`
		Failcnt uint64 `json:"failcnt"`
	}
	cpuTime struct {
		Total  uint64 `json:"total"`
		Kernel uint64 `json:"kernel"`
		User   uint64 `json:"user"`
	}
	throttling struct {
		Periods          uint64 `json:"periods"`
		ThrottledPeriods uint64 `json:"throttledPeriods"`
		ThrottledTime    uint64 `json:"throttledTime"`
	}
	blockIO struct {
		Major uint64 `json:"major"`
		Minor uint64 `json:"minor"`
		Op    string `json:"op"`
		Value uint64 `json:"value"`
	}
	statistics struct {
		CPU struct {
			Usage      cpuTime    `json:"usage"`
			Throttling throttling `json:"throttling"`
		} `json:"cpu"`
		Memory struct {
			Cache uint64            `json:"cache"`
			Usage usage             `json:"usage"`
			Swap  usage             `json:"swap"`
			Raw   map[string]uint64 `json:"raw"`
		} `json:"memory"`
		Pids struct {
			Current uint64 `json:"current"`
			Limit   uint64 `json:"limit,omitempty"`
		} `json:"pids"`
		Blkio struct {
			Bytes      []blockIO `json:"ioServiceBytesRecursive,omitempty"`
			Operations []blockIO `json:"ioServicedRecursive,omitempty"`
		} `json:"blkio"`
		Hugetlb struct{} `json:"hugetlb"`
	}
)

// statsOf puts the counters of a cgroup into the words of runc's events.
func statsOf(s cgroup.Stats) (out statistics) {
	out.CPU.Usage = cpuTime{uint64(s.CPU.Usage), uint64(s.CPU.System), uint64(s.CPU.User)} // nanoseconds
	out.CPU.Throttling = throttling{s.CPU.Periods, s.CPU.Throttled, uint64(s.CPU.Waited)}
	m := s.Memory
	out.Memory.Cache, out.Memory.Raw = m.Cache, m.Stat
	out.Memory.Usage = usage{m.Limit, m.Usage, m.Peak, m.Refused}
	out.Memory.Swap = usage{Limit: m.SwapLimit, Usage: m.Usage + m.Swap}
	if out.Pids.Current = s.Pids.Current; s.Pids.Limit != cgroup.Unlimited {
		out.Pids.Limit = s.Pids.Limit
	}
	for _, d := range s.IO {
		out.Blkio.Bytes = append(out.Blkio.Bytes, blockIO{d.Major, d.Minor, "Read", d.ReadBytes}, blockIO{d.Major, d.Minor, "Write", d.WriteBytes})
		out.Blkio.Operations = append(out.Blkio.Operations, blockIO{d.Major, d.Minor, "Read", d.Reads}, blockIO{d.Major, d.Minor, "Write", d.Writes})
	}
	return out
}
