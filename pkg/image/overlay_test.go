package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// overlayLayers hide, replace and add in every way there is.
func overlayLayers(t *testing.T) [][]byte {
	symlink := func(name, target string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}
	}
	return [][]byte{
		tarOf(t, file("a/keep", "1"), file("a/gone", "1"), file("a/changed", "1"), file("opaque/old", "1"),
			file("dir/old", "1"), file("redone/old", "1"), file("todir", "1"), file("tofile/x", "1"),
			file("usr/bin/sh", "sh"), symlink("bin", "usr/bin"), symlink("abs", "/usr"), symlink("up", "../../a"), symlink("loop", "loop"),
			symlink("dangling", "nothing"), file("etc/passwd", "root:x:0:0::/root:/bin/sh\n")),
		tarOf(t, file("a/.wh.gone", ""), file("a/changed", "2"), file("opaque/.wh..wh..opq", ""), file("opaque/new", "2"),
			file(".wh.dir", ""), file(".wh.redone", ""), file("redone/new", "2"), file("todir/x", "2"), file("tofile", "2"),
			symlink("etc/alias", "passwd"), symlink("viaup", "up/keep")),
		tarOf(t, file("a/again", "3"), file("dir/new", "3"), file("opaque/newer", "3"), symlink("chain", "abs/bin/../../bin/sh")),
	}
}

// TestOverlay stacks an image with the kernel's overlayfs, which must show
// what the image-spec says, and ReadFile the same.
func TestOverlay(t *testing.T) {
	needRoot(t)
	img := load(t, openStore(t), "stacked", overlayLayers(t)...)
	want := "a/ a/again=3 a/changed=2 a/keep=1 abs>/usr bin>usr/bin chain>abs/bin/../../bin/sh dangling>nothing dir/ dir/new=3" +
		" etc/ etc/alias>passwd etc/passwd=root:x:0:0::/root:/bin/sh\n loop>loop opaque/ opaque/new=2 opaque/newer=3" +
		" redone/ redone/new=2 todir/ todir/x=2 tofile=2 up>../../a usr/ usr/bin/ usr/bin/sh=sh viaup>up/keep"
	dir := t.TempDir()
	inOverlay(t, img, dir, func() {
		if got := strings.ReplaceAll(listing(t, dir), "/opaque ", "/ "); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			name := strings.TrimPrefix(path, dir)
			if got, err := img.ReadFile(name); err != nil || string(got) != string(content) {
				t.Errorf("ReadFile %s: got %q, %v, want %q", name, got, err, content)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestOverlayFull stacks as many layers as an image may have.
func TestOverlayFull(t *testing.T) {
	needRoot(t)
	var layers [][]byte
	for i := range int(DefaultLimits.Layers) {
		layers = append(layers, tarOf(t, file(fmt.Sprint("f", i), "x"), file("last", fmt.Sprint(i))))
	}
	img := load(t, openStore(t), "", layers...)
	dir := t.TempDir()
	inOverlay(t, img, dir, func() {
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != int(DefaultLimits.Layers)+1 {
			t.Errorf("got %d entries, %v", len(entries), err)
		}
	})
}

// inOverlay runs do where the image is mounted on dir. Below a single layer is
// an empty one, for overlayfs does not take one alone.
func inOverlay(t *testing.T, img *Image, dir string, do func()) {
	t.Helper()
	empty := t.TempDir()
	inMountNamespace(t, func() error {
		images, lower, err := img.Lower()
		if err != nil {
			return err
		}
		if err := unix.Chdir(images); err != nil {
			return os.NewSyscallError("chdir", err)
		}
		if len(lower) == 1 {
			lower = append(lower, empty)
		}
		options := "lowerdir=" + strings.Join(lower, ":")
		if err := unix.Mount("overlay", dir, "overlay", unix.MS_RDONLY, options); err != nil {
			return os.NewSyscallError("mount overlay "+options, err)
		}
		do()
		return os.NewSyscallError("umount2", unix.Unmount(dir, 0))
	})
}

// inMountNamespace runs do on a thread with a mount namespace and a working
// directory of its own. The thread dies afterwards, and the mounts with it.
func inMountNamespace(t *testing.T, do func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = do()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestReadFile(t *testing.T) {
	needRoot(t)
	layers := append(overlayLayers(t), tarOf(t, file("big", strings.Repeat("x", maxReadFile+1)), tar.Header{Name: "fifo", Typeflag: tar.TypeFifo}))
	img := load(t, openStore(t), "", layers...)
	tests := []struct{ name, want, wantErr string }{
		{"etc/passwd", "root:x:0:0::/root:/bin/sh\n", ""},
		{"/etc/../etc//./passwd", "root:x:0:0::/root:/bin/sh\n", ""},
		{"../../etc/alias", "root:x:0:0::/root:/bin/sh\n", ""},
		{"bin/sh", "sh", ""},
		{"abs/bin/sh", "sh", ""},
		{"up/keep", "1", ""},
		{"viaup", "1", ""},
		{"chain", "sh", ""},
		{"a/gone", "", "no such file"},
		{"opaque/old", "", "no such file"},
		{"redone/old", "", "no such file"},
		{"dir/old", "", "no such file"},
		{"tofile/x", "", "not a directory"},
		{"dangling", "", "no such file"},
		{"loop", "", "too many levels"},
		{"a", "", "is a directory"},
		{"", "", "is a directory"},
		{"fifo", "", "is not a regular file"},
		{"big", "", "more than 1048576 bytes"},
	}
	for _, tt := range tests {
		content, err := img.ReadFile(tt.name)
		if string(content) != tt.want || (tt.wantErr == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.wantErr) {
			t.Errorf("%s: got %q, %v, want %q, %q", tt.name, content, err, tt.want, tt.wantErr)
		}
		if tt.wantErr == "no such file" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v is not fs.ErrNotExist", tt.name, err)
		}
	}
}
