// Package lessons_test does every lesson as a student does, by the program
// itself: its experiments print what it explains, its check takes the answer
// that one finds and no other, and nothing is left of it.
package lessons_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/lesson"
	"github.com/minictr/minictr/pkg/vm"
	"github.com/minictr/minictr/tests/alone"
)

// patience bounds one command: it is only ever used up by a failure.
const patience = 3 * time.Minute

func TestMain(m *testing.M) {
	alone.Main(m, "lessons", unix.CLONE_NEWNS|unix.CLONE_NEWNET, func() error {
		return errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""), alone.LoopbackUp())
	}, func() error { return nil })
}

// A student has a directory of his own for all that minictr keeps.
type student struct{ dir string }

func newStudent(t *testing.T) student {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	s := student{t.TempDir()}
	for _, dir := range []string{s.dir, filepath.Dir(s.dir)} { // the root of a user namespace is a stranger here
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(s.dir+"/tmp", 0o711); err != nil {
		t.Fatal(err)
	}
	return s
}

// env is where his minictr keeps things; the scripts of lessons get it, too.
func (s student) env() []string {
	return []string{
		"MINICTR_DATA_ROOT=" + filepath.Join(alone.Dir, "root"), "MINICTR_ROOT=" + s.dir + "/run",
		"XDG_STATE_HOME=" + s.dir + "/state", "TMPDIR=" + s.dir + "/tmp", "LC_ALL=",
	}
}

func (s student) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	t.Cleanup(stop)
	cmd := exec.CommandContext(ctx, filepath.Join(alone.Dir, "minictr"), args...)
	cmd.Env = append(os.Environ(), s.env()...)
	return cmd
}

// lesson runs minictr lesson and returns what it printed, with its status.
func (s student) lesson(t *testing.T, args ...string) (said string, status int) {
	t.Helper()
	cmd := s.command(t, append([]string{"lesson"}, args...)...)
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// record is what is kept of a lesson.
func (s student) record(t *testing.T, l *lesson.Lesson) *lesson.Record {
	t.Helper()
	all := make(lesson.Records)
	text, err := os.ReadFile(s.dir + "/state/minictr/lessons.json")
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all.Of(l)
}

// solve does what a student does to find the answer.
func (s student) solve(t *testing.T, l *lesson.Lesson, a *lesson.Attempt) string {
	t.Helper()
	var out bytes.Buffer
	if err := a.Run(t.Context(), l.Solve, append(s.env(), "ABOUT="+a.About), &out); err != nil {
		t.Fatalf("solve: %v\n%s", err, &out)
	}
	return strings.TrimSpace(out.String())
}

// nothingLeft is that a student who is done has no container, no process, no
// mount and no file.
func (s student) nothingLeft(t *testing.T, mounts string) {
	t.Helper()
	for _, dir := range []string{"tmp", "run"} {
		if left, err := os.ReadDir(filepath.Join(s.dir, dir)); err != nil && !errors.Is(err, os.ErrNotExist) || len(left) > 0 {
			t.Errorf("%s has %v, %v", dir, left, err)
		}
	}
	if files, _ := filepath.Glob(s.dir + "/state/minictr/.*"); len(files) > 0 {
		t.Errorf("left are %v", files)
	}
	if now := mountsOf(t, s.dir); now != mounts {
		t.Errorf("mounts were\n%sand are\n%s", mounts, now)
	}
	all, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range all {
		if env, _ := os.ReadFile(file); bytes.Contains(env, []byte("DIR="+s.dir)) {
			t.Errorf("%s is left", filepath.Dir(file))
		}
	}
}

// mountsOf lists the mounts in a directory.
func mountsOf(t *testing.T, dir string) (list string) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, " "+dir) {
			list += line
		}
	}
	return list
}

// TestLessons does those that need no virtual machine, as many at a time as
// there are processors.
func TestLessons(t *testing.T) { lessons(t, false) }

// TestMachineLessons does the others.
func TestMachineLessons(t *testing.T) {
	if err := vm.Missing(); err != nil {
		t.Skip("the tier vm brings a kernel: ", err)
	}
	lessons(t, true)
}

