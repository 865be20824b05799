package image

import (
	"context"
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
	"testing"
	"time"
)

// fakeRegistry serves one repository, as docs of the distribution-spec say.
type fakeRegistry struct {
	*layout
	repository string
	tags       map[string]Descriptor
	token      string                                        // asked for if not empty
	before     func(http.ResponseWriter, *http.Request) bool // true if it has answered
	asked      []string
	server     *httptest.Server
}

func newFakeRegistry(t *testing.T, repository string) *fakeRegistry {
	t.Helper()
	f := &fakeRegistry{layout: newLayout(t), repository: repository, tags: map[string]Descriptor{}}
	f.server = httptest.NewServer(f)
	t.Cleanup(f.server.Close)
	return f
}

func (f *fakeRegistry) host() string { return strings.TrimPrefix(f.server.URL, "http://") }

func (f *fakeRegistry) reference(t *testing.T, suffix string) Reference {
	t.Helper()
	ref, err := ParseReference(f.host() + "/" + f.repository + suffix)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// index puts an index of the images and tags it.
func (f *fakeRegistry) index(tag string, images ...Descriptor) Descriptor {
	f.tags[tag] = f.put(mediaTypeIndex, jsonOf(f.t, index{SchemaVersion: 2, MediaType: mediaTypeIndex, Manifests: images}))
	return f.tags[tag]
}

func (f *fakeRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.asked = append(f.asked, r.URL.Path)
	if f.before != nil && f.before(w, r) {
		return
	}
	if r.URL.Path == "/token" {
		if r.URL.Query().Get("scope") == "repository:"+f.repository+":pull" && r.URL.Query().Get("service") == "fake, with comma" {
			fmt.Fprintf(w, `{"token":%q}`, f.token)
		}
		return
	}
	if f.token != "" && r.Header.Get("Authorization") != "Bearer "+f.token {
		w.Header().Add("WWW-Authenticate", `Basic realm="x"`)
		w.Header().Add("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="fake, with comma",scope="repository:x:pull,push"`, f.server.URL))
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	kind, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"+f.repository+"/"), "/")
	d, tagged := f.tags[name]
	if !tagged {
		d.Digest, _ = ParseDigest(name)
	}
	content, found := f.blobs[d.Digest]
	if !found || kind == "blobs" && tagged {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such\u001b thing"}]}`)
		return
	}
	if kind == "manifests" {
		var own struct{ MediaType string }
		if err := json.Unmarshal(content, &own); err == nil {
			w.Header().Set("Content-Type", own.MediaType)
		}
		w.Header().Set("Docker-Content-Digest", d.Digest.String())
	}
	_, _ = w.Write(content)
}

func (l *layout) twoPlatforms() []Descriptor {
	attestation := l.image(Platform{OS: "unknown", Architecture: "unknown"}, tarOf(l.t, file("sbom", "")))
	other := l.image(Platform{OS: "linux", Architecture: "riscv64"}, tarOf(l.t, file("arch", "riscv64")))
	return []Descriptor{attestation, other, l.image(host(), tarOf(l.t, file("arch", "ours")))}
}

func TestPull(t *testing.T) {
	needRoot(t)
	f := newFakeRegistry(t, "some/thing")
	top := f.index("v1", f.twoPlatforms()...)
	f.token = "secret"
	var last Progress
	opts := PullOptions{Options: Options{Progress: func(p Progress) { last = p }}}
	s := openStore(t)
	for _, suffix := range []string{":v1", "@" + top.Digest.String(), "@" + f.twoPlatforms()[2].Digest.String()} {
		ref := f.reference(t, suffix)
		img, err := s.Pull(t.Context(), ref, opts)
		if err != nil {
			t.Fatal(err)
		}
		if content, err := img.ReadFile("arch"); err != nil || string(content) != "ours" || last.Done != last.Total {
			t.Errorf("got %q, %v, %+v", content, err, last)
		}
		if got, err := s.Get(ref.String()); err != nil || got.ID != img.ID {
			t.Errorf("got %v, %v", got, err)
		}
	}
	opts.Platform = Platform{OS: "linux", Architecture: "riscv64"}
	if img, err := s.Pull(t.Context(), f.reference(t, ":v1"), opts); err != nil || img.Config.Architecture != "riscv64" {
		t.Errorf("got %v, %v", img, err)
	}
	opts.Platform.Architecture = "s390x"
	_, err := s.Pull(t.Context(), f.reference(t, ":v1"), opts)
	if p, isPlatform := errors.AsType[*PlatformError](err); !isPlatform || len(p.Have) != 2 {
		t.Errorf("got %v", err)
	}
}

// TestPullOnce checks that what the store has is not fetched again.
func TestPullOnce(t *testing.T) {
	needRoot(t)
	f := newFakeRegistry(t, "a")
	f.index("v1", f.twoPlatforms()...)
	s := openStore(t)
	for range 2 {
		f.asked = nil
		if _, err := s.Pull(t.Context(), f.reference(t, ":v1"), PullOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.asked) != 1 {
		t.Errorf("asked again for %v", f.asked)
	}
}

func TestPullFromMirror(t *testing.T) {
	needRoot(t)
	f := newFakeRegistry(t, "cache/library/alpine")
	f.tags["latest"] = f.image(host(), tarOf(t, file("f", "x")))
	ref, err := ParseReference("alpine")
	if err != nil {
		t.Fatal(err)
	}
	dead := deadHost(t)
	s := openStore(t)
	img, err := s.Pull(t.Context(), ref, PullOptions{Mirrors: map[string][]string{"docker.io": {"http://" + dead, f.host() + "/cache/"}}})
	if err != nil || img.Names[0] != "docker.io/library/alpine:latest" {
		t.Errorf("got %v, %v", img, err)
	}
}

func TestPullOffline(t *testing.T) {
	dead := deadHost(t)
	s := openStore(t)
	ref := Reference{Domain: dead, Path: "alpine"}
	_, err := s.Pull(t.Context(), ref, PullOptions{Mirrors: map[string][]string{dead: {"https://" + dead}}})
	pullErr, isPull := errors.AsType[*PullError](err)
	if !isPull || !pullErr.Offline() || len(pullErr.Tries) != 2 {
		t.Fatalf("got %v", err)
	}
	want := fmt.Sprintf("image: pull %s/alpine:latest: tried https://%[1]s: dial tcp %[1]s: connect: connection refused; http://%[1]s: dial tcp %[1]s: connect: connection refused", dead)
	if err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	wantEmpty(t, s)
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

// TestPullHostile pulls from registries that fail or lie.
func TestPullHostile(t *testing.T) {
	needRoot(t)
	isLayer := func(f *fakeRegistry, r *http.Request) bool {
		return strings.Contains(r.URL.Path, "/blobs/") && len(f.asked) > 2
	}
	tests := []struct {
		name   string
		before func(*fakeRegistry, http.ResponseWriter, *http.Request) bool
		want   string
	}{
		{"unknown", func(f *fakeRegistry, _ http.ResponseWriter, _ *http.Request) bool { delete(f.tags, "v1"); return false }, `status 404 Not Found: "MANIFEST_UNKNOWN": "no such\x1b thing"`},
		{"server error", func(_ *fakeRegistry, w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true }, "status 503"},
		{"truncated layer", func(f *fakeRegistry, w http.ResponseWriter, r *http.Request) bool {
			if isLayer(f, r) {
				w.Header().Set("Content-Length", "100000")
				_, _ = w.Write([]byte{0x1f, 0x8b, 8})
			}
			return isLayer(f, r)
		}, "unexpected EOF"},
		{"short layer", func(f *fakeRegistry, w http.ResponseWriter, r *http.Request) bool {
			if isLayer(f, r) {
				_, _ = w.Write([]byte("short"))
			}
			return isLayer(f, r)
		}, "size is 5"},
		{"endless layer", func(f *fakeRegistry, w http.ResponseWriter, r *http.Request) bool {
			for i := 0; isLayer(f, r) && i < 1<<12; i++ {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					break
				}
			}
			return isLayer(f, r)
		}, "size is more"},
		{"endless manifest", func(_ *fakeRegistry, w http.ResponseWriter, _ *http.Request) bool {
			for range 1 << 10 {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					break
				}
			}
			return true
		}, "more than 4194304 bytes in a manifest"},
		{"wrong digest header", func(_ *fakeRegistry, w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("0", 64))
			_, _ = w.Write([]byte("{}"))
			return true
		}, "manifest: digest is"},
		{"login", func(_ *fakeRegistry, w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(401)
			return true
		}, "status 401"},
		{"endless challenge", func(f *fakeRegistry, w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				fmt.Fprint(w, `{"access_token":"useless"}`)
				return true
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+f.server.URL+`/token"`)
			w.WriteHeader(401)
			return true
		}, "status 401"},
		{"token server", func(_ *fakeRegistry, w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("WWW-Authenticate", `Bearer realm="file:///etc/passwd"`)
			w.WriteHeader(401)
			return true
		}, "has no host"},
		{"redirects", func(_ *fakeRegistry, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
			return true
		}, "more than 10 redirects"},
		{"redirect away", func(_ *fakeRegistry, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "gopher://example.invalid/", http.StatusTemporaryRedirect)
			return true
		}, "is not as safe as"},
		{"HTML", func(_ *fakeRegistry, w http.ResponseWriter, _ *http.Request) bool {
			fmt.Fprint(w, "<html>")
			return true
		}, "invalid character"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeRegistry(t, "some/thing")
			f.tags["v1"] = f.image(host(), tarOf(t, file("f", "x")))
			f.before = func(w http.ResponseWriter, r *http.Request) bool { return tt.before(f, w, r) }
			s := openStore(t)
			_, err := s.Pull(t.Context(), f.reference(t, ":v1"), PullOptions{})
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if pullErr, isPull := errors.AsType[*PullError](err); isPull && pullErr.Offline() {
				t.Error("takes a registry that answers for none")
			}
			wantEmpty(t, s)
		})
	}
}

