package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/image"
)

// Pull fetches an image from its registry, or from the first of the mirrors
// that has it, into the store (distribution-spec, pull). If a registry was
// asked, the error is an Error.
func (c *Client) Pull(ctx context.Context, store *image.Store, ref image.Reference, opts image.Options) (*image.Image, error) {
	defer c.close()
	endpoints, err := c.endpoints(ref.Domain)
	if err != nil {
		return nil, err
	}
	failed := &Error{Op: "pull", Reference: ref}
	for _, e := range endpoints {
		img, err := c.pullFrom(ctx, store, &e, ref, opts)
		if err == nil {
			return img, nil
		}
		failed.Tries = append(failed.Tries, Try{URL: e.String(), Err: err})
		if ctx.Err() != nil || isOurs(err) {
			break
		}
	}
	return nil, failed
}

func (c *Client) pullFrom(ctx context.Context, store *image.Store, e *endpoint, ref image.Reference, opts image.Options) (*image.Image, error) {
	s, err := c.session(ctx, e, ref.Path, "pull")
	if err != nil {
		return nil, err
	}
	limit, err := store.MaxDocument()
	if err != nil {
		return nil, err
	}
	var text []byte
	var mediaType string
	err = c.retry(ctx, func() (err error) {
		text, mediaType, err = s.manifest(ctx, ref, limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	opts.Referrers = s.referrers
	return store.Add(ctx, s, mediaType, text, ref, opts)
}

// isOurs tells of an error that no other registry mends.
func isOurs(err error) bool {
	return errors.As(err, new(*image.LimitError)) || errors.As(err, new(*image.PlatformError)) || errors.Is(err, unix.ENOSPC)
}

// nameOf is what a repository calls the image of ref.
func nameOf(ref image.Reference) string {
	switch {
	case !ref.Digest.IsZero():
		return ref.Digest.String()
	case ref.Tag == "":
		return "latest"
	}
	return ref.Tag
}

// manifest fetches the manifest or index that ref names, and its media type.
func (s *session) manifest(ctx context.Context, ref image.Reference, limit int64) (text []byte, mediaType string, err error) {
	name := nameOf(ref)
	resp, err := s.do(ctx, &request{method: http.MethodGet, url: s.in("manifests/" + name), header: accept()})
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err = readAll(resp.Body, "a manifest", limit)
	if err != nil {
		return nil, "", fmt.Errorf("manifest %s: %w", name, err)
	}
	got := image.DigestBytes(text).String()
	for _, want := range []string{resp.Header.Get("Docker-Content-Digest"), ref.Digest.String()} {
		if isSHA256(want) && want != got {
			return nil, "", &image.MismatchError{Blob: ref.Digest, What: "digest", Want: want, Got: got}
		}
	}
	return text, mediaTypeOf(resp, text), nil
}

func accept() http.Header {
	return http.Header{"Accept": slices.Concat(image.ManifestTypes, []string{"*/*"})}
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

// Open fetches a blob, or the manifest of one platform.
func (s *session) Open(ctx context.Context, d image.Descriptor) (io.ReadCloser, error) {
	b := &blob{session: s, ctx: ctx, want: d, url: s.in("blobs/" + d.Digest.String())}
	if d.IsDocument() {
		b.url = s.in("manifests/" + d.Digest.String())
	}
	if err := b.resume(b.connect()); err != nil {
		_ = b.Close()
		return nil, err
	}
	return b, nil
}

// enough is after how many bytes a connection that breaks counts as a new
// trouble, and not as the same one again.
const enough = 1 << 20

// blob is one that arrives. When its connection breaks it goes on with the
// next where it was; whether the parts are of one blob, its digest tells.
type blob struct {
	session *session
	ctx     context.Context
	url     *url.URL
	want    image.Descriptor
	body    io.ReadCloser // nil while there is no connection
	at      int64         // bytes that have come
	began   int64         // where they were at the last trouble
	tries   int           // since then
	err     error         // why there will be no more
}

func (b *blob) Read(p []byte) (int, error) {
	for b.err == nil {
		n, err := b.body.Read(p)
		b.at += int64(n)
		switch {
		case err == nil || n > 0:
			return n, nil // the error comes again
		case b.at >= b.want.Size:
			return 0, io.EOF
		case err == io.EOF:
			err = io.ErrUnexpectedEOF
		}
		b.err = b.resume(err)
	}
	return 0, b.err
}

// resume connects again, for the reason err. If that is of no use, it returns
// the reason.
func (b *blob) resume(err error) error {
	if b.at-b.began >= enough {
		b.tries = 0
	}
	b.began = b.at
	for err != nil {
		if b.tries++; !b.session.client.again(b.ctx, &err, b.tries) {
			return err
		}
		_ = b.Close()
		if err = b.connect(); isDial(err) && b.at > 0 { // it was there a moment ago
			err = fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err)
		}
	}
	return nil
}

// connect asks for what is missing.
func (b *blob) connect() error {
	r := &request{method: http.MethodGet, url: b.url, header: accept()}
	if b.at > 0 {
		r.header.Set("Range", fmt.Sprintf("bytes=%d-", b.at))
		r.want = []int{http.StatusOK, http.StatusPartialContent}
	}
	resp, err := b.session.do(b.ctx, r)
	if err != nil {
		return err
	}
	b.body = resp.Body
	size := ""
	if resp.StatusCode == http.StatusPartialContent {
		got := resp.Header.Get("Content-Range")
		_, size, _ = strings.Cut(got, "/")
		if !strings.HasPrefix(got, fmt.Sprintf("bytes %d-", b.at)) {
			return fmt.Errorf("answered the bytes from %d on by a Content-Range of %.80q", b.at, got)
		}
	} else if resp.ContentLength >= 0 {
		size = strconv.FormatInt(resp.ContentLength, 10)
	}
	if size != "" && size != "*" && size != strconv.FormatInt(b.want.Size, 10) {
		return fmt.Errorf("size is %.20s, want %d", size, b.want.Size)
	}
	if resp.StatusCode == http.StatusOK {
		_, err = io.CopyN(io.Discard, b.body, b.at)
	}
	return err
}

func (b *blob) Close() error {
	if b.body == nil {
		return nil
	}
	defer func() { b.body = nil }()
	return b.body.Close()
}
