package registry

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minictr/minictr/pkg/image"
)

// quiet is for what a server would print of clients that don't trust it.
var quiet = log.New(io.Discard, "", 0)

func writeCertificate(t *testing.T, certificate *x509.Certificate) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// twoPlatforms tags an index of images of two platforms and a document about one.
func (f *fakeRegistry) twoPlatforms(name string) (index, ours ispec.Descriptor) {
	f.t.Helper()
	repository, _, _ := strings.Cut(name, ":")
	about := f.image(repository, "unknown", "")
	about.Platform.OS = "unknown"
	ours = f.image(repository, runtime.GOARCH, "ours")
	return f.index(name, about, f.image(repository, "riscv64", "riscv64"), ours), ours
}

// index tags an index of the images.
func (f *fakeRegistry) index(name string, images ...ispec.Descriptor) ispec.Descriptor {
	f.t.Helper()
	repository, _, _ := strings.Cut(name, ":")
	index := f.put(repository, ispec.MediaTypeImageIndex, jsonOf(f.t, ispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ispec.MediaTypeImageIndex, Manifests: images,
	}))
	f.tags[name] = index.Digest.String()
	return index
}

func TestPull(t *testing.T) {
	s := openStore(t)
	f := newFakeRegistry(t)
	index, ours := f.twoPlatforms("some/thing:v1")
	f.auth, f.user = "bearer", "" // anybody gets a token
	var last image.Progress
	opts := image.Options{Progress: func(p image.Progress) { last = p }}
	c := impatient()
	for _, suffix := range []string{":v1", "@" + index.Digest.String(), "@" + ours.Digest.String()} {
		ref := f.reference("some/thing" + suffix)
		img, err := c.Pull(t.Context(), s.Store, ref, opts)
		if err != nil {
			t.Fatal(err)
		}
		if content, err := img.ReadFile("file"); err != nil || string(content) != "ours" || last.Done != last.Total {
			t.Errorf("got %q, %v, %+v", content, err, last)
		}
		if got, err := s.Get(ref.String()); err != nil || got.ID != img.ID {
			t.Errorf("got %v, %v", got, err)
		}
	}
	opts.Platform = image.Platform{OS: "linux", Architecture: "riscv64"}
	if img, err := c.Pull(t.Context(), s.Store, f.reference("some/thing:v1"), opts); err != nil || img.Config.Architecture != "riscv64" {
		t.Errorf("got %v, %v", img, err)
	}
	opts.Platform.Architecture = "s390x"
	_, err := c.Pull(t.Context(), s.Store, f.reference("some/thing:v1"), opts)
	if p, isPlatform := errors.AsType[*image.PlatformError](err); !isPlatform || len(p.Have) != 2 {
		t.Errorf("got %v", err)
	}
}

