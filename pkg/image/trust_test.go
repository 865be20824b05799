package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/xi2/xz"
	"golang.org/x/sys/unix"
)

// TestForeignDiffID loads an image whose blob is not what its configuration
// says, where the layer that it speaks of is there already.
func TestForeignDiffID(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	known, other := tarOf(t, file("secret", "x")), tarOf(t, file("other", "y"))
	load(t, s, "known", known)
	l := newLayout(t)
	config := Config{Platform: host(), RootFS: RootFS{Type: "layers", DiffIDs: []Digest{digestBytes(known)}}}
	m := manifest{SchemaVersion: 2, Layers: []Descriptor{l.put(mediaTypeLayer+"+gzip", gzipOf(t, other))}}
	l.add(l.manifest(m, config), "liar")
	_, err := s.Load(t.Context(), l.write(), Options{})
	if mismatch, found := errors.AsType[*MismatchError](err); !found || mismatch.What != "diffID" {
		t.Errorf("got %v", err)
	}
	// The same plain archive in another blob is as good as the first.
	again := newLayout(t)
	m = manifest{SchemaVersion: 2, Layers: []Descriptor{again.put(mediaTypeLayer+"+zstd", zstdOf(t, known))}}
	again.add(again.manifest(m, config), "again")
	if _, err := s.Load(t.Context(), again.write(), Options{}); err != nil {
		t.Error(err)
	}
}

