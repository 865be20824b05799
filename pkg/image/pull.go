package image

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// dockerHubHost is where docker.io keeps its images.
const dockerHubHost = "registry-1.docker.io"

// PullOptions say where Pull looks.
type PullOptions struct {
	Options
	// Mirrors has, for a registry's host as references name it ("docker.io"),
	// the mirrors to ask before it: "https://host[:port][/prefix]", with http
	// for plain HTTP, or without a scheme for what the host alone would get.
	Mirrors map[string][]string
	// Insecure lists hosts, with their ports if they have any, that are spoken
	// to by plain HTTP. Those on the loopback interface always are.
	Insecure []string
}

// PullError says what was tried, in order, and why it failed.
type PullError struct {
	Reference Reference
	Tries     []Try
}

// Try is one registry or mirror that was asked.
type Try struct {
	URL string // scheme and host, and the prefix of a mirror
	Err error
}

func (e *PullError) Error() string {
	tries := make([]string, len(e.Tries))
	for i, try := range e.Tries {
		tries[i] = fmt.Sprintf("%s: %v", try.URL, try.Err)
	}
	return fmt.Sprintf("image: pull %s: tried %s", e.Reference, strings.Join(tries, "; "))
}

// Unwrap returns the cause of each try.
func (e *PullError) Unwrap() []error {
	causes := make([]error, len(e.Tries))
	for i, try := range e.Tries {
		causes[i] = try.Err
	}
	return causes
}

// Offline tells whether no registry could be reached at all.
func (e *PullError) Offline() bool {
	return !slices.ContainsFunc(e.Tries, func(try Try) bool {
		var network *net.OpError
		return !errors.As(try.Err, &network) || network.Op != "dial"
	})
}

// Pull fetches an image from its registry, or from the first of the mirrors
// that has it, without credentials (distribution-spec, pull). The error is a
// PullError.
func (s *Store) Pull(ctx context.Context, ref Reference, opts PullOptions) (img *Image, err error) {
	failed := &PullError{Reference: ref}
	for _, base := range opts.endpoints(ref.Domain) {
		img, err := s.pullFrom(ctx, base, ref, opts)
		if err == nil {
			return img, nil
		}
		failed.Tries = append(failed.Tries, Try{URL: base.String(), Err: err})
		if ctx.Err() != nil {
			break
		}
	}
	return nil, failed
}

func (s *Store) pullFrom(ctx context.Context, base *url.URL, ref Reference, opts PullOptions) (img *Image, err error) {
	r := newRegistry(base, ref.Path)
	defer r.client.CloseIdleConnections()
	err = s.write(opts.Options, func(st *stage) error {
		text, mediaType, err := r.manifest(ctx, ref, st.limits.Document)
		if err != nil {
			return err
		}
		top, err := st.putDocument(mediaType, text)
		if err != nil {
			return err
		}
		if top, err = st.resolve(ctx, r, []Descriptor{top}, 0); err != nil {
			return err
		}
		added, err := st.add(ctx, r, top, ref.String())
		if err != nil {
			return err
		}
		images, err := st.commit([]*addition{added})
		if err == nil {
			img = images[0]
		}
		return err
	})
	return img, err
}

// endpoints returns where the images of domain are, the mirrors first.
func (o PullOptions) endpoints(domain string) []*url.URL {
	var bases []*url.URL
	for _, mirror := range o.Mirrors[domain] {
		bases = append(bases, o.endpoint(mirror))
	}
	if domain == defaultDomain {
		domain = dockerHubHost
	}
	return append(bases, o.endpoint(domain))
}

func (o PullOptions) endpoint(s string) *url.URL {
	scheme, rest, found := strings.Cut(s, "://")
	if !found {
		rest = s
	}
	host, prefix, _ := strings.Cut(rest, "/")
	if !found {
		scheme = "https"
		if isLoopback(host) || slices.Contains(o.Insecure, host) {
			scheme = "http"
		}
	}
	return &url.URL{Scheme: scheme, Host: host, Path: strings.Trim(prefix, "/")}
}

func isLoopback(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	addr, err := netip.ParseAddr(name)
	return name == "localhost" || err == nil && addr.IsLoopback()
}
