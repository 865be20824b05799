package main

import (
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/minictr/minictr/pkg/image"
	"github.com/minictr/minictr/pkg/registry"
)

// TestHintOfRegistry is what people are told of a registry's answers.
func TestHintOfRegistry(t *testing.T) {
	denied, unknown := &registry.StatusError{Status: 401}, &registry.StatusError{Status: 404}
	for _, c := range []struct {
		op, name string
		err      error
		want     string
	}{
		{"login", "registry.example", denied, "are the name and the password right?"},
		{"login", "registry.example", &net.OpError{Op: "dial", Err: errors.New("refused")}, "is there a network?"},
		{"pull", "registry.example/me/app", &net.OpError{Op: "dial", Err: errors.New("refused")}, "the built-in image needs none"},
		{"pull", "registry.example/me/app", denied, "minictr login registry.example signs in"},
		{"pull", "registry.example/me/app", unknown, "minictr images lists what is here"},
		{"pull", "registry.example/me/app", x509.UnknownAuthorityError{}, "--insecure-registry registry.example asks for no proof"},
		{"push", "registry.example/me/app", denied, "minictr login registry.example signs in"},
		{"push", "registry.example/library/app", denied, "minictr login registry.example signs in"},
		{"push", "docker.io/library/app", denied, "docker.io/library is Docker's own"},
		{"push", "registry.example/me/app", unknown, ""},
	} {
		host, path, _ := strings.Cut(c.name, "/")
		err := &registry.Error{Op: c.op, Reference: image.Reference{Domain: host, Path: path}, Tries: []registry.Try{{Err: c.err}}}
		if got := kindOf(err).hint; !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s %s: %v: got %q, want %q", c.op, c.name, c.err, got, c.want)
		}
	}
}
