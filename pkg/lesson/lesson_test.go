package lesson

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/minictr/minictr/pkg/lang"
)

// texts is a section of texts that has all keys.
func texts(section string) string {
	s := "-- " + section + " --\n"
	for _, key := range keys {
		s += key + ": some\nwords\n\n"
	}
	return s
}

// good is the shortest lesson.
func good() string {
	return texts("en") + texts("ko") + "-- run --\necho 1\n-- see --\n^1$\n-- break --\necho 2\n-- broken --\n2\n-- answer --\necho $NONCE\n-- solve --\necho 4\n"
}

// TestBadFile is what who writes a lesson is told.
func TestBadFile(t *testing.T) {
	l, err := Parse("good", []byte(good()))
	if err != nil || l.Hints() != 1 || l.Text(lang.Both, Ask, 0)[1] != "some words" || l.Run != "echo 1\n" {
		t.Fatalf("%+v, %v", l, err)
	}
	for _, c := range []struct{ old, replaced, want string }{
		{good(), "", "there is no section en,"},
		{"-- solve --\necho 4\n", "", "there is no section solve,"},
		{"-- see --", "-- seen --", "section seen: no lesson has such a section"},
		{"^1$", "", "section see: it is empty"},
		{"^1$", "(", "section see: error parsing regexp"},
		{"-- solve --", "-- run --", "section run: there are two of it"},
		{"predict:", "Predict:", `section en: "Predict: some words" begins with none of`},
		{"predict: ", "title: ", `section en: there are two texts "title"`},
		{"hint: some\nwords\n", "", `section en: there is no text "hint: ..."`},
		{"hint: some\nwords\n", "hint: 1\n\nhint: 2\n", "hint stands 2 times in section en, and 1 times in ko"},
		{texts("ko"), "", "there is no section ko,"},
	} {
		_, err := Parse("bad", []byte(strings.Replace(good(), c.old, c.replaced, 1)))
		if err == nil || !strings.HasPrefix(err.Error(), "lesson bad: "+c.want) {
			t.Errorf("%q for %q: got %v, want %s", c.replaced, c.old, err, c.want)
		}
	}
}

// TestAll is that each lesson of ours says the same in both languages, and asks
// for nothing that the file knows: its answer must be looked for.
func TestAll(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	hangul := func(r rune) bool { return unicode.Is(unicode.Hangul, r) }
	for _, l := range all {
		if same, err := Find(l.Number()); err != nil || same.Name != l.Name {
			t.Errorf("%s is found by its number as %v, %v", l.Name, same, err)
		}
		for _, key := range keys {
			for n := range len(l.texts[lang.English][key]) {
				both := l.Text(lang.Both, key, n)
				// A hint can be one command.
				if strings.ContainsFunc(both[0], hangul) || key != Hint && !strings.ContainsFunc(both[1], hangul) {
					t.Errorf("%s: %s is in the wrong language: %q", l.Name, key, both)
				}
			}
		}
		if !strings.ContainsAny(l.Answer, "$") || l.Answer == l.Solve {
			t.Errorf("%s: the answer is no fact of this attempt, or is solved by looking it up:\n%s", l.Name, l.Answer)
		}
		if ask := strings.Join(l.Text(lang.Both, Ask, 0), " "); !strings.Contains(ask, "$NAME") && !strings.Contains(ask, "$DIR") && !strings.Contains(ask, "$ABOUT") {
			t.Errorf("%s: the question is about nothing of this attempt", l.Name)
		}
		for _, own := range []string{"NONCE", "$(pick ", "await ", "$(pid "} {
			if strings.Contains(l.Run+l.Break, own) {
				t.Errorf("%s: nobody can type %q", l.Name, own)
			}
		}
	}
	if _, err := Find("4711"); err == nil {
		t.Error("there is a lesson 4711")
	}
}

