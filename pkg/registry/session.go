package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/minictr/minictr/pkg/image"
)

const maxRedirects = 10

// session is what is asked of one repository on one server.
type session struct {
	client      *Client
	http        *http.Client
	base        url.URL // the server's, without a path
	name        string  // of its host, as Client's fields have it
	repository  string
	scopes      string // that tokens are asked for, separated by spaces
	credentials func() (Credentials, error)

	mu      sync.Mutex
	granted map[string]string // Authorization headers by scopes
}

// request is one that can be sent again.
type request struct {
	method string
	url    *url.URL
	header http.Header
	body   *io.SectionReader // sent from its beginning; nil for none
	scopes string            // the session's if empty
	want   []int             // statuses that are no error; 200 if empty
}

// session begins to speak to a server, and finds out how.
func (c *Client) session(ctx context.Context, e *endpoint, repository, actions string) (*session, error) {
	s := &session{
		client:     c,
		base:       url.URL{Scheme: e.Scheme, Host: e.Host},
		name:       e.name,
		repository: path.Join(e.Path, repository),
		granted:    map[string]string{},
	}
	s.http = &http.Client{Transport: s, CheckRedirect: s.checkRedirect}
	if repository != "" {
		s.scopes = scope(s.repository, actions)
	}
	s.credentials = sync.OnceValues(func() (Credentials, error) {
		if c.Credentials == nil {
			return Credentials{}, nil
		}
		return c.Credentials(ctx, e.name) // who waits for that waits for the same end
	})
	if !e.either {
		return s, nil
	}
	err := s.probe(ctx)
	if err == nil || ctx.Err() != nil {
		return s, err
	}
	s.base.Scheme = "http"
	if !errors.Is(err, http.ErrSchemeMismatch) && s.probe(ctx) != nil {
		return s, err
	}
	e.Scheme = "http"
	return s, nil
}

// RoundTrip sends a request by the rules for its host, which may not be the
// one that the request before was redirected from.
func (s *session) RoundTrip(req *http.Request) (*http.Response, error) {
	t, err := s.client.transport(req.URL.Host, s.name)
	if err != nil {
		return nil, err
	}
	return t.RoundTrip(req)
}

func scope(repository, actions string) string { return "repository:" + repository + ":" + actions }

// probe asks for anything at all.
func (s *session) probe(ctx context.Context) error {
	resp, err := s.send(ctx, &request{method: http.MethodGet, url: s.url("")}, "")
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// url is that of a path below the root of the protocol.
func (s *session) url(name string) *url.URL {
	u := s.base
	u.Path = "/v2/" + name
	return &u
}

// in is a path in the repository.
func (s *session) in(name string) *url.URL { return s.url(s.repository + "/" + name) }

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && portOf(a) == portOf(b)
}

func portOf(u *url.URL) string {
	if port := u.Port(); port != "" || u.Scheme != "https" {
		return cmp.Or(port, "80")
	}
	return "443"
}

// checkRedirect refuses to leave HTTPS, and sends nothing that is secret or
// large to a server that did not ask for it.
func (s *session) checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("more than %d redirects", maxRedirects)
	}
	req.URL.User = nil
	if slices.ContainsFunc(via, func(r *http.Request) bool { return !sameOrigin(r.URL, req.URL) }) {
		req.Header.Del("Authorization")
		if req.Body != nil {
			return fmt.Errorf("%s://%s is another server, and a redirect may not send it what this one is to get", req.URL.Scheme, req.URL.Host)
		}
	}
	return s.checkScheme(req.URL)
}

func (s *session) checkScheme(u *url.URL) error {
	if u.Scheme != "https" && u.Scheme != s.base.Scheme {
		return fmt.Errorf("%s://%s is not as safe as the registry it was named by", u.Scheme, u.Host)
	}
	return nil
}

