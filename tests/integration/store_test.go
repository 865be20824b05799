package integration_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/image"
)

// storing are the system calls by which commands change a store.
var storing = []string{
	"openat", "openat2", "mkdirat", "mknodat", "symlinkat", "linkat", "write", "pwrite64", "ftruncate", "fchown", "fchownat", "fchmod", "fchmodat",
	"utimensat", "setxattr", "lsetxattr", "fsetxattr", "flock", "syncfs", "fsync", "renameat", "renameat2", "unlinkat",
}

// faults are what may happen at a call, as strace's inject wants it.
var faults = []string{"signal=SIGKILL", "error=EIO", "error=ENOSPC", "error=EINTR", "error=EROFS", "error=EDQUOT"}

const killed, interrupted = "signal=SIGKILL", "error=EINTR"

// everyFault has TestStoreFaults try all of them, which takes half an hour.
const everyFault = "MINICTR_TEST_EVERY_FAULT"

// A storeCommand changes a store.
type storeCommand struct {
	name  string
	args  []string
	after []string // what takes the rest away, if the image is gone already
}

// TestStoreFaults has each system call of commands that change the store be
// the last, or fail. The store is whole then, and the same command again does
// what an undisturbed one does, and leaves nothing of the first.
func TestStoreFaults(t *testing.T) {
	_ = newHost(t)
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("strace is not installed (Debian: strace)")
	}
	lower := []tar.Header{
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o1777}, {Name: "d/true", Mode: 0o4755, Uid: 1, Gname: "true"},
		{Name: "d/zeros", Mode: 0o644, Gname: "head" + strings.Repeat("\x00", 100_000)}, {Name: "d/hard", Typeflag: tar.TypeLink, Linkname: "d/true"},
		{Name: "d/soft", Typeflag: tar.TypeSymlink, Linkname: "true"}, {Name: "d/fifo", Typeflag: tar.TypeFifo, Mode: 0o600},
		{Name: "d/note", Mode: 0o644, PAXRecords: map[string]string{"SCHILY.xattr.user.note": "x"}, Gname: "note"},
	}
	upper := []tar.Header{{Name: "d/.wh.hard", Mode: 0o644}, {Name: "unlisted/new", Mode: 0o644, Gname: "new"}, {Name: "d/true", Mode: 0o755, Gname: "truer"}}
	other := []tar.Header{{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "d/other", Mode: 0o644, Gname: "other"}}
	b, c := blobs{}, blobs{}
	kept, first := b.image(t, lower, other), c.image(t, lower, upper)
	archive, name := c.archive(t, "first", first), c.serve(t, first)
	start := host{root: filepath.Join(temp(t), "start"), run: filepath.Join(temp(t), "run")}
	whole := []string{"load", b.archive(t, "kept", kept)}
	start.must(t, whole...)
	full := start.copied(t)
	full.must(t, "load", archive)

	for _, tt := range []struct {
		storeCommand
		from host
	}{
		{storeCommand{"load", []string{"load", archive}, nil}, start},
		{storeCommand{"pull", []string{"pull", name}, nil}, start},
		{storeCommand{"rmi", []string{"rmi", "first"}, whole}, full},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.disturb(t, strace, tt.from) })
	}
}

// copied is a host with a copy of the store.
func (h host) copied(t *testing.T) host {
	t.Helper()
	other := host{root: filepath.Join(temp(t), "root"), run: h.run}
	if out, err := exec.Command("cp", "-a", h.root, other.root).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	return other
}

// A point is the nth call of a name by one thread, and what happens there.
type point struct {
	call  string
	n     int
	fault string
}

