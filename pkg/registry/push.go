package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/minictr/minictr/pkg/image"
)

// Push sends an image to its registry under the name ref, and returns the
// digest that this has there (distribution-spec, push). If the image came by an
// index, and the store has all images of that, the index is sent with them. What
// the registry has is not sent again, and neither is what another of its
// repositories has, as far as the names in the store tell. progress, if not nil,
// is called as the bytes leave, by one goroutine at a time. If a registry was
// asked, the error is an Error.
func (c *Client) Push(ctx context.Context, store *image.Store, img *image.Image, ref image.Reference, progress func(image.Progress)) (image.Digest, error) {
	defer c.close()
	e, err := c.endpoint(ref.Domain)
	if err != nil {
		return image.Digest{}, fmt.Errorf("registry: push: %w", err)
	}
	digest, err := c.pushTo(ctx, store, &e, img, ref, progress)
	if err != nil {
		return image.Digest{}, &Error{Op: "push", Reference: ref, Tries: []Try{{URL: e.String(), Err: err}}}
	}
	return digest, nil
}

func (c *Client) pushTo(ctx context.Context, store *image.Store, e *endpoint, img *image.Image, ref image.Reference, progress func(image.Progress)) (image.Digest, error) {
	s, err := c.session(ctx, e, ref.Path, "pull,push")
	if err != nil {
		return image.Digest{}, err
	}
	p := &pusher{session: s, sent: map[image.Digest]bool{}, from: elsewhere(store, ref), progress: progress}
	digest, err := p.pushNamed(ctx, store, img, ref)
	if err != nil {
		return digest, err
	}
	if err := p.pushReferrers(ctx, img, ref); err != nil && store.Warn != nil {
		store.Warn(fmt.Errorf("registry: push %s: the image is there, but not all that refers to it: %w", ref, err))
	}
	return digest, ctx.Err()
}

// pushNamed sends what the name ref leads to.
func (p *pusher) pushNamed(ctx context.Context, store *image.Store, img *image.Image, ref image.Reference) (image.Digest, error) {
	name := nameOf(ref)
	d := img.IndexOf(ref.String())
	if d.IsZero() {
		return img.Manifest.Digest, p.pushImage(ctx, img, name)
	}
	index, text, images, whole, err := store.ReadIndex(d)
	if err != nil {
		return image.Digest{}, err
	}
	if !whole {
		return img.Manifest.Digest, p.pushImage(ctx, img, name)
	}
	for _, i := range images {
		if err := p.pushImage(ctx, i, i.Manifest.Digest.String()); err != nil {
			return d, err
		}
	}
	_, err = p.pushDocument(ctx, index, text, name)
	return d, err
}

func (p *pusher) pushImage(ctx context.Context, img *image.Image, name string) error {
	blobs, err := img.Blobs()
	if err != nil {
		return err
	}
	p.image = img
	_, err = p.pushManifest(ctx, img.Manifest, blobs, name)
	return err
}

