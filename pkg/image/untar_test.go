package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/overlay"
)

// snapshot describes every file below dir, by name.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	links := map[uint64]string{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err != nil {
			return err
		}
		s := fmt.Sprintf("mode %o uid %d gid %d mtime %d.%09d", stat.Mode, stat.Uid, stat.Gid, stat.Mtim.Sec, stat.Mtim.Nsec)
		switch stat.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			s += " content " + digestBytes(content).Short()
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			s += " -> " + target
		case unix.S_IFCHR, unix.S_IFBLK:
			s += fmt.Sprintf(" dev %d", stat.Rdev)
		}
		if first, found := links[stat.Ino]; found {
			s += " same as " + first
		} else {
			links[stat.Ino] = name
		}
		files[name] = s + xattrs(t, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func xattrs(t *testing.T, path string) string {
	t.Helper()
	buf := make([]byte, 4096)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	slices.Sort(names)
	var s string
	for _, name := range names {
		if name == "" {
			continue
		}
		n, err := unix.Lgetxattr(path, name, buf)
		if err != nil {
			t.Fatal(err)
		}
		s += fmt.Sprintf(" %s=%q", name, buf[:n])
	}
	return s
}

func diff(t *testing.T, got, want map[string]string) {
	t.Helper()
	names := maps.Clone(want)
	maps.Copy(names, got)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if got[name] != want[name] {
			t.Errorf("%s:\n got  %s\n want %s", name, got[name], want[name])
		}
	}
}

const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" // cap_net_bind_service=ep

func ordinaryLayer(t *testing.T) []byte {
	long := strings.Repeat("long/", 60) + strings.Repeat("n", 200)
	hdr := func(h tar.Header, uid, gid int) tar.Header { h.Uid, h.Gid = uid, gid; return h }
	entries := []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o711},
		hdr(tar.Header{Name: "./bin/", Mode: 0o750}, 1, 2),
		hdr(tar.Header{Name: "./bin/su", Gname: "suid", Mode: 0o6755}, 0, 5),
		{Name: "./bin/ping", Gname: "ping", PAXRecords: map[string]string{"SCHILY.xattr.security.capability": capability}},
		{Name: "./bin/hard", Typeflag: tar.TypeLink, Linkname: "./bin/su"},
		hdr(tar.Header{Name: "./bin/soft", Typeflag: tar.TypeSymlink, Linkname: "/bin/su"}, 7, 8),
		{Name: "./bin/hardsoft", Typeflag: tar.TypeLink, Linkname: "bin/soft"},
		{Name: "./tmp/", Mode: 0o1777, PAXRecords: map[string]string{"SCHILY.xattr.user.note": "of a directory"}},
		hdr(tar.Header{Name: "./tmp/readonly", Gname: "x", Mode: 0o400, PAXRecords: map[string]string{"SCHILY.xattr.user.note": "x\x00y"}}, 4294967294, 4294967294),
		hdr(tar.Header{Name: "./tmp/fifo", Typeflag: tar.TypeFifo, Mode: 0o622}, 3, 3),
		{Name: "./tmp/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3},
		{Name: "./tmp/disk", Typeflag: tar.TypeBlock, Mode: 0o660, Devmajor: 259, Devminor: 70000},
		file(long, "long"),
		file("twice", "first"),
		file("twice", "second, longer"),
		{Name: "old", Gname: "x", ModTime: time.Unix(-86400, 0), Format: tar.FormatGNU},
		file("zeros", "head"+strings.Repeat("\x00", 3<<20)+"tail"+strings.Repeat("\x00", 100_000)),
		file("empty", ""),
	}
	// GNU tar gives parents that the archive lacks the time of now.
	for i := range strings.Count(long, "/") {
		entries = append(entries, tar.Header{Name: strings.Repeat("long/", i+1)})
	}
	return tarOf(t, entries...)
}

