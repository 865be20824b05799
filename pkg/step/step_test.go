package step

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/forkexec"
	"github.com/minictr/minictr/pkg/lang"
	"github.com/minictr/minictr/pkg/plan"
)

// TestChanges is which differences are told: a copy of all mounts is none, and
// what is known of one side only neither.
func TestChanges(t *testing.T) {
	before := facts{
		[]fact{{"Umask", "0022"}, {"comm", "a"}, {"old", "1"}},
		[]mount{{"1", "/ (ext4 rw)"}, {"2", "/x (proc rw)"}, {"3", "/y (tmpfs rw)"}},
	}
	for _, c := range []struct {
		now  facts
		want []string
	}{
		{before, nil},
		{facts{nil, []mount{{"11", "/ (ext4 rw)"}, {"12", "/x (proc rw)"}, {"13", "/y (tmpfs rw)"}}}, nil},
		{facts{[]fact{{"comm", "b"}, {"Umask", "0022"}, {"new", "1"}}, before.mounts}, []string{"comm: a -> b"}},
		{facts{nil, []mount{{"1", "/ (ext4 rw)"}, {"2", "/z (proc rw)"}, {"4", "/ (ext4 rw)"}}}, []string{
			"mounts: /x (proc rw) -> /z (proc rw)", "mounts: - /y (tmpfs rw)", "mounts: + / (ext4 rw)",
		}},
	} {
		if got := before.changes(c.now); !slices.Equal(got, c.want) {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	if got := (facts{}).changes(facts{nil, slices.Repeat(before.mounts, 3)}); len(got) != mostMounts+1 || got[mostMounts] != "mounts: 5 more likewise" {
		t.Errorf("got %q", got)
	}
}

// TestFacts is that this process's own are read.
func TestFacts(t *testing.T) {
	f := factsOf("self")
	for _, name := range []string{"ns/mnt", "cwd", "root", "propagation", "comm", "uid_map", "CapEff", "Max open files"} {
		i := slices.IndexFunc(f.list, func(f fact) bool { return f.name == name })
		if i < 0 || f.list[i].value == "" || strings.ContainsAny(f.list[i].value, "\n\t") {
			t.Errorf("%s is not among %q", name, f.list)
		}
	}
	if len(f.mounts) == 0 || len(factsOf("none").mounts) > 0 {
		t.Errorf("mounts: %q", f.mounts)
	}
}

// TestOddNames is that a path is told whole, and that a terminal obeys none.
func TestOddNames(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a[b\x1b]0;c\x9b")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	if f := factsOf("self"); !slices.Contains(f.list, fact{"cwd", dir}) {
		t.Errorf("%q is not among %q", dir, f.list)
	}
	var out strings.Builder
	s := &Stepper{out: &out, language: lang.English}
	s.after(place{}, os.Getpid(), done)
	s.facts.list = []fact{{"cwd", "/"}}
	s.after(place{}, os.Getpid(), done)
	if want := `changed: cwd: / -> ` + filepath.Dir(dir) + `/a[b\x1b]0;c\x9b`; !strings.Contains(out.String(), want) {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

// TestGoOn is what a result leads to.
func TestGoOn(t *testing.T) {
	b, label := plan.New(), plan.Label(1)
	b.Section(plan.Child, "a", "")
	b.Do("", plan.Setsid()).Allow(plan.Next, unix.ENOSYS).Allow(label, unix.EPERM).Then(label)
	b.Do("", plan.Setsid())
	b.Place(label)
	b.Do("", plan.Execveat(plan.Sealed, nil, nil))
	b.Do("", plan.Setsid())
	b.Section(plan.Stub, "b", "")
	b.Do("", plan.Execve("a", nil, nil))
	for _, c := range []struct {
		at     int
		now    forkexec.Stop
		next   int
		done   bool
		result string
	}{
		{0, forkexec.Stop{Result: 7}, 2, false, "7"},
		{0, forkexec.Stop{Errno: unix.ENOSYS}, 1, false, "ENOSYS, passed over"},
		{0, forkexec.Stop{Errno: unix.EPERM}, 2, false, "EPERM, passed over"},
		{0, forkexec.Stop{Errno: unix.EINTR}, 0, false, "interrupted, and made again"},
		{0, forkexec.Stop{Errno: 512}, 0, false, "interrupted, and made again"},
		{1, forkexec.Stop{Errno: unix.EPERM}, 1, true, "EPERM: operation not permitted"},
		{2, forkexec.Stop{}, 4, false, "0"},
		{4, forkexec.Stop{}, 4, true, "0"},
	} {
		t1 := &tracer{next: c.at, steps: placesOf(b.Plan())}
		if got := t1.goOn(t1.steps[c.at].step, c.now); got != c.result || t1.next != c.next || t1.done != c.done {
			t.Errorf("%+v at %d: %q, next %d, done %t", c.now, c.at, got, t1.next, t1.done)
		}
	}
}

// TestKorean is that all of it can be said in Korean.
func TestKorean(t *testing.T) {
	for _, english := range []string{
		howTo, "= " + done, "= 5: " + done, "= " + failed + "x", "= ENOSYS" + passed, "= " + again, changed,
	} {
		if _, ok := lang.Translate(english); !ok {
			t.Errorf("no Korean for %q", english)
		}
	}
}
