package integration_test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// strace runs minictr under strace(1) and returns what each thread did.
// Everything is printed in full: -v and a string limit above every string.
func (h host) strace(t *testing.T, args ...string) map[int][]traced {
	t.Helper()
	prefix := filepath.Join(temp(t), "trace")
	cmd := h.command(args...)
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("strace is not installed (Debian: strace)")
	}
	cmd.Args = append([]string{strace, "-ff", "-v", "-s", "65536", "-qq", "--signal=none", "-o", prefix, "--", program}, cmd.Args[1:]...)
	cmd.Path = strace
	if r := finish(t, cmd); r.status != 0 {
		t.Fatalf("strace minictr %q: %v", args, r)
	}
	return readTrace(t, prefix)
}

// printedPlan is what minictr plan prints.
func (h host) printedPlan(t *testing.T, args ...string) (p printed) {
	t.Helper()
	text := h.must(t, append([]string{"plan", "--format", "json"}, args...)...)
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPrintedIsWhatRuns holds strace's record of a run against the plan that
// is printed of it: the plan predicts every call of the container's process,
// from its birth to its program, and none is left over.
func TestPrintedIsWhatRuns(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*specs.Spec)
	}{
		{"default", func(*specs.Spec) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			s := newSpec("traced", "true")
			c.edit(s)
			dir := newBundle(t, s, "traced")
			p := h.printedPlan(t, dir)
			walked(t, p, h.strace(t, "run", "--bundle", dir, "traced"))
		})
	}
}