// TestPullOnce checks that what the store has is not fetched again: only what the
// tag leads to now is asked for, and what refers to it.
func TestPullOnce(t *testing.T) {
	s := openStore(t)
	f := newFakeRegistry(t)
	f.twoPlatforms("a:v1")
	for range 2 {
		f.asked = nil
		if _, err := impatient().Pull(t.Context(), s.Store, f.reference("a:v1"), image.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if f.count("GET /v2/a/blobs/") != 0 || f.count("GET /v2/a/manifests/")-f.count("GET /v2/a/manifests/sha256-") != 1 {
		t.Errorf("asked again for %v", f.asked)
	}
}

// TestPullSilentIndex pulls an index that neither says itself what it is, nor
// does the registry.
func TestPullSilentIndex(t *testing.T) {
	s := openStore(t)
	f := newFakeRegistry(t)
	d := f.put("a", "", jsonOf(t, map[string]any{"schemaVersion": 2, "manifests": []ispec.Descriptor{f.image("a", runtime.GOARCH, "x")}}))
	f.tags["a:v1"] = d.Digest.String()
	img, err := impatient().Pull(t.Context(), s.Store, f.reference("a:v1"), image.Options{})
	if err != nil || img.IndexOf(f.reference("a:v1").String()).String() != d.Digest.String() {
		t.Errorf("got %v, %v", img, err)
	}
}

// TestPullLimits checks that the store's limits are those of a pull.
func TestPullLimits(t *testing.T) {
	s := openStore(t)
	f := newFakeRegistry(t)
	f.tag("a:v1", "x")
	for _, limits := range []image.Limits{{Document: 10}, {Bytes: 10}} {
		s.Limits = func() (image.Limits, error) { return limits, nil }
		_, err := impatient().Pull(t.Context(), s.Store, f.reference("a:v1"), image.Options{})
		if limit, found := errors.AsType[*image.LimitError](err); !found || limit.Limit != 10 {
			t.Errorf("%+v: got %v", limits, err)
		}
	}
	s.wantEmpty(t)
}

func TestPullFromMirror(t *testing.T) {
	s := openStore(t)
	f := newFakeRegistry(t)
	f.tag("cache/library/alpine:latest", "x")
	c := impatient()
	c.Mirrors = map[string][]string{"docker.io": {"http://" + deadHost(t), f.host() + "/cache/"}}
	img, err := c.Pull(t.Context(), s.Store, parse(t, "alpine"), image.Options{})
	if err != nil || img.Names[0] != "docker.io/library/alpine:latest" {
		t.Errorf("got %v, %v", img, err)
	}
	c.Mirrors["docker.io"] = []string{"https://me:secret@mirror.example"}
	if _, err := c.Pull(t.Context(), s.Store, parse(t, "alpine"), image.Options{}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}

func TestPullOffline(t *testing.T) {
	dead := deadHost(t)
	s := openStore(t)
	ref := image.Reference{Domain: dead, Path: "alpine"}
	c := impatient()
	c.Mirrors = map[string][]string{dead: {"http://" + dead}}
	_, err := c.Pull(t.Context(), s.Store, ref, image.Options{})
	offline, isOffline := errors.AsType[*Error](err)
	if !isOffline || !offline.Offline() || len(offline.Tries) != 2 {
		t.Fatalf("got %v", err)
	}
	want := fmt.Sprintf("registry: pull %s/alpine:latest: tried http://%[1]s: dial tcp %[1]s: connect: connection refused; https://%[1]s: dial tcp %[1]s: connect: connection refused", dead)
	if err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	s.wantEmpty(t)
}

func TestPullCancelled(t *testing.T) {
	s := openStore(t)
	f := newFakeRegistry(t)
	f.tag("slow:v1", "x")
	ctx, cancel := context.WithCancel(t.Context())
	f.before = func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			cancel()
			<-r.Context().Done()
		}
		return false
	}
	if _, err := impatient().Pull(ctx, s.Store, f.reference("slow:v1"), image.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	s.wantEmpty(t)
}

func TestEndpoints(t *testing.T) {
	c := &Client{
		Mirrors:  map[string][]string{"docker.io": {"https://mirror.example/hub", "10.0.0.1:5000"}},
		Insecure: []string{"10.0.0.1:5000", "plain.example"},
		Certificates: map[string]string{
			"localhost:6000": "ca.pem",
		},
	}
	tests := []struct{ domain, want string }{ // + says that plain HTTP may serve as well
		{"docker.io", "https://mirror.example/hub https://10.0.0.1:5000+ https://registry-1.docker.io"},
		{"quay.io", "https://quay.io"},
		{"plain.example", "https://plain.example+"},
		{"localhost:5000", "https://localhost:5000+"},
		{"localhost:6000", "https://localhost:6000"},
		{"127.1.2.3", "https://127.1.2.3+"},
		{"[::1]:5000", "https://[::1]:5000+"},
		{"localhost.example", "https://localhost.example"},
	}
	for _, tt := range tests {
		list, err := c.endpoints(tt.domain)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range list {
			text := e.String()
			if e.either {
				text += "+"
			}
			got = append(got, text)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: got %v, want %s", tt.domain, got, tt.want)
		}
	}
	for _, mirror := range []string{"ftp://mirror.example", "https://", "a:b@mirror.example"} {
		c.Mirrors["docker.io"] = []string{mirror}
		if _, err := c.endpoints("docker.io"); err == nil {
			t.Errorf("%s: no error", mirror)
		}
	}
}

// TestTLS pulls over TLS from a host whose certificate nobody knows.
func TestTLS(t *testing.T) {
	f := newFakeRegistry(t)
	certificate := f.withTLS()
	f.tag("a:v1", "x")
	here := f.host()
	away := false
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		away := away && strings.Contains(r.URL.Path, "/blobs/") && r.Host == here
		if away {
			http.Redirect(w, r, "https://example.com"+r.URL.Path, http.StatusFound) // which its certificate is for, too
		}
		return away
	}
	tests := []struct {
		name string
		set  func(*Client)
		want string
	}{
		{"the loopback interface", func(*Client) {}, ""},
		{"its certificate", func(c *Client) { c.Certificates = map[string]string{here: certificate} }, ""},
		{"its certificate, where it sends us", func(c *Client) {
			away, c.Certificates = true, map[string]string{here: certificate}
			f.hosts(c, "example.com", here)
		}, ""},
		{"docker.io's certificate", func(c *Client) {
			away, c.Certificates = false, map[string]string{dockerDomain: certificate}
			if hub, err := c.transport(dockerHost, ""); err != nil || hub.TLSClientConfig.RootCAs == nil {
				t.Errorf("it is not that of %s: %v", dockerHost, err)
			}
		}, ""},
		{"another's certificate", func(c *Client) {
			c.Certificates = map[string]string{here: writeCertificate(t, selfSigned(t).Leaf)}
			c.Insecure = []string{here}
		}, "certificate signed by unknown authority"},
		{"no certificate", func(c *Client) { c.Certificates = map[string]string{here: os.DevNull} }, "has none"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := openStore(t)
			c := impatient()
			tt.set(c)
			_, err := c.Pull(t.Context(), s.Store, f.reference("a:v1"), image.Options{})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestRedirectToHTTP checks that what began with TLS doesn't go on without.
func TestRedirectToHTTP(t *testing.T) {
	s := openStore(t)
	f := newFakeRegistry(t)
	f.withTLS()
	f.tag("a:v1", "x")
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
			return true
		}
		return false
	}
	_, err := impatient().Pull(t.Context(), s.Store, f.reference("a:v1"), image.Options{})
	if err == nil || !strings.Contains(err.Error(), "http://127.0.0.1:1 is not as safe as the registry") {
		t.Errorf("got %v", err)
	}
	s.wantEmpty(t)
}
