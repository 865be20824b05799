package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

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

// dockerRegistry runs Debian's docker-registry, which takes what is pushed. The
// user is me, and the password secret. It ends with the script.
func dockerRegistry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: docker-registry VARIABLE")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	host := l.Addr().String()
	ts.Check(l.Close())
	dir := ts.MkAbs("docker-registry")
	ts.Check(os.Mkdir(dir, 0o755))
	ts.Check(os.WriteFile(dir+"/htpasswd", []byte("me:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n"), 0o600))
	config := fmt.Sprintf("version: 0.1\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\nauth: {htpasswd: {realm: here, path: %q}}\n", dir, host, dir+"/htpasswd")
	ts.Check(os.WriteFile(dir+"/config.yml", []byte(config), 0o600))
	server := exec.Command("docker-registry", "serve", dir+"/config.yml")
	ts.Check(server.Start())
	ts.Defer(func() { _ = errors.Join(server.Process.Kill(), server.Wait()) })
	for range 200 {
		if c, err := net.Dial("tcp", host); err == nil {
			_ = c.Close()
			ts.Setenv(args[0], host)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("docker-registry doesn't listen")
}

// cut is strings.Cut at the last separator.
func cut(s, separator string) (before, after string, found bool) {
	i := strings.LastIndex(s, separator)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(separator):], true
}
