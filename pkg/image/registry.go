package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
)

const (
	dialTimeout     = 15 * time.Second // to connect
	responseTimeout = 30 * time.Second // to begin an answer
	maxRedirects    = 10
	maxAnswer       = 64 << 10 // bytes of an error or a token
)

// registry is one repository on one server: the part of the distribution-spec
// that reads. It is written out here because it is small, and because each
// library that was weighed costs every start of the program more time than
// its container's system calls take.
type registry struct {
	client     *http.Client
	base       url.URL // the server's, without a path
	repository string
	token      string // of the last Bearer challenge
}

func newRegistry(base *url.URL, repository string) *registry {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: dialTimeout}).DialContext
	transport.ResponseHeaderTimeout = responseTimeout
	transport.DisableCompression = true // a blob's digest is of the bytes as stored
	r := &registry{
		base:       url.URL{Scheme: base.Scheme, Host: base.Host},
		repository: path.Join(base.Path, repository),
	}
	r.client = &http.Client{Transport: transport, CheckRedirect: r.checkRedirect}
	return r
}

// checkRedirect refuses to leave HTTPS.
func (r *registry) checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("more than %d redirects", maxRedirects)
	}
	return r.checkScheme(req.URL)
}

func (r *registry) checkScheme(u *url.URL) error {
	if u.Scheme != "https" && u.Scheme != r.base.Scheme {
		return fmt.Errorf("%s://%s is not as safe as the registry it was named by", u.Scheme, u.Host)
	}
	return nil
}

// manifest fetches the manifest or index that ref names, and its media type.
func (r *registry) manifest(ctx context.Context, ref Reference, limit int64) (text []byte, mediaType string, err error) {
	name := ref.Tag
	if !ref.Digest.IsZero() {
		name = ref.Digest.String()
	} else if name == "" {
		name = defaultTag
	}
	resp, err := r.get(ctx, "manifests/"+name)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(newLimiter(resp.Body, "bytes in a manifest", limit))
	if err != nil {
		return nil, "", fmt.Errorf("manifest %s: %w", name, err)
	}
	got := digestBytes(text).String()
	for _, want := range []string{resp.Header.Get("Docker-Content-Digest"), ref.Digest.String()} {
		if strings.HasPrefix(want, sha256Prefix) && want != got {
			return nil, "", &MismatchError{Blob: ref.Digest, What: "digest", Want: want, Got: got}
		}
	}
	return text, mediaTypeOf(resp, text), nil
}

// mediaTypeOf takes what the document says of itself where the server has
// nothing to say.
func mediaTypeOf(resp *http.Response, text []byte) string {
	announced, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err == nil && strings.HasPrefix(announced, "application/vnd.") {
		return announced
	}
	var own struct {
		MediaType string `json:"mediaType"`
	}
	if err := json.Unmarshal(text, &own); err != nil {
		return "" // whoever parses the manifest says so
	}
	return own.MediaType
}

func (r *registry) open(ctx context.Context, d Descriptor) (io.ReadCloser, error) {
	kind := "blobs/"
	if isIndex(d.MediaType) || d.MediaType == mediaTypeManifest || d.MediaType == mediaTypeDockerManifest {
		kind = "manifests/"
	}
	resp, err := r.get(ctx, kind+d.Digest.String())
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// get asks for a path of the repository, and once more with a token if the
// registry wants one, as Docker Hub does of everybody.
func (r *registry) get(ctx context.Context, name string) (*http.Response, error) {
	for again := false; ; again = true {
		u := r.base
		u.Path = "/v2/" + r.repository + "/" + name
		resp, err := r.request(ctx, &u, r.token)
		if err != nil || resp.StatusCode == http.StatusOK {
			return resp, err
		}
		challenge := resp.Header.Values("WWW-Authenticate")
		err = errors.Join(statusError(resp), resp.Body.Close())
		if resp.StatusCode != http.StatusUnauthorized || again {
			return nil, err
		}
		if r.token, err = r.authenticate(ctx, challenge, err); err != nil {
			return nil, err
		}
	}
}

func (r *registry) request(ctx context.Context, u *url.URL, token string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "minictr")
	req.Header["Accept"] = []string{mediaTypeManifest, mediaTypeIndex, mediaTypeDockerManifest, mediaTypeDockerList, "*/*"}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := r.client.Do(req)
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return nil, wrapped.Err // the URL is in the PullError
	}
	return resp, err
}

// authenticate fetches a token for anonymous pulls from the server that a
// Bearer challenge names (distribution, "Token Authentication"). denied is
// the error if there is no such challenge.
func (r *registry) authenticate(ctx context.Context, challenges []string, denied error) (token string, err error) {
	for _, challenge := range challenges {
		params, found := bearerParams(challenge)
		if !found {
			continue
		}
		realm, err := url.Parse(params["realm"])
		if err == nil && realm.Host == "" {
			err = errors.New("has no host")
		}
		if err == nil {
			err = r.checkScheme(realm)
		}
		if err != nil {
			return "", fmt.Errorf("token server %.200q: %w", params["realm"], err)
		}
		query := realm.Query()
		query.Set("scope", "repository:"+r.repository+":pull")
		if service := params["service"]; service != "" {
			query.Set("service", service)
		}
		realm.RawQuery = query.Encode()
		token, err := r.fetchToken(ctx, realm)
		if err != nil {
			return "", fmt.Errorf("token server %s: %w", realm.Host, err)
		}
		return token, nil
	}
	return "", denied
}

func (r *registry) fetchToken(ctx context.Context, realm *url.URL) (string, error) {
	resp, err := r.request(ctx, realm, "")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", statusError(resp)
	}
	text, err := io.ReadAll(newLimiter(resp.Body, "bytes in a token", maxAnswer))
	if err != nil {
		return "", err
	}
	var answer struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return "", err
	}
	if answer.Token == "" {
		answer.Token = answer.AccessToken
	}
	if answer.Token == "" {
		return "", errors.New("answered without a token")
	}
	return answer.Token, nil
}

// bearerParams reads a challenge such as
//
//	Bearer realm="https://auth.docker.io/token",service="registry.docker.io"
func bearerParams(challenge string) (map[string]string, bool) {
	scheme, rest, _ := strings.Cut(challenge, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil, false
	}
	params := map[string]string{}
	for rest != "" {
		key, after, found := strings.Cut(rest, "=")
		if !found {
			break
		}
		value := ""
		if quoted, isQuoted := strings.CutPrefix(after, `"`); isQuoted {
			value, rest, _ = strings.Cut(quoted, `"`)
			_, rest, _ = strings.Cut(rest, ",")
		} else {
			value, rest, _ = strings.Cut(after, ",")
		}
		params[strings.ToLower(strings.Trim(key, ", "))] = value
	}
	return params, true
}

// StatusError is what a registry answers instead of what was asked for.
type StatusError struct {
	Status  int    // of HTTP
	Code    string // of the distribution-spec, such as MANIFEST_UNKNOWN
	Message string // of the registry, at most 200 bytes
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

func statusError(resp *http.Response) error {
	e := &StatusError{Status: resp.StatusCode}
	var answer struct {
		Errors []struct{ Code, Message string }
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err == nil && json.Unmarshal(text, &answer) == nil && len(answer.Errors) > 0 {
		e.Code, e.Message = answer.Errors[0].Code, answer.Errors[0].Message
	}
	return e
}
