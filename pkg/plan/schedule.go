package plan

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The calls that say when, where and as what a process runs.

// IOClassNames are the classes of ioprio_set(2), by number.
var IOClassNames = [...]string{"IOPRIO_CLASS_NONE", "IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"}

// IOPriority sets the class and the level in it that the caller's disk traffic
// has, ioprio_set(2).
func IOPriority(class, level int) Call {
	const process, classShift = 1, 13
	return call("ioprio_set", unix.SYS_IOPRIO_SET, named(process, "IOPRIO_WHO_PROCESS"), zero,
		named(uint64(class<<classShift|level), fmt.Sprintf("IOPRIO_PRIO_VALUE(%s, %d)", IOClassNames[class], level)))
}

// SchedPolicyNames are the policies of sched(7), by number.
var SchedPolicyNames = [...]string{"SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"}

// SchedFlagNames are the flags of sched_setattr(2), by bit.
var SchedFlagNames = [...]string{
	"SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_KEEP_POLICY", "SCHED_FLAG_KEEP_PARAMS",
	"SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX",
}

// A Sched is struct sched_attr of sched_setattr(2). Times are in nanoseconds.
type Sched struct {
	Policy                    int
	Flags                     uint64
	Nice, Priority            int32
	Runtime, Deadline, Period uint64
}

// Schedule sets the scheduling policy of the caller, sched_setattr(2).
func Schedule(s Sched) Call {
	attr := make([]byte, 48)
	le := binary.NativeEndian
	le.PutUint32(attr, uint32(len(attr)))
	le.PutUint32(attr[4:], uint32(s.Policy))
	le.PutUint64(attr[8:], s.Flags)
	le.PutUint32(attr[16:], uint32(s.Nice))
	le.PutUint32(attr[20:], uint32(s.Priority))
	le.PutUint64(attr[24:], s.Runtime)
	le.PutUint64(attr[32:], s.Deadline)
	le.PutUint64(attr[40:], s.Period)
	var names []string
	for i, name := range SchedFlagNames {
		if s.Flags&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		names = append(names, "0")
	}
	return call("sched_setattr", unix.SYS_SCHED_SETATTR, zero, Mem{Data: attr, Text: fmt.Sprintf(
		"{size=%d, sched_policy=%s, sched_flags=%s, sched_nice=%d, sched_priority=%d, sched_runtime=%d, sched_deadline=%d, sched_period=%d}",
		len(attr), SchedPolicyNames[s.Policy], strings.Join(names, "|"), s.Nice, s.Priority, s.Runtime, s.Deadline, s.Period,
	)}, zero)
}

// Affinity sets the processors that the caller may run on, by their numbers,
// sched_setaffinity(2).
func Affinity(cpus []int) Call {
	mask := bitmap(cpus)
	text := make([]string, len(cpus))
	for i, n := range cpus {
		text[i] = strconv.Itoa(n)
	}
	return call("sched_setaffinity", unix.SYS_SCHED_SETAFFINITY, zero, n(len(mask)), Mem{Data: mask, Text: "[" + strings.Join(text, " ") + "]"})
}

// bitmap is an array of longs with these bits set.
func bitmap(bits []int) []byte {
	mask := make([]byte, 8*(slices.Max(append(bits, 0))/64+1))
	for _, b := range bits {
		mask[b/8] |= 1 << (b % 8)
	}
	return mask
}

// MemoryPolicyNames are the modes of set_mempolicy(2), by number.
var MemoryPolicyNames = [...]string{
	"MPOL_DEFAULT", "MPOL_PREFERRED", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_LOCAL", "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE",
}

// MemoryFlags are the mode flags of set_mempolicy(2).
var MemoryFlags = map[string]int{"MPOL_F_NUMA_BALANCING": 1 << 13, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_STATIC_NODES": 1 << 15}

// MemoryPolicy says from which nodes the caller's memory comes,
// set_mempolicy(2).
func MemoryPolicy(mode int, flags []string, nodes []int) Call {
	value, text := mode, MemoryPolicyNames[mode]
	for _, f := range flags {
		value |= MemoryFlags[f]
		text += "|" + f
	}
	if len(nodes) == 0 {
		return call("set_mempolicy", unix.SYS_SET_MEMPOLICY, named(uint64(value), text), null, zero)
	}
	mask := bitmap(nodes)
	words := make([]string, len(mask)/8)
	for i := range words {
		words[i] = fmt.Sprintf("%#016x", binary.NativeEndian.Uint64(mask[8*i:]))
	}
	return call("set_mempolicy", unix.SYS_SET_MEMPOLICY, named(uint64(value), text),
		Mem{Data: mask, Text: "[" + strings.Join(words, ", ") + "]"}, n(8*len(mask)+1)) // the kernel takes one bit less
}

// Personality sets the execution domain, personality(2): PER_LINUX or, if is32
// says so, PER_LINUX32.
func Personality(is32 bool) Call {
	if is32 {
		return call("personality", unix.SYS_PERSONALITY, named(8, "PER_LINUX32"))
	}
	return call("personality", unix.SYS_PERSONALITY, named(0, "PER_LINUX"))
}

// maxNumber is above every processor and node that kernels know.
const maxNumber = 8192

// Numbers reads a list such as 0-3,7, cpuset(7).
func Numbers(list string) (all []int, err error) {
	if list == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		low, err := strconv.ParseUint(from, 10, 16)
		high, e := strconv.ParseUint(to, 10, 16)
		if err != nil || e != nil || low > high || high > maxNumber {
			return nil, fmt.Errorf("%q is no list of numbers up to %d, such as 0-3,7", list, maxNumber)
		}
		for n := low; n <= high; n++ {
			all = append(all, int(n))
		}
	}
	return all, nil
}
