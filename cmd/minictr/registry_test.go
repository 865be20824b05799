package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
)

// serveStore serves the images of a minictr store, which is an OCI layout too,
// to anonymous readers (distribution-spec, pull), under any host's name, as a
// mirror does. It ends with the script.
func serveStore(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: registry VARIABLE STORE")
	}
	server := httptest.NewServer(mirror(ts.MkAbs(args[1])))
	ts.Defer(server.Close)
	ts.Setenv(args[0], server.URL)
}

// A mirror is the directory of the layout.
type mirror string

func (m mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	if name, digest, ok := cut(path, "/blobs/"); ok && name != "" {
		http.ServeFile(w, r, m.blob(digest))
		return
	}
	name, reference, ok := cut(path, "/manifests/")
	d, found := m.find(name, reference)
	if !ok || !found {
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`))
		return
	}
	w.Header().Set("Content-Type", d.MediaType)
	w.Header().Set("Docker-Content-Digest", d.Digest.String())
	http.ServeFile(w, r, m.blob(d.Digest.String()))
}

func (m mirror) blob(digest string) string {
	return filepath.Join(string(m), "blobs", "sha256", filepath.Base(strings.TrimPrefix(digest, "sha256:")))
}

// find looks for a repository's manifest by its tag or digest.
func (m mirror) find(name, reference string) (ispec.Descriptor, bool) {
	var index ispec.Index
	text, err := os.ReadFile(filepath.Join(string(m), "index.json"))
	if err != nil || json.Unmarshal(text, &index) != nil {
		return ispec.Descriptor{}, false
	}
	for _, d := range index.Manifests {
		_, inHost, _ := strings.Cut(d.Annotations[ispec.AnnotationRefName], "/")
		repository, tag, _ := cut(inHost, ":")
		if repository == name && (tag == reference || d.Digest.String() == reference) {
			return d, true
		}
	}
	return ispec.Descriptor{}, false
}

// cut is strings.Cut at the last separator.
func cut(s, separator string) (before, after string, found bool) {
	i := strings.LastIndex(s, separator)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(separator):], true
}
