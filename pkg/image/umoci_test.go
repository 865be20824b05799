package image

import (
	"archive/tar"
	"bytes"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// stacks are images of several layers, each about one thing that an upper
// layer does to a lower one.
func stacks() map[string][][]tar.Header {
	owned := func(h tar.Header, mode int64, uid, gid int) tar.Header {
		h.Mode, h.Uid, h.Gid = mode, uid, gid
		return h
	}
	at := func(h tar.Header, sec, nsec int64) tar.Header {
		h.ModTime, h.Format = time.Unix(sec, nsec), tar.FormatPAX
		return h
	}
	with := func(h tar.Header, name, value string) tar.Header {
		h.PAXRecords = map[string]string{"SCHILY.xattr." + name: value}
		return h
	}
	node := func(name string, kind byte, major, minor int64) tar.Header {
		return tar.Header{Name: name, Typeflag: kind, Devmajor: major, Devminor: minor}
	}
	link := func(name string, kind byte, target string) tar.Header {
		return tar.Header{Name: name, Typeflag: kind, Linkname: target}
	}
	dir := func(name string) tar.Header { return tar.Header{Name: name + "/"} }
	top := owned(dir("."), 0o711, 0, 0)
	return map[string][][]tar.Header{
		"whiteouts": {
			{top, dir("d"), file("d/a", "1"), file("d/b", "1"), dir("d/sub"), file("d/sub/x", "1"), dir("e"), file("e/x", "1"), link("l", tar.TypeSymlink, "e")},
			{top, dir("d"), file("d/.wh.a", ""), file("d/.wh.sub", ""), file(".wh.e", ""), file(".wh.l", ""), file(".wh.never", "")},
			{top, dir("d"), file("d/a", "3"), dir("e"), file("e/y", "3"), file("d/.wh.b", "")},
		},
		"whiteouts beside the names that they hide": {
			{top, dir("d"), file("d/a", "1"), file("f", "1")},
			{top, file(".wh.d", ""), dir("d"), file("d/b", "2"), file(".wh.f", ""), file("f", "2")},
		},
		"opaque directories": {
			{top, dir("d"), file("d/old", "1"), dir("d/sub"), file("d/sub/old", "1"), dir("e"), file("e/old", "1")},
			{top, owned(dir("d"), 0o750, 1, 2), file("d/.wh..wh..opq", ""), file("d/new", "2"), dir("e"), file("e/new", "2"), file("e/.wh..wh..opq", "")},
			{top, dir("d"), file("d/newer", "3"), dir("d/sub"), file("d/sub/newer", "3")},
		},
		"a directory becomes a file and comes back": {
			{top, dir("d"), dir("d/sub"), file("d/sub/x", "1"), file("f", "1"), link("l", tar.TypeSymlink, "d")},
			{top, file("d", "2"), dir("f"), file("f/x", "2"), dir("l"), file("l/x", "2")},
			{top, dir("d"), file("d/y", "3"), link("f", tar.TypeSymlink, "d"), file("l", "3")},
		},
		"directories listed again": {
			{top, with(owned(at(dir("d"), 1e9, 5), 0o700, 33, 33), "user.note", "lower"), file("d/x", "1"), dir("e")},
			{owned(at(dir("."), 15e8, 0), 0o755, 7, 8), owned(at(dir("d"), 11e8, 6), 0o2775, 0, 5), with(dir("e"), "user.note", "upper")},
		},
		"hard links": {
			{top, file("a", "1"), link("b", tar.TypeLink, "a"), link("c", tar.TypeLink, "./a"), link("s", tar.TypeSymlink, "a"), link("t", tar.TypeLink, "s")},
			{top, file("b", "2"), file("x", "2"), dir("d"), link("d/y", tar.TypeLink, "x"), link("c", tar.TypeLink, "d/y")},
		},
		"attributes": {
			{top, with(file("ping", "1"), "security.capability", capability), with(file("gone", "1"), "user.note", "lower"), with(dir("d"), "trusted.note", "x\x00y"), with(link("l", tar.TypeSymlink, "d"), "trusted.note", "of a link")},
			{top, file("gone", "2"), with(file("new", "2"), "user.note", "upper")},
		},
		"privileges": {
			{top, owned(file("su", "1"), 0o4755, 0, 5), owned(file("wall", "1"), 0o2711, 3, 4), owned(file("highest", "1"), 0o600, 4294967294, 4294967294)},
			{top, owned(file("su", "2"), 0o755, 0, 0), owned(file("wall", "2"), 0o6711, 1, 1)},
		},
		"devices": {
			{top, node("null", tar.TypeChar, 1, 3), owned(node("disk", tar.TypeBlock, 259, 70000), 0o660, 0, 6), owned(node("fifo", tar.TypeFifo, 0, 0), 0o622, 3, 3), file("f", "1")},
			{top, node("f", tar.TypeChar, 5, 1), file("null", "2"), node("disk", tar.TypeFifo, 0, 0)},
		},
		"times": {
			{top, at(file("old", "1"), -86400, 0), at(file("fine", "1"), 1e9, 123456789), at(dir("d"), -1, 500), at(file("d/late", "1"), 1<<32, 0), at(link("l", tar.TypeSymlink, "d"), 5, 7)},
			{at(top, 3, 4), at(dir("d"), -7, 3), at(file("d/x", "2"), 0, 1)},
		},
		"zeros": {
			{top, file("zeros", "head"+strings.Repeat("\x00", 1<<20)+"tail"), file("empty", "1")},
			{top, file("empty", ""), file("all", strings.Repeat("\x00", 1<<20))},
		},
		"unlisted parents": {
			{top, owned(dir("tmp"), 0o1777, 0, 0), with(owned(dir("srv"), 0o700, 33, 33), "user.note", "lower"), dir("srv/sub")},
			{file("tmp/x", "2"), file("srv/y", "2"), file("srv/sub/z", "2"), file("not/there", "2")},
			{owned(dir("tmp"), 0o770, 1, 1), file("not/again", "3"), file("srv/.wh.sub", "")},
			{file("tmp/deep/x", "4"), file("srv/w", "4")},
		},
		"unlisted parents of what is hidden": {
			{top, owned(dir("d"), 0o700, 33, 33), file("d/x", "1"), owned(dir("e"), 0o700, 33, 33), file("e/x", "1")},
			{top, file(".wh.d", ""), file("e/.wh..wh..opq", "")},
			{file("d/y", "3"), file("e/y", "3")},
		},
		"an opaque root": {
			{top, dir("d"), file("d/x", "1"), file("f", "1")},
			{top, file(".wh..wh..opq", ""), file("g", "2")},
			{top, dir("d"), file("d/y", "3")},
		},
	}
}

// TestStackIsUmocis compares the trees of images of several layers with those
// of Debian's umoci, which unpacks one layer over the other.
func TestStackIsUmocis(t *testing.T) {
	needUmoci(t)
	for name, stack := range stacks() {
		t.Run(name, func(t *testing.T) {
			var layers [][]byte
			for _, entries := range stack {
				layers = append(layers, tarOf(t, entries...))
			}
			compareWithUmoci(t, openStore(t), layers)
		})
	}
}

// TestSharedImagesAreUmocis does the same with what other tools have made.
func TestSharedImagesAreUmocis(t *testing.T) {
	needUmoci(t)
	dir := sharedImages(t)
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, f := range files {
		for _, arch := range []string{"amd64", "arm64"} {
			s := openStore(t)
			images, err := s.Load(t.Context(), filepath.Join(dir, f.Name()), Options{Platform: Platform{OS: "linux", Architecture: arch}})
			if err != nil {
				continue // TestLoadSharedImages says which and why
			}
			for _, img := range images {
				t.Run(f.Name()+" "+arch+" "+img.ID.Short(), func(t *testing.T) { compareWithUmoci(t, s, plainLayers(t, s, img)) })
				compared++
			}
		}
	}
	if compared < 11 {
		t.Errorf("compared %d images only", compared)
	}
}

func needUmoci(t *testing.T) {
	t.Helper()
	needRoot(t)
	if _, err := exec.LookPath("umoci"); err != nil {
		t.Skip("needs Debian's package umoci")
	}
}

// plainLayers are an image's layers as tar alone, for umoci knows no zstd.
func plainLayers(t *testing.T, s *Store, img *Image) (layers [][]byte) {
	t.Helper()
	for _, d := range img.Layers {
		blob, err := os.ReadFile(s.blobPath(d.Digest))
		if err != nil {
			t.Fatal(err)
		}
		r, err := decompress(bytes.NewReader(blob), DefaultLimits.Window)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, plain)
	}
	return layers
}

