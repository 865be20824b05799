package integration_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestCopyUpBounded has files copied into a new file system: holes stay holes,
// and no more is copied than the memory that the container may have, since the
// kernel counts it as the runtime's.
func TestCopyUpBounded(t *testing.T) {
	h := newHost(t)
	limit := int64(32 << 20)
	for _, c := range []struct {
		name          string
		written, size int64
		want          string
	}{
		{"a hole", 1 << 20, 1 << 36, "68719476736 "},
		{"more than may be", 33 << 20, 33 << 20, "more to copy than the memory that the container may have"},
	} {
		s := newSpec("copyup", "sh", "-c", "ls -l /data")
		s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
		s.Mounts = append(s.Mounts, specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: "/data", Options: []string{"tmpcopyup"}})
		dir := newBundle(t, s, "copyup")
		file := filepath.Join(dir, "rootfs/data/file")
		if err := os.Mkdir(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, make([]byte, c.written), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(file, c.size); err != nil {
			t.Fatal(err)
		}
		if r := h.minictr(t, "run", "--bundle", dir, "copyup"); !strings.Contains(r.stdout+r.stderr, c.want) {
			t.Errorf("%s: no %q: %v", c.name, c.want, r)
		}
	}
}
