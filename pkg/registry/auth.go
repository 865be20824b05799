package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/minictr/minictr/pkg/image"
)

// Credentials are those of a person at a registry: a name and a password, or a
// token that a login was answered with. The zero Credentials are nobody's.
type Credentials struct {
	User, Password string
	IdentityToken  string
}

func (c Credentials) basic() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.User+":"+c.Password))
}

// Login asks a registry whether it takes the credentials.
func (c *Client) Login(ctx context.Context, host string, given Credentials) error {
	defer c.close()
	e, err := c.endpoint(host)
	if err != nil {
		return fmt.Errorf("registry: login: %w", err)
	}
	s, err := c.session(ctx, &e, "", "")
	if err == nil {
		s.credentials = func() (Credentials, error) { return given, nil }
		err = c.retry(ctx, func() error {
			_, _, err := s.ask(ctx, &request{method: http.MethodGet, url: s.url("")})
			return err
		})
	}
	if err != nil {
		return &Error{Op: "login", Reference: image.Reference{Domain: host}, Tries: []Try{{URL: e.String(), Err: err}}}
	}
	return nil
}

// authorization is the header that goes with a request, empty until the
// registry has asked for one.
func (s *session) authorization(scopes string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.granted[scopes]
}

// authenticate does what one of the challenges asks for. used is the header
// that was refused; if there is another by now, somebody else was quicker.
// denied is the error if no challenge is known.
func (s *session) authenticate(ctx context.Context, scopes string, challenges []string, used string, denied error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.granted[scopes] != used {
		return nil
	}
	who, err := s.credentials()
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	if who != (Credentials{}) && s.base.Scheme != "https" && !s.client.insecure(s.base.Host) {
		return fmt.Errorf("%w; a password is not sent there by plain HTTP: --insecure-registry allows it", denied)
	}
	asked := parseChallenges(challenges)
	if params, bearer := asked["bearer"]; bearer {
		token, err := s.token(ctx, params, scopes, who)
		if err == nil {
			s.granted[scopes] = "Bearer " + token
		}
		return err
	}
	if _, basic := asked["basic"]; !basic || who.User == "" || used != "" {
		return denied
	}
	s.granted[scopes] = who.basic()
	return nil
}

// token fetches one from the server that a Bearer challenge names
// (distribution, "Token Authentication" and "OAuth2 Token Authentication").
// When a token ends, the registry asks for the next.
func (s *session) token(ctx context.Context, params map[string]string, scopes string, who Credentials) (string, error) {
	realm, err := url.Parse(params["realm"])
	if err != nil || realm.Host == "" {
		return "", fmt.Errorf("token server %.200q: has no host", params["realm"])
	}
	realm.User = nil
	err = s.checkScheme(realm)
	if err == nil && who != (Credentials{}) && realm.Scheme != "https" && !sameOrigin(realm, &s.base) && !s.client.insecure(realm.Host) {
		err = errors.New("a password is not sent there by plain HTTP; --insecure-registry allows it")
	}
	token := ""
	if err == nil {
		token, err = s.fetchToken(ctx, realm, tokenQuery(realm, params["service"], scopes, who), who)
	}
	if err != nil {
		return "", fmt.Errorf("token server %s: %w", realm.Host, err)
	}
	return token, nil
}

func tokenQuery(realm *url.URL, service, scopes string, who Credentials) url.Values {
	query := realm.Query()
	if service != "" {
		query.Set("service", service)
	}
	if who.IdentityToken != "" {
		query.Set("grant_type", "refresh_token")
		query.Set("refresh_token", who.IdentityToken)
		query.Set("client_id", "minictr")
		query.Set("scope", scopes)
		return query
	}
	if who.User != "" {
		query.Set("account", who.User)
	}
	for scope := range strings.FieldsSeq(scopes) {
		query.Add("scope", scope)
	}
	return query
}

func (s *session) fetchToken(ctx context.Context, realm *url.URL, query url.Values, who Credentials) (string, error) {
	r := &request{method: http.MethodGet, url: realm}
	authorization := ""
	if who.IdentityToken != "" {
		form := query.Encode()
		r.method, r.header = http.MethodPost, http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
		r.body = io.NewSectionReader(strings.NewReader(form), 0, int64(len(form)))
		realm.RawQuery = ""
	} else if realm.RawQuery = query.Encode(); who.User != "" {
		authorization = who.basic()
	}
	resp, err := s.send(ctx, r, authorization)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", statusError(resp)
	}
	text, err := readAll(resp.Body, "a token", maxAnswer)
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

// parseChallenges reads what servers ask for, by the scheme, such as
//
//	Basic realm="x", Bearer realm="https://auth.docker.io/token",service="registry.docker.io"
//
// A word is a parameter if a "=" comes next, and the next scheme otherwise.
func parseChallenges(headers []string) map[string]map[string]string {
	const blank = " \t,"
	asked := map[string]map[string]string{}
	for _, rest := range headers {
		params := map[string]string{}
		for rest = strings.TrimLeft(rest, blank); rest != ""; rest = strings.TrimLeft(rest, blank) {
			end := strings.IndexAny(rest+"=", blank+"=")
			word := strings.ToLower(rest[:end])
			rest = strings.TrimLeft(rest[end:], " \t")
			value, isParam := strings.CutPrefix(rest, "=")
			if !isParam {
				params = map[string]string{}
				asked[word] = params
				continue
			}
			if quoted, isQuoted := strings.CutPrefix(strings.TrimLeft(value, " \t"), `"`); isQuoted {
				value, rest, _ = strings.Cut(quoted, `"`)
			} else {
				value, rest, _ = strings.Cut(value, ",")
			}
			params[word] = strings.TrimSpace(value)
		}
	}
	return asked
}
