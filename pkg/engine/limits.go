package engine

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// Limits are the options that say how much a container may take. Sizes are in
// bytes, with b, k, m or g.
type Limits struct {
	CgroupParent      string
	Memory            string
	MemorySwap        string // memory and swap together; "-1" is no limit
	MemoryReservation string
	OOMScoreAdj       int
	OOMKillDisable    bool
	CPUs              string // processors, "0.5"
	CPUShares         uint64
	CPUPeriod         uint64 // microseconds
	CPUQuota          int64  // microseconds
	CpusetCPUs        string // "0-2,4"
	CpusetMems        string
	BlkioWeight       uint16
	Pids              int64    // 0 is the default, -1 no limit
	Ulimits           []string // NAME=SOFT[:HARD]
	Sysctls           []string // NAME=VALUE
}

func setLimits(w *wall, o Options) error {
	for _, set := range [...]func(*specs.Spec, Limits) error{setMemory, setCPU, setOtherLimits, setUlimits, setSysctls} {
		if err := set(w.Spec, o.Limits); err != nil {
			return err
		}
	}
	return nil
}

// size reads a flag's number of bytes, of which there must be some.
func size(flag, text string, least int64) (int64, error) {
	n, err := Bytes(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%s: %w", flag, err)
	case n < least && least == minMemory:
		return 0, fmt.Errorf("%s: %q is less than %d MB, with which no program begins", flag, text, minMemory>>20)
	case n < least:
		return 0, fmt.Errorf("%s: %q is not above zero", flag, text)
	}
	return n, nil
}

func setMemory(s *specs.Spec, l Limits) error {
	var m specs.LinuxMemory
	if l.Memory != "" {
		limit, err := size("--memory", l.Memory, minMemory)
		if err != nil {
			return err
		}
		swap := limit // no swap: what is over the limit is over it
		m.Limit, m.Swap = &limit, &swap
	}
	switch {
	case l.MemorySwap == "":
	case l.Memory == "":
		return errors.New("--memory-swap: it limits memory and swap together, and needs --memory")
	case l.MemorySwap == "-1":
		*m.Swap = -1
	default:
		swap, err := size("--memory-swap", l.MemorySwap, 0)
		if err != nil {
			return err
		}
		if swap != 0 && swap < *m.Limit {
			return fmt.Errorf("--memory-swap: %q is less than --memory %s, which it includes", l.MemorySwap, l.Memory)
		}
		if swap != 0 {
			*m.Swap = swap
		}
	}
	if l.MemoryReservation != "" {
		n, err := size("--memory-reservation", l.MemoryReservation, minMemory)
		if err != nil {
			return err
		}
		if m.Limit != nil && n > *m.Limit {
			return fmt.Errorf("--memory-reservation: %q is more than --memory %s", l.MemoryReservation, l.Memory)
		}
		m.Reservation = &n
	}
	if l.OOMKillDisable {
		m.DisableOOMKiller = &l.OOMKillDisable
	}
	if m != (specs.LinuxMemory{}) {
		s.Linux.Resources.Memory = &m
	}
	return nil
}

func setCPU(s *specs.Spec, l Limits) error {
	c := specs.LinuxCPU{Cpus: l.CpusetCPUs, Mems: l.CpusetMems}
	for _, set := range [...]struct{ flag, list string }{{"--cpuset-cpus", l.CpusetCPUs}, {"--cpuset-mems", l.CpusetMems}} {
		if set.list != "" && !isSet(set.list) {
			return fmt.Errorf("%s: %q is no list of numbers and ranges, such as 0-2,4", set.flag, set.list)
		}
	}
	switch {
	case l.CPUs != "" && (l.CPUPeriod != 0 || l.CPUQuota != 0):
		return errors.New("--cpus: it is a quota per period: it does not go with --cpu-quota or --cpu-period")
	case l.CPUPeriod != 0 && (l.CPUPeriod < 1000 || l.CPUPeriod > 1_000_000):
		return fmt.Errorf("--cpu-period: %d is not from 1000 to 1000000 microseconds", l.CPUPeriod)
	case l.CPUQuota < -1 || l.CPUQuota > 0 && l.CPUQuota < 1000:
		return fmt.Errorf("--cpu-quota: %d is neither at least 1000 microseconds nor -1, no limit", l.CPUQuota)
	case l.CPUShares == 1 || l.CPUShares > 262144:
		return fmt.Errorf("--cpu-shares: %d is not from 2 to 262144", l.CPUShares)
	}
	if l.CPUs != "" {
		n, err := strconv.ParseFloat(l.CPUs, 64)
		if err != nil || !(n >= 0.01 && n <= 4096) {
			return fmt.Errorf("--cpus: %q is no number of processors from 0.01 to 4096", l.CPUs)
		}
		l.CPUPeriod = 100_000
		l.CPUQuota = int64(math.Round(n * float64(l.CPUPeriod)))
	}
	if l.CPUShares != 0 {
		c.Shares = &l.CPUShares
	}
	if l.CPUPeriod != 0 {
		c.Period = &l.CPUPeriod
	}
	if l.CPUQuota != 0 {
		c.Quota = &l.CPUQuota
	}
	if c != (specs.LinuxCPU{}) {
		s.Linux.Resources.CPU = &c
	}
	return nil
}

