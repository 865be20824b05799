package registry

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minictr/minictr/pkg/image"
)

// fakeRegistry is a registry in memory, as docs of the distribution-spec say,
// which can be made to lie.
type fakeRegistry struct {
	t      *testing.T
	server *httptest.Server
	// auth is what it asks everybody for: "", "basic" or "bearer", and user
	// and password are then those that it takes.
	auth, user, password, identity string
	lists                          bool                                          // it lists referrers
	before                         func(http.ResponseWriter, *http.Request) bool // true if it has answered

	mu    sync.Mutex
	blobs map[string][]byte // by REPOSITORY@DIGEST
	tags  map[string]string // digests by REPOSITORY:TAG
	asked []string          // METHOD PATH
	token int               // the number of the last
	ended int               // that of the last which is no good any more
}

func newFakeRegistry(t *testing.T) *fakeRegistry {
	t.Helper()
	f := &fakeRegistry{t: t, blobs: map[string][]byte{}, tags: map[string]string{}, user: "me", password: "secret"}
	f.server = httptest.NewServer(f)
	t.Cleanup(f.server.Close)
	return f
}

// withTLS makes its server another one, and returns the file of its certificate.
func (f *fakeRegistry) withTLS() (certificate string) {
	f.t.Helper()
	f.server.Close()
	f.server = httptest.NewTLSServer(f)
	f.server.Config.ErrorLog = quiet
	f.t.Cleanup(f.server.Close)
	return writeCertificate(f.t, f.server.Certificate())
}

func (f *fakeRegistry) host() string {
	_, host, _ := strings.Cut(f.server.URL, "://")
	return host
}

// hosts makes it the server of all hosts that are reached like that one.
func (f *fakeRegistry) hosts(c *Client, host, registry string) {
	f.t.Helper()
	to, err := c.transport(host, registry)
	if err != nil {
		f.t.Fatal(err)
	}
	to.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, f.host())
	}
}

func (f *fakeRegistry) reference(suffix string) image.Reference {
	return parse(f.t, f.host()+"/"+suffix)
}

