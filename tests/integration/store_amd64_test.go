package integration_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/image"
)

// faults are what may happen at a call; 0 is SIGKILL.
var faults = []unix.Errno{0, unix.EIO, unix.ENOSPC, unix.EINTR, unix.EROFS, unix.EDQUOT}

// everyFault has TestStoreFaults try all of them, which takes minutes.
const everyFault = "MINICTR_TEST_EVERY_FAULT"

// A storeCommand changes a store, or makes the directory OUT of it.
type storeCommand struct {
	name  string
	args  []string
	after []string // what takes the rest away, if the image is gone already
}

// dir is where the store of a host is, and OUT.
func (h host) dir() string { return filepath.Dir(h.root) }

// args are those of the command, on a host.
func (h host) args(words []string) (args []string) {
	for _, w := range words {
		args = append(args, strings.ReplaceAll(w, "OUT", h.dir()+"/out"))
	}
	return args
}

// storeCommands calls do for each command, with the host that it begins with.
func storeCommands(t *testing.T, do func(t *testing.T, c storeCommand, from host)) {
	_ = newHost(t)
	lower := []tar.Header{
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o1777},
		{Name: "d/true", Mode: 0o4755, Uid: 1, Gname: "true"},
		{Name: "d/zeros", Mode: 0o644, Gname: "head" + strings.Repeat("\x00", 100_000)},
		{Name: "d/hard", Typeflag: tar.TypeLink, Linkname: "d/true"},
		{Name: "d/soft", Typeflag: tar.TypeSymlink, Linkname: "true"},
		{Name: "d/fifo", Typeflag: tar.TypeFifo, Mode: 0o600},
		{Name: "d/note", Mode: 0o644, PAXRecords: map[string]string{"SCHILY.xattr.trusted.note": "x"}, Gname: "note"},
	}
	upper := []tar.Header{{Name: "d/.wh.hard", Mode: 0o644}, {Name: "unlisted/new", Mode: 0o644, Gname: "new"}, {Name: "d/true", Mode: 0o755, Gname: "truer"}}
	other := []tar.Header{{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "d/other", Mode: 0o644, Gname: "other"}}
	b, c := blobs{}, blobs{}
	kept, first := b.image(t, lower, other), c.image(t, lower, upper)
	archive, name := c.archive(t, "first", first), c.serve(t, first, c.refer(t, first))
	start := host{root: filepath.Join(temp(t), "root"), run: filepath.Join(temp(t), "run")}
	whole := []string{"load", b.archive(t, "kept", kept)}
	start.must(t, whole...)
	full := start.copied(t)
	full.must(t, "load", archive)

	plain, root := filepath.Join(temp(t), "plain.tar"), filepath.Join(temp(t), "root.tar")
	full.must(t, "save", "--format", "docker-archive", "-o", plain, "first")
	if err := os.WriteFile(root, archiveOf(t, lower), 0o600); err != nil {
		t.Fatal(err)
	}
	tagged, nameless, saved, used := full.copied(t), full.copied(t), full.copied(t), full.copied(t)
	pushed := taking(t)
	tagged.must(t, "tag", "first", pushed)
	nameless.must(t, "tag", "kept", "first")
	saved.must(t, saved.args([]string{"save", "-o", "OUT", "kept"})...)
	used.run = filepath.Join(temp(t), "run")
	used.start(t, "run", "--name", "box", "-v", upFile(t)+":/up", "first", "/up")

	for _, tt := range []struct {
		storeCommand
		from host
	}{
		{storeCommand{"load", []string{"load", archive}, nil}, start},
		{storeCommand{"pull", []string{"pull", name}, nil}, start},
		{storeCommand{"rmi", []string{"rmi", "first"}, whole}, full},
		{storeCommand{"unpack", []string{"unpack", "first", "OUT"}, nil}, full},
		{storeCommand{"bundle", []string{"bundle", "first", "OUT"}, nil}, full},
		{storeCommand{"load docker-archive", []string{"load", plain}, nil}, start},
		{storeCommand{"save", []string{"save", "-o", "OUT", "first"}, nil}, saved},
		{storeCommand{"save docker-archive", []string{"save", "--format", "docker-archive", "-o", "OUT", "first"}, nil}, saved},
		{storeCommand{"push", []string{"push", pushed}, nil}, tagged},
		{storeCommand{"commit", []string{"commit", "box", "made"}, nil}, used},
		{storeCommand{"prune", []string{"image", "prune", "--force"}, nil}, nameless},
		{storeCommand{"import", []string{"import", root, "made"}, nil}, start},
	} {
		t.Run(tt.name, func(t *testing.T) { do(t, tt.storeCommand, tt.from) })
	}
}

