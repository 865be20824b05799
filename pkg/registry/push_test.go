package registry

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/minictr/minictr/pkg/image"
)

// importImage makes an image of one file that was in no registry yet.
func (s testStore) importImage(t *testing.T, name string) *image.Image {
	t.Helper()
	img, err := s.Import(t.Context(), bytes.NewReader(packed(t, "a file")), name, image.Config{}, image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// TestPush pushes an image and pulls it again elsewhere.
func TestPush(t *testing.T) {
	for _, auth := range []string{"", "basic", "bearer"} {
		for _, secure := range []bool{false, true} {
			f := newFakeRegistry(t)
			if secure {
				f.withTLS()
			}
			f.auth = auth
			c := impatient()
			c.Credentials = func(_ context.Context, host string) (Credentials, error) {
				if host != f.host() {
					t.Errorf("asked for the password of %q", host)
				}
				return Credentials{User: "me", Password: "secret"}, nil
			}
			s := openStore(t)
			ref := f.reference("my/image:v1")
			img := s.importImage(t, ref.String())
			var done int64
			got, err := c.Push(t.Context(), s.Store, img, ref, func(p image.Progress) {
				if p.Layer == img.Layers[0].Digest {
					done = p.Done
				}
			})
			if err != nil || got != img.Manifest.Digest || done != img.Layers[0].Size {
				t.Fatalf("%s, %t: got %v, %v, %d bytes", auth, secure, got, err, done)
			}
			elsewhere := openStore(t)
			again, err := c.Pull(t.Context(), elsewhere.Store, ref, image.Options{})
			if err != nil || again.Manifest.Digest != img.Manifest.Digest {
				t.Errorf("%s, %t: got %v, %v", auth, secure, again, err)
			}
			// One token serves the blobs that are sent at once, and the manifest.
			if auth == "bearer" && f.token != 2 {
				t.Errorf("asked for %d tokens", f.token)
			}
			// What is there is not sent again; nor if another repository has it.
			puts := f.count("PUT ")
			for _, name := range []string{"my/image:v2", "my/other:v1"} {
				if got, err = c.Push(t.Context(), s.Store, img, f.reference(name), nil); err != nil || got != img.Manifest.Digest {
					t.Errorf("%s, %t: got %v, %v", auth, secure, got, err)
				}
			}
			if n := f.count("PUT ") - puts; n != 2 {
				t.Errorf("%s, %t: sent %d things again, want the manifest twice", auth, secure, n)
			}
		}
	}
}

// TestPushHostile pushes to registries that fail or lie.
func TestPushHostile(t *testing.T) {
	var received atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.Header["Authorization"]) > 0 || r.Method != http.MethodPut {
			t.Errorf("another server was asked to %s %s with %q", r.Method, r.URL, r.Header["Authorization"])
		}
		received.Add(1)
		w.WriteHeader(http.StatusCreated)
	}))
	defer other.Close()
	is := func(r *http.Request, method, part string) bool {
		return r.Method == method && strings.Contains(r.URL.Path, part)
	}
	tests := []struct {
		name string
		do   func(f *fakeRegistry, w http.ResponseWriter, r *http.Request) bool
		want string
	}{
		{"dropped in an upload", func(f *fakeRegistry, _ http.ResponseWriter, r *http.Request) bool {
			if is(r, http.MethodPut, "/blobs/") && f.count("PUT") < 3 {
				drop()
			}
			return false
		}, ""},
		{"503 for an upload", func(f *fakeRegistry, w http.ResponseWriter, r *http.Request) bool {
			if is(r, http.MethodPut, "/blobs/") && f.count("PUT") < 3 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return true
			}
			return false
		}, ""},
		{"a token that ends in an upload", func(f *fakeRegistry, _ http.ResponseWriter, r *http.Request) bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			if is(r, http.MethodPut, "/blobs/") && f.token == 1 {
				f.ended = 1
			}
			return false
		}, ""},
		{"a manifest that gets lost", func(f *fakeRegistry, w http.ResponseWriter, r *http.Request) bool {
			if is(r, http.MethodPut, "/manifests/") {
				w.WriteHeader(http.StatusInternalServerError)
				return true
			}
			return false
		}, "manifest: status 500 Internal Server Error, after 4 tries"},
		{"another digest", func(f *fakeRegistry, w http.ResponseWriter, r *http.Request) bool {
			if is(r, http.MethodPut, "/manifests/") {
				w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("0", 64))
				w.WriteHeader(http.StatusCreated)
				return true
			}
			return false
		}, "digest is sha256:0000"},
		{"not allowed", func(f *fakeRegistry, w http.ResponseWriter, r *http.Request) bool {
			if is(r, http.MethodPost, "/blobs/") && r.Header.Get("Authorization") != "" {
				w.WriteHeader(http.StatusForbidden)
				_, _ = w.Write([]byte(`{"errors":[{"code":"DENIED","message":"not yours"}]}`))
				return true
			}
			return false
		}, `status 403 Forbidden: "DENIED": "not yours"`},
		{"nowhere to upload to", func(f *fakeRegistry, w http.ResponseWriter, r *http.Request) bool {
			if is(r, http.MethodPost, "/blobs/") {
				w.WriteHeader(http.StatusAccepted)
				return true
			}
			return false
		}, "doesn't say where"},
		{"another server to upload to", func(f *fakeRegistry, w http.ResponseWriter, r *http.Request) bool {
			if is(r, http.MethodPost, "/blobs/") {
				w.Header().Set("Location", other.URL+"/upload")
				w.WriteHeader(http.StatusAccepted)
				return true
			}
			return false
		}, "MANIFEST_BLOB_UNKNOWN"}, // that server hasn't told ours
		{"a redirect of an upload", func(f *fakeRegistry, w http.ResponseWriter, r *http.Request) bool {
			if is(r, http.MethodPut, "/blobs/") {
				http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
				return true
			}
			return false
		}, "is another server, and a redirect may not send it"},
		{"stalled", func(f *fakeRegistry, w http.ResponseWriter, r *http.Request) bool {
			if is(r, http.MethodHead, "/blobs/") {
				<-r.Context().Done()
				return true
			}
			return false
		}, "less than 1 kB a second has moved for 300ms, after 4 tries"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeRegistry(t)
			f.server.Config.ErrorLog = quiet
			f.auth = "bearer"
			f.before = func(w http.ResponseWriter, r *http.Request) bool { return tt.do(f, w, r) }
			c := impatient()
			c.Credentials = func(context.Context, string) (Credentials, error) {
				return Credentials{User: "me", Password: "secret"}, nil
			}
			s := openStore(t)
			ref := f.reference("a:v1")
			img := s.importImage(t, ref.String())
			got, err := c.Push(t.Context(), s.Store, img, ref, nil)
			if tt.want == "" {
				if err != nil || f.tags["a:v1"] != got.String() {
					t.Errorf("got %v, %v", got, err)
				}
				return
			}
			if e, found := errors.AsType[*Error](err); !found || e.Offline() || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if n := received.Load(); n != 2 && os.Getuid() == 0 { // nobody else pushes
		t.Errorf("the other server got %d blobs, want 2", n)
	}
}

