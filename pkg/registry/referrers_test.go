package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minictr/minictr/pkg/image"
)

// referrersOf finds them as a registry does: among all its manifests.
func (f *fakeRegistry) referrersOf(repository, subject string) []ispec.Descriptor {
	list := []ispec.Descriptor{}
	for name, content := range f.blobs {
		var m ispec.Manifest
		if strings.HasPrefix(name, repository+"@") && json.Unmarshal(content, &m) == nil && m.Subject != nil && m.Subject.Digest.String() == subject {
			list = append(list, ispec.Descriptor{
				MediaType: m.MediaType, ArtifactType: m.ArtifactType, Digest: digest.FromBytes(content), Size: int64(len(content)),
			})
		}
	}
	slices.SortFunc(list, func(a, b ispec.Descriptor) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	return list
}

// serveReferrers lists two on a page.
func (f *fakeRegistry) serveReferrers(w http.ResponseWriter, r *http.Request, repository, subject string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.lists {
		http.NotFound(w, r)
		return
	}
	var at int
	list := f.referrersOf(repository, subject)
	if _, err := fmt.Sscan(r.FormValue("at"), &at); err != nil || at > len(list) {
		at = 0
	}
	if list = list[at:]; len(list) > 2 {
		list = list[:2]
		w.Header().Set("Link", fmt.Sprintf(`<%s?at=%d>; rel="next"`, r.URL.Path, at+2))
	}
	w.Header().Set("Content-Type", ispec.MediaTypeImageIndex)
	_, _ = w.Write(jsonOf(f.t, listOf(list)))
}

func listOf(list []ispec.Descriptor) ispec.Index {
	return ispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ispec.MediaTypeImageIndex, Manifests: list}
}

// refer puts a signature of the subject and, where there are no lists, into the
// index that clients keep.
func (f *fakeRegistry) refer(repository string, subject ispec.Descriptor, signature string) ispec.Descriptor {
	f.t.Helper()
	blob := f.put(repository, "application/vnd.example.signature", []byte(signature))
	d := f.put(repository, ispec.MediaTypeImageManifest, jsonOf(f.t, ispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ispec.MediaTypeImageManifest, ArtifactType: blob.MediaType,
		Config: f.put(repository, ispec.MediaTypeEmptyJSON, []byte("{}")), Layers: []ispec.Descriptor{blob}, Subject: &subject,
	}))
	if !f.lists {
		list := f.put(repository, ispec.MediaTypeImageIndex, jsonOf(f.t, listOf(f.referrersOf(repository, subject.Digest.String()))))
		f.tags[repository+":sha256-"+subject.Digest.Encoded()] = list.Digest.String()
	}
	return d
}

// annotate puts a referrer with a manifest of more than a megabyte.
func (f *fakeRegistry) annotate(repository string, subject ispec.Descriptor, n int) {
	f.put(repository, ispec.MediaTypeImageManifest, jsonOf(f.t, ispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ispec.MediaTypeImageManifest, Subject: &subject,
		Config:      f.put(repository, ispec.MediaTypeEmptyJSON, []byte("{}")),
		Annotations: map[string]string{"text": strings.Repeat(fmt.Sprint(n), 1_700_000)},
	}))
}

// patient is a client that soon tries again, but waits for a registry that has
// much to look through.
func patient() *Client {
	c := impatient()
	c.delays.idle = time.Minute
	return c
}

// onList answers whoever asks for a list of referrers, with some text.
func onList(status int, text string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		lists := strings.Contains(r.URL.Path, "/referrers/")
		if lists {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		}
		return lists
	}
}

