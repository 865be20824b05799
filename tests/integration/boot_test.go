package integration_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestBoot is the unit that starts containers at boot: systemd takes it, and its
// command starts those that a shutdown has ended, and none that a person has.
func TestBoot(t *testing.T) {
	h := newEngine(t)
	text, err := os.ReadFile("../../docs/minictr-restart.service")
	if err != nil {
		t.Fatal(err)
	}
	const installed = "/usr/local/bin/minictr"
	unit := filepath.Join(temp(t), "minictr-restart.service")
	if err := os.WriteFile(unit, []byte(strings.ReplaceAll(string(text), installed, program)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", unit).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze (Debian: systemd): %v: %s", err, out)
	}

	for name, policy := range map[string]string{"always": "always", "mine": "unless-stopped", "stopped": "unless-stopped", "once": "no"} {
		h.detached(t, "--name", name, "--restart", policy, "tiny", "sh", "-c", "trap 'exit 7' TERM; while true; do sleep 0.1; done")
	}
	h.must(t, "stop", "-t", "0", "stopped")
	for _, name := range []string{"always", "mine", "once"} { // what systemd does to all that is left
		id := strings.TrimSpace(h.must(t, "ps", "-q", "-f", "name=^"+name+"$"))
		if err := unix.Kill(int(h.status(t, id)["Monitor"].(float64)), unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all have ended", func() bool { return h.must(t, "ps", "-q") == "" })

	_, command, _ := strings.Cut(string(text), "ExecStart="+installed+" ")
	command, _, _ = strings.Cut(command, "\n")
	h.must(t, strings.Fields(command)...)
	running := strings.Fields(h.must(t, "ps", "--format", "{{.Names}}"))
	if len(running) != 2 || strings.Contains(strings.Join(running, " "), "stopped") || strings.Contains(strings.Join(running, " "), "once") {
		t.Errorf("after a boot there run %q", running)
	}
}
