package integration_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// look is what a container tells of itself, in parts.
const look = `for f in self/mountinfo self/status self/limits self/cgroup; do echo "== $f"; cat /proc/$f; done
echo "== dev"; ls -l /dev
echo "== pts"; ls -l /dev/pts
echo "== env"; env
echo "== id"; id; pwd; hostname
echo "== ids"; readlink /proc/self/fd/0; cat /proc/self/oom_score_adj
for p in /proc/keys /proc/kcore /proc/timer_list /proc/acpi /sys/firmware; do ls -l $p; done 2>&1`

func TestPeers(t *testing.T) {
	h := newHost(t)
	s := newSpec("peer", "sh", "-c", look)
	s.Version = "1.0.2" // what Debian's crun knows
	dir := newBundle(t, s, "peer")
	for _, peer := range [][]string{
		append(h.command().Args, "run", "--bundle", dir, "peer"),
		{"runc", "--root", filepath.Join(temp(t), "runc"), "run", "--bundle", dir, "peer"},
		{"crun", "--root", filepath.Join(temp(t), "crun"), "run", "--bundle", dir, "peer"},
	} {
		cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c", `mount -t tmpfs none /sys/fs/cgroup/unified && exec "$@"`, "sh"}, peer...)...)
		r := finish(t, cmd)
		name := filepath.Base(peer[0])
		if err := os.WriteFile("/tmp/x/peer."+name, []byte(r.stdout), 0o644); err != nil {
			t.Fatal(err)
		}
		if r.status != 0 || strings.TrimSpace(r.stderr) != "" {
			t.Error(name, r)
		}
	}
}
