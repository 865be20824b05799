package integration_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/lang"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/vm"
	"github.com/minictr/minictr/pkg/wall"
)

// A gapLeak shows that what the list of gaps names is not walled: what is done
// outside, with a number that nobody can guess, is seen inside.
type gapLeak struct {
	name string
	held bool // the default wall covers it all the same
	leak func(t *testing.T, h host)
}

// gapLeaks are in the order of the list.
func gapLeaks() []gapLeak {
	return []gapLeak{
		{"kernel", false, kernelLeak},
		{"boot", false, bootLeak},
		{"clock", false, clockLeak},
		{"memory", false, memoryLeak},
		{"cpus", false, cpusLeak},
		{"load", false, loadLeak},
		{"uptime", false, uptimeLeak},
		{"log", true, logLeak},
		{"keys", true, keysLeak},
		{"sysctls", false, sysctlsLeak},
		{"entropy", false, entropyLeak},
		{"cache", false, cacheLeak},
	}
}

// TestGaps has each gap of the list leak. Where the default wall covers one, it
// leaks once that is left out, and the list says so of either container.
func TestGaps(t *testing.T) {
	h := newHost(t)
	c := h.start(t, "run", "tiny", "pause")
	eventually(t, "the program is there", func() bool { return c.program(t) == "pause" })
	w, err := wall.Around(c.first(t))
	if err != nil {
		t.Fatal(err)
	}
	h.must(t, "rm", "-f", c.id)
	c.wait(t)
	var listed, leaking []string
	for _, g := range w.Gaps {
		listed = append(listed, g.Name)
	}
	for _, l := range gapLeaks() {
		leaking = append(leaking, l.name)
	}
	if !slices.Equal(listed, leaking) {
		t.Fatalf("the list has\n%q, and these leak\n%q", listed, leaking)
	}
	for i, l := range gapLeaks() {
		t.Run(l.name, func(t *testing.T) {
			if g := w.Gaps[i]; (g.State == wall.Walled) != l.held || !l.held && g.Inside != g.Host {
				t.Errorf("of the default container the list says %+v", g)
			}
			unchanged(t, h)
			l.leak(t, h)
		})
		if data := []string{"kernel", "boot", "clock", "load", "uptime", "sysctls"}; !slices.Contains(data, l.name) {
			if _, ok := lang.Translate(w.Gaps[i].Inside); !ok {
				t.Errorf("no Korean for %q", w.Gaps[i].Inside)
			}
		}
	}
}

// TestGapsBehindCovers has other files where the kernel's would be: what a
// container finds there is read, and no file of the host's in its place.
func TestGapsBehindCovers(t *testing.T) {
	s := newSpec("covers", "pause")
	s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Type == "proc" })
	s.Linux.MaskedPaths, s.Linux.ReadonlyPaths, s.Linux.Sysctl = nil, nil, nil
	c, dir := newOCI(t, "covers", s)
	root := filepath.Join(dir, "rootfs")
	const both = "/etc/hostname" // the host has one, too
	err := errors.Join(
		os.MkdirAll(filepath.Join(root, "proc/sys/kernel/random"), 0o755),
		os.WriteFile(filepath.Join(root, both), []byte("of the container"), 0o644),
		os.WriteFile(filepath.Join(root, "proc/cpuinfo"), []byte("processor\t: 0\n"), 0o644),
		os.Symlink(both, filepath.Join(root, "proc/sys/kernel/random/boot_id")),
		unix.Mkfifo(filepath.Join(root, "proc/meminfo"), 0o644)) // at which nobody writes
	if err != nil {
		t.Fatal(err)
	}
	c.create(dir)
	c.must("start", c.id)
	eventually(t, "the program is there", func() bool { return hostFile(t, fmt.Sprintf("/proc/%d/comm", c.pid)) == "pause" })
	for name, want := range map[string]wall.Gap{
		"boot":   {Inside: "of the container", State: wall.Walled},
		"cpus":   {Inside: "processors: 1", State: wall.Shared}, // sched_getaffinity(2) still tells
		"memory": {Inside: "nothing", State: wall.Shared},
		"uptime": {Inside: "nothing", State: wall.Shared},
	} {
		if g := gapOf(t, c.pid, name); g.Inside != want.Inside || g.State != want.State {
			t.Errorf("%+v, want %+v", g, want)
		}
	}
}

