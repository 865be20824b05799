package peers_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/seccomp"
)

// seen is what tests/probe prints.
type seen struct {
	PID        int
	Namespaces map[string]string
	UIDMap     [][3]uint32 `json:"uid_map"`
	GIDMap     [][3]uint32 `json:"gid_map"`
	Caps       map[string][]string
	Tries      map[string]string
	NoNewPrivs bool `json:"no_new_privs"`
	Mode       int
	Label      string
	Mounts     int
	Root       int64
	RootFile   [2]uint64 `json:"root_file"`
	ReadOnly   bool      `json:"read_only"`
	Files      map[string]opened
	Devices    map[string]struct {
		opened
		Type         string
		Major, Minor uint32
	}
	Mknod  map[string]string
	Forks  int
	Cgroup map[string]string
	Values map[string]string
	Calls  struct {
		Unknown  string
		Patterns int
		Passed   map[string][]int
	}
}

type opened struct {
	Read   string `json:"r"`
	Write  string `json:"w"`
	System int64  `json:"fs"`
}

// A row is a brick or a gap of what minictr wall prints.
type row struct {
	Name, State, Inside string
	Facts               json.RawMessage
}

type looked struct {
	PID          int
	Inside       []int
	Bricks, Gaps []row
}

// An agreement collects where the wall and the probe disagree.
type agreement struct {
	wall looked
	seen seen
	rows int
	list []string
}

func (a *agreement) wants(row string, wall, probe any) {
	a.rows++
	if w, p := fmt.Sprint(wall), fmt.Sprint(probe); w != p {
		a.list = append(a.list, fmt.Sprintf("%s: wall says %s, the probe saw %s", row, w, p))
	}
}

// brick finds one, with its facts.
func (a *agreement) brick(name string, facts any) (b row) {
	i := slices.IndexFunc(a.wall.Bricks, func(b row) bool { return b.Name == name })
	if i < 0 {
		a.list = append(a.list, name+": wall has no such brick")
		return b
	}
	b = a.wall.Bricks[i]
	if err := json.Unmarshal(b.Facts, facts); err != nil && facts != nil {
		a.list = append(a.list, fmt.Sprintf("%s: facts %s: %v", name, b.Facts, err))
	}
	return b
}

// compare lists every row where the wall around a process, as seen from
// outside, is not what the probe has found inside, and counts the rows.
func compare(wall looked, probe seen, limits map[string]string) ([]string, int) {
	a := &agreement{wall: wall, seen: probe}
	a.namespaces()
	a.tree()
	a.files()
	a.devices()
	a.power()
	a.calls()
	a.limits(limits)
	a.gaps()
	a.states(limits)
	return a.list, a.rows
}

func (a *agreement) namespaces() {
	for brick, link := range map[string]string{
		"user": "user", "pid": "pid", "mnt": "mnt", "net": "net", "uts": "uts", "ipc": "ipc", "time": "time", "cgroup": "cgroup",
	} {
		own, _ := os.Readlink("/proc/self/ns/" + link)
		state := "walled"
		if a.seen.Namespaces[link] == own {
			state = "shared"
		}
		a.wants(brick, a.brick(brick, nil).State, state)
	}
	var ids struct {
		UIDMap [][3]uint32 `json:"uid_map"`
		GIDMap [][3]uint32 `json:"gid_map"`
	}
	a.brick("user", &ids)
	a.wants("user: uid_map", ids.UIDMap, a.seen.UIDMap)
	a.wants("user: gid_map", ids.GIDMap, a.seen.GIDMap)
	var pid struct{ Numbers []int }
	a.brick("pid", &pid)
	if len(pid.Numbers) == 0 {
		pid.Numbers = []int{0}
	}
	a.wants("pid: inside", pid.Numbers[len(pid.Numbers)-1], a.seen.PID)
	var uts struct{ Name string }
	a.brick("uts", &uts)
	a.wants("uts: name", uts.Name, a.seen.Values["hostname"])
}

// systems are the file systems that a root may be on: statfs(2).
var systems = map[string]int64{
	"tmpfs": unix.TMPFS_MAGIC, "overlay": unix.OVERLAYFS_SUPER_MAGIC, "ext4": unix.EXT4_SUPER_MAGIC, "ramfs": unix.RAMFS_MAGIC,
	"xfs": unix.XFS_SUPER_MAGIC, "btrfs": unix.BTRFS_SUPER_MAGIC, "devtmpfs": unix.TMPFS_MAGIC,
}

func (a *agreement) tree() {
	var tree struct {
		Mounts   int
		Root     string
		ReadOnly bool `json:"read_only"`
	}
	for _, brick := range []string{"mnt", "root"} {
		a.brick(brick, &tree)
		a.wants(brick+": mounts", tree.Mounts, a.seen.Mounts)
		a.wants(brick+": root", systems[tree.Root], a.seen.Root)
		a.wants(brick+": read_only", tree.ReadOnly, a.seen.ReadOnly)
	}
}