// TestUntarIsGNUTar compares the tree with GNU tar's, entry by entry.
func TestUntarIsGNUTar(t *testing.T) {
	needRoot(t)
	layers := map[string][]byte{"made": ordinaryLayer(t)}
	for _, format := range sparseFormats {
		layers["sparse "+format] = sparseLayer(t, format)
	}
	for _, name := range []string{"alpine-minirootfs-3.20.3-x86_64.tar.gz", "all-entry-type.tar", "hello-world.tar", "zran-two-streams.tar.gz"} {
		layers[name] = nil // of the collection
	}
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	for name, layer := range layers {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if layer == nil {
				var err error
				if layer, err = os.ReadFile(filepath.Join(sharedImages(t), name)); err != nil {
					t.Fatal(err)
				}
			}
			ours, theirs := filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
			st := &stage{limits: DefaultLimits, budget: newBudget(DefaultLimits)}
			if _, err := st.unpackArchive(t.Context(), nil, bytes.NewReader(layer), ours); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(theirs, 0o755); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("tar", "-xp", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", theirs)
			if bytes.HasPrefix(layer, []byte("\x1f\x8b")) {
				cmd.Args = append(cmd.Args, "-z")
			}
			cmd.Stdin = bytes.NewReader(layer)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("tar: %v: %s", err, out)
			}
			got, want := snapshot(t, filepath.Join(ours, layerTree)), snapshot(t, theirs)
			if strings.HasPrefix(name, "sparse") {
				got["sparse"] += onDisk(t, filepath.Join(ours, layerTree, "sparse"))
				want["sparse"] += onDisk(t, filepath.Join(theirs, "sparse"))
			}
			if !strings.HasPrefix(name, "alpine") && name != "made" {
				delete(got, ".") // not in the archive
				delete(want, ".")
			}
			diff(t, got, want)
		})
	}
}

// onDisk is how much of a file is not holes.
func onDisk(t *testing.T, path string) string {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(" blocks %d", stat.Blocks)
}

// sparseFormats are GNU tar's options for its ways to write files with holes.
var sparseFormats = []string{"--format=gnu", "--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"}

func sparseLayer(t testing.TB, format string) []byte {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("far away"), 5<<20)
	if err = errors.Join(err, f.Truncate(9<<20), f.Close()); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tar", "-cS", format, "-C", dir, "sparse").Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestUntarKeepsHoles(t *testing.T) {
	needRoot(t)
	zeros := tarOf(t, file("sparse", strings.Repeat("\x00", 5<<20)+"far away"+strings.Repeat("\x00", 4<<20)))
	layers := [][]byte{zeros}
	for _, format := range sparseFormats {
		layers = append(layers, sparseLayer(t, format))
	}
	for _, layer := range layers {
		dir := filepath.Join(t.TempDir(), "layer")
		if _, err := untar(t.Context(), bytes.NewReader(layer), dir, newBudget(DefaultLimits), DefaultLimits); err != nil {
			t.Fatal(err)
		}
		var stat unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, "sparse"), &stat); err != nil {
			t.Fatal(err)
		}
		if stat.Size < 9<<20 || stat.Blocks*512 > 1<<20 {
			t.Errorf("a file of %d bytes takes %d on disk", stat.Size, stat.Blocks*512)
		}
	}
}