// do sends a request, and again with what the registry wants to see, such as
// the token that Docker Hub asks everybody for. Only the registry itself is
// shown it. The second token may be another request's, and at its end by now; so
// there is a third try.
func (s *session) do(ctx context.Context, r *request) (*http.Response, error) {
	scopes := r.scopes
	if scopes == "" {
		scopes = s.scopes
	}
	want := r.want
	if len(want) == 0 {
		want = []int{http.StatusOK}
	}
	for try := 1; ; try++ {
		authorization := ""
		if sameOrigin(r.url, &s.base) {
			authorization = s.authorization(scopes)
		}
		resp, err := s.send(ctx, r, authorization)
		if err != nil || slices.Contains(want, resp.StatusCode) {
			return resp, err
		}
		denied := statusError(resp)
		_ = resp.Body.Close() // what it said is read
		if resp.StatusCode != http.StatusUnauthorized || try == 3 || !sameOrigin(resp.Request.URL, &s.base) {
			return nil, denied
		}
		if err := s.authenticate(ctx, scopes, resp.Header.Values("WWW-Authenticate"), authorization, denied); err != nil {
			return nil, err
		}
	}
}

// ask sends a request and reads no more than the head of the answer.
func (s *session) ask(ctx context.Context, r *request) (status int, location string, err error) {
	resp, err := s.do(ctx, r)
	if err != nil {
		return 0, "", err
	}
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer) // so that the connection can be used again
	return resp.StatusCode, resp.Header.Get("Location"), resp.Body.Close()
}

// send sends a request once.
func (s *session) send(ctx context.Context, r *request, authorization string) (*http.Response, error) {
	w := newWatch(ctx, s.client.delays.orUsual().idle)
	req, err := http.NewRequestWithContext(w, r.method, r.url.String(), nil)
	if err != nil {
		w.stop()
		return nil, err
	}
	if r.header != nil {
		req.Header = r.header.Clone()
	}
	req.Header.Set("User-Agent", "minictr")
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	if r.body != nil && r.body.Size() > 0 {
		req.ContentLength = r.body.Size()
		req.GetBody = func() (io.ReadCloser, error) {
			return &upload{io.NewSectionReader(r.body, 0, r.body.Size()), w}, nil
		}
		req.Body, _ = req.GetBody()
	}
	resp, err := s.http.Do(req)
	if err != nil {
		if wrapped, found := errors.AsType[*url.Error](err); found {
			err = wrapped.Err // the URL may be signed, and whose it is stands in the Error
		}
		err = w.cause(err)
		w.stop()
		return nil, err
	}
	w.timer.Stop()
	resp.Body = &download{resp.Body, w, w.idle}
	return resp, nil
}

// StatusError is what a registry answers instead of what was asked for.
type StatusError struct {
	Status     int    // of HTTP
	Code       string // of the distribution-spec, such as MANIFEST_UNKNOWN
	Message    string // of the registry, at most 200 bytes
	RetryAfter time.Duration
}

func (e *StatusError) Error() string {
	msg := fmt.Sprintf("status %d %s", e.Status, http.StatusText(e.Status))
	if e.Code != "" {
		msg += fmt.Sprintf(": %.40q", e.Code)
	}
	if e.Message != "" {
		msg += fmt.Sprintf(": %.200q", e.Message)
	}
	return msg
}

// Denied tells whether the registry wants another to ask.
func (e *StatusError) Denied() bool {
	return e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden
}

func statusError(resp *http.Response) error {
	e := &StatusError{Status: resp.StatusCode}
	after := resp.Header.Get("Retry-After")
	if seconds, err := strconv.Atoi(after); err == nil && seconds > 0 && seconds < 1e6 {
		e.RetryAfter = time.Duration(seconds) * time.Second
	} else if date, err := http.ParseTime(after); err == nil {
		e.RetryAfter = max(0, time.Until(date)).Round(time.Second)
	}
	var answer struct {
		Errors []struct{ Code, Message string }
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err == nil && json.Unmarshal(text, &answer) == nil && len(answer.Errors) > 0 {
		e.Code, e.Message = answer.Errors[0].Code, answer.Errors[0].Message
	}
	return e
}

// readAll reads at most limit bytes of what.
func readAll(r io.Reader, what string, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = &image.LimitError{What: "bytes in " + what, Limit: limit}
	}
	return text, err
}

// isSHA256 tells whether a digest, as a server says it, can be compared.
func isSHA256(digest string) bool {
	_, err := image.ParseDigest(digest)
	return err == nil
}