// throwAway tells whether this is a virtual machine of minictr's, in which the
// tests may do what no namespace holds.
func throwAway(t *testing.T) bool { return hostFile(t, "/proc/1/comm") == vm.InitName }

// watched runs a command in a container that then stays, and returns what it
// says, and what the list says of the container.
func (h host) watched(t *testing.T, name, command string, flags ...string) (string, wall.Gap) {
	t.Helper()
	c := h.start(t, slices.Concat([]string{"run"}, flags, []string{"tiny", "sh", "-c", command + "; exec pause"})...)
	eventually(t, "the program is there", func() bool { return c.program(t) == "pause" })
	g := gapOf(t, c.first(t), name)
	h.must(t, "rm", "-f", c.id)
	c.wait(t)
	return c.out.String(), g
}

func gapOf(t *testing.T, pid int, name string) wall.Gap {
	t.Helper()
	w, err := wall.Around(pid)
	if err != nil {
		t.Fatal(err)
	}
	return w.Gaps[slices.IndexFunc(w.Gaps, func(g wall.Gap) bool { return g.Name == name })]
}

// says runs one command in a container.
func (h host) says(t *testing.T, command string, flags ...string) string {
	t.Helper()
	return strings.TrimSuffix(h.inside(t, flags, command)[command], "\nstatus 0")
}

// within wants a number between two, give or take some.
func within(t *testing.T, what string, got, low, high, slack int) {
	t.Helper()
	if got < min(low, high)-slack || got > max(low, high)+slack {
		t.Errorf("%s is %d inside, and between %d and %d outside, give or take %d", what, got, low, high, slack)
	}
}

// A page for what a program in a container reads; then room for a file.
const (
	answer  = 0x10000000
	mapping = 0x20000000
)

// ask is a program of system calls, which leave their answer at that address,
// that prints so many bytes of it, or nothing if a call fails. It is a volume.
func ask(t *testing.T, bytes int, calls ...*plan.Step) string {
	t.Helper()
	calls = slices.Concat(
		[]*plan.Step{do(unix.SYS_MMAP, answer, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED, ^uint64(0), 0)},
		calls, []*plan.Step{do(unix.SYS_WRITE, 1, answer, uint64(bytes))})
	file := filepath.Join(temp(t), "ask")
	if err := os.WriteFile(file, tinyProgram(t, calls...), 0o755); err != nil {
		t.Fatal(err)
	}
	return file + ":/ask"
}

// asks runs such a program in a container.
func (h host) asks(t *testing.T, ask string, flags ...string) string {
	t.Helper()
	return h.minictr(t, slices.Concat([]string{"run", "-v", ask}, flags, []string{"tiny", "/ask"})...).stdout
}

// do is a system call with numbers.
func do(number uintptr, args ...uint64) *plan.Step {
	s := &plan.Step{Call: plan.Call{Number: number}}
	for _, a := range args {
		s.Call.Args = append(s.Call.Args, plan.Num{Value: a})
	}
	return s
}

// open opens a file; the first one has the descriptor 3.
func open(name string) *plan.Step {
	return &plan.Step{Call: plan.Call{Number: unix.SYS_OPENAT, Args: []plan.Arg{plan.Num{}, plan.Str(name), plan.Num{}, plan.Num{}}}}
}

