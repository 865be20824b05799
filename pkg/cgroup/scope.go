package cgroup

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/plan"
)

// A cgroup can be made by systemd, as a scope unit: then its place in the tree
// is what systemd makes of two names. The limits are told to systemd, which
// writes them once more whenever it likes, and are written by us as well,
// since not all of them can be told.

// A Property is one of a unit's.
type Property struct {
	Name  string
	Value any // of a type that D-Bus has, or a Text
}

// Names lists what properties are called, for people.
func Names(list []Property) string {
	text := make([]string, len(list))
	for i, p := range list {
		text[i] = fmt.Sprintf("%s=%v", p.Name, p.Value)
	}
	return "[" + strings.Join(text, ", ") + "]"
}

// A Text is a value as people write it: 'a string', true, 5, uint32 5.
type Text string

// PropertyPrefix is that of annotations that name properties of units.
const PropertyPrefix = "org.systemd.property."

// DetectUnits is Detect, for Scope: it reads where systemd's own process is,
// which is below the root of its tree. A user's own has been handed nothing of
// version 1.
func DetectUnits(pid int) (Layout, error) {
	l, err := detect(fmt.Sprintf("/proc/%d/cgroup", pid))
	if pid != 1 && slices.ContainsFunc(l.Hierarchies, func(h Hierarchy) bool { return !h.V2 && !strings.HasPrefix(h.Name, "name=") }) {
		err = errors.Join(err, errors.New("a user's systemd makes cgroups of version 2 alone, and this host has version 1"))
	}
	l.user = pid != 1
	return l, err
}

// Scope is the place of the unit that cgroupsPath names as systemd's driver has
// it, slice:prefix:name, in a layout of DetectUnits; "" is
// system.slice:minictr:ID, or user.slice of a user's own. The error wraps
// ErrPath.
func (l Layout) Scope(path, id string) (Group, error) {
	slice := "system.slice"
	if l.user {
		slice = "user.slice"
	}
	path = cmp.Or(path, slice+":minictr:"+id)
	parts := strings.Split(path, ":")
	if len(parts) != 3 || parts[2] == "" || strings.ContainsFunc(path, func(r rune) bool { return r == '/' || unicode.IsControl(r) }) {
		return Group{}, fmt.Errorf(`%w: expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got %q instead`, ErrPath, path)
	}
	parts[0] = cmp.Or(parts[0], slice)
	if parts[1] != "" {
		parts[1] += "-"
	}
	dir, err := sliceDir(parts[0])
	if err != nil {
		return Group{}, err
	}
	g := Group{Path: path, Pointer: "/linux/cgroupsPath", Slice: parts[0], Unit: parts[1] + parts[2] + ".scope"}
	for _, h := range l.Hierarchies {
		base := h.Mount + strings.TrimSuffix(strings.TrimSuffix(h.Self, "/init.scope"), "/")
		g.Places = append(g.Places, Place{Hierarchy: h, Base: base, Dir: base + dir + "/" + g.Unit})
	}
	return g, nil
}

// sliceDir is where a slice is: a-b.slice lies in a.slice, systemd.slice(5).
func sliceDir(slice string) (dir string, err error) {
	name, ok := strings.CutSuffix(slice, ".slice")
	if name == "-" {
		return "", nil
	}
	prefix := ""
	for part := range strings.SplitSeq(name, "-") {
		ok = ok && part != ""
		prefix += part
		dir += "/" + prefix + ".slice"
		prefix += "-"
	}
	if !ok {
		return "", fmt.Errorf("%w: invalid slice name: %q", ErrPath, slice)
	}
	return dir, nil
}

// ScopeProperties are those that a new unit has besides its limits: who is in
// it, and that what is below it is not systemd's business. Devices are not
// among the controllers that are handed over, so systemd leaves the rules that
// are set for them alone.
func (g Group) ScopeProperties(id string, pid int, annotations map[string]string) []Property {
	list := []Property{
		{"Description", "minictr container " + id},
		{"Slice", g.Slice},
		{"DelegateControllers", []string{"cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "pids"}},
		{"DefaultDependencies", false},
		{"CollectMode", "inactive-or-failed"},
		{"CPUAccounting", true},
		{"IOAccounting", true},
		{"MemoryAccounting", true},
		{"TasksAccounting", true},
		{"PIDs", []uint32{uint32(pid)}},
	}
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		// Those above but the Description are not for others to choose.
		name, ok := strings.CutPrefix(key, PropertyPrefix)
		if ok && !slices.ContainsFunc(list[1:], func(p Property) bool { return p.Name == name }) && name != "Delegate" {
			list = append(list, Property{name, Text(annotations[key])})
		}
	}
	return list
}

// LimitProperties are the limits in r as properties, as far as there are any.
func (g Group) LimitProperties(r *specs.LinuxResources) ([]Property, error) {
	if r == nil {
		return nil, nil
	}
	settings, err := g.settings(r)
	if err != nil {
		return nil, err
	}
	values := make(map[string]string)
	var list []Property
	for _, s := range settings {
		file := s.file[strings.LastIndexByte(s.file, '/')+1:]
		values[file] = s.value
		p, ok := properties[file]
		if !ok {
			continue
		}
		v, err := p.value(s.value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.pointer, err)
		}
		list = append(list, Property{p.name, v})
	}
	quota, period := values["cpu.cfs_quota_us"], values["cpu.cfs_period_us"]
	if text, ok := values["cpu.max"]; ok {
		quota, period = field(text, 0), field(text, 1)
	}
	return append(list, quotaProperties(quota, period)...), nil
}

