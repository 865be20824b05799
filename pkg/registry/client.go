// Package registry pulls and pushes images by the OCI distribution-spec.
//
// It is written out here because it is small, and because each library that
// was weighed costs every start of the program more time than its container's
// system calls take.
package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/minictr/minictr/pkg/image"
)

const (
	dialTimeout = 15 * time.Second // to connect
	idleTimeout = 30 * time.Second // for too few bytes, see watch
	parallel    = 3                // blobs at once
	maxAnswer   = 64 << 10         // bytes of headers, an error or a token

	dockerDomain = "docker.io"
	// dockerHost is where docker.io keeps its images.
	dockerHost = "registry-1.docker.io"
)

// Client speaks to registries. Its fields don't change once it is in use.
type Client struct {
	// Mirrors has, for a registry's host as references name it ("docker.io"),
	// the mirrors to ask before it: "https://host[:port][/prefix]", with http
	// for plain HTTP, or without a scheme for what the host alone would get.
	Mirrors map[string][]string
	// Insecure lists hosts, with their ports if they have any, that need not
	// prove who they are: their certificates aren't verified, and if they don't
	// speak TLS they are spoken to by plain HTTP. Those on the loopback
	// interface need not either.
	Insecure []string
	// Certificates has, for a registry's host, a file of certificates (PEM) that
	// are trusted there besides the system's, and where the registry sends us: at
	// its token server and where its blobs are, as Docker and Podman have it. Such
	// a host is never insecure.
	Certificates map[string]string
	// Credentials, if not nil, returns those for a host as references name it,
	// once the host asks for some.
	Credentials func(ctx context.Context, host string) (Credentials, error)

	delays     delays
	mu         sync.Mutex
	transports map[string]*http.Transport // by host; "" has those that are like any other
}

// Error says what was tried, in order, and why it failed.
type Error struct {
	Op        string          // "pull", "push" or "login"
	Reference image.Reference // without a path for login
	Tries     []Try
}

// Try is one registry or mirror that was asked.
type Try struct {
	URL string // scheme and host, and the prefix of a mirror
	Err error
}

func (e *Error) Error() string {
	tries := make([]string, len(e.Tries))
	for i, try := range e.Tries {
		tries[i] = fmt.Sprintf("%s: %v", try.URL, try.Err)
	}
	name := e.Reference.String()
	if e.Reference.Path == "" {
		name = e.Reference.Domain
	}
	return fmt.Sprintf("registry: %s %s: tried %s", e.Op, name, strings.Join(tries, "; "))
}

// Unwrap returns the cause of each try.
func (e *Error) Unwrap() []error {
	causes := make([]error, len(e.Tries))
	for i, try := range e.Tries {
		causes[i] = try.Err
	}
	return causes
}

// Offline tells whether no registry could be reached at all.
func (e *Error) Offline() bool {
	return !slices.ContainsFunc(e.Tries, func(try Try) bool {
		var network *net.OpError
		return !errors.As(try.Err, &network) || network.Op != "dial"
	})
}

// endpoint is where some images are.
type endpoint struct {
	url.URL        // scheme, host, and the prefix of a mirror
	name    string // of the host, as credentials are kept by
	either  bool   // HTTPS, or plain HTTP if there is no TLS
}

// endpoints returns where the images of domain are, the mirrors first.
func (c *Client) endpoints(domain string) (list []endpoint, err error) {
	for _, mirror := range c.Mirrors[domain] {
		e, err := c.endpoint(mirror)
		if err != nil {
			return nil, fmt.Errorf("registry: mirror of %s: %w", domain, err)
		}
		list = append(list, e)
	}
	e, err := c.endpoint(domain)
	return append(list, e), err
}

func (c *Client) endpoint(s string) (endpoint, error) {
	scheme, rest, found := strings.Cut(s, "://")
	if !found {
		scheme, rest = "https", s
	}
	host, prefix, _ := strings.Cut(rest, "/")
	switch {
	case scheme != "https" && scheme != "http":
		return endpoint{}, fmt.Errorf("%q is neither https nor http", scheme)
	case strings.Contains(host, "@"): // it would be printed by every error
		return endpoint{}, errors.New("a password can't be in its address; minictr login takes it")
	case host == "":
		return endpoint{}, errors.New("its address has no host")
	}
	e := endpoint{url.URL{Scheme: scheme, Host: host, Path: strings.Trim(prefix, "/")}, host, !found && c.insecure(host)}
	if host == dockerDomain {
		e.Host = dockerHost
	}
	return e, nil
}

func (c *Client) insecure(host string) bool {
	return c.Certificates[host] == "" && (isLoopback(host) || slices.Contains(c.Insecure, host))
}

func isLoopback(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	addr, err := netip.ParseAddr(name)
	return name == "localhost" || err == nil && addr.IsLoopback()
}

// transport returns that for a host, by the host's own rules if it has some. If
// not, it is like any other, but for what is trusted of the registry's word.
func (c *Client) transport(host, registry string) (*http.Transport, error) {
	if host == dockerHost {
		host = dockerDomain // as people name it
	}
	if c.Certificates[host] == "" && !c.insecure(host) {
		host = ""
		if c.Certificates[registry] != "" {
			host = registry
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.transports[host]; t != nil {
		return t, nil
	}
	config := &tls.Config{InsecureSkipVerify: host != "" && c.insecure(host)}
	if name := c.Certificates[host]; name != "" {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("certificates for %s: %w", host, err)
		}
		if config.RootCAs, err = x509.SystemCertPool(); err != nil {
			return nil, fmt.Errorf("certificates for %s: %w", host, err)
		}
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("certificates for %s: %s has none", host, name)
		}
	}
	// HTTP/1.1 gives each blob a connection of its own, and buffers less.
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    dialTimeout,
		DisableCompression:     true, // a blob's digest is of the bytes as stored
		MaxIdleConnsPerHost:    parallel,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxAnswer,
		ExpectContinueTimeout:  time.Second,
	}
	if c.transports == nil {
		c.transports = map[string]*http.Transport{}
	}
	c.transports[host] = t
	return t, nil
}

// close closes the connections that nobody uses.
func (c *Client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.transports {
		t.CloseIdleConnections()
	}
}