func lessons(t *testing.T, machine bool) {
	t.Helper()
	all, err := lesson.All()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := newStudent(t).command(t, "run", "tiny", "true").CombinedOutput(); err != nil { // the image is there
		t.Fatalf("%v\n%s", err, out)
	}
	for _, l := range all {
		if slices.Contains(l.Needs, "vm") == machine {
			t.Run(l.Name, func(t *testing.T) {
				t.Parallel()
				if slices.Contains(l.Needs, "dockerd") && os.Getenv("MINICTR") != "" {
					t.Skip("in the virtual machine there is no Docker")
				}
				newStudent(t).does(t, l)
			})
		}
	}
}

// does is one lesson, with the answers that must not do: none, words of the
// lesson, and what is right for another student.
func (s student) does(t *testing.T, l *lesson.Lesson) {
	t.Helper()
	mounts := mountsOf(t, s.dir)
	t.Cleanup(func() { // of what a failure leaves
		clean := exec.Command(filepath.Join(alone.Dir, "minictr"), "lesson", l.Number(), "--clean")
		clean.Env = append(os.Environ(), s.env()...)
		if out, err := clean.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	said, status := s.lesson(t, l.Number(), "--lang", "both")
	if status != 0 {
		t.Fatalf("exit status %d\n%s", status, said)
	}
	for range l.Hints() {
		hint, _ := s.lesson(t, l.Number(), "--hint", "--lang", "both")
		said += hint
	}
	a := s.record(t, l).Open
	right := s.solve(t, l, a)
	for _, word := range append(strings.FieldsFunc(said, func(r rune) bool { return strings.ContainsRune(" \n.,:;()\"'", r) }), strings.Fields(said)...) {
		if word == right {
			t.Errorf("the answer %q stands in what the lesson says:\n%s", right, said)
		}
	}
	wrong := []string{"", "the", a.Nonce, a.Name(), s.neighbour(t, l)}
	for _, answer := range wrong {
		if said, status := s.lesson(t, l.Number(), "--check", answer); status != 1 {
			t.Errorf("%q has exit status %d: %s", answer, status, said)
		}
	}
	if said, status := s.lesson(t, l.Number(), "--check", " "+right+"\n"); status != 0 {
		t.Errorf("the right answer %q has exit status %d: %s", right, status, said)
	}
	r := s.record(t, l)
	if r.Attempts != len(wrong)+1 || r.Done.IsZero() || r.Open != nil {
		t.Errorf("%d attempts, done %v, open %v", r.Attempts, r.Done, r.Open)
	}
	if said, status := s.lesson(t, l.Number(), "--check", right); status != 125 {
		t.Errorf("when it is done, the check has exit status %d: %s", status, said)
	}
	s.nothingLeft(t, mounts)
	for _, list := range [...][]string{{"ps", "-aq"}, {"network", "ls", "-q"}} {
		out, err := s.command(t, append(list, "-f", "name="+a.Name())...).Output()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: left are %s, %v", list, out, err)
		}
	}
}

// neighbour is what another student finds at the same time on the same machine.
func (s student) neighbour(t *testing.T, l *lesson.Lesson) string {
	t.Helper()
	a := lesson.NewAttempt()
	a.Dir = filepath.Join(s.dir, "tmp", a.Name())
	defer func() {
		err := a.Kill()
		list, _ := s.command(t, "ps", "-aq", "-f", "name="+a.Name()).Output()
		for id := range strings.FieldsSeq(string(list)) {
			err = errors.Join(err, s.command(t, "rm", "-f", id).Run())
		}
		if err = errors.Join(err, a.Clean(t.Context(), l.Clean, s.env()), a.End()); err != nil {
			t.Error(err)
		}
	}()
	err := a.Begin(filepath.Join(alone.Dir, "minictr"))
	if err == nil {
		err = a.Ask(t.Context(), l.Setup, s.env())
	}
	if err != nil {
		t.Fatal(err)
	}
	return s.solve(t, l, a)
}