// kernelLeak finds the fingerprint that the linker gave this kernel, and no
// other one of those that these tests run on.
func kernelLeak(t *testing.T, h host) {
	version, err := os.ReadFile("/proc/version")
	notes, notesErr := os.ReadFile("/sys/kernel/notes")
	if err != nil || notesErr != nil {
		t.Fatal(err, notesErr)
	}
	if got := h.must(t, "run", "tiny", "cat", "/proc/version", "/sys/kernel/notes"); got != string(version)+string(notes) || len(notes) == 0 {
		t.Errorf("the kernel is %q inside, and outside %q with %q", got, version, notes)
	}
}

// bootLeak finds the random number of this boot; others differ with each reading.
func bootLeak(t *testing.T, h host) {
	const dir = "/proc/sys/kernel/random/"
	said := h.inside(t, nil, "cat "+dir+"boot_id", "cat "+dir+"uuid")
	boot, drawn := hostFile(t, dir+"boot_id"), hostFile(t, dir+"uuid")
	if said["cat "+dir+"boot_id"] != boot+"\nstatus 0" || said["cat "+dir+"uuid"] == drawn+"\nstatus 0" || len(boot) != 36 {
		t.Errorf("outside it is boot %s: %q", boot, said)
	}
}

// clockLeak reads the clock inside, between two readings outside. In a machine
// to throw away it is set from both sides.
func clockLeak(t *testing.T, h host) {
	read := ask(t, 16, do(unix.SYS_CLOCK_GETTIME, unix.CLOCK_REALTIME, answer))
	compare := func() {
		t.Helper()
		before := time.Now().UnixNano()
		got := h.asks(t, read)
		after := time.Now().UnixNano()
		if len(got) != 16 {
			t.Fatalf("clock_gettime(2) inside: %x", got)
		}
		seconds, nano := binary.NativeEndian.Uint64([]byte(got)), binary.NativeEndian.Uint64([]byte(got[8:]))
		within(t, "the clock in ns", int(seconds*1e9+nano), int(before), int(after), 0)
	}
	if !throwAway(t) {
		compare()
		return
	}
	start := time.Now()
	set := func(when time.Time) {
		ts := unix.NsecToTimespec(when.UnixNano())
		if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
			t.Fatal(err)
		}
	}
	defer func() { set(start.Round(0).Add(time.Since(start))) }() // by the monotonic clock
	set(time.Unix(1<<31+rand.Int64N(1<<30), 0))
	compare()
	nonce := 1<<31 + rand.Uint64N(1<<30)
	var ts [16]byte
	binary.NativeEndian.PutUint64(ts[:], nonce)
	write := ask(t, 0, &plan.Step{Call: plan.Call{Number: unix.SYS_CLOCK_SETTIME, Args: []plan.Arg{plan.Num{Value: unix.CLOCK_REALTIME}, plan.Mem{Data: ts[:]}}}})
	for _, flags := range [][]string{nil, {"--cap-add", "sys_time"}} {
		h.asks(t, write, flags...)
		since := time.Now().Unix() - int64(nonce)
		if set, may := since >= 0 && since < 60, flags != nil; set != may {
			t.Errorf("%q: a container has set the date: %v", flags, set)
		}
	}
}

