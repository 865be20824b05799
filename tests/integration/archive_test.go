package integration_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// blobs are the files of an image layout, by digest.
type blobs map[string][]byte

// put adds a blob and returns its descriptor.
func (b blobs) put(mediaType string, content []byte) map[string]any {
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(content))
	b[digest] = content
	return map[string]any{"mediaType": mediaType, "digest": digest, "size": len(content)}
}

// image adds an image of the layers and returns the descriptor of its manifest.
func (b blobs) image(t *testing.T, layers ...[]tar.Header) map[string]any {
	t.Helper()
	diffIDs, list := []string{}, []any{}
	for _, entries := range layers {
		plain := archiveOf(t, entries)
		diffIDs = append(diffIDs, fmt.Sprintf("sha256:%x", sha256.Sum256(plain)))
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		if _, err := z.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		list = append(list, b.put("application/vnd.oci.image.layer.v1.tar+gzip", packed.Bytes()))
	}
	config := b.put("application/vnd.oci.image.config.v1+json", marshal(t, map[string]any{
		"os": "linux", "architecture": runtime.GOARCH, "config": map[string]any{"Cmd": []string{"/d/true"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	}))
	return b.put(manifestType, marshal(t, map[string]any{"schemaVersion": 2, "mediaType": manifestType, "config": config, "layers": list}))
}

const manifestType = "application/vnd.oci.image.manifest.v1+json"

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// archiveOf is a tar of entries, whose contents are in Gname.
func archiveOf(t *testing.T, entries []tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, hdr := range entries {
		content := hdr.Gname
		hdr.Gname, hdr.Size = "", int64(len(content))
		hdr.ModTime, hdr.Format = time.Unix(1234567890, 5), tar.FormatPAX
		if err := w.WriteHeader(&hdr); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// archive writes the layout of one image as a tar, and returns its path.
func (b blobs) archive(t *testing.T, name string, manifest map[string]any) string {
	t.Helper()
	manifest["annotations"] = map[string]any{"io.containerd.image.name": name}
	entries := []tar.Header{
		{Name: "oci-layout", Mode: 0o644, Gname: `{"imageLayoutVersion":"1.0.0"}`},
		{Name: "index.json", Mode: 0o644, Gname: string(marshal(t, map[string]any{"schemaVersion": 2, "manifests": []any{manifest}}))},
	}
	for digest, content := range b {
		entries = append(entries, tar.Header{Name: "blobs/sha256/" + strings.TrimPrefix(digest, "sha256:"), Mode: 0o644, Gname: string(content)})
	}
	file := filepath.Join(temp(t), "image.tar")
	if err := os.WriteFile(file, archiveOf(t, entries), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// refer adds a signature of an image, and lists it as a registry does.
func (b blobs) refer(t *testing.T, subject map[string]any) func(http.ResponseWriter, *http.Request) bool {
	t.Helper()
	d := b.put(manifestType, marshal(t, map[string]any{
		"schemaVersion": 2, "mediaType": manifestType, "subject": subject, "config": b.put("application/vnd.oci.empty.v1+json", []byte("{}")),
		"layers": []any{b.put("application/vnd.example.signature", []byte("signed"))},
	}))
	list := marshal(t, map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []any{d}})
	return func(w http.ResponseWriter, r *http.Request) bool {
		lists := strings.Contains(r.URL.Path, "/referrers/")
		if lists {
			_, _ = w.Write(list)
		}
		return lists
	}
}

// serve is a registry that has the image under every name and tag, and returns
// a name of it. What others have answered before it leaves alone.
func (b blobs) serve(t *testing.T, manifest map[string]any, before ...func(http.ResponseWriter, *http.Request) bool) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, answered := range before {
			if answered(w, r) {
				return
			}
		}
		digest := filepath.Base(r.URL.Path)
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Content-Type", manifest["mediaType"].(string))
			if _, named := b[digest]; !named {
				digest = manifest["digest"].(string)
			}
		}
		content, found := b[digest]
		if !found || strings.Contains(r.URL.Path, "/referrers/") || strings.HasPrefix(filepath.Base(r.URL.Path), "sha256-") {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = w.Write(content)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://") + "/some/image:tag"
}