// TestPushDamaged pushes an image whose layer is gone.
func TestPushDamaged(t *testing.T) {
	f := newFakeRegistry(t)
	s := openStore(t)
	ref := f.reference("a:v1")
	img := s.importImage(t, ref.String())
	s.cut(t, img.Layers[0].Digest)
	_, err := impatient().Push(t.Context(), s.Store, img, ref, nil)
	if _, damaged := errors.AsType[*image.DamagedError](err); !damaged || len(f.tags) > 0 {
		t.Errorf("got %v, %v", err, f.tags)
	}
}

// TestPushIndex pulls two images of an index, and pushes what there is after
// each: without the other it is the image alone.
func TestPushIndex(t *testing.T) {
	s := openStore(t)
	f := newFakeRegistry(t)
	ours, other := f.image("a", runtime.GOARCH, "ours"), f.image("a", "riscv64", "other")
	index := f.index("a:v1", ours, other)
	c := impatient()
	ref, to := f.reference("a:v1"), f.reference("b:v1")
	for _, tt := range []struct{ architecture, want string }{
		{"", ours.Digest.String()}, {"riscv64", index.Digest.String()},
	} {
		opts := image.Options{}
		if tt.architecture != "" {
			opts.Platform = image.Platform{OS: "linux", Architecture: tt.architecture}
		}
		img, err := c.Pull(t.Context(), s.Store, ref, opts)
		if err != nil || img.IndexOf(ref.String()).String() != index.Digest.String() {
			t.Fatalf("got %v, %v", img, err)
		}
		if err := s.Tag(ref.String(), to.String()); err != nil { // which sweeps, too
			t.Fatal(err)
		}
		if img, err = s.Get(to.String()); err != nil {
			t.Fatal(err)
		}
		got, err := c.Push(t.Context(), s.Store, img, to, nil)
		if err != nil || got.String() != tt.want || f.tags["b:v1"] != tt.want {
			t.Errorf("%q: got %v, %v, %s; want %s", tt.architecture, got, err, f.tags["b:v1"], tt.want)
		}
	}
	// The index goes with the last image that came by it.
	images, err := s.List()
	if err != nil || len(images) != 2 {
		t.Fatalf("got %v, %v", images, err)
	}
	for _, img := range images {
		if err := s.Remove(img.ID.String()); err != nil {
			t.Fatal(err)
		}
	}
	s.wantEmpty(t)
}
