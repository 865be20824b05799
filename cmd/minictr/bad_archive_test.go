package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An archive in the making: the files of a good image of one layer, in the
// form that it has, to be spoilt.
type archive struct {
	t     *testing.T
	files []member
}

func newArchive(t *testing.T, form string) *archive {
	t.Helper()
	plain, err := archiveOfFiles([]member{{"etc/name", []byte("good")}})
	if err != nil {
		t.Fatal(err)
	}
	l := &layout{}
	if err := l.layer(plain, ""); err != nil {
		t.Fatal(err)
	}
	files, err := l.files(form, "good:1")
	if err != nil {
		t.Fatal(err)
	}
	return &archive{t, files}
}

// blobs of the archive, in this order; after them come index.json and
// oci-layout, or manifest.json.
const (
	layerBlob = iota
	configBlob
	manifestBlob
	indexFile
	dockerManifest = 2
)

// bytes are those of the tar.
func (a *archive) bytes() []byte {
	a.t.Helper()
	text, err := archiveOfFiles(a.files)
	if err != nil {
		a.t.Fatal(err)
	}
	return text
}

// replace changes a text in a file.
func (a *archive) replace(i int, old, to string) *archive {
	a.t.Helper()
	if !bytes.Contains(a.files[i].content, []byte(old)) {
		a.t.Fatalf("%s has no %q: %s", a.files[i].name, old, a.files[i].content)
	}
	a.files[i].content = bytes.Replace(a.files[i].content, []byte(old), []byte(to), 1)
	return a
}

// honest gives a changed blob the name that is its digest, and tells the file
// that refers to it.
func (a *archive) honest(i, referrer int) *archive {
	a.t.Helper()
	old := filepath.Base(a.files[i].name)
	now := hexOf(a.files[i].content)
	a.files[i].name = "blobs/sha256/" + now
	if referrer == dockerManifest && len(a.files) == dockerManifest+1 {
		return a.replace(referrer, old, now)
	}
	var document map[string]any
	if err := json.Unmarshal(a.files[referrer].content, &document); err != nil {
		a.t.Fatal(err)
	}
	var fix func(any)
	fix = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if v["digest"] == "sha256:"+old {
				v["digest"], v["size"] = digest.FromBytes(a.files[i].content), len(a.files[i].content)
			}
			for _, inner := range v {
				fix(inner)
			}
		case []any:
			for _, inner := range v {
				fix(inner)
			}
		}
	}
	fix(document)
	text, err := json.Marshal(document)
	if err != nil {
		a.t.Fatal(err)
	}
	a.files[referrer].content = text
	return a
}

func (a *archive) without(i int) *archive {
	a.files = append(a.files[:i:i], a.files[i+1:]...)
	return a
}

