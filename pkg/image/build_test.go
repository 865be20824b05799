package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What the comment of Config promises.
var (
	_ = ispec.ImageConfig(ContainerConfig{})
	_ = ispec.Platform(Platform{})
)

var testTime = time.Unix(1234567890, 123456789)

// tarOf writes an archive. An entry without a type is a regular file with the
// content given under its name, or a directory if the name ends with "/".
func tarOf(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, hdr := range entries {
		content := hdr.Gname // free for our use: owners are numbers
		hdr.Gname = ""
		if hdr.Typeflag == 0 && hdr.Name != "" && hdr.Name[len(hdr.Name)-1] == '/' {
			hdr.Typeflag = tar.TypeDir
		}
		if hdr.Typeflag == 0 {
			hdr.Typeflag, hdr.Size = tar.TypeReg, int64(len(content))
		}
		if hdr.Mode == 0 {
			hdr.Mode = 0o755
		}
		if hdr.ModTime.IsZero() {
			hdr.ModTime, hdr.Format = testTime, tar.FormatPAX
		}
		if err := w.WriteHeader(&hdr); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// file is a regular file for tarOf.
func file(name, content string) tar.Header { return tar.Header{Name: name, Gname: content} }

func gzipOf(t testing.TB, plain []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func zstdOf(t testing.TB, plain []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(plain, nil)
}

func jsonOf(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// layout is an image layout in the making.
type layout struct {
	t     testing.TB
	blobs map[Digest][]byte
	list  index
}

func newLayout(t testing.TB) *layout {
	return &layout{t: t, blobs: map[Digest][]byte{}, list: index{SchemaVersion: 2}}
}

func (l *layout) put(mediaType string, content []byte) Descriptor {
	d := Descriptor{MediaType: mediaType, Digest: digestBytes(content), Size: int64(len(content))}
	l.blobs[d.Digest] = content
	return d
}

// image puts an image of plain layers, compressed by gzip, for the platform.
func (l *layout) image(platform Platform, layers ...[]byte) Descriptor {
	l.t.Helper()
	config := Config{Platform: platform, RootFS: RootFS{Type: "layers", DiffIDs: []Digest{}}}
	config.Config.Cmd = []string{"/bin/sh"}
	m := manifest{SchemaVersion: 2, MediaType: mediaTypeManifest, Layers: []Descriptor{}}
	for _, plain := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digestBytes(plain))
		m.Layers = append(m.Layers, l.put(mediaTypeLayer+"+gzip", gzipOf(l.t, plain)))
	}
	return l.manifest(m, config)
}

func (l *layout) manifest(m manifest, config Config) Descriptor {
	m.Config = l.put(mediaTypeConfig, jsonOf(l.t, config))
	d := l.put(mediaTypeManifest, jsonOf(l.t, m))
	d.Platform = &config.Platform
	return d
}

func (l *layout) add(d Descriptor, name string) *layout {
	if name != "" {
		d.Annotations = map[string]string{annotationImageName: name}
	}
	l.list.Manifests = append(l.list.Manifests, d)
	return l
}

// tar returns the layout as an archive whose names begin with prefix.
func (l *layout) tar(prefix string) []byte {
	l.t.Helper()
	entries := []tar.Header{file(prefix+"oci-layout", `{"imageLayoutVersion":"1.0.0"}`)}
	for d, content := range l.blobs {
		entries = append(entries, file(prefix+"blobs/sha256/"+d.Hex(), string(content)))
	}
	entries = append(entries, file(prefix+"index.json", string(jsonOf(l.t, l.list))))
	return tarOf(l.t, entries...)
}

// write makes the layout a directory.
func (l *layout) write() string {
	l.t.Helper()
	dir := l.t.TempDir()
	write := func(name string, content []byte) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			l.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			l.t.Fatal(err)
		}
	}
	write("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	write("index.json", jsonOf(l.t, l.list))
	for d, content := range l.blobs {
		write("blobs/sha256/"+d.Hex(), content)
	}
	return dir
}

func (l *layout) twoPlatforms() []Descriptor {
	attestation := l.image(Platform{OS: "unknown", Architecture: "unknown"}, tarOf(l.t, file("sbom", "")))
	other := l.image(Platform{OS: "linux", Architecture: "riscv64"}, tarOf(l.t, file("arch", "riscv64")))
	return []Descriptor{attestation, other, l.image(host(), tarOf(l.t, file("arch", "ours")))}
}

func host() Platform { return Platform{OS: "linux", Architecture: runtime.GOARCH} }

// load loads an image of the layers and returns it.
func load(t *testing.T, s *Store, name string, layers ...[]byte) *Image {
	t.Helper()
	l := newLayout(t)
	images, err := s.LoadStream(t.Context(), bytes.NewReader(l.add(l.image(host(), layers...), name).tar("")), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return images[0]
}