func TestPullCancelled(t *testing.T) {
	needRoot(t)
	f := newFakeRegistry(t, "slow")
	f.tags["v1"] = f.image(host(), tarOf(t, file("f", "x")))
	ctx, cancel := context.WithCancel(t.Context())
	f.before = func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			cancel()
			<-r.Context().Done()
		}
		return false
	}
	s := openStore(t)
	if _, err := s.Pull(ctx, f.reference(t, ":v1"), PullOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	wantEmpty(t, s)
}

func TestEndpoints(t *testing.T) {
	opts := PullOptions{
		Mirrors:  map[string][]string{"docker.io": {"https://mirror.example/hub", "10.0.0.1:5000"}},
		Insecure: []string{"10.0.0.1:5000", "plain.example"},
	}
	tests := []struct{ domain, want string }{
		{"docker.io", "https://mirror.example/hub http://10.0.0.1:5000 https://registry-1.docker.io"},
		{"quay.io", "https://quay.io"},
		{"plain.example", "http://plain.example"},
		{"localhost:5000", "http://localhost:5000"},
		{"127.1.2.3", "http://127.1.2.3"},
		{"[::1]:5000", "http://[::1]:5000"},
		{"localhost.example", "https://localhost.example"},
	}
	for _, tt := range tests {
		var got []string
		for _, base := range opts.endpoints(tt.domain) {
			got = append(got, base.String())
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: got %v, want %s", tt.domain, got, tt.want)
		}
	}
}