// TestStoreFaults has each system call of commands that change the store be
// the last, or fail. The store is whole then, and the same command again does
// what an undisturbed one does, and leaves nothing of the first.
func TestStoreFaults(t *testing.T) { storeCommands(t, disturb) }

// TestStoreSignals has a signal arrive at each reading of a directory, as those
// by which Go interrupts its own threads may: the kernel then tells of one entry
// at a time. That changes nothing.
func TestStoreSignals(t *testing.T) {
	storeCommands(t, func(t *testing.T, c storeCommand, from host) {
		quiet, other := from.copied(t), from.copied(t)
		quiet.must(t, quiet.args(c.args)...)
		tr := tracer{dir: other.dir(), interrupts: true}
		if r := other.traced(t, &tr, other.args(c.args)...); r.status != 0 || strings.Contains(r.stderr, "warning") {
			t.Errorf("minictr %q: %v", c.args, r)
		}
		differ(t, c.name, storeTree(t, other), storeTree(t, quiet))
	})
}

// taking is a registry that takes images, each whole, and forgets what it has:
// the next push sends all of it. It returns a name of it.
func taking(t *testing.T) string {
	var mu sync.Mutex
	held := map[string]bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, err := io.ReadAll(r.Body)
		digest := fmt.Sprintf("sha256:%x", sha256.Sum256(content))
		mu.Lock()
		defer mu.Unlock()
		status := http.StatusCreated
		switch {
		case r.Method == http.MethodGet: // who is there?
			status = http.StatusOK
		case r.Method == http.MethodHead && held[filepath.Base(r.URL.Path)]:
			status = http.StatusOK
		case r.Method == http.MethodHead:
			status = http.StatusNotFound
		case r.Method == http.MethodPost:
			w.Header().Set("Location", r.URL.Path+"1")
			status = http.StatusAccepted
		case err != nil:
			status = http.StatusBadRequest
		case digest == r.URL.Query().Get("digest"):
			held[digest] = true
		default:
			for _, named := range digests.FindAllString(string(content), -1) {
				if !held[named] {
					status = http.StatusNotFound
				}
			}
			if status == http.StatusCreated {
				clear(held)
			}
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://") + "/some/image:tag"
}

var digests = regexp.MustCompile(`sha256:[0-9a-f]{64}`)

// copied is a host with a copy of the store, and of OUT.
func (h host) copied(t *testing.T) host {
	t.Helper()
	other := host{root: filepath.Join(temp(t), "root"), run: h.run}
	if out, err := exec.Command("cp", "-a", h.dir()+"/.", other.dir()).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	return other
}

// disturb runs the command once to see what it does, and then with each fault
// at each call, or, as a sample, with a few.
func disturb(t *testing.T, c storeCommand, from host) {
	h := from.copied(t)
	before, tr := storeTree(t, h), tracer{dir: h.dir()}
	r := h.traced(t, &tr, h.args(c.args)...)
	calls := tr.calls
	if r.status != 0 || len(calls) < 10 {
		t.Fatalf("minictr %q: %d calls, %v", c.args, len(calls), r)
	}
	after := storeTree(t, h)
	if c.name == "pull" && len(below(after, "root/blobs")) != len(below(before, "root/blobs"))+7 { // the lower layer is there
		t.Errorf("has not brought an image of two layers and its signature: %v", below(after, "root/blobs"))
	}
	step := 1
	if os.Getenv(everyFault) == "" {
		step = len(calls)*len(faults)/sample/6*6 - 1 // all kinds of faults come
	}
	hit, missed := 0, map[string]bool{}
	for _, call := range calls {
		missed[steady(call)] = true
	}
	for i := 0; i < len(calls)*len(faults); i += step {
		at, fault := i/len(faults)+1, faults[i%len(faults)]
		h := from.copied(t)
		tr := tracer{dir: h.dir(), at: at, errno: fault}
		r := h.traced(t, &tr, h.args(c.args)...)
		if len(tr.calls) < at {
			continue // threads took turns otherwise
		}
		hit++
		delete(missed, steady(tr.calls[at-1]))
		when := fmt.Sprintf("%s: %v at call %d: %s\n%v", c.name, fault, at, tr.calls[at-1], r)
		c.judge(t, fault, when, r)
		c.check(t, h, before, after, when, r.status == 0)
		if t.Failed() && step > 1 {
			t.FailNow()
		}
	}
	t.Logf("%s: %d points hit, of %d calls × %d faults", c.name, hit, len(calls), len(faults))
	if hit < sample*3/4 || step == 1 && len(missed) > 0 {
		t.Errorf("%s was disturbed at too few points: not at %q", c.name, slices.Sorted(maps.Keys(missed)))
	}
}

// sample is at how many points a command is disturbed at least.
const sample = 6

var random = regexp.MustCompile(`(stage|blob|pull|discarded)-\w+|\d{6,}$|\.\w*\d{5,}\w*`)

// steady leaves out of a call what differs from run to run.
func steady(call string) string { return random.ReplaceAllString(call, "*") }

// judge looks at how the command took it. An error after the image is there
// may be told, or not.
func (c storeCommand) judge(t *testing.T, fault unix.Errno, when string, r result) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(r.stderr, "\n"), "\n")
	last := lines[len(lines)-1]
	switch {
	case fault == 0 && r.status == 128+int(unix.SIGKILL), r.status == 0:
	case fault == unix.EINTR:
		t.Errorf("%s\nnot survived", when)
	case r.status != statusFailed || !strings.HasPrefix(last, "minictr: ") || !strings.Contains(last, fault.Error()) || strings.Contains(r.stderr, "goroutine"):
		t.Errorf("%s\nnot an error that can be read", when)
	}
}