// TestUntarReplaces checks what comes of entries that collide.
func TestUntarReplaces(t *testing.T) {
	needRoot(t)
	link := func(name, target string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}
	}
	tests := []struct {
		name    string
		entries []tar.Header
		want    string
	}{
		{"file over directory", []tar.Header{file("a/b/c", "1"), file("a", "2"), file("d", "3")}, "a=2 d=3"},
		{"directory over file", []tar.Header{file("a", "1"), {Name: "a/"}, file("a/b", "2")}, "a/ a/b=2"},
		{"directory over link", []tar.Header{{Name: "x/"}, link("a", "x"), {Name: "a/"}, file("a/b", "2")}, "a/ a/b=2 x/"},
		{"link over directory", []tar.Header{file("a/b", "1"), {Name: "x/"}, link("a", "x"), file("a/c", "2")}, "a>x x/ x/c=2"},
		{"parent through link", []tar.Header{{Name: "usr/lib/"}, link("lib", "usr/lib"), file("lib/x", "1")}, "lib>usr/lib usr/ usr/lib/ usr/lib/x=1"},
		{"parent through absolute link", []tar.Header{{Name: "usr/"}, link("lib", "/usr"), file("lib/x", "1")}, "lib>/usr usr/ usr/x=1"},
		{"parent through dots", []tar.Header{{Name: "usr/"}, link("a", "../../../usr"), file("a/x", "1")}, "a>../../../usr usr/ usr/x=1"},
		{"link to itself", []tar.Header{file("a", "1"), {Name: "a", Typeflag: tar.TypeLink, Linkname: "a"}}, "a=1"},
		{"hard link over file", []tar.Header{file("a", "1"), file("b", "2"), {Name: "b", Typeflag: tar.TypeLink, Linkname: "a"}}, "a=1 b=1"},
		{"odd names", []tar.Header{file("/abs", "1"), file("././dot", "2"), file("x/../y", "3"), file("//two", "4")}, "abs=1 dot=2 two=4 y=3"},
		{"whiteout", []tar.Header{file("d/.wh.gone", "")}, "d/ d/gone!"},
		{"whiteout beside its name", []tar.Header{file("a", "1"), file(".wh.a", ""), file(".wh.b", ""), file("b", "2")}, "a=1 b=2"},
		{"whiteout, then directory", []tar.Header{file(".wh.d", ""), file("d/x", "1")}, "d/opaque d/x=1"},
		{"directory, then whiteout", []tar.Header{file("d/x", "1"), file(".wh.d", "")}, "d/opaque d/x=1"},
		{"opaque", []tar.Header{file("d/.wh..wh..opq", ""), file("d/x", "1")}, "d/opaque d/x=1"},
		{"no whiteout", []tar.Header{file("not.a.wh..wh..opq", "")}, "not.a.wh..wh..opq="},
		{"comment", []tar.Header{{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}, Format: tar.FormatPAX, ModTime: time.Unix(0, 0)}, file("a", "1")}, "a=1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "layer")
			if _, err := untar(t.Context(), bytes.NewReader(rawTar(t, tt.entries)), dir, newBudget(DefaultLimits), DefaultLimits); err != nil {
				t.Fatal(err)
			}
			if got := listing(t, dir); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// rawTar leaves global headers as they are; tarOf would give them a mode.
func rawTar(t *testing.T, entries []tar.Header) []byte {
	t.Helper()
	if entries[0].Typeflag != tar.TypeXGlobalHeader {
		return tarOf(t, entries...)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: entries[0].PAXRecords}); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return append(buf.Bytes(), tarOf(t, entries[1:]...)...)
}

// listing is a short description of a tree: content, links, whiteouts.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	for name := range snapshot(t, dir) {
		path := filepath.Join(dir, name)
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case name == ".":
			continue
		case info.IsDir():
			name += "/"
			if strings.Contains(xattrs(t, path), overlay.OpaqueXattr()) {
				name += "opaque"
			}
		case info.Mode()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			name += ">" + target
		case info.Mode()&fs.ModeCharDevice != 0:
			name += "!"
		default:
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			name += "=" + string(content)
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// FuzzUntar makes layers of three entries, of any names, types and targets.
func FuzzUntar(f *testing.F) {
	if os.Getuid() != 0 {
		f.Skip("needs root")
	}
	kinds := []byte{tar.TypeReg, tar.TypeLink, tar.TypeSymlink, tar.TypeDir, tar.TypeFifo, tar.TypeChar}
	f.Add(uint8(0), "a/b", "", uint8(2), "l", "../..", uint8(0), "l/x", "")
	f.Add(uint8(0), ".wh.a", "", uint8(0), "a/.wh..wh..opq", "", uint8(1), "h", "a")
	f.Add(uint8(2), "a", "/", uint8(2), "a/a", "..", uint8(3), "a/../a/a", "")
	f.Fuzz(func(t *testing.T, k1 uint8, n1, l1 string, k2 uint8, n2, l2 string, k3 uint8, n3, l3 string) {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		for _, hdr := range []tar.Header{{Typeflag: k1, Name: n1, Linkname: l1}, {Typeflag: k2, Name: n2, Linkname: l2}, {Typeflag: k3, Name: n3, Linkname: l3}} {
			hdr.Typeflag = kinds[int(hdr.Typeflag)%len(kinds)]
			hdr.Mode, hdr.Devmajor = 0o644, 1
			if w.WriteHeader(&hdr) != nil {
				t.Skip("no archive has such an entry")
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		outside := t.TempDir()
		private := filepath.Join(outside, "a", "b")
		if err := os.MkdirAll(private, 0o755); err != nil {
			t.Fatal(err)
		}
		_, _ = untar(t.Context(), &buf, filepath.Join(private, "layer"), newBudget(DefaultLimits), DefaultLimits) // many layers are wrong
		if err := os.RemoveAll(filepath.Join(private, "layer")); err != nil {
			t.Fatal(err)
		}
		if got := listing(t, outside); got != "a/ a/b/" {
			t.Errorf("outside: %s", got)
		}
	})
}