func parse(t *testing.T, name string) image.Reference {
	t.Helper()
	ref, err := image.ParseReference(name)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// count tells how often requests were made that begin so.
func (f *fakeRegistry) count(prefix string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, asked := range f.asked {
		if strings.HasPrefix(asked, prefix) {
			n++
		}
	}
	return n
}

func (f *fakeRegistry) put(repository, mediaType string, content []byte) ispec.Descriptor {
	d := ispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
	f.blobs[repository+"@"+d.Digest.String()] = content
	return d
}

func jsonOf(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// image puts an image of one file for the platform.
func (f *fakeRegistry) image(repository, architecture, content string) ispec.Descriptor {
	f.t.Helper()
	config := f.config(content)
	config.Architecture = architecture
	d := f.manifest(repository, config, packed(f.t, content))
	d.Platform = &ispec.Platform{OS: "linux", Architecture: architecture}
	return d
}

// config is that of an image of one file for this machine.
func (f *fakeRegistry) config(content string) (config image.Config) {
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.RootFS = image.RootFS{Type: "layers", DiffIDs: []image.Digest{image.DigestBytes(tarOf(f.t, content))}}
	return config
}

func (f *fakeRegistry) manifest(repository string, config image.Config, layer []byte) ispec.Descriptor {
	f.t.Helper()
	return f.put(repository, ispec.MediaTypeImageManifest, jsonOf(f.t, ispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ispec.MediaTypeImageManifest,
		Config: f.put(repository, ispec.MediaTypeImageConfig, jsonOf(f.t, config)),
		Layers: []ispec.Descriptor{f.put(repository, ispec.MediaTypeImageLayerGzip, layer)},
	}))
}

// packed is a layer of one file, compressed.
func packed(t *testing.T, content string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, err := w.Write(tarOf(t, content))
	if err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func tarOf(t *testing.T, content string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	err := w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: int64(len(content)), ModTime: time.Unix(1, 0)})
	if err == nil {
		_, err = io.WriteString(w, content)
	}
	if err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// tag puts an image of one file for this machine, and tags it.
func (f *fakeRegistry) tag(name, content string) {
	f.t.Helper()
	repository, _, _ := strings.Cut(name, ":")
	f.tags[name] = f.image(repository, runtime.GOARCH, content).Digest.String()
}

func (f *fakeRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked = append(f.asked, r.Method+" "+r.URL.Path)
	f.mu.Unlock()
	if f.before != nil && f.before(w, r) {
		return
	}
	if r.URL.Path == "/token" {
		f.serveToken(w, r)
		return
	}
	if !f.allows(r) {
		f.challenge(w)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/v2/")
	for _, kind := range []string{"/blobs/uploads/", "/blobs/", "/manifests/", "/referrers/"} {
		repository, last, found := strings.Cut(name, kind)
		switch {
		case !found:
			continue
		case kind == "/blobs/uploads/":
			f.serveUpload(w, r, repository)
		case kind == "/referrers/":
			f.serveReferrers(w, r, repository, last)
		case r.Method == http.MethodPut:
			f.takeManifest(w, r, repository, last)
		default:
			f.serveBlob(w, r, repository, kind, last)
		}
		return
	}
}

func (f *fakeRegistry) serveBlob(w http.ResponseWriter, r *http.Request, repository, kind, name string) {
	f.mu.Lock()
	if digest, tagged := f.tags[repository+":"+name]; tagged && kind == "/manifests/" {
		name = digest
	}
	content, found := f.blobs[repository+"@"+name]
	f.mu.Unlock()
	if !found {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such\u001b thing"}]}`)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if kind == "/manifests/" {
		var own struct{ MediaType string }
		if err := json.Unmarshal(content, &own); err == nil {
			w.Header().Set("Content-Type", own.MediaType)
		}
		w.Header().Set("Docker-Content-Digest", name)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

func (f *fakeRegistry) serveUpload(w http.ResponseWriter, r *http.Request, repository string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	query := r.URL.Query()
	if r.Method == http.MethodPost {
		from := query.Get("from") + "@" + query.Get("mount")
		if content, found := f.blobs[from]; found {
			f.blobs[repository+"@"+query.Get("mount")] = content
			w.WriteHeader(http.StatusCreated)
			return
		}
		w.Header().Set("Location", "/v2/"+repository+"/blobs/uploads/1?_state=a%2Fb==")
		w.WriteHeader(http.StatusAccepted)
		return
	}
	content, err := io.ReadAll(r.Body)
	if got := image.DigestBytes(content).String(); err == nil && got == query.Get("digest") && query.Get("_state") == "a/b==" {
		f.blobs[repository+"@"+got] = content
		w.WriteHeader(http.StatusCreated)
		return
	}
	w.WriteHeader(http.StatusBadRequest)
}

func (f *fakeRegistry) takeManifest(w http.ResponseWriter, r *http.Request, repository, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var m ispec.Manifest
	content, err := io.ReadAll(r.Body)
	if err != nil || json.Unmarshal(content, &m) != nil || r.Header.Get("Content-Type") != m.MediaType {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if m.MediaType == ispec.MediaTypeImageManifest {
		for _, d := range append(m.Layers, m.Config) {
			if f.blobs[repository+"@"+d.Digest.String()] == nil {
				w.WriteHeader(http.StatusNotFound)
				fmt.Fprint(w, `{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}`)
				return
			}
		}
	}
	if m.Subject != nil && f.lists {
		w.Header().Set("OCI-Subject", m.Subject.Digest.String())
	}
	digest := image.DigestBytes(content).String()
	f.blobs[repository+"@"+digest] = content
	if !isSHA256(name) {
		f.tags[repository+":"+name] = digest
	}
	w.Header().Set("Docker-Content-Digest", digest)
	w.WriteHeader(http.StatusCreated)
}

func (f *fakeRegistry) allows(r *http.Request) bool {
	user, password, basic := r.BasicAuth()
	f.mu.Lock()
	defer f.mu.Unlock()
	switch f.auth {
	case "basic":
		return basic && user == f.user && password == f.password
	case "bearer":
		var token int
		_, err := fmt.Sscanf(r.Header.Get("Authorization"), "Bearer token %d", &token)
		return err == nil && token > f.ended && token <= f.token
	}
	return true
}

func (f *fakeRegistry) challenge(w http.ResponseWriter) {
	challenge := `Basic realm="x"`
	if f.auth == "bearer" {
		challenge += fmt.Sprintf(`, Bearer realm="%s/token?a=b",service="fake, with comma",scope="repository:x:pull,push"`, f.server.URL)
	}
	w.Header().Set("WWW-Authenticate", challenge)
	w.WriteHeader(http.StatusUnauthorized)
}

// serveToken gives a new token.
func (f *fakeRegistry) serveToken(w http.ResponseWriter, r *http.Request) {
	user, password, basic := r.BasicAuth()
	known := f.user == "" || basic && user == f.user && password == f.password && r.FormValue("account") == user
	if r.Method == http.MethodPost {
		known = f.identity != "" && r.PostFormValue("refresh_token") == f.identity && r.PostFormValue("grant_type") == "refresh_token"
	}
	if !known || r.FormValue("service") != "fake, with comma" || r.FormValue("a") != "b" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	f.mu.Lock()
	f.token++
	fmt.Fprintf(w, `{"token":"token %d"}`, f.token)
	f.mu.Unlock()
}

// testStore is a store and where it is.
type testStore struct {
	*image.Store
	root string
}

func openStore(t *testing.T) testStore {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: layers have owners and devices")
	}
	root := filepath.Join(t.TempDir(), "store")
	s, err := image.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	return testStore{s, root}
}

// wantEmpty checks that nothing is left in the store by what failed.
func (s testStore) wantEmpty(t *testing.T) {
	t.Helper()
	for _, dir := range []string{"tmp", "layers", "images", "blobs/sha256"} {
		entries, err := os.ReadDir(filepath.Join(s.root, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			t.Errorf("left behind: %s/%s", dir, entry.Name())
		}
	}
}

// cut makes a blob shorter.
func (s testStore) cut(t *testing.T, d image.Digest) {
	t.Helper()
	if err := os.Truncate(filepath.Join(s.root, "blobs/sha256", d.Hex()), 1); err != nil {
		t.Fatal(err)
	}
}

// deadHost returns an address where nobody answers.
func deadHost(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// impatient is a client that soon tries again, and soon gives up.
func impatient() *Client {
	return &Client{delays: delays{first: time.Millisecond, longest: time.Second, idle: 300 * time.Millisecond}}
}
