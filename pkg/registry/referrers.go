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

// Lists of referrers have at most that many pages, and all together these bytes.
const (
	maxPages  = 16
	maxListed = 4 << 20
)

// referrers lists the manifests whose subject is that digest: as the registry does
// or, if it has no such list, as the index does that clients keep there under a
// tag (distribution-spec, listing referrers). Of more than are kept it lists some.
func (s *session) referrers(ctx context.Context, subject image.Digest) (all []image.Descriptor, err error) {
	page := s.in("referrers/" + subject.String())
	left := int64(maxListed)
	for n := 1; page != nil && err == nil && len(all) <= image.MaxReferrers; n++ {
		var listed []image.Descriptor
		listed, page, err = s.page(ctx, page, &left)
		all = append(all, listed...)
		switch {
		case n == 1 && hasNoLists(err):
			_, listed, err := s.tagged(ctx, subject)
			return listed, err
		case n == maxPages && page != nil:
			return all, &image.LimitError{What: "pages of referrers", Limit: maxPages}
		}
	}
	return all, err
}

// page fetches a page of a list, and where the next is. It takes its bytes from
// those that are left.
func (s *session) page(ctx context.Context, at *url.URL, left *int64) (listed []image.Descriptor, next *url.URL, err error) {
	err = s.client.retry(ctx, func() error {
		resp, err := s.do(ctx, &request{method: http.MethodGet, url: at, header: accept()})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := readAll(resp.Body, "a list of referrers", *left)
		if err != nil {
			return err
		}
		*left -= int64(len(text))
		link, more, _ := strings.Cut(resp.Header.Get("Link"), ">")
		if strings.Contains(strings.ReplaceAll(more, `"`, ""), "rel=next") {
			if next, err = at.Parse(strings.TrimPrefix(strings.TrimSpace(link), "<")); err != nil || !sameOrigin(next, at) {
				return fmt.Errorf("the next page of referrers is at %.80q", link)
			}
		}
		listed, err = image.Listed(text)
		return err
	})
	return listed, next, err
}

// hasNoLists tells of the answer of a registry that is older than such lists.
func hasNoLists(err error) bool {
	status, found := errors.AsType[*StatusError](err)
	return found && slices.Contains([]int{http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotAcceptable}, status.Status)
}

// referrersTag is that of the index which clients keep.
func referrersTag(subject image.Digest) string { return "sha256-" + subject.Hex() }

// tagged is the index that clients keep, and what it lists; nothing if there is
// none.
func (s *session) tagged(ctx context.Context, subject image.Digest) (text []byte, listed []image.Descriptor, err error) {
	err = s.client.retry(ctx, func() (err error) {
		text, _, err = s.manifest(ctx, image.Reference{Tag: referrersTag(subject)}, maxListed)
		return err
	})
	if status, found := errors.AsType[*StatusError](err); found && status.Status == http.StatusNotFound {
		return nil, nil, nil
	}
	if err == nil {
		listed, err = image.Listed(text)
	}
	return text, listed, err
}

// pushReferrers sends what refers to that which was sent. One that the registry
// refuses keeps back no other.
func (p *pusher) pushReferrers(ctx context.Context, img *image.Image, ref image.Reference) error {
	list, err := img.Referrers(ref.String())
	p.image, p.progress = img, nil
	unlisted := map[image.Digest][]image.Descriptor{}
	for _, r := range list {
		if !p.sent[r.Subject] {
			continue
		}
		head, e := p.pushManifest(ctx, r.Descriptor, r.Blobs, r.Digest.String())
		switch {
		case e != nil:
			err = errors.Join(err, fmt.Errorf("%s: %w", r.Digest, e))
		case head.Get("OCI-Subject") == "": // the registry doesn't list it
			unlisted[r.Subject] = append(unlisted[r.Subject], r.Descriptor)
		}
	}
	for subject, referrers := range unlisted {
		if e := p.tagReferrers(ctx, subject, referrers); e != nil {
			err = errors.Join(err, fmt.Errorf("list of what refers to %s: %w", subject, e))
		}
	}
	return err
}

// tagReferrers adds to the index that clients keep. Two who do so at once may lose
// what one of them adds: the registry has no better.
func (p *pusher) tagReferrers(ctx context.Context, subject image.Digest, add []image.Descriptor) error {
	text, listed, err := p.tagged(ctx, subject)
	if err != nil && len(listed) == 0 {
		return err
	}
	add = slices.DeleteFunc(add, func(d image.Descriptor) bool { return d.In(listed) })
	if len(add) == 0 {
		return nil
	}
	text, d, err := image.Lengthened(text, add)
	if err == nil {
		_, err = p.pushDocument(ctx, d, text, referrersTag(subject))
	}
	return err
}