// TestRefusesArchives gives minictr archives that are damaged, or lie.
func TestRefusesArchives(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	oci := func() *archive { return newArchive(t, "oci") }
	docker := func() *archive { return newArchive(t, "docker") }
	compressed := func(how string) []byte {
		text, err := compress(oci().bytes(), how)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	half := func(text []byte) []byte { return text[:len(text)/2] }
	spoilt := func(text []byte) []byte { text[len(text)-6] ^= 0xff; return text }
	with := func(files ...member) []byte { return (&archive{t, files}).bytes() }
	for _, c := range []struct {
		name string
		text []byte
		want string
	}{
		{"nothing", nil, "the archive is empty"},
		{"words", []byte(strings.Repeat("this is no archive\n", 100)), "archive: archive/tar: invalid tar header"},
		{"half", half(oci().bytes()), "archive: unexpected EOF"},
		{"half of gzip", half(compressed("gzip")), "archive: ...unexpected EOF"},
		{"half of zstd", half(compressed("zstd")), "archive: unexpected EOF"},
		{"half of xz", half(compressed("xz")), `archive: "blobs/sha256/...": xz: data is truncated or corrupt`},
		{"spoilt gzip", spoilt(compressed("gzip")), "archive: gzip: invalid checksum"},
		{"no image", with(member{"etc/passwd", nil}), `the archive is no image: it has neither index.json nor manifest.json, but "etc/passwd": if it is a root file system, minictr import FILE NAME makes an image of it`},
		{"an old docker", with(member{"repositories", nil}), "the archive has no manifest.json: it was saved by a docker older than 1.10"},

		{"docker: words", with(member{"manifest.json", []byte("words")}), "manifest.json: invalid character 'w' looking for beginning of value"},
		{"docker: no array", with(member{"manifest.json", []byte("{}")}), "manifest.json: /: can't be a JSON object"},
		{"docker: no images", with(member{"manifest.json", []byte("[]")}), "manifest.json lists no image"},
		{"docker: no configuration", docker().without(configBlob).bytes(), `manifest.json: /0: /Config: the archive has no file "blobs/sha256/..."`},
		{"docker: no layer", docker().without(layerBlob).bytes(), `manifest.json: /0: /Layers/0: the archive has no file "blobs/sha256/..."`},
		{"docker: a bad name", docker().replace(dockerManifest, "good:1", "BAD:1").bytes(), `manifest.json: /0: reference "BAD:1": "BAD": the name must be in lower case`},
		{"docker: a changed layer", docker().replace(layerBlob, "good", "evil").bytes(), "manifest.json: /0: layer 1 of 1: blob sha256:...: diffID is sha256:..., want sha256:..."},
		{"docker: no layers in the configuration", docker().replace(configBlob, `"diff_ids":[`, `"diff_ids":[],"x":[`).bytes(), "manifest.json: /0: configuration: /rootfs/diff_ids has 0 entries, but the manifest has 1 layers"},

		{"oci: another version", with(member{"oci-layout", []byte(`{"imageLayoutVersion":"9"}`)}, member{"index.json", nil}), `oci-layout: imageLayoutVersion is "9", want "1.0.0"`},
		{"oci: words", with(member{"index.json", []byte("words")}), "index.json: manifest: invalid character 'w' looking for beginning of value"},
		{"oci: no images", with(member{"index.json", []byte(`{"schemaVersion":2,"manifests":[]}`)}), "index.json lists no image"},
		{"oci: schema 1", with(member{"index.json", []byte(`{"schemaVersion":1}`)}), "index.json: manifest: Docker's schema version 1 is not supported; the image must be pushed again by a newer tool"},
		{"oci: no manifest", oci().without(manifestBlob).bytes(), "blob sha256:...: is not in the archive"},
		{"oci: no configuration", oci().without(configBlob).bytes(), "blob sha256:...: is not in the archive"},
		{"oci: no layer", oci().without(layerBlob).bytes(), "layer 1 of 1: blob sha256:...: is not in the archive"},
		{"oci: a changed manifest", oci().replace(manifestBlob, `"schemaVersion":2`, `"schemaVersion":3`).bytes(), "blob sha256:...: is not in the archive"},
		{"oci: another version of manifest", oci().replace(manifestBlob, `"schemaVersion":2`, `"schemaVersion":3`).honest(manifestBlob, indexFile).bytes(), "manifest: schemaVersion is 3, want 2"},
		{"oci: a changed layer", oci().replace(layerBlob, "good", "evil").bytes(), "layer 1 of 1: blob sha256:...: is not in the archive"},
		{"oci: a layer of another diffID", oci().replace(layerBlob, "good", "evil").honest(layerBlob, manifestBlob).honest(manifestBlob, indexFile).bytes(), "layer 1 of 1: blob sha256:...: diffID is sha256:..., want sha256:..."},
		{"oci: a wrong size", oci().replace(manifestBlob, `"size":2048`, `"size":2047`).honest(manifestBlob, indexFile).bytes(), "layer 1 of 1: blob sha256:...: size is more, want 2047"},
		{"oci: a foreign digest", oci().replace(indexFile, `"digest":"sha256:`, `"digest":"md5:`).bytes(), `index.json: index: digest "md5:...": only sha256 is supported`},
		{"oci: another machine", oci().replace(configBlob, `"architecture":"`, `"architecture":"not-`).honest(configBlob, manifestBlob).honest(manifestBlob, indexFile).bytes(), "not for platform linux/..., only for linux/not-..."},
		{"oci: no image's configuration", oci().replace(manifestBlob, ispec.MediaTypeImageConfig, "text/plain").honest(manifestBlob, indexFile).bytes(), `manifest: /config: mediaType "text/plain" is not that of an image's configuration`},
		{"oci: an unknown layer", oci().replace(manifestBlob, ispec.MediaTypeImageLayer, "text/plain").honest(manifestBlob, indexFile).bytes(), `manifest: /layers/0: unknown mediaType "text/plain" of a layer`},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			h.refuses(t, c.text, "image: load: "+c.want, "load", "-")
		})
	}
}

// TestRefusesFiles gives minictr's commands about images other things that
// they can't use.
func TestRefusesFiles(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	h := newHost(t)
	good := newArchive(t, "oci").bytes()
	plain, err := archiveOfFiles([]member{{"etc/name", []byte("good")}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"good.tar": good, "plain.tar": plain, "words": []byte(strings.Repeat("words ", 200))} {
		if err := os.WriteFile(filepath.Join(h.dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(h.dir, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, want string }{
		{"load nosuch", "image: load nosuch: stat nosuch: no such file or directory"},
		{"load empty", "image: load empty: the directory is no OCI image layout: it has no file oci-layout"},
		{"load plain.tar", `image: load plain.tar: the archive is no image: it has neither index.json nor manifest.json, but "etc/name": if it is a root file system, minictr import FILE NAME makes an image of it`},
		{"load --name UPPER good.tar", `--name: reference "UPPER": "UPPER": the name must be in lower case`},
		{"import plain.tar UPPER", `image: import: reference "UPPER": "UPPER": the name must be in lower case`},
		{"import words words", "image: import: archive/tar: invalid tar header"},
		{"import nosuch nosuch", "open nosuch: no such file or directory"},
		{"import empty empty", "image: import: read empty: is a directory"},
		{"rmi nosuch", "image: get: nosuch is not in the store: minictr images lists what is here; minictr pull fetches more"},
		{"rmi UPPER", `image: get: reference "UPPER": "UPPER": the name must be in lower case`},
		{"plan nosuch", "image: get: nosuch is not in the store: minictr images lists what is here; minictr pull fetches more"},
		{"pull 127.0.0.1:1/nosuch", "registry: pull 127.0.0.1:1/nosuch:latest: tried https://127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused: no registry can be reached; the built-in image needs none: minictr run tiny"},
		{"--data-root words images", "image: open store DIR/words: open DIR/words/version: not a directory"},
		{"--root words ps", "open words: not a directory"},
		{"--root words run tiny true", "open words: not a directory"},
		{"--data-root /proc/nosuch images", "image: open store /proc/nosuch: mkdir /proc/nosuch: no such file or directory"},
	} {
		t.Run(c.args, func(t *testing.T) { h.refuses(t, nil, c.want, strings.Fields(c.args)...) })
	}
}
