package image

import (
	"archive/tar"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestUnpack compares the tree that Unpack makes with what overlayfs shows.
func TestUnpack(t *testing.T) {
	needRoot(t)
	layers := append(overlayLayers(t), tarOf(t,
		tar.Header{Name: "a/", Mode: 0o2750, Uid: 3, Gid: 4},
		file("a/first", "linked"), tar.Header{Name: "a/second", Typeflag: tar.TypeLink, Linkname: "a/first"},
		tar.Header{Name: "suid", Gname: "x", Mode: 0o4755, PAXRecords: map[string]string{paxXattr + "security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}},
		tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0o666},
		tar.Header{Name: "pipe", Typeflag: tar.TypeFifo, Uid: 7},
		tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/nowhere", Uid: 8, Gid: 9},
		file("holes", strings.Repeat("\x00", 3<<20)+"end")))
	img := load(t, openStore(t), "x", layers...)
	dir, mount := filepath.Join(t.TempDir(), "tree"), t.TempDir()
	left, err := img.Unpack(t.Context(), dir, true)
	if err != nil || len(left) != 0 {
		t.Fatalf("left %v, %v", left, err)
	}
	inOverlay(t, img, mount, func() { diff(t, snapshot(t, dir), snapshot(t, mount)) })
	var first, second, holes unix.Stat_t
	for name, stat := range map[string]*unix.Stat_t{"a/first": &first, "a/second": &second, "holes": &holes} {
		if err := unix.Stat(filepath.Join(dir, name), stat); err != nil {
			t.Fatal(err)
		}
	}
	if first.Ino != second.Ino {
		t.Error("the hard link is another file")
	}
	if holes.Blocks*512 > 1<<20 {
		t.Errorf("the hole takes %d bytes", holes.Blocks*512)
	}
}

// TestUnpackDevices leaves out what nothing guards.
func TestUnpackDevices(t *testing.T) {
	needRoot(t)
	img := load(t, openStore(t), "x", tarOf(t, tar.Header{Name: "sda", Typeflag: tar.TypeBlock, Devmajor: 8}, file("f", "x")))
	dir := t.TempDir() // empty, as it may be
	left, err := img.Unpack(t.Context(), dir, false)
	if err != nil || !slices.Equal(left, []string{"sda"}) {
		t.Errorf("left %v, %v", left, err)
	}
	if got := listing(t, dir); got != "f=x" {
		t.Errorf("got %s", got)
	}
	if _, err := img.Unpack(t.Context(), dir, false); !errors.Is(err, unix.ENOTEMPTY) {
		t.Errorf("got %v", err)
	}
}

// TestMakeDir takes what a killed process has left, and not what one is making.
func TestMakeDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	partial := filepath.Join(filepath.Dir(dir), ".dir.minictr-partial")
	if err := os.MkdirAll(filepath.Join(partial, "left"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := MakeDir(dir, func(path string) error {
		if entries, err := os.ReadDir(path); err != nil || path != partial || len(entries) != 0 {
			t.Errorf("got %s, %v, %v", path, entries, err)
		}
		if err := MakeDir(dir, func(string) error { return nil }); !errors.Is(err, unix.EWOULDBLOCK) {
			t.Errorf("a second: %v", err)
		}
		return os.WriteFile(filepath.Join(path, "f"), nil, 0o600)
	})
	if err != nil || !exists(filepath.Join(dir, "f")) || exists(partial) {
		t.Errorf("got %v", err)
	}
	other := dir + "2"
	if err := MakeDir(other, func(string) error { return fs.ErrInvalid }); !errors.Is(err, fs.ErrInvalid) || exists(other) || exists(filepath.Join(filepath.Dir(dir), ".dir2.minictr-partial")) {
		t.Errorf("got %v", err)
	}
}
