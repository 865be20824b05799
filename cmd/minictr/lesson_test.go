package main

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/minictr/minictr/pkg/lesson"
)

// TestTwoTerminals is that of two attempts at a lesson the newer goes on, and
// that what is no attempt is in nobody's way.
func TestTwoTerminals(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	progress, err := lesson.Local()
	if err != nil {
		t.Fatal(err)
	}
	older, newer := &teacher{l: &lesson.Lesson{Name: "1-a"}, progress: progress}, &teacher{l: &lesson.Lesson{Name: "1-a"}, progress: progress}
	older.open, newer.open = &lesson.Attempt{Nonce: "short"}, lesson.NewAttempt()
	if err := older.keep(); err != nil {
		t.Error(err)
	}
	if err := older.resume(); err != nil || older.open != nil {
		t.Errorf("%v, %v", older.open, err)
	}
	older.open = lesson.NewAttempt()
	if err := newer.keep(); err != nil {
		t.Error(err)
	}
	if err := older.keep(); err == nil || !strings.Contains(err.Error(), "in another terminal") {
		t.Error(err)
	}
	if err := older.forget(); err != nil {
		t.Error(err)
	}
	if err := older.resume(); err != nil || older.open == nil || older.open.Nonce != newer.open.Nonce {
		t.Errorf("the newer one is lost: %v, %v", older.open, err)
	}
	if err := newer.forget(); err != nil {
		t.Error(err)
	}
	if err := newer.resume(); err != nil || newer.open != nil {
		t.Errorf("it is not forgotten: %v, %v", newer.open, err)
	}
}

// TestOneWish is that flags that ask for two things are refused.
func TestOneWish(t *testing.T) {
	for line, want := range map[string]string{
		"":                  "",
		"--list --json":     "",
		"7":                 "",
		"7 --check x":       "",
		"7 --list":          "with no NUMBER",
		"7 --json":          "with no NUMBER",
		"--list --hint":     "by themselves",
		"7 --check x -y":    "",
		"7 --hint --clean":  "--hint and --clean",
		"7 --check= --hint": "--check and --hint",
	} {
		flags := pflag.NewFlagSet("lesson", pflag.ContinueOnError)
		lessonCommand(flags)
		if err := flags.Parse(strings.Fields(line)); err != nil {
			t.Fatal(err)
		}
		_, err := (&call{flags: flags, args: flags.Args()}).wish()
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", line, err, want)
		}
	}
}
