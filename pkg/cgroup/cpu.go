package cgroup

import (
	"math"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// The cpu controller: scheduler/sched-bwc.rst, and "CPU" in
// admin-guide/cgroup-v2.rst. All times are in microseconds; 0 leaves the
// value as it is.

const cpuPointer = "/linux/resources/cpu/"

const (
	whyShares = "when the processors are busy, they are divided in this proportion"
	whyQuota  = "per period, the processors run this long for the cgroup, and then no more"
	whyPeriod = "how long the period is, after which the quota begins again"
	whyBurst  = "so much of the time that earlier periods left may be used on top"
	whyIdle   = "1 lets the cgroup run only while no other wants to"
)

func cpu(r *specs.LinuxResources, v2 bool) ([]setting, error) {
	c := r.CPU
	if c == nil {
		return nil, nil
	}
	if quota := value(c.Quota); quota > 0 && value(c.Burst) > uint64(quota) {
		return nil, invalid(cpuPointer+"burst", "%d is more than the quota (%d)", *c.Burst, quota)
	}
	if idle := value(c.Idle); idle != 0 && idle != 1 {
		return nil, invalid(cpuPointer+"idle", "%d is neither 0 nor 1", idle)
	}
	if v2 {
		return cpuV2(c)
	}
	return cpuV1(c), nil
}

func cpuV1(c *specs.LinuxCPU) []setting {
	var list []setting
	add := func(name, file string, n uint64, why string) {
		if n != 0 {
			list = append(list, setting{pointer: cpuPointer + name, file: file, value: strconv.FormatUint(n, 10), why: why})
		}
	}
	add("shares", "cpu.shares", value(c.Shares), whyShares)
	add("period", "cpu.cfs_period_us", value(c.Period), whyPeriod)
	if quota := value(c.Quota); quota != 0 {
		list = append(list, setting{pointer: cpuPointer + "quota", file: "cpu.cfs_quota_us", value: strconv.FormatInt(max(quota, -1), 10), why: whyQuota})
	}
	add("burst", "cpu.cfs_burst_us", value(c.Burst), whyBurst)
	add("realtimePeriod", "cpu.rt_period_us", value(c.RealtimePeriod), "the same for real-time threads: the length of their period")
	if n := value(c.RealtimeRuntime); n != 0 {
		list = append(list, setting{pointer: cpuPointer + "realtimeRuntime", file: "cpu.rt_runtime_us", value: strconv.FormatInt(n, 10), why: "real-time threads may run this long per period"})
	}
	return append(list, idle(c)...)
}

func cpuV2(c *specs.LinuxCPU) ([]setting, error) {
	switch {
	case value(c.RealtimePeriod) != 0:
		return nil, onlyV1(cpuPointer + "realtimePeriod")
	case value(c.RealtimeRuntime) != 0:
		return nil, onlyV1(cpuPointer + "realtimeRuntime")
	}
	var list []setting
	if shares := value(c.Shares); shares != 0 {
		list = append(list, setting{pointer: cpuPointer + "shares", file: "cpu.weight", value: strconv.FormatUint(weight(shares), 10), why: whyShares})
	}
	quota, period := value(c.Quota), value(c.Period)
	switch {
	case period != 0:
		pointer, why := cpuPointer+"quota", whyQuota
		limit := orMax(quota)
		if quota == 0 {
			pointer, why, limit = cpuPointer+"period", whyPeriod, "max"
		}
		list = append(list, setting{pointer: pointer, file: "cpu.max", value: limit + " " + strconv.FormatUint(period, 10), why: why})
	case quota != 0: // alone, it leaves the period as it is
		list = append(list, setting{pointer: cpuPointer + "quota", file: "cpu.max", value: orMax(quota), why: whyQuota})
	}
	if burst := value(c.Burst); burst != 0 {
		list = append(list, setting{pointer: cpuPointer + "burst", file: "cpu.max.burst", value: strconv.FormatUint(burst, 10), why: whyBurst})
	}
	return append(list, idle(c)...), nil
}

// idle comes last: the kernel takes no shares for an idle cgroup.
func idle(c *specs.LinuxCPU) []setting {
	if c.Idle == nil {
		return nil
	}
	return []setting{{pointer: cpuPointer + "idle", file: "cpu.idle", value: strconv.FormatInt(*c.Idle, 10), why: whyIdle}}
}

// weight is the cpu.weight (1 to 10000) of version 2 for the cpu.shares (2 to
// 262144) of version 1. It is the curve through the minimum, the default
// (1024 is 100) and the maximum of both, on which Kubernetes (KEP-2254), crun
// 1.23 and runc 1.3.2 agree; with l the binary logarithm of the shares it is
// 10 to the power of (l² + 125 l)/612 − 7/34, rounded up. The straight line
// used before gave 39 for the default of 1024.
func weight(shares uint64) uint64 {
	switch {
	case shares <= 2:
		return 1
	case shares >= 262144:
		return 10000
	}
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}