// check looks at the store, and has the command done again.
func (c storeCommand) check(t *testing.T, h host, before, after map[string]string, when string, done bool) {
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
	if steady := below(before, "root"); maps.Equal(steady, below(after, "root")) {
		differ(t, when, below(files, "root"), steady)
	}
	if out := files["out"]; strings.HasPrefix(out, "-") && out != before["out"] && out != after["out"] {
		t.Errorf("%s\nhalf an archive", when)
	}
	if done && files["root/index.json"] != after["root/index.json"] {
		t.Errorf("%s\nsays that it is done, and is not", when)
	}
	names := ""
	for _, img := range images {
		names += strings.Join(img.Names, " ") + " "
		if _, err := img.ReadFile("d/true"); err != nil {
			t.Errorf("%s\n%v: %v", when, img.Names, err)
		}
		dirs, err := img.LayerDirs()
		if err != nil {
			t.Errorf("%s\n%v: %v", when, img.Names, err)
		}
		for _, d := range dirs {
			real, err := filepath.EvalSymlinks(d)
			if err != nil {
				t.Errorf("%s\n%v: %v", when, img.Names, err)
				continue
			}
			rel, _ := filepath.Rel(h.dir(), real)
			differ(t, when, below(files, rel), below(good, rel))
		}
	}
	for name, text := range below(files, "root/blobs/sha256") {
		if sum := filepath.Base(name); strings.HasPrefix(text, "-") && !strings.HasSuffix(text, sum) {
			t.Errorf("%s\na blob that is not whole: %s %s", when, name, text)
		}
	}
	args := c.args
	if c.after != nil && !strings.Contains(names, "first") {
		args = c.after
	}
	if out := below(files, "out"); len(out) > 0 {
		differ(t, when, out, below(after, "out"))
		if err := os.RemoveAll(h.dir() + "/out"); err != nil {
			t.Fatal(err)
		}
	}
	if r := h.minictr(t, h.args(args)...); r.status != 0 {
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

// identity is the name that a bundle gets.
var identity = regexp.MustCompile(`\b[0-9a-f]{12}\b`)

// storeTree describes every file of a store, and of OUT. Times count inside of
// images only.
func storeTree(t *testing.T, h host) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(h.dir(), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(h.dir(), path)
		if err != nil {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err != nil {
			return err
		}
		text := fmt.Sprintf("%v %o %d:%d", d.Type(), stat.Mode, stat.Uid, stat.Gid)
		if strings.Contains(rel, "/d/") && stat.Mode != unix.S_IFCHR { // a whiteout
			text += fmt.Sprintf(" %d.%d", stat.Mtim.Sec, stat.Mtim.Nsec)
		}
		var content []byte
		if d.Type().IsRegular() {
			content, err = os.ReadFile(path)
			content = identity.ReplaceAll(bytes.ReplaceAll(content, []byte(h.dir()), nil), nil)
		} else if d.Type() == fs.ModeSymlink {
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