// TestPullFromDockerRegistry pulls from Debian's docker-registry, which serves
// what skopeo has pushed.
func TestPullFromDockerRegistry(t *testing.T) {
	needRoot(t)
	for _, program := range []string{"docker-registry", "skopeo"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs Debian's package %s", program)
		}
	}
	addr := deadHost(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	err := os.WriteFile(config, fmt.Appendf(nil, "version: 0.1\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n", dir, addr), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	server := exec.Command("docker-registry", "serve", config)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = errors.Join(server.Process.Kill(), server.Wait()) }()
	for range 100 {
		if c, err := net.Dial("tcp", addr); err == nil {
			_ = c.Close()
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, format := range []string{"oci", "v2s2"} {
		l := newLayout(t)
		layout := l.add(l.image(host(), tarOf(t, file("f", format))), "").write()
		name := addr + "/some/image:" + format
		out, err := exec.Command("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "--format", format, "oci:"+layout, "docker://"+name).CombinedOutput()
		if err != nil {
			t.Fatalf("skopeo: %v: %s", err, out)
		}
		ref, err := ParseReference(name)
		if err != nil {
			t.Fatal(err)
		}
		img, err := openStore(t).Pull(t.Context(), ref, PullOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if content, err := img.ReadFile("f"); err != nil || string(content) != format {
			t.Errorf("got %q, %v", content, err)
		}
	}
}