// files compares which can be opened. What is not the kernel's hides it.
func (a *agreement) files() {
	var masks struct {
		Files []struct {
			Path                string
			Read, Write, Masked bool
		}
	}
	a.brick("masks", &masks)
	if len(masks.Files) < 20 {
		a.list = append(a.list, fmt.Sprintf("masks: wall tells of %d files", len(masks.Files)))
	}
	// A security module may refuse more: wall does not look into its rules.
	confined := a.seen.Label != "" && !strings.Contains(a.seen.Label, "unconfined")
	hides := slices.Collect(maps.Values(systems))
	for _, f := range masks.Files {
		o, there := a.seen.Files[f.Path]
		masked := there && slices.Contains(hides, o.System)
		a.wants("masks: "+f.Path+" masked", f.Masked, masked)
		for mode, open := range map[string]struct {
			wall  bool
			probe string
		}{"read": {f.Read, o.Read}, "write": {f.Write, o.Write}} {
			if !confined || open.probe != unix.EACCES.Error() {
				a.wants("masks: "+f.Path+" "+mode, open.wall, there && !masked && open.probe == "")
			}
		}
	}
}

// devices compares what may be opened: another error than that of permission
// is the device's own. What others keep in /dev/shm comes and goes.
func (a *agreement) devices() {
	var devices struct {
		Nodes []struct {
			Path, Type   string
			Major, Minor uint32
			Read, Write  *bool // nil: unknown
		}
		Mknod *bool
	}
	a.brick("devices", &devices)
	paths := []string{}
	for _, n := range devices.Nodes {
		paths = append(paths, n.Path)
		if strings.HasPrefix(n.Path, "/dev/shm/") {
			continue
		}
		d := a.seen.Devices[n.Path]
		a.wants("devices: "+n.Path, fmt.Sprint(n.Type, n.Major, ":", n.Minor), fmt.Sprint(d.Type, d.Major, ":", d.Minor))
		for mode, open := range map[int]struct {
			wall  *bool
			probe string
		}{unix.O_RDONLY: {n.Read, d.Read}, unix.O_WRONLY: {n.Write, d.Write}} {
			says := slices.Contains([]string{unix.EPERM.Error(), unix.EACCES.Error(), unix.EROFS.Error()}, open.probe)
			if open.wall != nil && open.probe != "untouched" && (!says || !refusesAll(n.Path, mode)) {
				a.wants(fmt.Sprintf("devices: %s %d", n.Path, mode), *open.wall, !says)
			}
		}
	}
	for path := range a.seen.Devices {
		a.wants("devices: "+path, slices.Contains(paths, path) || strings.HasPrefix(path, "/dev/shm/"), true)
	}
	if says, tried := a.seen.Mknod["c 1:3"]; tried && devices.Mknod != nil {
		a.wants("devices: mknod", *devices.Mknod, says == "")
	}
}

// refusesAll tells whether this machine lets nobody open a device.
func refusesAll(path string, mode int) bool {
	fd, err := unix.Open(path, mode|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
	}
	return errors.Is(err, unix.EPERM)
}

// trials are what the probe tries with a capability: by which call, and
// whether a user namespace's own capability is enough.
var trials = map[string]struct {
	call     string
	anywhere bool
}{
	"CAP_CHOWN": {"lchown", false}, "CAP_DAC_OVERRIDE": {"openat", true}, "CAP_NET_RAW": {"socket", false}, "CAP_NET_ADMIN": {"setsockopt", false},
	"CAP_SYS_ADMIN": {"sethostname", false}, "CAP_SYSLOG": {"syslog", false}, "CAP_SETPCAP": {"prctl", true}, "CAP_SYS_CHROOT": {"chroot", true},
	"CAP_SETGID": {"setgroups", false}, "CAP_SETUID": {"setresuid", false},
}

func (a *agreement) power() {
	var sets map[string]any
	a.brick("caps", &sets)
	for set, has := range a.seen.Caps {
		all := []any{}
		for _, c := range has {
			all = append(all, c)
		}
		a.wants("caps: "+set, sets[set], all)
	}
	effective, _ := sets["effective"].([]any)
	var filters struct{ Calls map[string][]string }
	a.brick("seccomp", &filters)
	first := a.brick("user", nil).State == "shared"
	for name, trial := range trials {
		if says, tried := a.seen.Tries[name]; tried && (first || trial.anywhere) {
			can := slices.Contains(effective, any(name)) && !slices.Contains(filters.Calls["refused"], trial.call)
			a.wants("caps: "+name+" by "+trial.call, can, says == "")
		}
	}
	var nnp struct{ Set bool }
	a.brick("nnp", &nnp)
	a.wants("nnp", nnp.Set, a.seen.NoNewPrivs)
	var lsm struct{ Label string }
	a.brick("lsm", &lsm)
	a.wants("lsm", lsm.Label, a.seen.Label)
}

// unfiltered are calls that newer kernels make without asking any filter.
var unfiltered = []string{"uprobe", "uretprobe"}

