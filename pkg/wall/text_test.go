package wall

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/minictr/minictr/pkg/lang"
)

var update = flag.Bool("update", false, "rewrite testdata")

// example is a wall with all that a page can have to show.
func example() *Wall {
	id := strings.Repeat("0123456789abcdef", 4)
	return &Wall{
		PID: 4242, Inside: []int{4242, 17, 1}, Command: "nginx", Kernel: "6.1.0", Boot: "3c0a1f0e-0000-4000-8000-5d1f0c7b9a42",
		Bricks: []Brick{
			{Name: "user", State: Walled, Inside: "user 0, of 65536 ids", Host: "user 100000", Call: "clone3(CLONE_NEWUSER)", Steps: []int{3, 7, 8, 9}, Means: "root inside is an ordinary user outside: its power ends at what its namespaces own"},
			{Name: "root", State: Walled, Inside: "overlay, read-only", Host: "ext4, writable", Call: "pivot_root()", Means: "it has a path to every file of the host"},
			{Name: "masks", State: Missing, Inside: "reads 49, writes 17 of 52", Host: "reads 51, writes 24 of 52", Call: "move_mount()", Means: "it sees what the kernel shows to all in /proc and /sys, and root in it can partly write it"},
			{Name: "net", State: Shared, Inside: "lo eth0 eth1 and 3 more", Host: "lo eth0 eth1 and 3 more", Call: "clone3(CLONE_NEWNET)", Means: "it uses the host's devices, addresses, ports and abstract sockets"},
			{Name: "cgroup", State: Walled, Inside: "/", Host: "/docker/" + id, Call: "unshare(CLONE_NEWCGROUP)", Means: "its own cgroup looks like the root of all; limits are other bricks"},
			{Name: "other", State: Walled, Inside: "a text that no catalog has, and that is too long for its column", Host: "short", Call: "call()", Means: "it means nothing"},
		},
		Gaps: []Gap{{Name: "boot", State: Shared, Inside: "1", Host: "1", Means: "one kernel"}},
	}
}

// TestFormat compares pages with those in testdata, and wants none to be wider
// than a projector shows, with its columns one below the other.
func TestFormat(t *testing.T) {
	for _, l := range []lang.Language{lang.English, lang.Korean, lang.Both} {
		for _, verbose := range []bool{false, true} {
			name := "testdata/page." + string(l) + map[bool]string{false: "", true: ".verbose"}[verbose] + ".txt"
			t.Run(name, func(t *testing.T) {
				var page strings.Builder
				if err := example().Format(&page, verbose, l); err != nil {
					t.Fatal(err)
				}
				golden(t, name, page.String())
				for line := range strings.Lines(page.String()) {
					if w := lang.Width(strings.TrimSuffix(line, "\n")); w > columns {
						t.Errorf("%d columns: %s", w, line)
					}
				}
			})
		}
	}
	for _, l := range []lang.Language{lang.English, lang.Korean} {
		var page strings.Builder
		if err := example().Format(&page, false, l); err != nil {
			t.Fatal(err)
		}
		outside := 0 // the column of what the host has
		for line := range strings.Lines(page.String()) {
			if i := strings.Index(line, "  "+l.Line("outside")); i >= 0 {
				outside = lang.Width(line[:i]) + 2
			}
			for _, cell := range []string{"ext4, writable", "user 100000", "short"} {
				if i := strings.LastIndex(line, l.Line(cell)); i > 0 && lang.Width(line[:i]) != outside {
					t.Errorf("%s: column %d, want %d: %s", l, lang.Width(line[:i]), outside, line)
				}
			}
		}
		if outside == 0 {
			t.Errorf("%s: no column", l)
		}
	}
}

