package integration_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMonitorHoldsNothing has a caller with a descriptor and a directory of its
// own: the monitor has neither.
func TestMonitorHoldsNothing(t *testing.T) {
	h := newEngine(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := h.command("run", "-d", "tiny", "sleep", "1000")
	cmd.Dir = temp(t)
	for range 5 {
		cmd.ExtraFiles = append(cmd.ExtraFiles, w)
	}
	result := finish(t, cmd)
	if result.status != 0 {
		t.Fatal(result)
	}
	id := strings.TrimSpace(result.stdout)
	defer h.must(t, "rm", "-f", id)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_ = r.SetReadDeadline(time.Now().Add(10 * time.Second)) // to see a pipe that never ends
	if _, err := io.ReadAll(r); err != nil {
		t.Errorf("the caller's pipe: %v", err)
	}
	monitor := h.status(t, id)["Monitor"].(float64)
	if dir, err := os.Readlink(fmt.Sprintf("/proc/%.0f/cwd", monitor)); dir != "/" {
		t.Errorf("the monitor is in %q, %v", dir, err)
	}
}

// TestKilledWithVolume kills a run with a volume of its container's alone, and the
// container with it: the next command removes the volume.
func TestKilledWithVolume(t *testing.T) {
	h := newEngine(t)
	file := temp(t) + "/id"
	cmd := h.command("run", "--cidfile", file, "-v", "/data", "-v", "kept:/kept", "tiny", "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it runs", func() bool {
		id, _ := os.ReadFile(file)
		return len(id) > 0 && strings.Contains(h.must(t, "ps"), string(id))
	})
	if n := strings.Count(h.must(t, "volume", "ls", "-q"), "\n"); n != 2 {
		t.Errorf("%d volumes", n)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	h.minictr(t, "ps")
	if out := h.must(t, "volume", "ls", "-q"); out != "kept\n" {
		t.Errorf("volumes are left: %q", out)
	}
	h.must(t, "volume", "rm", "kept")
}

// TestStatusTorn has a power cut leave an empty file of a container: that one has
// ended, and the others are as they are.
func TestStatusTorn(t *testing.T) {
	h := newEngine(t)
	torn, other := h.detached(t, "tiny", "sleep", "1000"), h.detached(t, "tiny", "sleep", "1000")
	h.killMonitor(t, torn)
	files, _ := filepath.Glob(filepath.Join(h.root, "containers", "*-"+torn, "status.json"))
	if err := os.WriteFile(files[0], nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := h.minictr(t, "ps", "-q"); r.stdout != other+"\n" || r.status != 0 || !strings.Contains(r.stderr, "it ended when the host did") {
		t.Errorf("the next command: %v", r)
	}
	if r := h.minictr(t, "start", torn); r.status != 0 || r.stderr != "" {
		t.Errorf("it starts again: %v", r)
	}
}

// TestRecordTorn empties the record of a container: the next commands name it, and
// it can be removed by force.
func TestRecordTorn(t *testing.T) {
	h := newEngine(t)
	torn := strings.TrimSpace(h.must(t, "create", "--name", "torn", "tiny", "true"))
	files, _ := filepath.Glob(filepath.Join(h.root, "containers", "*-"+torn, "container.json"))
	if err := os.WriteFile(files[0], nil, 0o600); err != nil {
		t.Fatal(err)
	}
	other := h.detached(t, "tiny", "sleep", "1000")
	if r := h.minictr(t, "ps", "-q"); r.stdout != other+"\n" || !strings.Contains(r.stderr, "minictr rm -f "+torn) {
		t.Errorf("ps: %v", r)
	}
	h.must(t, "rm", "-f", "torn")
	if out := h.must(t, "ps", "-a", "-q"); out != other+"\n" {
		t.Errorf("left: %q", out)
	}
	h.must(t, "rm", "-f", h.detached(t, "--name", "torn", "tiny", "sleep", "1000"))
}