// pushManifest sends a manifest of the image's, after what it names.
func (p *pusher) pushManifest(ctx context.Context, d image.Descriptor, blobs []image.Descriptor, name string) (http.Header, error) {
	if err := p.pushBlobs(ctx, blobs); err != nil {
		return nil, err
	}
	f, err := p.image.Open(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	return p.pushDocument(ctx, d, text, name)
}

// elsewhere returns which repositories of the same registry have a blob. It is
// a guess: a name may have been given here only. So that the registry learns no
// name that is not its business, only those count that have the same owner, or
// that came from there by an index.
func elsewhere(store *image.Store, ref image.Reference) map[image.Digest]string {
	from := map[image.Digest]string{}
	images, _ := store.List() // those that can be read
	for _, img := range images {
		for _, name := range img.Names {
			other, err := image.ParseReference(name)
			if err != nil || other.Domain != ref.Domain || other.Path == ref.Path || owner(other) != owner(ref) && img.IndexOf(name).IsZero() {
				continue
			}
			from[img.ID] = other.Path
			for _, layer := range img.Layers {
				from[layer.Digest] = other.Path
			}
		}
	}
	return from
}

// owner is the first part of a repository's path.
func owner(ref image.Reference) string {
	first, _, _ := strings.Cut(ref.Path, "/")
	return first
}

// pusher sends images, one after the other.
type pusher struct {
	*session
	image    *image.Image          // whose blobs are sent
	sent     map[image.Digest]bool // manifests and indexes
	from     map[image.Digest]string
	mu       sync.Mutex
	progress func(image.Progress)
}

func (p *pusher) report(d image.Descriptor, done int64) {
	if p.progress == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.progress(image.Progress{Layer: d.Digest, Done: done, Total: d.Size})
}

// pushBlobs sends some at once. The first error ends the others.
func (p *pusher) pushBlobs(ctx context.Context, blobs []image.Descriptor) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, d := range blobs {
		group.Go(func() error {
			err := p.client.retry(ctx, func() error { return p.pushBlob(ctx, d) })
			if err != nil {
				return fmt.Errorf("blob %s: %w", d.Digest, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// pushBlob sends a blob, unless it is there. What a broken upload has left is
// forgotten by the registry in time.
func (p *pusher) pushBlob(ctx context.Context, d image.Descriptor) error {
	status, _, err := p.ask(ctx, &request{method: http.MethodHead, url: p.in("blobs/" + d.Digest.String()), want: []int{http.StatusOK, http.StatusNotFound}})
	if err != nil {
		return err
	}
	if status == http.StatusOK {
		p.report(d, d.Size)
		return nil
	}
	location, err := p.beginUpload(ctx, d)
	if err != nil || location == nil {
		return err
	}
	f, err := p.image.Open(d)
	if err != nil {
		return err
	}
	defer f.Close()
	content := reporting{f, func(done int64) { p.report(d, min(done, d.Size-1)) }} // it is there when the registry says so
	_, _, err = p.ask(ctx, &request{
		method: http.MethodPut, url: location, want: []int{http.StatusCreated, http.StatusNoContent},
		// Whether the token is still good is known before the blob is sent.
		header: http.Header{"Content-Type": {"application/octet-stream"}, "Expect": {"100-continue"}},
		body:   io.NewSectionReader(content, 0, d.Size),
	})
	if err == nil {
		p.report(d, d.Size)
	}
	return err
}

// beginUpload returns where the registry wants the blob, or nil if another
// repository gave it.
func (p *pusher) beginUpload(ctx context.Context, d image.Descriptor) (*url.URL, error) {
	r := &request{method: http.MethodPost, url: p.in("blobs/uploads/"), want: []int{http.StatusAccepted}}
	if from := p.from[d.Digest]; from != "" {
		mount := *r
		mount.url = p.in("blobs/uploads/")
		mount.url.RawQuery = url.Values{"mount": {d.Digest.String()}, "from": {from}}.Encode()
		mount.want = []int{http.StatusCreated, http.StatusAccepted}
		mount.scopes = p.scopes + " " + scope(from, "pull")
		status, location, err := p.ask(ctx, &mount)
		if err == nil && status == http.StatusCreated {
			p.report(d, d.Size)
			return nil, nil
		}
		if err == nil {
			return p.uploadTo(location, d)
		}
		// We may have no right to that repository.
	}
	_, location, err := p.ask(ctx, r)
	if err != nil {
		return nil, err
	}
	return p.uploadTo(location, d)
}

// uploadTo is where a blob goes in one piece. The registry may name another
// server, which gets no credentials.
func (p *pusher) uploadTo(location string, d image.Descriptor) (*url.URL, error) {
	u, err := url.Parse(location)
	if err != nil || location == "" {
		return nil, errors.New("the registry doesn't say where it wants an upload")
	}
	u = p.in("blobs/uploads/").ResolveReference(u)
	u.User = nil
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += url.Values{"digest": {d.Digest.String()}}.Encode() // the rest of it stays as it is
	return u, p.checkScheme(u)
}

// pushDocument sends the very bytes of a manifest or an index that came, so
// that the digest stays. It returns the head of the answer.
func (p *pusher) pushDocument(ctx context.Context, d image.Descriptor, text []byte, name string) (head http.Header, err error) {
	r := &request{
		method: http.MethodPut, url: p.in("manifests/" + name), want: []int{http.StatusCreated},
		header: http.Header{"Content-Type": {d.MediaType}},
		body:   io.NewSectionReader(bytes.NewReader(text), 0, int64(len(text))),
	}
	p.sent[d.Digest] = true
	err = p.client.retry(ctx, func() error {
		resp, err := p.do(ctx, r)
		if err != nil {
			return fmt.Errorf("manifest: %w", err)
		}
		defer resp.Body.Close()
		head = resp.Header
		if got := head.Get("Docker-Content-Digest"); isSHA256(got) && got != d.Digest.String() {
			return &image.MismatchError{Blob: d.Digest, What: "digest", Want: d.Digest.String(), Got: got}
		}
		return nil
	})
	return head, err
}

// reporting reports how far a file was read.
type reporting struct {
	io.ReaderAt
	report func(done int64)
}

func (r reporting) ReadAt(p []byte, at int64) (int, error) {
	n, err := r.ReaderAt.ReadAt(p, at)
	r.report(at + int64(n))
	return n, err
}