// TestDamagedBlobs brings an image anew whose blobs the disk has spoiled.
func TestDamagedBlobs(t *testing.T) {
	needRoot(t)
	plain := tarOf(t, file("f", "x"))
	l := newLayout(t)
	dir := l.add(l.image(host(), plain), "x").write()
	for name, spoil := range map[string]func(text []byte) []byte{
		"cut":     func(text []byte) []byte { return text[:1] },
		"flipped": func(text []byte) []byte { text[len(text)/2] ^= 1; return text },
	} {
		s := openStore(t)
		img := load(t, s, "x", plain)
		for _, d := range []Digest{img.ID, img.Manifest.Digest, img.Layers[0].Digest} {
			text, err := os.ReadFile(s.blobPath(d))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(s.blobPath(d), spoil(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(s.layerPath(digestBytes(plain))); err != nil {
				t.Fatal(err)
			}
			images, err := s.Load(t.Context(), dir, Options{})
			if err != nil {
				t.Fatalf("%s %s: %v", name, d.Short(), err)
			}
			if content, err := images[0].ReadFile("f"); err != nil || string(content) != "x" {
				t.Errorf("%s: got %q, %v", name, content, err)
			}
			if text, err := os.ReadFile(s.blobPath(d)); err != nil || digestBytes(text) != d {
				t.Errorf("%s: %s is still damaged, %v", name, d.Short(), err)
			}
		}
	}
}

// TestBuiltInName loads an archive that wants to be taken for what the program
// makes itself.
func TestBuiltInName(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	const name = LocalHost + "/tiny"
	l := newLayout(t)
	dir := l.add(l.image(host()), name).write()
	if images, err := s.Load(t.Context(), dir, Options{}); err != nil || len(images[0].Names) != 0 {
		t.Errorf("load: got %v, %v", images, err)
	}
	img := load(t, s, "other")
	if err := s.Tag(img.ID.String(), name); err == nil || !strings.Contains(err.Error(), "built in") {
		t.Errorf("tag: got %v", err)
	}
	if _, err := s.Import(t.Context(), bytes.NewReader(tarOf(t)), name, Config{}, Options{}); err == nil || !strings.Contains(err.Error(), "built in") {
		t.Errorf("import: got %v", err)
	}
	if _, err := s.Load(t.Context(), dir, Options{BuiltIn: true}); err != nil {
		t.Error(err)
	}
}

// TestWhiteoutLink makes a hard link to a whiteout, which would hide one more
// name.
func TestWhiteoutLink(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	l := newLayout(t)
	layer := tarOf(t, file(".wh.a", ""), tar.Header{Name: "b", Typeflag: tar.TypeLink, Linkname: "a"})
	dir := l.add(l.image(host(), tarOf(t, file("a", "1"), file("b", "1")), layer), "x").write()
	if _, err := s.Load(t.Context(), dir, Options{}); !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %v", err)
	}
}

// TestOutOfBounds takes small archives that would become large ones.
func TestOutOfBounds(t *testing.T) {
	needRoot(t)
	deep := func(n, depth int, name string) []byte {
		var entries []tar.Header
		for i := range n {
			entries = append(entries, file(fmt.Sprint(i)+strings.Repeat("/"+name, depth)+"/f", ""))
		}
		return tarOf(t, entries...)
	}
	tests := []struct {
		name   string
		layer  []byte
		limits Limits
		want   string
	}{
		{"entries", tarOf(t, file("a", ""), file("b", ""), file("c", "")), Limits{Entries: 2}, "more than 2 entries"},
		{"unlisted", deep(1, 400, "d"), Limits{Entries: 100}, "more than 100 entries"},
		{"names of unlisted", deep(450, 19, strings.Repeat("d", 200)), Limits{}, fmt.Sprintf("more than %d bytes in the paths", maxUnlisted)},
		{"depth", tarOf(t, file(strings.Repeat("d/", maxDepth+1)+"f", "")), Limits{}, fmt.Sprintf("more than %d directories", maxDepth)},
		{"bytes", tarOf(t, file("f", strings.Repeat("x", 4000))), Limits{Bytes: 3000}, "more than 3000 bytes"},
		{"path", tarOf(t, file("abcdef", "")), Limits{Path: 5}, "more than 5 bytes in a path"},
	}
	for _, tt := range tests {
		l := newLayout(t)
		dir := l.add(l.image(host(), tt.layer), "x").write()
		s := openStore(t)
		s.Limits = func() (Limits, error) { return tt.limits, nil }
		_, err := s.Load(t.Context(), dir, Options{})
		if _, found := errors.AsType[*LimitError](err); !found || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

// TestBudgetOfImage has two layers that are too much together.
func TestBudgetOfImage(t *testing.T) {
	needRoot(t)
	l := newLayout(t)
	content := strings.Repeat("x", 50_000)
	dir := l.add(l.image(host(), tarOf(t, file("a", content)), tarOf(t, file("b", content))), "x").write()
	for limit, want := range map[int64]bool{90_000: false, 250_000: true} {
		s := openStore(t)
		s.Limits = func() (Limits, error) { return Limits{Bytes: limit}, nil }
		_, err := s.Load(t.Context(), dir, Options{})
		if _, found := errors.AsType[*LimitError](err); found == want || (err == nil) != want {
			t.Errorf("%d bytes: got %v", limit, err)
		}
	}
}

// TestAnnouncedSize refuses a blob by what its descriptor says.
func TestAnnouncedSize(t *testing.T) {
	needRoot(t)
	l := newLayout(t)
	layer := l.put(mediaTypeLayer, tarOf(t, file("f", "x")))
	layer.Size = 1 << 50
	config := Config{Platform: host(), RootFS: RootFS{Type: "layers", DiffIDs: []Digest{layer.Digest}}}
	l.add(l.manifest(manifest{SchemaVersion: 2, Layers: []Descriptor{layer}}, config), "x")
	_, err := openStore(t).Load(t.Context(), l.write(), Options{})
	if _, found := errors.AsType[*LimitError](err); !found {
		t.Errorf("got %v", err)
	}
}

// TestSmallDocuments reads documents that are small in text alone.
func TestSmallDocuments(t *testing.T) {
	many := "[" + strings.Repeat("{},", 1<<20) + "{}]"
	for name, parse := range map[string]func() error{
		"history": func() error {
			_, err := parseConfig([]byte(`{"rootfs":{"type":"layers","diff_ids":[]},"history":`+many+`}`), 0)
			return err
		},
		"layers": func() error {
			_, _, err := parseManifest([]byte(`{"schemaVersion":2,"config":{},"layers":`+many+`}`), "")
			return err
		},
		"manifests": func() error {
			_, _, err := parseManifest([]byte(`{"schemaVersion":2,"manifests":`+many+`}`), "")
			return err
		},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := parse()
		runtime.ReadMemStats(&after)
		if _, found := errors.AsType[*LimitError](err); !found {
			t.Errorf("%s: got %v", name, err)
		}
		if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 40 {
			t.Errorf("%s: took %d MB", name, took)
		}
	}
}

// TestDictionary reads two streams of xz, of which the second asks for more.
func TestDictionary(t *testing.T) {
	plain := []byte("plain")
	for size, want := range map[byte]string{28: "", 29: "more than 67108864 bytes in xz's dictionary", 40: "more than 67108864", 41: xz.ErrOptions.Error()} {
		stream := append(compressed(t, 4, plain), wideXz(t, plain, size)...)
		before := allocated()
		z, err := decompress(bytes.NewReader(stream), 0)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(z)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) || err == nil && string(got) != "plainplain" || allocated()-before > mostMemory {
			t.Errorf("%d: got %q, %v, and %d bytes were taken", size, got, err, allocated()-before)
		}
	}
}

// TestSweepWhole looks at what a sweep that is cut off leaves: a layer is in
// its place whole, or not at all. What can't be removed keeps nothing else.
func TestSweepWhole(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	plain := tarOf(t, file("d/e", ""), file("d/f", "x"), file("d/g", ""))
	img := load(t, s, "x", plain)
	// A removal that fails in the middle stands for one that was killed.
	stubborn := filepath.Join(s.layerPath(digestBytes(plain)), layerTree, "d", "f")
	if err := setImmutable(stubborn, true); err != nil {
		t.Skipf("this file system has no immutable files: %v", err)
	}
	var warned []error
	s.Warn = func(err error) { warned = append(warned, err) }
	err := s.Remove(img.ID.String())
	left, globErr := filepath.Glob(s.path("tmp", "*", digestBytes(plain).Hex(), layerTree, "d", "*"))
	if globErr != nil || len(left) != 1 || filepath.Base(left[0]) != "f" {
		t.Fatalf("got %v, %v", left, globErr)
	}
	if e := setImmutable(left[0], false); e != nil {
		t.Fatal(e)
	}
	if err != nil || len(warned) == 0 || !strings.Contains(warned[0].Error(), left[0]+": unlinkat: ") {
		t.Errorf("got %v, and the warnings %v", err, warned)
	}
	if exists(s.layerPath(digestBytes(plain))) {
		t.Error("what is left of the layer is in its place")
	}
	again := load(t, s, "x", plain)
	if content, err := again.ReadFile("d/f"); err != nil || string(content) != "x" {
		t.Errorf("got %q, %v", content, err)
	}
	if entries, err := os.ReadDir(s.path("tmp")); err != nil || len(entries) != 0 {
		t.Errorf("tmp has %v, %v", entries, err)
	}
}

// immutableFlag is FS_IMMUTABLE_FL of linux/fs.h.
const immutableFlag = 0x10

// setImmutable sets or clears the attribute i of chattr(1).
func setImmutable(path string, on bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return err
	}
	if flags &^= immutableFlag; on {
		flags |= immutableFlag
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags)
}

// TestUnlistedParents has directories in upper layers that these do not list:
// the attributes of the lower ones count.
func TestUnlistedParents(t *testing.T) {
	needRoot(t)
	dir := func(name string, mode int64, owner int) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: mode, Uid: owner, Gid: owner, PAXRecords: map[string]string{paxXattr + "user.from": name}}
	}
	img := load(t, openStore(t), "x",
		tarOf(t, dir("./", 0o711, 5), dir("tmp/", 0o1777, 0), dir("srv/", 0o700, 33), dir("srv/www/", 0o750, 34), dir("gone/", 0o700, 35), dir("again/", 0o700, 36)),
		tarOf(t, file("tmp/x", ""), file("srv/www/deep/y", ""), file("new/z", ""), file(".wh.gone", ""), dir("again/", 0o755, 37)),
		tarOf(t, file("srv/top", ""), file("gone/back", ""), file("again/x", ""), file("later/x", ""), dir("later/", 0o711, 38)))
	mount := t.TempDir()
	inOverlay(t, img, mount, func() {
		got := snapshot(t, mount)
		for name, want := range map[string]string{
			".":            "mode 40711 uid 5 gid 5",
			"tmp":          "mode 41777 uid 0 gid 0",
			"srv":          "mode 40700 uid 33 gid 33",
			"srv/www":      "mode 40750 uid 34 gid 34",
			"srv/www/deep": "mode 40755 uid 0 gid 0",
			"new":          "mode 40755 uid 0 gid 0",
			"gone":         "mode 40755 uid 0 gid 0",
			"again":        "mode 40755 uid 37 gid 37",
			"later":        "mode 40711 uid 38 gid 38",
		} {
			if !strings.HasPrefix(got[name], want+" ") {
				t.Errorf("%s: got %s, want %s", name, got[name], want)
			}
			if listed := !strings.Contains(" new srv/www/deep gone ", " "+name+" "); listed != strings.Contains(got[name], "mtime 1234567890.123456789") {
				t.Errorf("%s: got %s", name, got[name])
			}
			if strings.Contains(" . tmp srv again ", " "+name+" ") && !strings.Contains(got[name], "user.from=") {
				t.Errorf("%s: has lost its attribute: %s", name, got[name])
			}
		}
		for _, name := range []string{"tmp/x", "srv/top", "srv/www/deep/y", "gone/back"} {
			if got[name] == "" {
				t.Errorf("%s is not there", name)
			}
		}
	})
}

// TestOpaqueRoot hides everything that lies below a layer.
func TestOpaqueRoot(t *testing.T) {
	needRoot(t)
	img := load(t, openStore(t), "x", tarOf(t, file("old", "1")), tarOf(t, file(".wh..wh..opq", ""), file("new", "2")), tarOf(t, file("top", "3")))
	dir := t.TempDir()
	inOverlay(t, img, dir, func() {
		if got := listing(t, dir); got != "new=2 top=3" {
			t.Errorf("got %s", got)
		}
	})
	if content, err := img.ReadFile("old"); err == nil {
		t.Errorf("old has %q", content)
	}
}