// newAttempt has a directory of its own.
func newAttempt(t *testing.T) *Attempt {
	t.Helper()
	a := NewAttempt()
	a.Dir = filepath.Join(t.TempDir(), a.Name())
	if err := a.Begin("/bin/true"); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestScript(t *testing.T) {
	a := newAttempt(t)
	a.About = "something"
	var out bytes.Buffer
	const script = `pwd; echo $DIR $NAME $VALUE; pick a b c d; pick a b c d; minictr; echo to both >&2; await true; read x || echo no input`
	if err := a.Run(t.Context(), script, []string{"VALUE=1"}, &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if got, want := strings.Join(append(lines[:2:2], lines[4:]...), "|"), fmt.Sprintf("%s|%[1]s %s 1|to both|no input|", a.scratch(), a.Name()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if lines[2] != lines[3] || !strings.Contains("a b c d", lines[2]) {
		t.Errorf("it picked %q and %q", lines[2], lines[3])
	}
	if got, want := a.Fill("$NAME in $DIR: $ABOUT"), a.Name()+" in "+a.scratch()+": something"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := a.Run(t.Context(), "false; echo no", nil, &out); err == nil {
		t.Error("a script goes on after an error")
	}
	for answer, want := range map[string]bool{" 5\n": true, "5": true, "": false, "4": false} {
		if right, err := a.Right(t.Context(), "echo 5", nil, answer); right != want || err != nil {
			t.Errorf("%q: %v, %v", answer, right, err)
		}
	}
	for _, script := range []string{"true", "echo 5; exit 1"} {
		if right, err := a.Right(t.Context(), script, nil, ""); right || err == nil {
			t.Errorf("%q finds an answer: %v", script, right)
		}
	}
	if err := a.End(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(a.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestOthers is that nothing runs in a directory that is not there, a link or
// another user's, and that it is left alone.
func TestOthers(t *testing.T) {
	for name, take := range map[string]func(a *Attempt) error{
		"gone": func(a *Attempt) error { return os.Rename(a.Dir, a.Dir+"-old") },
		"a link": func(a *Attempt) error {
			return errors.Join(os.Rename(a.Dir, a.Dir+"-old"), os.Symlink(a.Dir+"-old", a.Dir))
		},
		"theirs": func(a *Attempt) error { return os.Lchown(a.Dir, 12345, 12345) },
		"short":  func(a *Attempt) error { a.Nonce = "12345"; return nil },
		"odd":    func(a *Attempt) error { a.Nonce = "123456"; return nil },
		"moved":  func(a *Attempt) error { a.Dir = filepath.Dir(a.Dir); return nil },
	} {
		if name == "theirs" && os.Geteuid() != 0 {
			continue // it needs root
		}
		a := newAttempt(t)
		if !a.Ours() {
			t.Fatalf("%s is not ours", a.Dir)
		}
		if err := take(a); err != nil {
			t.Fatal(err)
		}
		ran := filepath.Join(t.TempDir(), "ran")
		err := errors.Join(a.Clean(t.Context(), "touch "+ran, nil), a.End())
		if _, e := os.Stat(ran); err != nil || e == nil || a.Ours() {
			t.Errorf("%s: %v, %v", name, err, e)
		}
		if _, err := os.Lstat(a.Dir); (err != nil) != (name == "gone") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLeftBehind is that what a script leaves, and what is cut short, is found
// and ended, even in a session of its own; and nothing else.
func TestLeftBehind(t *testing.T) {
	a, other := newAttempt(t), newAttempt(t)
	const leave = "setsid sleep 100 & sleep 101 & echo $!"
	for _, a := range []*Attempt{a, other} {
		if err := a.Ask(t.Context(), leave, nil); err != nil || a.About == "" {
			t.Fatalf("%q, %v", a.About, err)
		}
	}
	ctx, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	if err := a.Run(ctx, "sleep 102; sleep 103", nil, new(bytes.Buffer)); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if err := a.Kill(); err != nil {
		t.Error(err)
	}
	if environ := running(t); strings.Contains(environ, a.mark()) || !strings.Contains(environ, other.mark()) {
		t.Errorf("%s still runs, or %s does not", a.Name(), other.Name())
	}
	if err := other.Kill(); err != nil {
		t.Error(err)
	}
	if strings.Contains(running(t), other.mark()) {
		t.Errorf("%s still runs", other.Name())
	}
}

// TestStranger is that a process of another user is nobody's to kill, whatever
// its environment says.
func TestStranger(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	a := newAttempt(t)
	cmd := exec.Command("chroot", "--userspec=12345:12345", "/", "sh", "-c", "echo; exec sleep 100")
	cmd.Env = []string{a.mark()}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		_, err = out.Read(make([]byte, 1)) // it is theirs
	}
	if err = errors.Join(err, a.Kill()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(running(t), a.mark()) {
		t.Error("it was killed")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // it was killed
}

// TestPatience is that a script without an end is told of, where a machine or a
// daemon has to come up later than elsewhere.
func TestPatience(t *testing.T) {
	for needs, want := range map[string]time.Duration{"root": time.Minute, "root vm": 3 * time.Minute, "root dockerd": 3 * time.Minute} {
		ctx, stop := (&Lesson{Needs: strings.Fields(needs)}).Patience(t.Context())
		if end, ok := ctx.Deadline(); !ok || time.Until(end) > want || time.Until(end) < want-10*time.Second {
			t.Errorf("%s: until %v", needs, end)
		}
		stop()
	}
	ctx, stop := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errors.New("it did not end"))
	defer stop()
	if err := newAttempt(t).Run(ctx, "while :; do :; done", nil, new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), "it did not end") {
		t.Error(err)
	}
}

// running is the environment of all processes.
func running(t *testing.T) string {
	t.Helper()
	out, _ := exec.Command("sh", "-c", "cat /proc/[0-9]*/environ 2>/dev/null").Output()
	return string(out)
}

// TestProgress is that no answer is lost where many are given at once.
func TestProgress(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	p, err := Local()
	if err != nil {
		t.Fatal(err)
	}
	if all, err := p.Read(); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	const many = 20
	var wait sync.WaitGroup
	for i := range many {
		wait.Go(func() {
			if err := p.Update(&Lesson{Name: fmt.Sprint(i % 2)}, func(r *Record) { r.Attempts++ }); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	all, err := p.Read()
	if text, _ := json.Marshal(all); err != nil || string(text) != `{"0":{"attempts":10},"1":{"attempts":10}}` {
		t.Errorf("%s, %v", text, err)
	}
	if err := os.WriteFile(p.file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Read(); err == nil || !strings.Contains(err.Error(), p.file) {
		t.Error(err)
	}
}