// disturb runs the command once to see what it does, and then with each fault
// at each call, or, as a sample, with a few.
func (c storeCommand) disturb(t *testing.T, strace string, from host) {
	before, h := storeTree(t, from), from.copied(t)
	out, r := h.faulty(t, strace, c.args, storing, "")
	if r.status != 0 {
		t.Fatalf("minictr %q: %v", c.args, r)
	}
	after := storeTree(t, h)
	seen, most := callsIn(out, h.root), map[string]int{}
	for key, n := range seen {
		most[key[:strings.Index(key, "(")]] += n
	}
	var points []point
	for _, call := range storing {
		for n := 1; n <= most[call]; n++ {
			for _, fault := range faults {
				points = append(points, point{call, n, fault})
			}
		}
	}
	step := 1
	if os.Getenv(everyFault) == "" {
		step = max(1, len(points)/19) | 1 // odd, so that all kinds of faults come
	}
	hit, outside, reached := 0, 0, map[string]bool{}
	for i := 0; i < len(points); i += step {
		p := points[i]
		h := from.copied(t)
		out, r := h.faulty(t, strace, c.args, []string{p.call}, fmt.Sprintf("inject=%s:%s:when=%d", p.call, p.fault, p.n))
		at := injected(out, h.root, r)
		switch {
		case at == "" && r.status != 0:
			t.Errorf("%v: no fault, and yet %v", p, r)
		case at == "":
			continue // no thread makes so many
		case strings.HasPrefix(at, "outside"):
			outside++ // of the Go runtime, or to the terminal
		default:
			hit++
			reached[p.fault+" "+at] = true
			c.judge(t, p, at, r)
		}
		c.check(t, h, before, after, p.String()+" "+at+"\n"+r.String())
		if t.Failed() && os.Getenv(everyFault) == "" {
			t.FailNow()
		}
	}
	missed := 0
	for key := range seen {
		for _, fault := range faults {
			if step == 1 && !reached[fault+" "+key] {
				missed++
				t.Logf("not reached: %s at %s", fault, key)
			}
		}
	}
	t.Logf("%s: %d points hit, %d outside the store; %d calls that differ, × %d faults, of which %d not reached", c.name, hit, outside, len(seen), len(faults), missed)
	if hit < 12 || missed*10 > len(seen)*len(faults) {
		t.Errorf("%s was disturbed at too few points", c.name)
	}
}

func (p point) String() string { return fmt.Sprintf("%s at %s %d", p.fault, p.call, p.n) }

// judge looks at how the command took it.
func (c storeCommand) judge(t *testing.T, p point, at string, r result) {
	t.Helper()
	switch {
	case p.fault == killed:
	case r.status == 0:
	case p.fault == interrupted:
		t.Errorf("%v, %s: not survived: %v", p, at, r)
	case r.status != statusError || strings.Count(r.stderr, "\n") != 1 || !strings.HasPrefix(r.stderr, "minictr: "):
		t.Errorf("%v, %s: not an error that can be read: %v", p, at, r)
	}
}

// check looks at the store, and has the command done again.
func (c storeCommand) check(t *testing.T, h host, before, after map[string]string, when string) {
	t.Helper()
	s, err := image.Open(h.root)
	if err != nil {
		t.Errorf("%s\nthe store: %v", when, err)
		return
	}
	images, err := s.List()
	if err != nil {
		t.Errorf("%s\nthe list: %v", when, err)
	}
	files, good := storeTree(t, h), maps.Clone(before)
	maps.Copy(good, after)
	names := ""
	for _, img := range images {
		names += strings.Join(img.Names, " ") + " "
		if _, err := img.ReadFile("d/true"); err != nil {
			t.Errorf("%s\n%v: %v", when, img.Names, err)
		}
		for _, d := range img.LayerDirs() {
			real, err := filepath.EvalSymlinks(d)
			if err != nil {
				t.Errorf("%s\n%v: %v", when, img.Names, err)
				continue
			}
			rel, _ := filepath.Rel(h.root, real)
			differ(t, when, below(files, rel), below(good, rel))
		}
	}
	for name, text := range below(files, "blobs/sha256") {
		if sum := filepath.Base(name); strings.HasPrefix(text, "-") && !strings.HasSuffix(text, sum) {
			t.Errorf("%s\na blob that is not whole: %s %s", when, name, text)
		}
	}
	args := c.args
	if c.after != nil && !strings.Contains(names, "first") {
		args = c.after
	}
	if r := h.minictr(t, args...); r.status != 0 {
		t.Errorf("%s\nagain: %v", when, r)
	}
	differ(t, when+"\nagain", storeTree(t, h), after)
}

