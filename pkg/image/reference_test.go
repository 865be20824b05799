package image

import (
	"strings"
	"testing"
)

func TestParseReference(t *testing.T) {
	hex := strings.Repeat("a", 64)
	tests := []struct{ in, full, familiar string }{
		{"alpine", "docker.io/library/alpine:latest", "alpine:latest"},
		{"alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"},
		{"library/alpine", "docker.io/library/alpine:latest", "alpine:latest"},
		{"docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"},
		{"index.docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"},
		{"foo/bar", "docker.io/foo/bar:latest", "foo/bar:latest"},
		{"docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"},
		{"localhost/foo", "localhost/foo:latest", "localhost/foo:latest"},
		{"localhost:5000/foo:Tag_1.2-x", "localhost:5000/foo:Tag_1.2-x", "localhost:5000/foo:Tag_1.2-x"},
		{"[::1]:5000/foo", "[::1]:5000/foo:latest", "[::1]:5000/foo:latest"},
		{"Example/foo", "Example/foo:latest", "Example/foo:latest"},
		{"quay.io/a/b-c/d__e/f.g@sha256:" + hex, "quay.io/a/b-c/d__e/f.g@sha256:" + hex, "quay.io/a/b-c/d__e/f.g@sha256:" + hex},
		{"a:b@sha256:" + hex, "docker.io/library/a:b@sha256:" + hex, "a:b@sha256:" + hex},
		{"minictr.local/tiny", "minictr.local/tiny:latest", "minictr.local/tiny:latest"},
	}
	for _, tt := range tests {
		r, err := ParseReference(tt.in)
		if err != nil || r.String() != tt.full || r.Familiar() != tt.familiar {
			t.Errorf("%s: got %s, %s, %v", tt.in, r, r.Familiar(), err)
		}
	}
}

func TestParseReferenceRefuses(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", "not part of a name"},
		{"Alpine", "must be in lower case"},
		{"alpine:", "not a tag"},
		{"alpine:-x", "not a tag"},
		{"alpine:" + strings.Repeat("x", 129), "not a tag"},
		{"a//b", "not part of a name"},
		{"a/../b", "not part of a name"},
		{"-a", "not part of a name"},
		{"a___b", "not part of a name"},
		{"a..b/c/d", "not a registry's host"},
		{"a._b", "not part of a name"},
		{"host:port/a", "not a registry's host"},
		{"-host.example/a", "not a registry's host"},
		{"[::1/a", "not a registry's host"},
		{"a@sha256:xyz", "64 lower-case"},
		{"a@sha512:" + strings.Repeat("a", 128), "only sha256"},
		{"a b", "not part of a name"},
		{strings.Repeat("a", 256), "longer than 255"},
		{strings.Repeat("a", 64), "image ID"},
		{"https://example.com/a", "not a registry's host"},
	}
	for _, tt := range tests {
		if r, err := ParseReference(tt.in); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %s, %v, want %q", tt.in, r, err, tt.want)
		}
	}
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"alpine", "a.b:5/c/d:e", "a@sha256:" + strings.Repeat("0", 64), "[::1]:1/x", "A/b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			return
		}
		for _, again := range []string{r.String(), r.Familiar()} {
			r2, err := ParseReference(again)
			if err != nil || r2.String() != r.String() {
				t.Errorf("%q: %q became %q, %v", s, again, r2.String(), err)
			}
		}
	})
}
