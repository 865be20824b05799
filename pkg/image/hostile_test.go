package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHostileLayers loads layers that want out. Each is refused with a reason
// or does its work inside; nothing outside is touched.
func TestHostileLayers(t *testing.T) {
	needRoot(t)
	symlink := func(name, target string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}
	}
	hardlink := func(name, target string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}
	}
	xattr := func(name string) tar.Header {
		return tar.Header{Name: "d/", PAXRecords: map[string]string{"SCHILY.xattr." + name: "y"}}
	}
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		entries []tar.Header
		want    string // part of the error; empty if the layer is harmless
	}{
		{"dots", []tar.Header{file("../evil", "x")}, "leaves the root"},
		{"dots within", []tar.Header{file("a/../../evil", "x")}, "leaves the root"},
		{"absolute dots", []tar.Header{file("/../../evil", "x")}, "leaves the root"},
		{"write through link", []tar.Header{symlink("l", outside), file("l/victim", "x")}, "is not a directory"},
		{"write through link up", []tar.Header{symlink("l", strings.Repeat("../", 30)), file("l/evil", "x")}, ""},
		{"write over link", []tar.Header{symlink("l", victim), file("l", "x")}, ""},
		{"write through loop", []tar.Header{symlink("a", "b"), symlink("b", "a"), file("a/x", "x")}, "too many levels"},
		{"root is a link", []tar.Header{symlink("./", outside), file("victim", "x")}, "must be a directory"},
		{"root is a file", []tar.Header{{Name: "/.", Typeflag: tar.TypeFifo}}, "must be a directory"},
		{"hard link out", []tar.Header{hardlink("h", victim), file("h", "x")}, "no such file"},
		{"hard link dots", []tar.Header{hardlink("h", "../../victim")}, "leaves the root"},
		{"hard link through link", []tar.Header{symlink("l", outside), hardlink("h", "l/victim")}, "no such file"},
		{"hard link to link", []tar.Header{symlink("l", victim), hardlink("h", "l"), file("h", "x")}, ""},
		{"hard link to directory", []tar.Header{file("d/", ""), hardlink("h", "d")}, "not permitted"},
		{"parent is a file", []tar.Header{file("f", ""), file("f/x", "")}, "is not a directory"},
		{"magic link", []tar.Header{symlink("l", "/proc/self/root"), file("l/etc/evil", "x")}, "is not a directory"},
		{"whiteout of nothing", []tar.Header{file(".wh.", "")}, "can't hide"},
		{"whiteout of dot", []tar.Header{file("d/.wh..", "")}, "can't hide"},
		{"whiteout of dots", []tar.Header{file("d/.wh...", "")}, "can't hide"},
		{"whiteout of whiteout", []tar.Header{file("d/.wh..wh.x", "")}, "can't hide"},
		{"whiteout through link", []tar.Header{symlink("l", outside), file("l/.wh.victim", "")}, "is not a directory"},
		{"opaque through link", []tar.Header{symlink("l", outside), file("l/.wh..wh..opq", "")}, "is not a directory"},
		{"device 0:0", []tar.Header{{Name: "w", Typeflag: tar.TypeChar}}, "belongs to overlayfs"},
		{"device too large", []tar.Header{{Name: "w", Typeflag: tar.TypeChar, Devmajor: 4096}}, "does not exist"},
		{"opaque attribute", []tar.Header{xattr("trusted.overlay.opaque")}, "belongs to overlayfs"},
		{"redirect attribute", []tar.Header{xattr("trusted.overlay.redirect")}, "belongs to overlayfs"},
		{"user attribute", []tar.Header{xattr("user.overlay.whiteout")}, "belongs to overlayfs"},
		{"foreign attribute", []tar.Header{xattr("com.apple.quarantine")}, ""},
		{"uid -1", []tar.Header{{Name: "f", Uid: 4294967295}}, "not between 0 and"},
		{"gid beyond", []tar.Header{{Name: "f", Gid: 1 << 33}}, "not between 0 and"},
		{"uid negative", []tar.Header{{Name: "f", Uid: -1, Format: tar.FormatGNU, ModTime: testTime.Truncate(1e9)}}, "not between 0 and"},
		{"long path", []tar.Header{file(strings.Repeat("d/", 2100)+"f", "")}, "more than 4095 bytes"},
		{"long name", []tar.Header{file(strings.Repeat("n", 256), "")}, "file name too long"},
		{"socket", []tar.Header{{Name: "s", Typeflag: 's'}}, "entry type"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := openStore(t)
			l := newLayout(t)
			archive := l.add(l.image(host(), tarOf(t, tt.entries...)), "").tar("")
			_, err := s.LoadStream(t.Context(), bytes.NewReader(archive), Options{})
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q", err, tt.want)
			case tt.want != "":
				if _, isEntry := errors.AsType[*EntryError](err); !isEntry {
					t.Errorf("%v does not tell the entry", err)
				}
				wantEmpty(t, s)
			}
			if got := listing(t, outside); got != "victim=precious" {
				t.Errorf("outside: %s", got)
			}
		})
	}
}