func below(files map[string]string, dir string) map[string]string {
	list := map[string]string{}
	for name, text := range files {
		if strings.HasPrefix(name, dir+"/") {
			list[name] = text
		}
	}
	return list
}

func differ(t *testing.T, when string, got, want map[string]string) {
	t.Helper()
	all := maps.Clone(want)
	maps.Copy(all, got)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if got[name] != want[name] {
			t.Errorf("%s\n%s: got %q, want %q", when, name, got[name], want[name])
		}
	}
}

// storeTree describes every file of a store. Times count inside layers only.
func storeTree(t *testing.T, h host) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(h.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(h.root, path)
		if err != nil {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err != nil {
			return err
		}
		text := fmt.Sprintf("%v %o %d:%d", d.Type(), stat.Mode, stat.Uid, stat.Gid)
		if strings.HasPrefix(rel, "layers/") && strings.Count(rel, "/") > 2 && stat.Mode != unix.S_IFCHR { // a whiteout
			text += fmt.Sprintf(" %d.%d", stat.Mtim.Sec, stat.Mtim.Nsec)
		}
		var content []byte
		switch d.Type() {
		case 0:
			content, err = os.ReadFile(path)
		case fs.ModeSymlink:
			var target string
			target, err = os.Readlink(path)
			content = []byte(target)
		}
		files[rel] = fmt.Sprintf("%s %x", text, sha256.Sum256(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// faulty runs minictr under strace and returns what that wrote.
func (h host) faulty(t *testing.T, strace string, args, calls []string, what string) (trace string, r result) {
	t.Helper()
	file := filepath.Join(filepath.Dir(h.root), "trace")
	cmd := h.command(args...)
	cmd.Env = append(cmd.Env, "GOMAXPROCS=1") // when= counts for each thread
	options := []string{strace, "-f", "--seccomp-bpf", "-qq", "-y", "-s", "0", "-o", file, "-e", "signal=none", "-e", "trace=" + strings.Join(calls, ",")}
	if what != "" {
		options = append(options, "-e", what)
	}
	cmd.Path, cmd.Args = strace, append(append(options, "--", program), cmd.Args[1:]...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	status := cmd.ProcessState.ExitCode()
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		status = 128 + int(ws.Signal())
	}
	return string(text), result{out.String(), errs.String(), status}
}

// varies is what differs from run to run.
var varies = regexp.MustCompile(`^\d+ +|\(DELETED\)|/tmp/[^"/>]*|blob-\d+|\.tmp-?\d+|\d+<|[0-9]+</dev/pts/\d+`)

// callsIn counts the calls on files of the store, each with its arguments.
func callsIn(trace, root string) map[string]int {
	seen := map[string]int{}
	for line := range strings.Lines(trace) {
		if strings.Contains(line, root) {
			seen[normal(line, root)]++
		}
	}
	return seen
}

func normal(line, root string) string {
	line, _, _ = strings.Cut(strings.ReplaceAll(line, root, ""), ") = ")
	line, _, _ = strings.Cut(line, " <unfinished")
	return strings.TrimSpace(varies.ReplaceAllString(line, ""))
}

// injected finds the call that the fault was at, or "" if it was at none.
func injected(trace, root string, r result) string {
	lines := strings.Split(strings.TrimSpace(trace), "\n")
	last := len(lines) - 1
	at := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "(INJECTED)") })
	if r.status == 128+int(unix.SIGKILL) {
		at = last
	}
	switch {
	case at < 0:
		return ""
	case !strings.Contains(lines[at], root):
		return "outside: " + lines[at]
	}
	return normal(lines[at], root)
}
