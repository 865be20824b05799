package registry

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/minictr/minictr/pkg/image"
)

// misbehaviour is what a registry does wrong: it answers, or says false and the
// answer is the right one. layer tells that the largest blob is asked for, and
// nth how often it was before.
type misbehaviour func(f *fakeRegistry, w http.ResponseWriter, r *http.Request, layer bool, nth int) bool

// onLayer misbehaves for the largest blob alone.
func onLayer(do func(w http.ResponseWriter, r *http.Request, content []byte, nth int) bool) misbehaviour {
	return func(f *fakeRegistry, w http.ResponseWriter, r *http.Request, layer bool, nth int) bool {
		return layer && do(w, r, f.blobs["some/thing@"+r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]], nth)
	}
}

// status always answers so.
func status(n int, header ...string) misbehaviour {
	return func(_ *fakeRegistry, w http.ResponseWriter, _ *http.Request, _ bool, _ int) bool {
		for i := 0; i < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		w.WriteHeader(n)
		return true
	}
}

// drop breaks the connection.
func drop() { panic(http.ErrAbortHandler) }

// part answers a range of a blob, and says that it is another.
func part(w http.ResponseWriter, contentRange string, content []byte) bool {
	w.Header().Set("Content-Range", contentRange)
	w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	w.WriteHeader(http.StatusPartialContent)
	_, _ = w.Write(content)
	return true
}

// half sends the first half of a blob.
func half(w http.ResponseWriter, content []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	_, _ = w.Write(content[:len(content)/2])
	w.(http.Flusher).Flush()
}