// TestHostileBlobs loads archives whose parts are not what they say.
func TestHostileBlobs(t *testing.T) {
	needRoot(t)
	layer := tarOf(t, file("f", "x"))
	other := tarOf(t, file("f", "y"))
	config := Config{Platform: host(), RootFS: RootFS{Type: "layers", DiffIDs: []Digest{digestBytes(layer)}}}
	ofLayer := func(l *layout, content []byte, change func(*Descriptor)) Descriptor {
		d := l.put(mediaTypeLayer, content)
		if change != nil {
			change(&d)
		}
		return l.manifest(manifest{SchemaVersion: 2, Layers: []Descriptor{d}}, config)
	}
	raw := func(format string) func(*layout) Descriptor {
		return func(l *layout) Descriptor {
			d := ofLayer(l, layer, nil)
			text := strings.NewReplacer("CONFIG", string(jsonOf(t, l.put(mediaTypeConfig, jsonOf(t, config))))).Replace(format)
			return Descriptor{MediaType: d.MediaType, Digest: l.put(mediaTypeManifest, []byte(text)).Digest, Size: int64(len(text))}
		}
	}
	tests := []struct {
		name  string
		image func(*layout) Descriptor
		want  string
	}{
		{"diffID", func(l *layout) Descriptor { return ofLayer(l, other, nil) }, "diffID is sha256:"},
		{"size too small", func(l *layout) Descriptor { return ofLayer(l, layer, func(d *Descriptor) { d.Size-- }) }, "size is more, want 3071"},
		{"size too large", func(l *layout) Descriptor { return ofLayer(l, layer, func(d *Descriptor) { d.Size++ }) }, "size is 3072, want 3073"},
		{"digest", func(l *layout) Descriptor {
			return ofLayer(l, layer, func(d *Descriptor) { l.blobs[d.Digest] = other[:len(layer)] })
		}, "digest is sha256:"},
		{"blob missing", func(l *layout) Descriptor {
			return ofLayer(l, layer, func(d *Descriptor) { delete(l.blobs, d.Digest) })
		}, "no such file"},
		{"cut gzip", func(l *layout) Descriptor {
			z := gzipOf(t, layer)
			return ofLayer(l, z[:len(z)-9], nil)
		}, "unexpected EOF"},
		{"garbage after gzip", func(l *layout) Descriptor { return ofLayer(l, append(gzipOf(t, layer), "much garbage"...), nil) }, "gzip: invalid header"},
		{"no tar", func(l *layout) Descriptor { return ofLayer(l, []byte(strings.Repeat("x", 1024)), nil) }, "invalid tar header"},
		{"foreign URL", func(l *layout) Descriptor {
			return ofLayer(l, layer, func(d *Descriptor) { d.URLs = []string{"https://example.com"} })
		}, "/layers/0: refers to a foreign URL"},
		{"foreign layer", func(l *layout) Descriptor {
			return ofLayer(l, layer, func(d *Descriptor) { d.MediaType = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" })
		}, "unknown mediaType"},
		{"negative size", func(l *layout) Descriptor { return ofLayer(l, layer, func(d *Descriptor) { d.Size = -1 }) }, "size is -1"},
		{"no diff_ids", func(l *layout) Descriptor {
			d := l.put(mediaTypeLayer, layer)
			return l.manifest(manifest{SchemaVersion: 2, Layers: []Descriptor{d}}, Config{Platform: host(), RootFS: RootFS{Type: "layers"}})
		}, "diff_ids has 0 entries, but the manifest has 1 layers"},
		{"too many layers", func(l *layout) Descriptor {
			d := l.put(mediaTypeLayer, layer)
			m := manifest{SchemaVersion: 2}
			for range DefaultLimits.Layers + 1 {
				m.Layers = append(m.Layers, d)
			}
			return l.manifest(m, config)
		}, "more than 500 layers"},
		{"both kinds", raw(`{"schemaVersion":2,"config":CONFIG,"layers":[],"manifests":[]}`), "both manifests and layers"},
		{"no config", raw(`{"schemaVersion":2,"layers":[]}`), "/config: mediaType"},
		{"artifact", raw(`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}`), "not that of an image's configuration"},
		{"schema 1", raw(`{"schemaVersion":1,"fsLayers":[]}`), "schema version 1 is not supported"},
		{"wrong type", raw(`{"schemaVersion":2,"mediaType":"` + mediaTypeDockerManifest + `","config":CONFIG,"layers":[]}`), "but it was announced as"},
		{"digest with dots", raw(`{"schemaVersion":2,"config":{"digest":"sha256:../../../../etc/passwd"},"layers":[]}`), "64 lower-case hexadecimal digits"},
		{"no JSON", raw(`{`), "unexpected end of JSON"},
		{"huge config", func(l *layout) Descriptor {
			c := config
			c.Author = strings.Repeat("x", int(DefaultLimits.Document))
			return l.manifest(manifest{SchemaVersion: 2, Layers: []Descriptor{l.put(mediaTypeLayer, layer)}}, c)
		}, fmt.Sprintf("more than %d bytes", int(DefaultLimits.Document))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := openStore(t)
			l := newLayout(t)
			_, err := s.Load(t.Context(), l.add(tt.image(l), "").write(), Options{})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("%q is more than one line", err)
			}
			wantEmpty(t, s)
		})
	}
}