// properties are what systemd calls the files of cgroups.
var properties = map[string]struct {
	name  string
	value func(string) (any, error)
}{
	"memory.max":            {"MemoryMax", amount},
	"memory.limit_in_bytes": {"MemoryLimit", amount},
	"memory.high":           {"MemoryHigh", amount},
	"memory.low":            {"MemoryLow", amount},
	"memory.min":            {"MemoryMin", amount},
	"memory.swap.max":       {"MemorySwapMax", amount},
	"cpu.weight":            {"CPUWeight", amount},
	"cpu.shares":            {"CPUShares", amount},
	"pids.max":              {"TasksMax", amount},
	"io.weight":             {"IOWeight", weightOf},
	"blkio.weight":          {"BlockIOWeight", amount},
	"cpuset.cpus":           {"AllowedCPUs", bitmap},
	"cpuset.mems":           {"AllowedMemoryNodes", bitmap},
}

// unlimited is systemd's word for no limit.
const unlimited = ^uint64(0)

func amount(text string) (any, error) {
	if text == "max" || strings.HasPrefix(text, "-") {
		return unlimited, nil
	}
	return strconv.ParseUint(text, 10, 64)
}

// weightOf leaves "default" away, which the file may have in front.
func weightOf(text string) (any, error) { return amount(strings.TrimPrefix(text, "default ")) }

// bitmap is a list of numbers, such as 0-3,7, as bits, the lowest byte first.
func bitmap(list string) (any, error) {
	parts := strings.Split(list, ",")
	for i, part := range parts {
		parts[i] = strings.TrimSpace(part)
	}
	numbers, err := plan.Numbers(strings.Join(parts, ","))
	if err != nil {
		return nil, err
	}
	var bits []byte
	for _, n := range numbers {
		for len(bits) <= n/8 {
			bits = append(bits, 0)
		}
		bits[n/8] |= 1 << (n % 8)
	}
	return bits, nil
}

// quotaProperties are processor time per second of real time, which systemd
// counts in hundredths, and how often it is counted; "" is what is not set.
func quotaProperties(quota, period string) (list []Property) {
	length, err := strconv.ParseUint(period, 10, 64)
	if err == nil && length > 0 {
		list = append(list, Property{"CPUQuotaPeriodUSec", length})
	} else {
		length = 100_000
	}
	if quota == "" {
		return list
	}
	perSecond := unlimited
	if n, err := strconv.ParseUint(quota, 10, 64); err == nil {
		const hundredth = 10_000
		perSecond = (n*1_000_000/length + hundredth - 1) / hundredth * hundredth
	}
	return append(list, Property{"CPUQuotaPerSecUSec", perSecond})
}

// Keeper is the input that is the PID of the process that a unit begins with.
const Keeper plan.Reg = "keeper/pid"

// trimmed says whether systemd takes empty cgroups away that it has not made:
// in the one version 1 hierarchy that is not handed over to us.
func (p Place) trimmed() bool { return !p.V2 && slices.Contains(p.Controllers, "devices") }

// mkdirHeld makes the directory, and moves a process into it before systemd
// finds it empty.
func (p Place) mkdirHeld(pid int) (err error) {
	for range 100 {
		if err = p.mkdir(true); err == nil {
			err = write(p.Dir+"/cgroup.procs", strconv.Itoa(pid))
		}
		if !gone(err) {
			return err
		}
	}
	return err
}

// InScope has the child say that it is in the cgroup of a version 1 unit: until
// then somebody else keeps the unit alive.
func (g Group) InScope(b *plan.Builder) {
	if g.EntersScope() {
		b.Do("the runtime can tell that the unit is not empty any more", plan.Write(plan.Report, plan.Ready))
	}
}

// EntersScope says whether the child moves into the cgroup of a unit by itself,
// and is not born in it.
func (g Group) EntersScope() bool {
	return g.Unit != "" && slices.ContainsFunc(g.Places, func(p Place) bool { return !p.V2 })
}