// isSet says whether a text is a list of numbers as cpuset(7) has it.
func isSet(text string) bool {
	for part := range strings.SplitSeq(text, ",") {
		first, last, _ := strings.Cut(part, "-")
		if last == "" && !strings.HasSuffix(part, "-") {
			last = first
		}
		a, err := whole(first, 0, 1<<16)
		b, e := whole(last, 0, 1<<16)
		if err != nil || e != nil || a > b {
			return false
		}
	}
	return true
}

// whole reads a number without a sign, within bounds.
func whole(text string, least, most int64) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || int64(n) < least || int64(n) > most {
		return 0, fmt.Errorf("%q is no number from %d to %d", text, least, most)
	}
	return int64(n), nil
}

func setOtherLimits(s *specs.Spec, l Limits) error {
	switch {
	case l.Pids < -1:
		return fmt.Errorf("--pids-limit: %d is neither a number of processes nor -1, no limit", l.Pids)
	case l.Pids != 0:
		s.Linux.Resources.Pids.Limit = &l.Pids
	}
	if w := l.BlkioWeight; w != 0 {
		if w < 10 || w > 1000 {
			return fmt.Errorf("--blkio-weight: %d is not from 10 to 1000", w)
		}
		s.Linux.Resources.BlockIO = &specs.LinuxBlockIO{Weight: &w}
	}
	if l.OOMScoreAdj != 0 {
		if l.OOMScoreAdj < -1000 || l.OOMScoreAdj > 1000 {
			return fmt.Errorf("--oom-score-adj: %d is not from -1000, never, to 1000, first", l.OOMScoreAdj)
		}
		s.Process.OOMScoreAdj = &l.OOMScoreAdj
	}
	return nil
}

// setUlimits sets limits of each process, setrlimit(2); the last of a name wins.
func setUlimits(s *specs.Spec, l Limits) error {
	for _, text := range l.Ulimits {
		name, values, _ := strings.Cut(text, "=")
		kind := "RLIMIT_" + strings.ToUpper(name)
		if !slices.Contains(plan.RlimitNames[:], kind) {
			return fmt.Errorf("--ulimit: %q: there is no limit %q; there are %s", text, name, strings.ToLower(strings.ReplaceAll(strings.Join(plan.RlimitNames[:], ", "), "RLIMIT_", "")))
		}
		first, second, both := strings.Cut(values, ":")
		if !both {
			second = first
		}
		soft, err := rlimit(first)
		hard, e := rlimit(second)
		switch {
		case err != nil || e != nil:
			return fmt.Errorf("--ulimit: %q is not NAME=SOFT[:HARD], each a number or -1, no limit", text)
		case soft > hard:
			return fmt.Errorf("--ulimit: %q: the soft limit is above the hard one", text)
		}
		s.Process.Rlimits = slices.DeleteFunc(s.Process.Rlimits, func(r specs.POSIXRlimit) bool { return r.Type == kind })
		s.Process.Rlimits = append(s.Process.Rlimits, specs.POSIXRlimit{Type: kind, Soft: soft, Hard: hard})
	}
	return nil
}

func rlimit(text string) (uint64, error) {
	if text == "-1" || text == "unlimited" {
		return unix.RLIM_INFINITY, nil
	}
	return strconv.ParseUint(text, 10, 64)
}

func setSysctls(s *specs.Spec, l Limits) error {
	for _, text := range l.Sysctls {
		name, value, given := strings.Cut(text, "=")
		if name == "" || !given {
			return fmt.Errorf("--sysctl: %q is not NAME=VALUE", text)
		}
		s.Linux.Sysctl[name] = value
	}
	return nil
}

// minMemory is Docker's: with less a process can hardly begin.
const minMemory = 6 << 20

// Bytes reads a size: a number with b, k, m or g, in powers of 1024.
func Bytes(s string) (int64, error) {
	number, shift := strings.ToLower(s), 0
	for _, unit := range [...]struct {
		suffix string
		shift  int
	}{{"kib", 10}, {"mib", 20}, {"gib", 30}, {"kb", 10}, {"mb", 20}, {"gb", 30}, {"k", 10}, {"m", 20}, {"g", 30}, {"b", 0}} {
		if n, ok := strings.CutSuffix(number, unit.suffix); ok {
			number, shift = n, unit.shift
			break
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	n *= float64(int64(1) << shift)
	if err != nil || !(n >= 0 && n < math.MaxInt64) {
		return 0, fmt.Errorf("%q is no number of bytes, with or without b, k, m or g", s)
	}
	return int64(n), nil
}
