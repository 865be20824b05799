package integration_test

import (
	"os"
	"path/filepath"
	"strconv"
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

// TestCopyUpDeep has a tree copied that is as deep as may be, and a deeper one;
// and more files than the memory of both mounts together has room for.
func TestCopyUpDeep(t *testing.T) {
	h := newHost(t)
	s := newSpec("deep", "sh", "-c", "echo copied")
	for _, at := range [...]string{"/data", "/more"} {
		s.Mounts = append(s.Mounts, specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: at, Options: []string{"tmpcopyup"}})
	}
	limit := int64(8 << 20)
	s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
	dir := newBundle(t, s, "deep")
	for _, c := range []struct {
		depth, files int
		want         string
	}{
		{199, 1, "copied\n"},
		{200, 1, "more than 200 directories in one another"},
		{1, 3000, "copied\n"},
		{1, 5000, "more to copy than the memory"},
	} {
		for _, at := range [...]string{"data", "more"} {
			top := filepath.Join(dir, "rootfs", at)
			if err := os.RemoveAll(top); err != nil {
				t.Fatal(err)
			}
			deep := filepath.Join(top, strings.Repeat("d/", c.depth))
			if err := os.MkdirAll(deep, 0o755); err != nil {
				t.Fatal(err)
			}
			for i := range c.files {
				if err := os.WriteFile(filepath.Join(deep, strconv.Itoa(i)), nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		if r := h.minictr(t, "run", "--bundle", dir, "deep"); !strings.Contains(r.stdout+r.stderr, c.want) || len(r.stderr) > 2000 {
			t.Errorf("%d deep, %d files: no %q: %v", c.depth, c.files, c.want, r)
		}
	}
}