// signatures returns the bytes of what refers to an image.
func signatures(t *testing.T, img *image.Image, ref image.Reference) (list []string) {
	t.Helper()
	referrers, err := img.Referrers(ref.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range referrers {
		f, err := img.Open(r.Blobs[1])
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		text, err := readAll(f, "a signature", maxListed)
		if err != nil || r.ArtifactType != "application/vnd.example.signature" {
			t.Fatalf("got %q, %v", r.ArtifactType, err)
		}
		list = append(list, string(text))
	}
	slices.Sort(list)
	return list
}

// TestReferrers pulls an image with what refers to it, pushes it elsewhere, and
// pulls it from there; registries list referrers or do not.
func TestReferrers(t *testing.T) {
	for _, lists := range []bool{true, false} {
		for _, listsThere := range []bool{true, false} {
			f, g := newFakeRegistry(t), newFakeRegistry(t)
			f.lists, g.lists = lists, listsThere
			ours := f.image("a", runtime.GOARCH, "ours")
			index := f.index("a:v1", ours)
			want := []string{"another", "of the index", "of the manifest", "the third"}
			f.refer("a", index, want[1])
			for _, n := range []int{0, 2, 3} {
				f.refer("a", ours, want[n])
			}
			f.refer("a", f.image("a", "riscv64", "other"), "of another image")

			s := openStore(t)
			s.Warn = func(err error) { t.Error(err) }
			ref, to := f.reference("a:v1"), g.reference("b:v1")
			c := patient()
			img, err := c.Pull(t.Context(), s.Store, ref, image.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got := signatures(t, img, ref); !slices.Equal(got, want) {
				t.Fatalf("%t, %t: got %q", lists, listsThere, got)
			}
			// Those that are there stay when a registry fails to list them.
			f.before = onList(http.StatusForbidden, "")
			warned := 0
			s.Warn = func(error) { warned++ }
			if img, err = c.Pull(t.Context(), s.Store, ref, image.Options{}); err != nil || warned != 2 {
				t.Fatalf("got %v, and was told %d times", err, warned)
			}
			if got := signatures(t, img, ref); !slices.Equal(got, want) {
				t.Errorf("%t, %t: got %q", lists, listsThere, got)
			}
			f.before, warned = nil, 0
			// One that is damaged keeps the others from being swept, and comes again.
			referrers, err := img.Referrers(ref.String())
			if err != nil {
				t.Fatal(err)
			}
			s.cut(t, referrers[0].Digest)
			if img, err = c.Pull(t.Context(), s.Store, ref, image.Options{}); err != nil || warned != 1 {
				t.Fatalf("got %v, and was told %d times", err, warned)
			}
			if got := signatures(t, img, ref); !slices.Equal(got, want) {
				t.Errorf("%t, %t: got %q", lists, listsThere, got)
			}
			s.Warn = func(err error) { t.Error(err) }
			if err := s.Tag(img.ID.String(), to.String()); err != nil { // by its ID; which sweeps, too
				t.Fatal(err)
			}
			if img, err = s.Get(to.String()); err != nil {
				t.Fatal(err)
			}
			g.refer("b", ours, "what is there already")
			for range 2 { // the second changes nothing
				if got, err := c.Push(t.Context(), s.Store, img, to, nil); err != nil || got.String() != index.Digest.String() {
					t.Fatalf("got %v, %v", got, err)
				}
			}
			there := openStore(t)
			again, err := c.Pull(t.Context(), there.Store, to, image.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if _, tagged := g.tags["b:sha256-"+ours.Digest.Encoded()]; tagged == listsThere {
				t.Errorf("it lists referrers: %t; there is an index of them: %t", listsThere, tagged)
			}
			if got := signatures(t, again, to); !slices.Equal(got, append(slices.Clone(want), "what is there already")) {
				t.Errorf("%t, %t: got %q from there", lists, listsThere, got)
			}
			// What refers to an image goes with it.
			if err := s.Remove(img.ID.String()); err != nil {
				t.Fatal(err)
			}
			s.wantEmpty(t)
		}
	}
}

// TestReferrersHostile pulls an image of which something is said that can't be
// kept: the image is pulled, and that is told.
func TestReferrersHostile(t *testing.T) {
	tests := []struct {
		name string
		do   func(f *fakeRegistry, d ispec.Descriptor) func(http.ResponseWriter, *http.Request) bool
		kept int
		want string
	}{
		{"too many", func(f *fakeRegistry, d ispec.Descriptor) func(http.ResponseWriter, *http.Request) bool {
			for n := range 70 {
				f.refer("a", d, fmt.Sprint(n))
			}
			return nil
		}, 32, "more than 16 pages of referrers"},
		{"too many for us", func(f *fakeRegistry, d ispec.Descriptor) func(http.ResponseWriter, *http.Request) bool {
			f.lists = false
			for n := range 70 {
				f.refer("a", d, fmt.Sprint(n))
			}
			return nil
		}, 64, "more than 64 referrers of an image"},
		{"large", func(f *fakeRegistry, d ispec.Descriptor) func(http.ResponseWriter, *http.Request) bool {
			f.lists = false
			list := []ispec.Descriptor{f.refer("a", d, strings.Repeat("x", 65<<20)), f.refer("a", d, "small")}
			f.tags["a:sha256-"+d.Digest.Encoded()] = f.put("a", ispec.MediaTypeImageIndex, jsonOf(f.t, listOf(list))).Digest.String()
			return nil
		}, 1, "more than the 256 blobs and 67108864 bytes that are left"},
		{"large manifests", func(f *fakeRegistry, d ispec.Descriptor) func(http.ResponseWriter, *http.Request) bool {
			var list []ispec.Descriptor
			for n := range 30 {
				list = append(list, f.put("a", ispec.MediaTypeImageManifest, bytes.Repeat([]byte{byte(n)}, 4<<20)))
			}
			f.lists = false
			f.tags["a:sha256-"+d.Digest.Encoded()] = f.put("a", ispec.MediaTypeImageIndex, jsonOf(f.t, listOf(list))).Digest.String()
			return nil
		}, 0, "manifest: invalid character"},
		{"of annotations", func(f *fakeRegistry, d ispec.Descriptor) func(http.ResponseWriter, *http.Request) bool {
			for n := range 4 {
				f.annotate("a", d, n)
			}
			return nil
		}, 2, "bytes, and"},
		{"one that can't be read", func(f *fakeRegistry, d ispec.Descriptor) func(http.ResponseWriter, *http.Request) bool {
			r := f.refer("a", d, "signed")
			return onList(http.StatusOK, fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":"sha512:00","size":1},%s]}`, jsonOf(f.t, r)))
		}, 1, "only sha256 is supported"},
		{"half a list", func(f *fakeRegistry, d ispec.Descriptor) func(http.ResponseWriter, *http.Request) bool {
			for n := range 3 {
				f.refer("a", d, fmt.Sprint(n))
			}
			return func(w http.ResponseWriter, r *http.Request) bool {
				second := r.FormValue("at") != ""
				if second {
					w.WriteHeader(http.StatusNotFound)
				}
				return second
			}
		}, 2, "status 404"},
		{"denied", func(f *fakeRegistry, d ispec.Descriptor) func(http.ResponseWriter, *http.Request) bool {
			return onList(http.StatusForbidden, "")
		}, 0, "status 403"},
		{"gone", func(f *fakeRegistry, d ispec.Descriptor) func(http.ResponseWriter, *http.Request) bool {
			f.refer("a", d, "here")
			f.refer("a", d, "gone")
			delete(f.blobs, "a@"+digest.FromString("gone").String())
			return nil
		}, 1, "status 404"},
		{"of another", func(f *fakeRegistry, d ispec.Descriptor) func(http.ResponseWriter, *http.Request) bool {
			other := f.refer("a", f.image("a", "riscv64", "other"), "of another")
			return onList(http.StatusOK, string(jsonOf(f.t, listOf([]ispec.Descriptor{other}))))
		}, 0, "its subject is sha256:"},
		{"no index", func(f *fakeRegistry, d ispec.Descriptor) func(http.ResponseWriter, *http.Request) bool {
			f.lists = false
			f.tags["a:sha256-"+d.Digest.Encoded()] = d.Digest.String()
			return nil
		}, 0, "index: has no manifests"},
		{"endless", func(f *fakeRegistry, d ispec.Descriptor) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				lists := strings.Contains(r.URL.Path, "/referrers/")
				for lists && r.Context().Err() == nil {
					_, _ = w.Write(make([]byte, 1<<16))
				}
				return lists
			}
		}, 0, "more than 4194304 bytes in a list of referrers"},
		{"elsewhere", func(f *fakeRegistry, d ispec.Descriptor) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				if strings.Contains(r.URL.Path, "/referrers/") {
					w.Header().Set("Link", `<http://127.0.0.1:1/>; rel="next"`)
				}
				return false
			}
		}, 0, "the next page of referrers is at"},
		{"failing", func(f *fakeRegistry, d ispec.Descriptor) func(http.ResponseWriter, *http.Request) bool {
			return onList(http.StatusInternalServerError, "")
		}, 0, "status 500"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeRegistry(t)
			f.lists = true
			d := f.image("a", runtime.GOARCH, "ours")
			f.tags["a:v1"] = d.Digest.String()
			f.before = tt.do(f, d)
			s := openStore(t)
			var warnings []string
			s.Warn = func(err error) { warnings = append(warnings, err.Error()) }
			ref := f.reference("a:v1")
			img, err := patient().Pull(t.Context(), s.Store, ref, image.Options{})
			if err != nil {
				t.Fatal(err)
			}
			referrers, err := img.Referrers(ref.String())
			if err != nil || len(referrers) != tt.kept || len(warnings) != 1 || !strings.Contains(warnings[0], tt.want) {
				t.Errorf("got %d of them, %v; and told %.500q, want %q", len(referrers), err, warnings, tt.want)
			}
			if err := s.Remove(ref.String()); err != nil {
				t.Fatal(err)
			}
			s.wantEmpty(t)
		})
	}
}
