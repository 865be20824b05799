package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/minictr/minictr/pkg/image"
)

const (
	maxList  = 4 << 20 // bytes of a list of referrers
	maxPages = 16      // of such a list
)

// referrers lists the manifests whose subject is that digest: as the registry does
// or, if it has no such list, as the index does that clients keep there under a
// tag (distribution-spec, listing referrers).
func (s *session) referrers(ctx context.Context, subject image.Digest) (all []image.Descriptor, err error) {
	page := s.in("referrers/" + subject.String())
	for n := 0; page != nil && err == nil; n++ {
		if n == maxPages {
			return all, &image.LimitError{What: "pages of referrers", Limit: maxPages}
		}
		var listed []image.Descriptor
		listed, page, err = s.page(ctx, page)
		all = append(all, listed...)
	}
	if hasNoList(err) {
		return s.tagged(ctx, subject)
	}
	return all, err
}

// page fetches a page of a list, and where the next is.
func (s *session) page(ctx context.Context, at *url.URL) (listed []image.Descriptor, next *url.URL, err error) {
	err = s.client.retry(ctx, func() error {
		resp, err := s.do(ctx, &request{method: http.MethodGet, url: at, header: accept()})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := readAll(resp.Body, "a list of referrers", maxList)
		if err != nil {
			return err
		}
		link, more, _ := strings.Cut(resp.Header.Get("Link"), ">")
		if strings.Contains(more, `rel="next"`) {
			if next, err = at.Parse(strings.TrimPrefix(strings.TrimSpace(link), "<")); err != nil || !sameOrigin(next, at) {
				return fmt.Errorf("the next page of referrers is at %.80q", link)
			}
		}
		listed, err = image.Listed(text)
		return err
	})
	return listed, next, err
}

// hasNoList tells of the answer of a registry that is older than such lists, or
// has nothing to list.
func hasNoList(err error) bool {
	status, found := errors.AsType[*StatusError](err)
	return found && status.Status/100 == 4 && status.Status != http.StatusTooManyRequests
}

// referrersTag is that of the index which clients keep.
func referrersTag(subject image.Digest) string { return "sha256-" + subject.Hex() }

// tagged is what the index lists that clients keep; nothing if there is none.
func (s *session) tagged(ctx context.Context, subject image.Digest) (listed []image.Descriptor, err error) {
	err = s.client.retry(ctx, func() error {
		text, _, err := s.manifest(ctx, image.Reference{Tag: referrersTag(subject)}, maxList)
		if err == nil {
			listed, err = image.Listed(text)
		}
		return err
	})
	if status, found := errors.AsType[*StatusError](err); found && status.Status == http.StatusNotFound {
		return nil, nil
	}
	return listed, err
}

// pushReferrers sends what refers to that which was sent.
func (p *pusher) pushReferrers(ctx context.Context, img *image.Image, ref image.Reference) error {
	list, err := img.Referrers(ref.String())
	if err != nil {
		return err
	}
	p.image = img
	unlisted := map[image.Digest][]image.Descriptor{}
	for _, r := range list {
		if !p.sent[r.Subject] {
			continue
		}
		head, err := p.pushManifest(ctx, r.Descriptor, r.Blobs, r.Digest.String())
		if err != nil {
			return fmt.Errorf("%s: %w", r.Digest, err)
		}
		if head.Get("OCI-Subject") == "" { // the registry doesn't list it
			unlisted[r.Subject] = append(unlisted[r.Subject], r.Descriptor)
		}
	}
	for subject, referrers := range unlisted {
		if err := p.tagReferrers(ctx, subject, referrers); err != nil {
			return fmt.Errorf("list of what refers to %s: %w", subject, err)
		}
	}
	return nil
}

// tagReferrers adds to the index that clients keep. Two who do so at once may lose
// what one of them adds: the registry has no better.
func (p *pusher) tagReferrers(ctx context.Context, subject image.Digest, add []image.Descriptor) error {
	listed, err := p.tagged(ctx, subject)
	if err != nil {
		return err
	}
	before := len(listed)
	for _, d := range add {
		if !slices.ContainsFunc(listed, func(other image.Descriptor) bool { return other.Digest == d.Digest }) {
			listed = append(listed, d)
		}
	}
	if len(listed) == before {
		return nil
	}
	text, d, err := image.NewIndex(listed)
	if err == nil {
		_, err = p.pushDocument(ctx, d, text, referrersTag(subject))
	}
	return err
}