// TestStates wants room for each word.
func TestStates(t *testing.T) {
	for _, s := range []State{Walled, Shared, Missing, Unknown} {
		if len(s) > wordColumns || lang.Width(lang.Korean.Line(string(s))) > bothColumns {
			t.Errorf("%s, %s: wider than its column", s, lang.Korean.Line(string(s)))
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(name); err != nil || got != string(want) {
		t.Errorf("%v: got\n%s\nwant\n%s", err, got, want)
	}
}

// TestDiff compares walls that differ in a state, in lists, and in what is no
// difference of walls.
func TestDiff(t *testing.T) {
	type facts struct {
		Limit int      `json:"limit"`
		Used  int      `json:"used"`
		Names []string `json:"names"`
		Files []file   `json:"files"`
	}
	one := &Wall{PID: 1, Command: "one", Bricks: []Brick{
		{Name: "pid", State: Walled, Inside: "process 1", Facts: map[string][]int{"numbers": {1, 2}}},
		{Name: "memory", State: Walled, Facts: facts{Limit: 1000, Used: 2, Names: []string{"CAP_KILL", "CAP_CHOWN"}}},
		{Name: "masks", State: Walled, Facts: facts{Files: []file{{Path: "/proc/keys", Masked: true}, {Path: "/proc/kcore", Read: true}}}},
		{Name: "devices", State: Walled, Facts: deviceFacts{[]node{{Path: "/dev/null", Type: "c", Read: new(false)}}, new(false)}},
		{Name: "none", State: Missing},
	}, Gaps: []Gap{{Name: "load", State: Shared, Inside: "1 2 3"}, {Name: "log", State: Walled, Inside: "not readable"}}}
	other := &Wall{PID: 2, Command: "two", Bricks: []Brick{
		{Name: "pid", State: Walled, Inside: "process 2", Facts: map[string][]int{"numbers": {3, 4}}},
		{Name: "memory", State: Walled, Facts: facts{Limit: 2000, Used: 7, Names: []string{"CAP_CHOWN", "CAP_BPF"}}},
		{Name: "masks", State: Missing, Inside: "reads 1, writes 1 of 2", Facts: facts{Files: []file{{Path: "/proc/kcore", Read: true, Write: true}}}},
		{Name: "devices", State: Walled, Facts: deviceFacts{[]node{{Path: "/dev/null", Type: "c", Write: new(true)}}, nil}},
		{Name: "none", State: Missing},
	}, Gaps: []Gap{{Name: "load", State: Shared, Inside: "4 5 6"}, {Name: "log", State: Shared, Inside: "readable"}}}
	for l, name := range map[lang.Language]string{lang.English: "testdata/diff.txt", lang.Korean: "testdata/diff.ko.txt"} {
		var text strings.Builder
		if err := Diff(&text, one, other, l); err != nil {
			t.Fatal(err)
		}
		golden(t, name, text.String())
	}
	var text strings.Builder
	if err := Diff(&text, one, one, lang.English); err != nil || !strings.HasSuffix(text.String(), "\nno difference\n") {
		t.Errorf("%v: %s", err, &text)
	}
}

// TestContainers finds IDs in the cgroup paths that managers make.
func TestContainers(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	for _, c := range []struct {
		path, id string
		found    bool
	}{
		{"/docker/" + id, id, true},
		{"/docker/" + id, id[:4], true},
		{"/docker/" + id, id[:3], false},
		{"/docker/" + id, "", false},
		{"/docker/" + id, "1234", false},
		{"/docker/" + id + "/init.scope", id[:12], true},
		{"/system.slice/docker-" + id + ".scope", id[:12], true},
		{"/machine.slice/libpod-" + id + ".scope/container", id[:12], true},
		{"/machine.slice/libpod-conmon-" + id + ".scope", id[:12], false},
		{"/libpod_parent/libpod-" + id, id, true},
		{"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod0a.slice/cri-containerd-" + id + ".scope", id[:12], true},
		{"/kubepods/besteffort/pod0a/" + id, id[:12], true},
		{"/kubepods.slice/crio-" + id + ".scope", id[:12], true},
		{"/default/box", "box", true},
		{"/default/box", "bo", false},
		{"/default/box", "default", false},
		{"/default/box/inner", "box", false},
		{"/user.slice", "user.slice", false},
		{"/init.scope", "init", false},
		{"/docker/" + id + "/init", "init", false},
		{"/", "", false},
	} {
		if got := containers([]string{"/", c.path}, c.id); (len(got) == 1) != c.found || len(got) > 1 {
			t.Errorf("%s in %s: %q", c.id, c.path, got)
		}
	}
}

func TestRanges(t *testing.T) {
	for want, list := range map[string][]int{"": nil, "3": {3}, "3-4": {3, 4}, "1, 3-5, 9": {1, 3, 4, 5, 9}} {
		if got := ranges(list); got != want {
			t.Errorf("%v: %q, want %q", list, got, want)
		}
	}
}
