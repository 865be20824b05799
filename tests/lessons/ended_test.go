package lessons_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bad is a lesson of a teacher's own, whose parts a test replaces.
const bad = `-- en --
title: A.

predict: B.

explain: C.

break: D.

ask: About $ABOUT?

hint: E.

hint: F.
-- ko --
title: 가.

predict: 나.

explain: 다.

break: 라.

ask: $ABOUT 은?

hint: 마.

hint: 바.
-- needs --
root sh
-- run --
echo run
-- see --
^run$
-- break --
echo break
-- broken --
^break$
-- setup --
minictr run --name $NAME-one tiny sleep 1000 &
minictr run --name $NAME-two tiny sleep 1000 &
await minictr exec $NAME-two true
setsid sleep 1000 &
echo it
-- answer --
echo $NONCE
-- solve --
echo $NONCE
-- clean --
[ ! -e clean-fails ]
`

// file writes the lesson with replacements.
func (s student) file(t *testing.T, replace ...string) string {
	t.Helper()
	file := filepath.Join(s.dir, "mine.txt")
	if err := os.WriteFile(file, []byte(strings.NewReplacer(replace...).Replace(bad)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestOwnLesson is a lesson from a file: the texts in one language and the
// other, the hints one by one, giving up, and what is said when it can't be
// done as it is written. In no case anything is left.
func TestOwnLesson(t *testing.T) {
	s := newStudent(t)
	for _, c := range []struct {
		name    string
		replace []string
		args    []string
		status  int
		want    []string
		left    bool // until it is cleaned
	}{
		{"good", nil, nil, 0, []string{"== Predict ==\n\nB.", "    echo run\n\nrun\n", "== Question ==\n\nAbout it?", "--check ANSWER"}, true},
		{"a hint", nil, []string{"--hint"}, 0, []string{"Hint 1 of 2 ==\n\nE."}, true},
		{"another", nil, []string{"--hint", "--lang", "ko"}, 0, []string{"힌트 2/2 ==\n\n바."}, true},
		{"no more hints", nil, []string{"--hint"}, 0, []string{"Hint 2 of 2 ==\n\nF."}, true},
		{"wrong", nil, []string{"--check", "E", "--lang", "both"}, 1, []string{"That is not it.", "답이 아닙니다."}, true},
		{"given up", nil, []string{"--clean"}, 0, nil, false},
		{"given up twice", nil, []string{"--clean"}, 0, nil, false},
		{"no question", nil, []string{"--hint"}, 125, []string{"has asked nothing: minictr lesson"}, false},
		{"not seen", []string{"^run$", "^ran$"}, nil, 125, []string{`nothing like "^ran$"`, "minictr doctor"}, false},
		{"not broken", []string{"echo break", "echo broken"}, nil, 125, []string{`nothing like "^break$"`}, false},
		{"failing", []string{"echo run", "echo run; minictr run tiny false"}, nil, 125, []string{"the experiment failed: exit status 1"}, false},
		{"leaving", []string{"echo run", "echo run; sleep 1000 &"}, nil, 125, []string{"the experiment failed: exec: WaitDelay expired"}, false},
		{"no setup", []string{"echo it", "echo because; exit 3"}, nil, 125, []string{"the question can't be made: exit status 3: because"}, false},
		{"missing", []string{"root sh", "root no-such-program"}, nil, 125, []string{`needs exec: "no-such-program": executable file not found in $PATH`}, false},
		{"bad", []string{"-- see --", "-- seen --"}, nil, 125, []string{"mine.txt: section seen: no lesson has such a section"}, false},
	} {
		said, status := s.lesson(t, append([]string{s.file(t, c.replace...), "--lang", "en"}, c.args...)...)
		if status != c.status {
			t.Errorf("%s: exit status %d, want %d\n%s", c.name, status, c.status, said)
		}
		for _, want := range c.want {
			if !strings.Contains(said, want) {
				t.Errorf("%s does not say %q:\n%s", c.name, want, said)
			}
		}
		if strings.Contains(said, "C.") && strings.HasPrefix(c.name, "not seen") {
			t.Errorf("%s explains what was not seen:\n%s", c.name, said)
		}
		if !c.left {
			s.nothingLeft(t, "")
		}
	}
	if said, status := s.lesson(t, "99"); status != 125 || !strings.Contains(said, "minictr lesson lists them") {
		t.Errorf("exit status %d: %s", status, said)
	}
}

// TestTakenOver is that no script runs in a directory that is another user's by
// now, and that the lesson lets go of it.
func TestTakenOver(t *testing.T) {
	s := newStudent(t)
	file := s.file(t, "echo $NONCE", "touch $DIR/../../ran; echo $NONCE", "[ !", "touch $DIR/../../ran; [ !")
	if said, status := s.lesson(t, file); status != 0 {
		t.Fatalf("exit status %d\n%s", status, said)
	}
	dirs, err := filepath.Glob(s.dir + "/tmp/minictr-lesson-*")
	if err != nil || len(dirs) != 1 {
		t.Fatalf("%q, %v", dirs, err)
	}
	if err := os.Lchown(dirs[0], 12345, 12345); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   []string
		status int
	}{{[]string{"--check", "x"}, 125}, {[]string{"--hint"}, 125}, {[]string{"--clean"}, 0}} {
		if said, status := s.lesson(t, append([]string{file}, c.args...)...); status != c.status {
			t.Errorf("%s: exit status %d\n%s", c.args, status, said)
		}
	}
	if left, err := os.ReadDir(s.dir + "/tmp"); err != nil || len(left) != 1 {
		t.Errorf("left is %v, %v", left, err)
	}
	if err := os.RemoveAll(dirs[0]); err != nil {
		t.Fatal(err)
	}
	s.nothingLeft(t, "")
}

// TestListing has the columns of both languages straight.
func TestListing(t *testing.T) {
	s := newStudent(t)
	for _, language := range []string{"en", "ko"} {
		said, status := s.lesson(t, "--lang", language)
		if rows := strings.Split(strings.TrimSpace(said), "\n"); status != 0 || len(rows) < 12 || !strings.Contains(rows[3], "  -           root") {
			t.Errorf("exit status %d\n%s", status, said)
		}
	}
	if said, status := s.lesson(t, "--json"); status != 0 || !strings.Contains(said, `"number": "11"`) {
		t.Errorf("exit status %d\n%s", status, said)
	}
}

// TestInterrupted is that nothing is left whenever Ctrl-C is pressed, and that
// what SIGKILL leaves is taken away by the next command.
func TestInterrupted(t *testing.T) {
	s := newStudent(t)
	file := s.file(t, "echo run", "echo run; minictr run --name $NAME tiny sleep 0.3", "echo it", "sleep 0.3; echo it")
	if out, err := s.command(t, "run", "tiny", "true").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	moments := 0
	for wait := 10 * time.Millisecond; ; wait = wait * 5 / 4 {
		for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGKILL} {
			cmd := s.command(t, "lesson", file)
			var said strings.Builder
			cmd.Stdout, cmd.Stderr = &said, &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(wait)
			_ = cmd.Process.Signal(sig)
			err := cmd.Wait()
			interrupted := strings.Contains(said.String(), "interrupted, and nothing is left of it")
			asked := strings.Contains(said.String(), "== Question ==") // it was just about to end by itself
			if sig == unix.SIGINT && err != nil && said.Len() > 0 && !interrupted && !asked {
				t.Errorf("after %v: %v\n%s", wait, err, said.String())
			}
			if !interrupted { // but killed, done, or not even begun
				if said, status := s.lesson(t, file, "--clean"); status != 0 {
					t.Errorf("after %v: exit status %d: %s", wait, status, said)
				}
			}
			s.nothingLeft(t, "")
			if moments++; err == nil { // it was done before
				t.Logf("%d moments, up to %v", moments, wait)
				return
			}
		}
	}
}

// TestInterruptedKeys is Ctrl-C on a terminal, while the lesson waits for Enter.
func TestInterruptedKeys(t *testing.T) {
	s := newStudent(t)
	cmd := s.command(t)
	cmd.Args = []string{
		"sh", "-c", `touch $2; sees() { until grep -q "$1" $2; do sleep 0.1; done; }
		(sees "Enter goes on" $2; echo; sees "echo run" $2; printf '\003'; sleep 0.5) | script -qefc "$0 lesson $1" $2`,
		cmd.Path, s.file(t), s.dir + "/said",
	}
	cmd.Path = "/bin/sh"
	out, err := cmd.CombinedOutput()
	if said := string(out); err == nil || !strings.Contains(said, "[Enter goes on, Ctrl-C ends]") ||
		!strings.Contains(said, "echo run") || strings.Contains(said, "== Explain ==") || !strings.Contains(said, "interrupted") {
		t.Errorf("%v\n%s", err, out)
	}
	s.nothingLeft(t, "")
}
