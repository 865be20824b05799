package registry

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

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

// TestCredentialsFail checks that a helper's failure is told, and not taken
// for somebody without a password; and that nobody is asked in vain.
func TestCredentialsFail(t *testing.T) {
	s := openStore(t)
	f := newFakeRegistry(t)
	f.tag("a:v1", "x")
	c := impatient()
	asked := 0
	c.Credentials = func(string) (Credentials, error) {
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
}

func TestParseChallenge(t *testing.T) {
	tests := []struct{ in, scheme, params string }{
		{`Bearer realm="https://a/b?c=d",service="e, f",scope="x:pull,push"`, "bearer", "map[realm:https://a/b?c=d scope:x:pull,push service:e, f]"},
		{`BEARER Realm=a , Service = b`, "bearer", "map[realm:a service:b]"},
		{`Basic realm="x`, "basic", "map[realm:x]"},
		{"Negotiate", "negotiate", "map[]"},
		{"Bearer ,,,", "bearer", "map[]"},
		{"", "", "map[]"},
	}
	for _, tt := range tests {
		if scheme, params := parseChallenge(tt.in); scheme != tt.scheme || fmt.Sprint(params) != tt.params {
			t.Errorf("%s: got %s, %v", tt.in, scheme, params)
		}
	}
}