func (a *agreement) calls() {
	var facts struct {
		Mode    int
		Calls   map[string][]string
		Foreign map[string]bool
	}
	a.brick("seccomp", &facts)
	a.wants("seccomp: mode", facts.Mode, a.seen.Mode)
	probe := a.seen.Calls
	if probe.Unknown != "" {
		a.list = append(a.list, "seccomp: the probe could not find out: "+probe.Unknown)
		return
	}
	says := make(map[string]string)
	for _, what := range []string{"pass", "depends", "refused"} {
		for _, name := range facts.Calls[what] {
			says[name] += what
		}
	}
	for nr, passed := range probe.Passed[seccomp.Native().String()] {
		name, known := seccomp.Name(uint32(nr), seccomp.Native())
		if !known || slices.Contains(unfiltered, name) {
			continue
		}
		saw := "depends"
		switch passed {
		case probe.Patterns:
			saw = "pass"
		case 0:
			saw = "refused"
		}
		a.wants("seccomp: "+name, says[name], saw)
	}
	for abi, passes := range facts.Foreign {
		a.wants("seccomp: foreign "+abi, passes, slices.Max(append(probe.Passed[abi], 0)) > 0)
	}
}

// limits compares with those that were given, in the facts' own units, and
// with how often the probe could fork.
func (a *agreement) limits(given map[string]string) {
	for _, l := range [][2]string{{"memory", "limit"}, {"cpu", "quota"}, {"cpu", "period"}, {"pids", "limit"}} {
		var facts map[string]json.RawMessage
		a.brick(l[0], &facts)
		if want, ok := given[l[0]+"."+l[1]]; ok {
			a.wants(l[0]+": "+l[1], string(facts[l[1]]), want)
		}
	}
	for file, fact := range map[string][2]string{
		"memory.limit_in_bytes": {"memory", "limit"}, "pids.max": {"pids", "limit"}, "cpu.cfs_quota_us": {"cpu", "quota"},
	} {
		var facts map[string]json.RawMessage
		a.brick(fact[0], &facts)
		value, err := strconv.ParseUint(a.seen.Cgroup[file], 10, 63)
		if err == nil && value < 1<<62 { // no limit is a large number there
			a.wants(fact[0]+": "+file, string(facts[fact[1]]), value)
		}
	}
	if want, err := strconv.Atoi(given["pids.limit"]); err == nil {
		var pids struct{ Refused int }
		a.brick("pids", &pids)
		const own = 24 // the threads of the probe
		a.wants(fmt.Sprintf("pids: %d forks below the limit", a.seen.Forks), true, a.seen.Forks < want && a.seen.Forks >= want-own)
		a.wants("pids: refused", pids.Refused > 0, true)
	}
}

// gaps compares the values that stay the same.
func (a *agreement) gaps() {
	meminfo := strings.Fields(a.seen.Values["/proc/meminfo"] + " 0 0")
	total, _ := strconv.Atoi(meminfo[1])
	for gap, says := range map[string][2]string{
		"kernel": {"", a.seen.Values["release"]}, "boot": {"", a.seen.Values["/proc/sys/kernel/random/boot_id"]},
		"memory": {"", fmt.Sprintf("%d MiB in all", total>>10)}, "cpus": {"processors: ", strconv.Itoa(strings.Count("\n"+a.seen.Values["/proc/cpuinfo"], "\nprocessor\t"))},
		"sysctls": {"vm.swappiness = ", a.seen.Values["/proc/sys/vm/swappiness"]}, "entropy": {"", a.seen.Values["/proc/sys/kernel/random/entropy_avail"]},
	} {
		i := slices.IndexFunc(a.wall.Gaps, func(g row) bool { return g.Name == gap })
		if i < 0 || says[1] == "" {
			a.list = append(a.list, gap+": wall has no such gap, or the probe saw nothing")
			continue
		}
		inside, _, _ := strings.Cut(a.wall.Gaps[i].Inside, ",") // what comes behind it changes, or is the wall's alone
		a.wants(gap, strings.TrimSuffix(inside, " bits"), says[0]+says[1])
	}
}

// states compares those of the other bricks as far as what the probe can ask
// decides them: whose root it has, and that nothing is there at all.
func (a *agreement) states(given map[string]string) {
	var own unix.Stat_t
	_ = unix.Stat("/", &own) // then it is nobody's
	same := a.seen.RootFile == [2]uint64{own.Dev, own.Ino}
	a.wants("root: shared", a.brick("root", nil).State == "shared", same)
	a.wants("masks: shared", a.brick("masks", nil).State == "shared", same && a.brick("mnt", nil).State == "shared")
	for brick, none := range map[string]bool{"nnp": !a.seen.NoNewPrivs, "seccomp": a.seen.Mode == 0, "lsm": a.seen.Label == ""} {
		if none {
			a.wants(brick+": state", a.brick(brick, nil).State, "missing")
		}
	}
	for limit := range given {
		brick, _, _ := strings.Cut(limit, ".")
		a.wants(brick+": state", a.brick(brick, nil).State, "walled")
	}
}