// compareWithUmoci makes an image of the layers, and compares what overlayfs
// shows of it, and what Unpack makes of it, with umoci's tree.
func compareWithUmoci(t *testing.T, s *Store, layers [][]byte) {
	t.Helper()
	l := newLayout(t)
	d := l.image(host(), layers...)
	d.Annotations = map[string]string{annotationRefName: "stack"}
	l.list.Manifests = []Descriptor{d}
	dir := l.write()
	images, err := s.Load(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	bundle, start := filepath.Join(t.TempDir(), "bundle"), time.Now()
	if out, err := exec.Command("umoci", "unpack", "--image", dir+":stack", bundle).CombinedOutput(); err != nil {
		t.Fatalf("umoci: %v: %s", err, out)
	}
	want := snapshot(t, filepath.Join(bundle, "rootfs"))
	same := func(dir string) {
		got, want := snapshot(t, dir), maps.Clone(want)
		sameTimes(got, want, start)
		diff(t, got, want)
	}
	mount, unpacked := t.TempDir(), filepath.Join(t.TempDir(), "unpacked")
	inOverlay(t, images[0], mount, func() { same(mount) })
	if _, err := images[0].Unpack(t.Context(), unpacked, true); err != nil {
		t.Fatal(err)
	}
	same(unpacked)
}

var modified = regexp.MustCompile(`mtime (-?\d+)\S+`)

// sameTimes leaves out the times of directories that umoci has given its own.
func sameTimes(got, want map[string]string, start time.Time) {
	for name, s := range want {
		time := modified.FindStringSubmatch(s)
		if sec, _ := strconv.ParseInt(time[1], 10, 64); strings.HasPrefix(s, "mode 4") && sec >= start.Unix() {
			want[name] = modified.ReplaceAllString(s, "mtime any")
			got[name] = modified.ReplaceAllString(got[name], "mtime any")
		}
	}
}