// TestHostile pulls from registries that fail or lie: that succeeds, or fails
// with a clear error and leaves nothing, and always it ends.
func TestHostile(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token"`)
		w.WriteHeader(http.StatusUnauthorized)
		if len(r.Header["Authorization"]) > 0 || r.URL.Path == "/token" {
			t.Errorf("another server was asked for %s with %q", r.URL, r.Header["Authorization"])
		}
	}))
	defer other.Close()
	tests := []struct {
		name string
		do   misbehaviour
		want string // "" if it is overcome
		asks int    // for the layer, if not 0
	}{
		{"unknown", func(f *fakeRegistry, _ http.ResponseWriter, _ *http.Request, _ bool, _ int) bool {
			delete(f.tags, "some/thing:v1")
			return false
		}, `status 404 Not Found: "MANIFEST_UNKNOWN": "no such\x1b thing"`, 0},
		{"always 503", status(503), "status 503 Service Unavailable, after 4 tries", 0},
		{"always 429, for an hour", status(429, "Retry-After", "3600"), "status 429 Too Many Requests; it may be asked again in 1h0m0s", 0},
		{"always 503, for an hour", status(503, "Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)), "status 503 Service Unavailable; it may be asked again in ", 0},
		{"503, 429 and then right", onLayer(func(w http.ResponseWriter, _ *http.Request, _ []byte, nth int) bool {
			if nth < 2 {
				w.WriteHeader([]int{503, 429}[nth])
			}
			return nth < 2
		}), "", 3},
		{"501", status(501), "status 501 Not Implemented", 0},
		{"dropped before the answer", onLayer(func(_ http.ResponseWriter, _ *http.Request, _ []byte, nth int) bool {
			if nth < 2 {
				drop()
			}
			return false
		}), "", 3},
		{"always dropped", onLayer(func(_ http.ResponseWriter, _ *http.Request, _ []byte, _ int) bool {
			drop()
			return true
		}), "EOF, after 4 tries", 0},
		{"dropped and resumed", onLayer(func(w http.ResponseWriter, r *http.Request, content []byte, nth int) bool {
			if nth == 0 {
				half(w, content)
				drop()
			}
			if want := fmt.Sprintf("bytes=%d-", len(content)/2); r.Header.Get("Range") != want {
				t.Errorf("asked for the range %q, want %q", r.Header.Get("Range"), want)
			}
			return false
		}), "", 2},
		{"dropped, and no ranges", onLayer(func(w http.ResponseWriter, r *http.Request, content []byte, nth int) bool {
			if r.Header.Del("Range"); nth == 0 {
				half(w, content)
				drop()
			}
			return false
		}), "", 2},
		{"stalled and resumed", onLayer(func(w http.ResponseWriter, r *http.Request, content []byte, nth int) bool {
			if nth == 0 {
				half(w, content)
				<-r.Context().Done()
			}
			return nth == 0
		}), "", 2},
		{"always stalled", onLayer(func(w http.ResponseWriter, r *http.Request, content []byte, _ int) bool {
			<-r.Context().Done()
			return true
		}), "less than 1 kB a second has moved for 300ms, after 4 tries", 4},
		{"dripping", onLayer(func(w http.ResponseWriter, _ *http.Request, content []byte, _ int) bool {
			w.Header().Set("Content-Length", strconv.Itoa(len(content)))
			for i := range 20 {
				_, _ = w.Write(content[i : i+1])
				w.(http.Flusher).Flush()
				time.Sleep(50 * time.Millisecond)
			}
			_, _ = w.Write(content[20:])
			return true
		}), "less than 1 kB a second has moved for 300ms, after 4 tries", 4},
		{"slow", onLayer(func(w http.ResponseWriter, _ *http.Request, content []byte, _ int) bool {
			w.Header().Set("Content-Length", strconv.Itoa(len(content)))
			for i := range 10 {
				_, _ = w.Write(content[200*i : 200*(i+1)])
				w.(http.Flusher).Flush()
				time.Sleep(50 * time.Millisecond)
			}
			_, _ = w.Write(content[2000:])
			return true
		}), "", 1},
		{"some bytes, and dropped, again and again", onLayer(func(w http.ResponseWriter, r *http.Request, content []byte, nth int) bool {
			w.Header().Set("Content-Length", strconv.Itoa(len(content)))
			if nth > 0 {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", nth, len(content)-1, len(content)))
				w.Header().Set("Content-Length", strconv.Itoa(len(content)-nth))
				w.WriteHeader(http.StatusPartialContent)
			}
			_, _ = w.Write(content[nth : nth+1])
			w.(http.Flusher).Flush()
			drop()
			return true
		}), "unexpected EOF, after 4 tries", 4},
		{"the wrong range", onLayer(func(w http.ResponseWriter, r *http.Request, content []byte, nth int) bool {
			if nth == 0 {
				half(w, content)
				drop()
			}
			return part(w, fmt.Sprintf("bytes 0-%d/%d", len(content)-1, len(content)), content)
		}), "by a Content-Range of \"bytes 0-", 2},
		{"a range without its place", onLayer(func(w http.ResponseWriter, r *http.Request, content []byte, nth int) bool {
			if nth == 0 {
				half(w, content)
				drop()
			}
			return part(w, "", content[len(content)/2:])
		}), `by a Content-Range of ""`, 2},
		{"a range of another blob", onLayer(func(w http.ResponseWriter, r *http.Request, content []byte, nth int) bool {
			if nth == 0 {
				half(w, content)
				drop()
			}
			rest := make([]byte, len(content)-len(content)/2)
			return part(w, fmt.Sprintf("bytes %d-%d/%d", len(content)/2, len(content)-1, len(content)), rest)
		}), "", -1},
		{"truncated", onLayer(func(w http.ResponseWriter, _ *http.Request, content []byte, _ int) bool {
			_, _ = w.Write(content[:10])
			return true
		}), "size is 10, want", 1},
		{"huge by its own word", onLayer(func(w http.ResponseWriter, _ *http.Request, content []byte, _ int) bool {
			w.Header().Set("Content-Length", "1000000000000000")
			_, _ = w.Write(content)
			return true
		}), "size is 1000000000000000, want", 1},
		{"endless", onLayer(func(w http.ResponseWriter, _ *http.Request, content []byte, _ int) bool {
			for _, err := w.Write(content); err == nil; _, err = w.Write(make([]byte, 1<<16)) {
			}
			return true
		}), "", -1},
		{"an endless manifest", func(_ *fakeRegistry, w http.ResponseWriter, _ *http.Request, _ bool, _ int) bool {
			for _, err := w.Write(nil); err == nil; _, err = w.Write(make([]byte, 1<<16)) {
			}
			return true
		}, "more than 4194304 bytes in a manifest", 0},
		{"endless headers", func(_ *fakeRegistry, w http.ResponseWriter, r *http.Request, _ bool, _ int) bool {
			if r.URL.Path != "/v2/" {
				w.Header().Set("X", strings.Repeat("x", 1<<20))
			}
			return false
		}, "exceeded 65536 bytes", 0},
		{"another blob", onLayer(func(w http.ResponseWriter, _ *http.Request, content []byte, _ int) bool {
			_, _ = w.Write(make([]byte, len(content)))
			return true
		}), "", -1},
		{"another digest in the header", func(_ *fakeRegistry, w http.ResponseWriter, _ *http.Request, _ bool, _ int) bool {
			w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("0", 64))
			fmt.Fprint(w, "{}")
			return true
		}, "manifest: digest is", 0},
		{"a password is asked for", status(401, "WWW-Authenticate", `Basic realm="x"`), "status 401 Unauthorized", 0},
		{"an endless challenge", func(f *fakeRegistry, w http.ResponseWriter, r *http.Request, _ bool, _ int) bool {
			if r.URL.Path == "/token" {
				fmt.Fprint(w, `{"access_token":"useless"}`)
				return true
			}
			return status(401, "WWW-Authenticate", `Bearer realm="`+f.server.URL+`/token"`)(f, w, r, false, 0)
		}, "status 401", 0},
		{"a token server that is a file", status(401, "WWW-Authenticate", `Bearer realm="file:///etc/passwd"`), "has no host", 0},
		{"401 in the middle", func(f *fakeRegistry, _ http.ResponseWriter, _ *http.Request, layer bool, nth int) bool {
			if layer && nth == 0 {
				f.mu.Lock()
				f.auth, f.user = "bearer", ""
				f.mu.Unlock()
			}
			return false
		}, "", 2},
		{"a redirect in circles", func(_ *fakeRegistry, w http.ResponseWriter, r *http.Request, _ bool, _ int) bool {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
			return true
		}, "more than 10 redirects", 0},
		{"a redirect away", func(_ *fakeRegistry, w http.ResponseWriter, r *http.Request, _ bool, _ int) bool {
			http.Redirect(w, r, "gopher://me:secret@example.invalid/", http.StatusTemporaryRedirect)
			return true
		}, "gopher://example.invalid is not as safe as", 0},
		{"a redirect to another port", func(f *fakeRegistry, w http.ResponseWriter, r *http.Request, layer bool, nth int) bool {
			f.mu.Lock()
			f.auth, f.user = "bearer", ""
			f.mu.Unlock()
			if layer && r.Header.Get("Authorization") != "" {
				http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
				return true
			}
			return false
		}, "status 401 Unauthorized", 0},
		{"HTML", func(_ *fakeRegistry, w http.ResponseWriter, _ *http.Request, _ bool, _ int) bool {
			fmt.Fprint(w, "<html>")
			return true
		}, "invalid character", 0},
	}
	noise := make([]byte, 1<<18)
	_, _ = rand.Read(noise)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := openStore(t)
			f := newFakeRegistry(t)
			f.server.Config.ErrorLog = quiet
			f.tag("some/thing:v1", hex.EncodeToString(noise[:len(noise)/2]))
			layer, size := "", 0
			for name, content := range f.blobs {
				if len(content) > size {
					layer, size = name[strings.Index(name, "@")+1:], len(content)
				}
			}
			f.before = func(w http.ResponseWriter, r *http.Request) bool {
				return tt.do(f, w, r, strings.HasSuffix(r.URL.Path, layer), f.count("GET /v2/some/thing/blobs/"+layer)-1)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			_, err := impatient().Pull(t.Context(), s.Store, f.reference("some/thing:v1"), image.Options{})
			runtime.ReadMemStats(&after)
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
				t.Errorf("took %d MB of memory", grown>>20)
			}
			if asks := f.count("GET /v2/some/thing/blobs/" + layer); tt.asks > 0 && asks != tt.asks {
				t.Errorf("asked %d times, want %d", asks, tt.asks)
			}
			if tt.want == "" && tt.asks >= 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if e, found := errors.AsType[*Error](err); !found || e.Offline() {
				t.Errorf("takes a registry that answers for none: %v", err)
			}
			s.wantEmpty(t)
		})
	}
}

// TestWrongDiffID pulls an image whose layer is not the one that its
// configuration names.
func TestWrongDiffID(t *testing.T) {
	f := newFakeRegistry(t)
	config := f.config("good")
	f.tags["a:bad"] = f.manifest("a", config, packed(t, "bad")).Digest.String()
	s := openStore(t)
	_, err := impatient().Pull(t.Context(), s.Store, f.reference("a:bad"), image.Options{})
	if m, found := errors.AsType[*image.MismatchError](err); !found || m.What != "diffID" {
		t.Errorf("got %v", err)
	}
	s.wantEmpty(t)
}
