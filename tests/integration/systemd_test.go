package integration_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/minictr/minictr/tests/systemd"
)

// TestSystemd has a systemd that is process 1 of a container make the cgroups
// of another, inside, on this host's kind of cgroups. tests/vm does the same
// with version 2.
func TestSystemd(t *testing.T) {
	h := newHost(t)
	dir := filepath.Join(temp(t), "systemd")
	if err := systemd.Bundle(dir, program); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := h.command("run", "--detach", "--bundle", dir, "systemd")
	cmd.Stdout, cmd.Stderr = out, out
	t.Cleanup(func() { h.must(t, "delete", "--force", "systemd") })
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if r := h.minictr(t, "exec", "systemd", "sh", "/check"); r.stdout+r.stderr != systemd.Want+systemd.WantNone {
		said, _ := os.ReadFile(out.Name())
		t.Errorf("%s%s\nwanted:\n%s\nsystemd says: %s", r.stdout, r.stderr, systemd.Want+systemd.WantNone, said)
	}
}
