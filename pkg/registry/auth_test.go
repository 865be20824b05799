package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/minictr/minictr/pkg/image"
)

func TestLogin(t *testing.T) {
	tests := []struct {
		auth  string
		given Credentials
		want  string
	}{
		{"", Credentials{User: "me", Password: "secret"}, ""},
		{"basic", Credentials{User: "me", Password: "secret"}, ""},
		{"basic", Credentials{User: "me", Password: "wrong-secret"}, "status 401 Unauthorized"},
		{"basic", Credentials{IdentityToken: "identity-secret"}, "status 401 Unauthorized"},
		{"bearer", Credentials{User: "me", Password: "secret"}, ""},
		{"bearer", Credentials{User: "me", Password: "wrong-secret"}, "token server HOST: status 401 Unauthorized"},
		{"bearer", Credentials{IdentityToken: "identity-secret"}, ""},
		{"bearer", Credentials{IdentityToken: "wrong-secret"}, "token server HOST: status 401 Unauthorized"},
	}
	for _, tt := range tests {
		f := newFakeRegistry(t)
		f.auth, f.identity = tt.auth, "identity-secret"
		err := impatient().Login(t.Context(), f.host(), tt.given)
		want := ""
		if tt.want != "" {
			want = fmt.Sprintf("registry: login %s: tried http://%[1]s: %s", f.host(), strings.ReplaceAll(tt.want, "HOST", f.host()))
		}
		if got := fmt.Sprint(err); err != nil && got != want || err == nil && want != "" {
			t.Errorf("%s, %+v: got %v, want %q", tt.auth, tt.given, err, want)
		}
	}
	dead := deadHost(t)
	if err := impatient().Login(t.Context(), dead, Credentials{}); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v", err)
	}
}

// TestPasswordStays checks who is shown a password: the registry itself, and a
// token server, unless that is spoken to by plain HTTP and nobody said it may.
func TestPasswordStays(t *testing.T) {
	shown := 0
	server := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			shown++
		}
		fmt.Fprint(w, `{"token":"token 0"}`)
	}
	tokens := httptest.NewServer(http.HandlerFunc(server))
	defer tokens.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(tokens.URL, "http://"), ":")
	f := newFakeRegistry(t)
	f.auth = "bearer"
	redirect := ""
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Path == "/token" && redirect != "":
			http.Redirect(w, r, redirect, http.StatusTemporaryRedirect)
		case r.Header.Get("Authorization") == "" && redirect == "":
			// On the host, but not by a name that is known to be the loopback's.
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://registry.localhost:%s/token"`, port))
			w.WriteHeader(http.StatusUnauthorized)
		default:
			return false
		}
		return true
	}
	who := Credentials{User: "me", Password: "secret"}
	err := impatient().Login(t.Context(), f.host(), who)
	if err == nil || !strings.Contains(err.Error(), "a password is not sent there by plain HTTP") || shown > 0 {
		t.Errorf("got %v, shown %d times", err, shown)
	}
	// A token server that sends us on gets the password, and nobody else.
	redirect = tokens.URL
	if err = impatient().Login(t.Context(), f.host(), who); err == nil || shown > 0 {
		t.Errorf("got %v, shown %d times", err, shown)
	}
	f.identity = "secret"
	err = impatient().Login(t.Context(), f.host(), Credentials{IdentityToken: "secret"})
	if err == nil || !strings.Contains(err.Error(), "a redirect may not send it") || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}

// TestPasswordStaysWithTLS pulls from a mirror that asks for a password and
// can't encrypt it.
func TestPasswordStaysWithTLS(t *testing.T) {
	s := openStore(t)
	f := newFakeRegistry(t)
	f.auth = "basic"
	f.tag("a:v1", "x")
	for insecure, want := range map[string]string{
		"":               "a password is not sent there by plain HTTP: --insecure-registry allows it",
		"mirror.example": "",
	} {
		c := impatient()
		c.Mirrors = map[string][]string{"registry.example": {"http://mirror.example"}}
		c.Insecure = []string{insecure}
		c.Credentials = func(context.Context, string) (Credentials, error) {
			return Credentials{User: "me", Password: "secret"}, nil
		}
		f.hosts(c, "mirror.example", "")
		shown := false
		f.before = func(_ http.ResponseWriter, r *http.Request) bool {
			shown = shown || r.Header.Get("Authorization") != ""
			return false
		}
		_, err := c.Pull(t.Context(), s.Store, parse(t, "registry.example/a:v1"), image.Options{})
		if shown != (want == "") || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%q: got %v, shown: %t", insecure, err, shown)
		}
	}
}

// TestCredentialsFail checks that a helper's failure is told, and not taken
// for somebody without a password; and that nobody is asked in vain.
func TestCredentialsFail(t *testing.T) {
	s := openStore(t)
	f := newFakeRegistry(t)
	f.tag("a:v1", "x")
	c := impatient()
	asked := 0
	c.Credentials = func(context.Context, string) (Credentials, error) {
		asked++
		return Credentials{}, errors.New("the helper has failed")
	}
	if _, err := c.Pull(t.Context(), s.Store, f.reference("a:v1"), image.Options{}); err != nil || asked > 0 {
		t.Errorf("got %v, asked %d times", err, asked)
	}
	f.auth = "basic"
	_, err := c.Pull(t.Context(), s.Store, f.reference("a:v1"), image.Options{})
	if err == nil || !strings.Contains(err.Error(), "credentials: the helper has failed") {
		t.Errorf("got %v", err)
	}
	// One that hangs is told when the pull is over.
	c.Credentials = func(ctx context.Context, _ string) (Credentials, error) {
		<-ctx.Done()
		return Credentials{}, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err = c.Pull(ctx, s.Store, f.reference("a:v1"), image.Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestParseChallenges(t *testing.T) {
	tests := []struct{ in, want string }{ // headers by lines
		{`Bearer realm="https://a/b?c=d",service="e, f",scope="x:pull,push"`, "map[bearer:map[realm:https://a/b?c=d scope:x:pull,push service:e, f]]"},
		{`BEARER Realm=a , Service = b`, "map[bearer:map[realm:a service:b]]"},
		{`Basic realm="x", Bearer realm="a",service="Basic b=c"`, "map[basic:map[realm:x] bearer:map[realm:a service:Basic b=c]]"},
		{"Negotiate, Bearer\trealm=a, Basic\nNTLM a==", "map[basic:map[] bearer:map[realm:a] negotiate:map[] ntlm:map[a:=]]"},
		{"Basic realm=\"x\nBearer realm=a", "map[basic:map[realm:x] bearer:map[realm:a]]"},
		{"Bearer ,,,", "map[bearer:map[]]"},
		{"realm=a", "map[]"},
		{"", "map[]"},
	}
	for _, tt := range tests {
		if got := fmt.Sprint(parseChallenges(strings.Split(tt.in, "\n"))); got != tt.want {
			t.Errorf("%s: got %s", tt.in, got)
		}
	}
}
