package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTree opens a directory as Find and Extract want it.
func openTree(t *testing.T, dir string) *os.File {
	t.Helper()
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func asIs(uid, gid int) (int, int, error) { return uid, gid, nil }

// write makes a file with what is in it, and the directories above it.
func write(t *testing.T, name, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// swapper exchanges two names, over and over, until the test ends.
func swapper(t *testing.T, a, b string) (count *atomic.Int64) {
	t.Helper()
	count = new(atomic.Int64)
	var stop atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for !stop.Load() {
			if unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE) == nil {
				count.Add(1)
			}
		}
	}()
	t.Cleanup(func() { stop.Store(true); <-ended })
	return count
}

// TestPackHostile packs a tree in which a directory is swapped for a link that
// leads out of it, and a file for a pipe: nothing from outside is in any
// archive, and nobody waits for the pipe.
func TestPackHostile(t *testing.T) {
	top := t.TempDir()
	root := filepath.Join(top, "root")
	write(t, filepath.Join(top, "outside/file"), "secret")
	write(t, filepath.Join(root, "d/dir/file"), "open")
	write(t, filepath.Join(root, "d/f"), "open")
	if err := errors.Join(os.Symlink("../../outside", filepath.Join(root, "d/link")), unix.Mkfifo(filepath.Join(root, "d/pipe"), 0o644)); err != nil {
		t.Fatal(err)
	}
	swaps := swapper(t, filepath.Join(root, "d/dir"), filepath.Join(root, "d/link"))
	swapper(t, filepath.Join(root, "d/f"), filepath.Join(root, "d/pipe"))
	dir := openTree(t, root)
	packed := 0
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		for _, name := range []string{"/d", "/d/dir/file", "/d/link/file", "/d/f"} {
			f, err := Find(dir, name, true)
			if err != nil {
				continue
			}
			var archive bytes.Buffer
			err = f.Pack(&archive, "name", asIs)
			_ = f.Dir.Close()
			if strings.Contains(archive.String(), "secret") {
				t.Fatalf("%s: what lies outside is in the archive", name)
			}
			if err == nil {
				packed++
			}
		}
	}
	if packed == 0 || swaps.Load() == 0 {
		t.Errorf("%d archives, %d swaps", packed, swaps.Load())
	}
}

// TestExtractHostile unpacks into a tree in which what has just been made is
// swapped for links that lead out: nothing outside changes.
func TestExtractHostile(t *testing.T) {
	top := t.TempDir()
	root, outside := filepath.Join(top, "root"), filepath.Join(top, "outside")
	write(t, filepath.Join(outside, "file"), "as it was")
	write(t, filepath.Join(root, "d/dir/file"), "old")
	for _, link := range [][2]string{{"../../outside", "d/link"}, {"../../outside/file", "d/filelink"}} {
		if err := os.Symlink(link[0], filepath.Join(root, link[1])); err != nil {
			t.Fatal(err)
		}
	}
	before := look(t, outside)
	swaps := swapper(t, filepath.Join(root, "d/dir"), filepath.Join(root, "d/link"))
	swapper(t, filepath.Join(root, "d/f"), filepath.Join(root, "d/filelink"))
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, h := range []tar.Header{
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o777},
		{Name: "d/f", Typeflag: tar.TypeReg, Mode: 0o4777, Uid: 77, Size: 4},
		{Name: "d/dir/", Typeflag: tar.TypeDir, Mode: 0o777, Uid: 77},
		{Name: "d/dir/file", Typeflag: tar.TypeReg, Mode: 0o4777, Uid: 77, Size: 4, PAXRecords: map[string]string{paxXattr + "user.x": "y"}},
		{Name: "d/dir/new", Typeflag: tar.TypeReg, Mode: 0o666, Size: 4},
		{Name: "d/dir/hard", Typeflag: tar.TypeLink, Linkname: "d/dir/file"},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, "evil"[:h.Size]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	dir := openTree(t, root)
	made, refused := 0, 0
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		if err := Extract(t.Context(), bytes.NewReader(archive.Bytes()), dir, asIs); err != nil {
			refused++
		} else {
			made++
		}
		if after := look(t, outside); after != before {
			t.Fatalf("outside was\n%s\nand is\n%s", before, after)
		}
	}
	if made+refused == 0 || swaps.Load() == 0 {
		t.Errorf("%d made, %d refused, %d swaps", made, refused, swaps.Load())
	}
}