// memoryLeak locks memory, of which little else does any, and sees it inside
// where a limit says otherwise. The kernel counts by processor, and adds up late.
func memoryLeak(t *testing.T, h host) {
	locked := func(meminfo string) int {
		n, err := strconv.Atoi(strings.TrimSuffix(fields(meminfo)["Mlocked"], " kB"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := locked(hostFile(t, "/proc/meminfo"))
	nonce := (16 + rand.IntN(48)) << 10
	block, err := unix.Mmap(-1, 0, nonce<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(block)
	if err := unix.Mlock(block); err != nil {
		t.Fatal(err)
	}
	within(t, "locked memory in kB", locked(h.says(t, "cat /proc/meminfo", "-m", "15m"))-before, nonce, nonce, 4<<10)
}

// cpusLeak sees all processors where a limit gives the time of less than one;
// and in what time they spent, that of a thread outside which is nice, as few are.
func cpusLeak(t *testing.T, h host) {
	nice := func(stat string) int {
		n, err := strconv.Atoi(strings.Fields(stat)[2])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	now := func() int { return nice(hostFile(t, "/proc/stat")) }
	before, nonce := now(), 10+rand.IntN(20) // 1/100 s
	burnt := make(chan error)
	go func() {
		runtime.LockOSThread() // it ends with this function
		err := unix.Setpriority(unix.PRIO_PROCESS, 0, 1)
		for err == nil && now() < before+nonce {
			for range 1 << 20 {
			}
		}
		burnt <- err
	}()
	if err := <-burnt; err != nil {
		t.Fatal(err)
	}
	low := now()
	out := h.must(t, "run", "--cpus", "0.5", "tiny", "cat", "/proc/stat", "/proc/cpuinfo")
	within(t, "the time of nice programs in 1/100 s", nice(out), low, now(), 0)
	for line := range strings.Lines(hostFile(t, "/proc/cpuinfo")) {
		if strings.HasPrefix(line, "processor") && !strings.Contains(out, line) {
			t.Errorf("inside there is no %q", line)
		}
	}
}

// loadLeak makes threads, and sees inside, where they do not exist, how many
// there are. Other threads of the machine come and go.
func loadLeak(t *testing.T, h host) {
	threads := func(loadavg string) int {
		var n int
		words := strings.FieldsFunc(loadavg, func(r rune) bool { return r == ' ' || r == '/' })
		if _, err := fmt.Sscan(words[4], &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := threads(hostFile(t, "/proc/loadavg"))
	nonce := 500 + rand.IntN(500)
	var up, down sync.WaitGroup
	release := make(chan struct{})
	up.Add(nonce)
	for range nonce {
		down.Go(func() {
			runtime.LockOSThread() // the thread ends with this function
			up.Done()
			<-release
		})
	}
	up.Wait()
	low := threads(hostFile(t, "/proc/loadavg"))
	got := threads(h.says(t, "cat /proc/loadavg"))
	high := threads(hostFile(t, "/proc/loadavg"))
	close(release)
	down.Wait()
	within(t, "the number of threads", got, low, high, 100)
	within(t, "the growth", got-before, nonce, nonce, 250)
}

// uptimeLeak reads the uptime inside, between two readings outside; and behind
// a time namespace, which moves it by as much as it was told.
func uptimeLeak(t *testing.T, h host) {
	centiseconds := func(text string) int {
		n, err := strconv.Atoi(strings.ReplaceAll(strings.Fields(text)[0], ".", ""))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	now := func() int { return centiseconds(hostFile(t, "/proc/uptime")) }
	before := now()
	got := centiseconds(h.says(t, "cat /proc/uptime"))
	within(t, "the uptime in 1/100 s", got, before, now(), 0)

	nonce := 1e6 + rand.Int64N(1e6)
	s := newSpec("uptime", "sh", "-c", "cat /proc/uptime; exec pause")
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
	s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: nonce}}
	c, dir := newOCI(t, "uptime", s)
	before = now()
	c.create(dir)
	c.must("start", c.id)
	moved := centiseconds(c.prints(containing("\n")))
	within(t, "the uptime in 1/100 s", moved-int(nonce)*100, before, now(), 0)
	eventually(t, "the program is there", func() bool { return hostFile(t, fmt.Sprintf("/proc/%d/comm", c.pid)) == "pause" })
	g := gapOf(t, c.pid, "uptime")
	inside, err := time.ParseDuration(g.Inside)
	outside, hostErr := time.ParseDuration(g.Host)
	if g.State != wall.Walled || err != nil || hostErr != nil || inside-outside != time.Duration(nonce)*time.Second {
		t.Errorf("behind a time namespace that moves it by %d s: %+v", nonce, g)
	}
}
