package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minictr/minictr/pkg/registry"
)

// TestCredentials reads files as Docker and Podman write them.
func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	helper := "#!/bin/sh\nread key\ncase $key in\n" +
		"token.example) echo '{\"Username\":\"<token>\",\"Secret\":\"t\"}' ;;\n" +
		"broken.example) echo secret; exit 1 ;;\n" +
		"garbled.example) echo secret ;;\n" +
		"hanging.example) exec sleep 100 ;;\n" +
		"https://index.docker.io/v1/) echo '{\"Username\":\"hub\",\"Secret\":\"h\"}' ;;\n" +
		"*) echo 'credentials not found in native keychain'; exit 1 ;;\nesac\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-drawer"), []byte(helper), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("REGISTRY_AUTH_FILE", "")
	t.Setenv("DOCKER_CONFIG", "")
	t.Setenv("HOME", dir)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	name, podman := filepath.Join(dir, ".docker/config.json"), filepath.Join(dir, "containers/auth.json")
	err := errors.Join(os.Mkdir(filepath.Dir(name), 0o700), os.Mkdir(filepath.Dir(podman), 0o700),
		os.WriteFile(podman, []byte(`{"auths": {"old.example": {"auth": "eA=="}, "podman.example": {"auth": "eDp5"}}}`), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	const auths = `"auths": {"https://index.docker.io/v1/": {"auth": "bWU6c2U6Y3JldA=="}, "https://old.example/v2/": {"auth": "YTpiAA=="},
		"token.example": {"auth": "YTo=", "identitytoken": "t"}, "quay.io/mine": {"auth": "YTpi"}, "bad.example": {"auth": "?"}}`
	tests := []struct {
		file, host string
		want       registry.Credentials
		wantErr    string
	}{
		{"", "docker.io", registry.Credentials{}, ""},
		{"{}", "docker.io", registry.Credentials{}, ""},
		{`{"auths": null}`, "docker.io", registry.Credentials{}, ""},
		{"{" + auths + "}", "docker.io", registry.Credentials{User: "me", Password: "se:cret"}, ""},
		{"{" + auths + "}", "old.example", registry.Credentials{User: "a", Password: "b"}, ""},
		{"{" + auths + "}", "token.example", registry.Credentials{IdentityToken: "t"}, ""},
		{"{" + auths + "}", "old.example:5000", registry.Credentials{}, ""},
		{"{" + auths + "}", "podman.example", registry.Credentials{User: "x", Password: "y"}, ""},
		{`{"credsStore": "drawer"}`, "podman.example", registry.Credentials{User: "x", Password: "y"}, ""},
		{"{" + auths + "}", "quay.io", registry.Credentials{}, ""}, // one of a repository there
		{"{" + auths + "}", "bad.example", registry.Credentials{}, "the entry of bad.example in auths can't be read"},
		{`{"auths": []}`, "docker.io", registry.Credentials{}, "config.json: it is not as docker writes it"},
		{"null", "docker.io", registry.Credentials{}, ""},
		{" ", "docker.io", registry.Credentials{}, ""},
		{`{"credsStore": "drawer"}`, "docker.io", registry.Credentials{User: "hub", Password: "h"}, ""},
		{`{"credsStore": "drawer"}`, "token.example", registry.Credentials{IdentityToken: "t"}, ""},
		{`{"credsStore": "drawer"}`, "unknown.example", registry.Credentials{}, ""},
		{`{"credsStore": "drawer"}`, "broken.example", registry.Credentials{}, "docker-credential-drawer get: exit status 1"},
		{`{"credsStore": "drawer"}`, "garbled.example", registry.Credentials{}, "docker-credential-drawer get: its answer can't be read"},
		{`{"credsStore": "drawer"}`, "hanging.example", registry.Credentials{}, "docker-credential-drawer get: context deadline exceeded"},
		{`{"credsStore": "none"}`, "docker.io", registry.Credentials{}, "executable file not found"},
		{`{"credsStore": "../none"}`, "docker.io", registry.Credentials{}, "can't have a slash"},
		{`{"credHelpers": {"token.example": "drawer"}, ` + auths + "}", "docker.io", registry.Credentials{User: "me", Password: "se:cret"}, ""},
		{`{"credHelpers": {"https://token.example": "drawer"}}`, "token.example", registry.Credentials{IdentityToken: "t"}, ""},
	}
	for _, tt := range tests {
		if err := os.WriteFile(name, []byte(tt.file), 0o600); err != nil {
			t.Fatal(err)
		}
		if tt.file == "" {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		got, err := findCredentials(ctx, tt.host)
		cancel()
		if got != tt.want || (err == nil) != (tt.wantErr == "") || err != nil && (!strings.Contains(err.Error(), tt.wantErr) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s, %s: got %+v, %v", tt.file, tt.host, got, err)
		}
	}
}
