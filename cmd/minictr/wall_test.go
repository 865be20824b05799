package main

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/minictr/minictr/pkg/container"
)

// TestPrintable wants nothing that a terminal obeys: 0x9b alone begins a
// sequence there, and text may not run backwards.
func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"a\tb 글 ─": "a\tb 글 ─", "\x1b[2J": `\x1b[2J`, "\x9b2J": "\uFFFD2J", "\u009b2J": `\x9b2J`, "\u202etxt.exe": `\x202etxt.exe`, "\u2066": `\x2066`,
	} {
		if got := printable(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestRuns takes no other process that has a container's PID by now for it.
func TestRuns(t *testing.T) {
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	const birth = 19 // behind the name: proc_pid_stat(5)
	born, err := strconv.ParseUint(strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))[birth], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	s := &container.State{ID: "box", PID: os.Getpid(), Birth: born, Phase: container.Created}
	if err := runs(s); err != nil {
		t.Error(err)
	}
	s.Birth++
	if err := runs(s); !errors.Is(err, container.ErrStopped) {
		t.Errorf("another's PID: %v", err)
	}
}