// TestLayoutDirStaysInside gives blobs that lead out of the layout.
func TestLayoutDirStaysInside(t *testing.T) {
	needRoot(t)
	layer := tarOf(t, file("f", "x"))
	outside := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(outside, gzipOf(t, layer), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		make func(blob string) error
		want string
	}{
		{"link out", func(blob string) error { return os.Symlink(outside, blob) }, "path escapes from parent"},
		{"text of a link out", func(blob string) error {
			return os.WriteFile(blob, []byte("../../../"+filepath.Base(filepath.Dir(outside))+"/blob"), 0o600)
		}, "path escapes from parent"},
		{"fifo", func(blob string) error { return unix.Mkfifo(blob, 0o600) }, "is not a regular file"},
		{"directory", func(blob string) error { return os.Mkdir(blob, 0o700) }, "is not a regular file"},
		{"link inside", func(blob string) error {
			dir := filepath.Dir(filepath.Dir(filepath.Dir(blob)))
			return errors.Join(os.WriteFile(filepath.Join(dir, "rootfs"), gzipOf(t, layer), 0o600), os.Symlink("../../rootfs", blob))
		}, ""},
		{"text of a link inside", func(blob string) error {
			dir := filepath.Dir(filepath.Dir(filepath.Dir(blob)))
			return errors.Join(os.WriteFile(filepath.Join(dir, "rootfs"), gzipOf(t, layer), 0o600), os.WriteFile(blob, []byte("../../rootfs"), 0o600))
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLayout(t)
			dir := l.add(l.image(host(), layer), "").write()
			blob := filepath.Join(dir, "blobs/sha256", digestBytes(gzipOf(t, layer)).Hex())
			if err := errors.Join(os.Remove(blob), tt.make(blob)); err != nil {
				t.Fatal(err)
			}
			s := openStore(t)
			_, err := s.Load(t.Context(), dir, Options{})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
