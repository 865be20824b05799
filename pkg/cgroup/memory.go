package cgroup

import (
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// The memory controller: admin-guide/cgroup-v1/memory.rst, and "Memory" in
// admin-guide/cgroup-v2.rst.
//
// All sizes are in bytes; -1 is unlimited, and 0 leaves the value as it is,
// as callers of runtimes mean it. Two fields ask for what can't be had any
// more, or for what is always so: kernel, since Linux 5.16 has no such limit,
// and useHierarchy, since Linux 5.11 always counts hierarchically.

const memoryPointer = "/linux/resources/memory/"

func memory(r *specs.LinuxResources, v2 bool) ([]setting, error) {
	if r.Memory == nil {
		return nil, nil
	}
	if err := checkMemory(r.Memory); err != nil {
		return nil, err
	}
	if v2 {
		return memoryV2(r.Memory)
	}
	return memoryV1(r.Memory), nil
}

func checkMemory(m *specs.LinuxMemory) error {
	//lint:ignore SA1019 deprecated, and still to be answered
	kernel := m.Kernel //nolint:staticcheck // the same, for another tool
	sizes := [...]struct {
		name string
		size *int64
	}{{"limit", m.Limit}, {"reservation", m.Reservation}, {"swap", m.Swap}, {"kernel", kernel}, {"kernelTCP", m.KernelTCP}}
	for _, s := range sizes {
		if value(s.size) < -1 {
			return invalid(memoryPointer+s.name, "%d is neither a number of bytes nor -1", *s.size)
		}
	}
	limit, swap := value(m.Limit), value(m.Swap)
	if swap > 0 && (limit == -1 || limit > swap) {
		return invalid(memoryPointer+"swap", "memory and swap together cannot be limited to %d, less than memory alone (%d)", swap, limit)
	}
	switch {
	case value(m.Swappiness) > 100:
		return invalid(memoryPointer+"swappiness", "%d is not within 0 to 100", *m.Swappiness)
	case value(kernel) > 0:
		return invalid(memoryPointer+"kernel", "the kernel's memory counts as memory, and Linux 5.16 removed the limit of its own")
	case m.UseHierarchy != nil && !*m.UseHierarchy:
		return invalid(memoryPointer+"useHierarchy", "cgroups below always count, since Linux 5.11")
	}
	return nil
}

// swapOf is the limit of memory and swap together: without memory's limit,
// that of swap falls too.
func swapOf(m *specs.LinuxMemory) int64 {
	if value(m.Limit) == -1 && value(m.Swap) == 0 {
		return -1
	}
	return value(m.Swap)
}

// swapField is the field that asks for the limit of swap.
func swapField(m *specs.LinuxMemory) string {
	if value(m.Swap) == 0 {
		return "limit"
	}
	return "swap"
}

func memoryV1(m *specs.LinuxMemory) []setting {
	var list []setting
	add := func(name, file string, n int64, why string) {
		if n == -1 {
			why = "as much as there is"
		}
		if n != 0 {
			list = append(list, setting{pointer: memoryPointer + name, file: file, value: strconv.FormatInt(n, 10), why: why})
		}
	}
	// A new cgroup is unlimited, and memsw must never be less than memory, so
	// memory comes first. Update turns the two round where it must.
	add("limit", "memory.limit_in_bytes", value(m.Limit), "whoever needs more memory than this is killed")
	if swap := swapOf(m); swap != 0 {
		add(swapField(m), "memory.memsw.limit_in_bytes", swap, "memory and swap together end here")
		list[len(list)-1].absent = swap == -1 // a kernel without the file sets no limit
	}
	add("reservation", "memory.soft_limit_in_bytes", value(m.Reservation), "when the host runs short of memory, it takes back what lies above this")
	add("kernelTCP", "memory.kmem.tcp.limit_in_bytes", value(m.KernelTCP), "the buffers of TCP connections may not grow beyond this")
	if m.Swappiness != nil {
		list = append(list, setting{
			pointer: memoryPointer + "swappiness", file: "memory.swappiness", value: strconv.FormatUint(*m.Swappiness, 10),
			why: "how readily memory moves to swap, from 0 to 100",
		})
	}
	if m.DisableOOMKiller != nil {
		list = append(list, setting{
			pointer: memoryPointer + "disableOOMKiller", file: "memory.oom_control", value: digit(*m.DisableOOMKiller),
			why: "who needs memory beyond the limit waits (1) or is killed (0)",
		})
	}
	return list
}

func memoryV2(m *specs.LinuxMemory) ([]setting, error) {
	switch {
	case value(m.KernelTCP) != 0:
		return nil, onlyV1(memoryPointer + "kernelTCP")
	case m.Swappiness != nil:
		return nil, onlyV1(memoryPointer + "swappiness")
	case m.DisableOOMKiller != nil && *m.DisableOOMKiller:
		return nil, onlyV1(memoryPointer + "disableOOMKiller")
	}
	limit, swap := value(m.Limit), swapOf(m)
	if swap > 0 && limit == 0 {
		return nil, invalid(memoryPointer+"swap", "cgroup v2 limits swap alone, which is %d less memory/limit, and that is not set", swap)
	}
	var list []setting
	add := func(name, file string, n int64, why string) {
		if n == -1 {
			why = "as much as there is"
		}
		list = append(list, setting{pointer: memoryPointer + name, file: file, value: orMax(n), why: why})
	}
	if limit != 0 {
		add("limit", "memory.max", limit, "whoever needs more memory than this is killed")
	}
	if n := value(m.Reservation); n != 0 {
		add("reservation", "memory.low", n, "when the host runs short of memory, this much is spared")
	}
	if swap != 0 {
		only := swap
		if swap > 0 {
			only = swap - limit
		}
		add(swapField(m), "memory.swap.max", only, "swap ends here: memory and swap together, less memory")
		// A kernel without swap has no such file, and gives none either.
		list[len(list)-1].absent = only <= 0
	}
	return list, nil
}

// value is what p points to, 0 if it is nil.
func value[T int64 | uint64 | uint16](p *T) T {
	if p == nil {
		return 0
	}
	return *p
}

// orMax writes a number as version 2 reads it: "max" is no limit.
func orMax(n int64) string {
	if n < 0 {
		return "max"
	}
	return strconv.FormatInt(n, 10)
}

func digit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}