// look tells all of a tree that a copy could change.
func look(t *testing.T, dir string) string {
	t.Helper()
	var text strings.Builder
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		var stat unix.Stat_t
		if err = errors.Join(err, unix.Lstat(name, &stat)); err != nil {
			return err
		}
		names, err := xattrsOf(name)
		fmt.Fprintln(&text, strings.TrimPrefix(name, dir), stat.Mode, stat.Uid, stat.Gid, stat.Size, stat.Nlink, stat.Mtim, names)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// TestExtractConflicts has a directory and a file meet.
func TestExtractConflicts(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: owners are set")
	}
	root := t.TempDir()
	write(t, filepath.Join(root, "dir/file"), "old")
	write(t, filepath.Join(root, ".wh.file"), "a name like others")
	for _, c := range []struct {
		hdr  tar.Header
		want string // of the error
	}{
		{tar.Header{Name: "dir", Typeflag: tar.TypeReg}, `cannot overwrite directory "dir" with non-directory`},
		{tar.Header{Name: "dir", Typeflag: tar.TypeSymlink, Linkname: "x"}, `cannot overwrite directory "dir" with non-directory`},
		{tar.Header{Name: "dir/file/", Typeflag: tar.TypeDir}, `cannot overwrite non-directory "dir/file" with directory`},
		{tar.Header{Name: "dir/file/below", Typeflag: tar.TypeReg}, `cannot overwrite non-directory "dir/file" with directory`},
		{tar.Header{Name: "../dir", Typeflag: tar.TypeReg}, "leaves the root"},
		{tar.Header{Name: "dir/file", Typeflag: tar.TypeReg, Mode: 0o600}, ""},
		{tar.Header{Name: ".wh.dir", Typeflag: tar.TypeReg, Mode: 0o600}, ""},
		{tar.Header{Name: "a/b/c", Typeflag: tar.TypeFifo, Mode: 0o600}, ""},
	} {
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		if err := errors.Join(w.WriteHeader(&c.hdr), w.Close()); err != nil {
			t.Fatal(err)
		}
		err := Extract(t.Context(), &archive, openTree(t, root), asIs)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.hdr.Name, err, c.want)
		}
	}
	if _, err := os.Lstat(filepath.Join(root, "dir")); err != nil {
		t.Error(err)
	}
}

// TestFind looks names up below a root that is not the host's.
func TestFind(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "x/y/file"), "")
	for link, target := range map[string]string{"abs": "/x/y", "x/up": "../x/y/file", "x/y/out": "../../../../../../x", "dangling": "/x/none", "loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	dir := openTree(t, root)
	for _, c := range []struct {
		name   string
		follow bool
		want   string // kind and base, or the error
	}{
		{"/", false, "40000 ."},
		{"", false, "40000 ."},
		{"/x/y/file", false, "100000 file"},
		{"abs", false, "120000 abs"},
		{"/abs", true, "40000 y"},
		{"/abs/file", false, "100000 file"},
		{"x/up", true, "100000 file"},
		{"x/y/out", true, "40000 x"},
		{"dangling", true, "0 none"},
		{"none", false, "0 none"},
		{"none/none", false, "no such file or directory"},
		{"x/y/file/z", false, "not a directory"},
		{"loop", true, "too many levels of symbolic links"},
	} {
		f, err := Find(dir, c.name, c.follow)
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprintf("%o %s", f.Stat.Mode&unix.S_IFMT, f.Base)
			_ = f.Dir.Close()
		}
		if !strings.HasSuffix(got, c.want) {
			t.Errorf("%q: %s, want %s", c.name, got, c.want)
		}
	}
}
