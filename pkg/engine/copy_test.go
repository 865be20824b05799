package engine

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/spec"
	"github.com/minictr/minictr/pkg/sys"
	"github.com/minictr/minictr/pkg/volume"
)

// stopped makes an engine with a container that has ended, named box, with a
// volume at /data and a read-only one at /ro.
func stopped(t *testing.T, edit func(*specs.Spec)) (*Engine, *Container) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	top := t.TempDir()
	e := &Engine{Root: top + "/data", Runtime: container.Runtime{Root: top + "/run"}, Messages: io.Discard}
	err := errors.Join(os.MkdirAll(top+"/tree/etc", 0o755), os.WriteFile(top+"/tree/etc/old", []byte("old"), 0o644),
		os.WriteFile(top+"/tree/etc/gone", []byte("gone"), 0o644), os.Symlink("/etc", top+"/tree/link"))
	if err != nil {
		t.Fatal(err)
	}
	img, err := e.ImportDir(t.Context(), top+"/tree", "img", Making{})
	if err != nil {
		t.Fatal(err)
	}
	template, err := templateOf(img)
	if err != nil {
		t.Fatal(err)
	}
	const id = "0123456789ab"
	s, _, err := Spec(id, template, Options{Image: "img"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"v", "r"} {
		if _, err := e.Volumes().Create(volume.Volume{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	s.Mounts = append(s.Mounts, specs.Mount{Type: "bind", Source: e.Volumes().Path("v"), Destination: "/data/v", Options: []string{"rbind"}},
		specs.Mount{Type: "bind", Source: e.Volumes().Path("r"), Destination: "/ro", Options: []string{"rbind", "ro"}},
		specs.Mount{Type: "bind", Source: top + "/none", Destination: "/none", Options: []string{"rbind"}})
	if edit != nil {
		edit(s)
	}
	c := &Container{ID: id, Name: "box", ImageID: img.ID.String(), Command: []string{"program"}, dir: e.bundle(id), engine: e}
	if err := errors.Join(os.MkdirAll(c.dir, 0o755), bundle(c.dir, img, s), c.writeRecord(), c.writeStatus(Status{Phase: Exited}), e.takeName("box", id)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil || bytes.Contains(mounts, []byte(top)) {
			t.Errorf("mounts are left: %v", err)
		}
	})
	return e, c
}

// TestStopped copies files of a container that has ended, lists its changes, and
// makes an image and a tar of it.
func TestStopped(t *testing.T) {
	e, c := stopped(t, nil)
	host := t.TempDir()
	if err := os.WriteFile(host+"/new", []byte("new"), 0o640); err != nil {
		t.Fatal(err)
	}
	for _, dst := range []string{"/link/new", "/data/v/new"} {
		if _, err := e.CopyTo(t.Context(), host+"/new", "box", dst, CopyOptions{}); err != nil {
			t.Fatal(dst, err)
		}
	}
	if _, err := e.CopyTo(t.Context(), host+"/new", "box", "/ro", CopyOptions{}); !errors.Is(err, unix.EROFS) {
		t.Errorf("into a read-only volume: %v", err)
	}
	for _, file := range []string{c.dir + "/upper/etc/new", e.Volumes().Path("v") + "/new"} {
		if text, err := os.ReadFile(file); string(text) != "new" {
			t.Error(err)
		}
	}
	if err := unix.Mknod(c.dir+"/upper/etc/gone", unix.S_IFCHR, 0); err != nil {
		t.Fatal(err)
	}
	if n, err := e.CopyFrom(t.Context(), c.ID[:4], "/link/", host, CopyOptions{}); err != nil || n == 0 {
		t.Fatal(n, err)
	}
	entries, err := os.ReadDir(host + "/link")
	if err != nil || len(entries) != 2 || entries[0].Name() != "new" || entries[1].Name() != "old" {
		t.Errorf("copied: %v, %v", entries, err)
	}

	list, err := e.Diff("box")
	if got := fmt.Sprint(list); err != nil || got != "[A /data C /etc D /etc/gone A /etc/new]" {
		t.Errorf("diff: %s, %v", got, err)
	}
	var archive bytes.Buffer
	if err := e.Export("box", &archive); err != nil {
		t.Error(err)
	}
	if names := entriesOf(t, &archive); !slices.Contains(names, "etc/new") || slices.Contains(names, "etc/gone") || slices.Contains(names, "data/v/new") {
		t.Errorf("export: %q", names)
	}
	img, err := e.Commit(t.Context(), "box", "made", true, Making{})
	if err != nil {
		t.Fatal(err)
	}
	if text, err := img.ReadFile("/etc/new"); string(text) != "new" || len(img.Layers) != 2 {
		t.Errorf("commit: %q, %d layers, %v", text, len(img.Layers), err)
	}
	if err := e.Volumes().Remove("v", e.VolumeUsers); !errors.Is(err, volume.ErrInUse) || !strings.Contains(err.Error(), "[box]") {
		t.Errorf("a volume in use: %v", err)
	}

	fd, err := sys.LockDir(c.dir, unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.CopyOut("box", "/etc", io.Discard, CopyOptions{}); err == nil || !strings.Contains(err.Error(), "just starting") {
		t.Errorf("while a monitor has it: %v", err)
	}
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
}

func entriesOf(t *testing.T, r io.Reader) (names []string) {
	t.Helper()
	for archive := tar.NewReader(r); ; {
		hdr, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, strings.TrimSuffix(hdr.Name, "/"))
	}
}

// TestCopyPowerless copies a container's program, which changes its user and has
// capabilities: as this user's file it has no such power, as its own it has.
func TestCopyPowerless(t *testing.T) {
	e, c := stopped(t, func(*specs.Spec) {})
	program, host := filepath.Join(c.dir, "upper", "program"), t.TempDir()
	capable := []byte{0, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} // CAP_NET_RAW, struct vfs_cap_data
	err := errors.Join(os.MkdirAll(filepath.Dir(program), 0o755), os.WriteFile(program, nil, 0o755), os.Lchown(program, 0, 0), os.Chmod(program, 0o755|os.ModeSetuid|os.ModeSetgid),
		unix.Setxattr(program, "security.capability", capable, 0))
	if err != nil {
		t.Fatal(err)
	}
	for file, archive := range map[string]bool{"ours": false, "its": true} {
		_, err := e.CopyFrom(t.Context(), "box", "/program", filepath.Join(host, file), CopyOptions{Archive: archive})
		info, e := os.Stat(filepath.Join(host, file))
		if err = errors.Join(err, e); err != nil {
			t.Fatal(err)
		}
		_, capability := unix.Lgetxattr(filepath.Join(host, file), "security.capability", nil)
		if powerful := info.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0; powerful != archive || (capability == nil) != archive {
			t.Errorf("%s: %v, capabilities %v", file, info.Mode(), capability)
		}
	}
}

// TestStoppedUserNamespace has owners be what they are in the container.
func TestStoppedUserNamespace(t *testing.T) {
	e, c := stopped(t, func(s *specs.Spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 1000}}
		s.Linux.GIDMappings = []specs.LinuxIDMapping{{HostID: 200000, Size: 1000}}
	})
	if _, err := spec.Load(c.dir); err != nil {
		t.Fatal(err)
	}
	host := t.TempDir()
	for name, owner := range map[string]int{"root": 0, "user": 999, "nobody": 65534} {
		if err := errors.Join(os.WriteFile(filepath.Join(host, name), nil, 0o644), os.Lchown(filepath.Join(host, name), owner, owner)); err != nil {
			t.Fatal(err)
		}
		_, err := e.CopyTo(t.Context(), filepath.Join(host, name), "box", "/etc", CopyOptions{})
		var stat unix.Stat_t
		if e := unix.Stat(filepath.Join(c.dir, "upper/etc", name), &stat); name == "nobody" {
			if err == nil || !strings.Contains(err.Error(), "nobody's") {
				t.Errorf("%s: %v", name, err)
			}
		} else if err != nil || e != nil || int(stat.Uid) != 100000+owner || int(stat.Gid) != 200000+owner {
			t.Errorf("%s: %d:%d, %v", name, stat.Uid, stat.Gid, errors.Join(err, e))
		}
	}
	var archive bytes.Buffer
	if err := e.CopyOut("box", "/etc/user", &archive, CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	if hdr, err := tar.NewReader(&archive).Next(); err != nil || hdr.Uid != 999 || hdr.Gid != 999 {
		t.Errorf("%+v, %v", hdr, err)
	}
}
