package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// What is kept of an image's referrers is bounded: whoever may push to a
// repository can add some.
const (
	maxReferrers     = 64
	maxReferrerBlobs = 256      // of all of them
	maxReferrerBytes = 64 << 20 // of these blobs
)

// A Referrer is a manifest whose subject is an image's manifest or index. It says
// something about the image, such as a signature or a list of what is in it
// (image-spec, manifest.md).
type Referrer struct {
	Descriptor
	Subject Digest
	Blobs   []Descriptor // its configuration and layers, of whatever types
}

// Listed returns what an index lists.
func Listed(text []byte) ([]Descriptor, error) {
	x, err := parseList(text)
	if err != nil {
		return nil, err
	}
	return x.Manifests, nil
}

// NewIndex returns an index of the listed, and its descriptor.
func NewIndex(listed []Descriptor) (text []byte, d Descriptor, err error) {
	text, err = json.Marshal(index{SchemaVersion: 2, MediaType: mediaTypeIndex, Manifests: listed})
	return text, Descriptor{MediaType: mediaTypeIndex, Digest: digestBytes(text), Size: int64(len(text))}, err
}

// addReferrers fetches what refers to the image and to the index that led to it.
// What can't be had of that is told and left: the image is whole without it.
func (st *stage) addReferrers(ctx context.Context, src Source, a *addition) error {
	left := new(budget)
	left.entries.allow(maxReferrerBlobs, "blobs in an image's referrers")
	left.bytes.allow(maxReferrerBytes, "bytes in an image's referrers")
	var kept []Descriptor
	for _, subject := range []Digest{a.index.Digest, a.manifest.Digest} {
		if subject.IsZero() {
			continue
		}
		found, err := st.opts.Referrers(ctx, subject)
		for _, d := range found {
			if len(kept) == maxReferrers {
				err = &LimitError{What: "referrers of an image", Limit: maxReferrers}
				break
			}
			r, e := st.fetchReferrer(ctx, src, subject, d, left)
			if isOurs(e) {
				return e
			}
			if e != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w", d.Digest, e))
				continue
			}
			kept = append(kept, d)
			a.others = append(append(a.others, d), r.Blobs...)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			st.store.warn(fmt.Errorf("what refers to %s is not kept in full: %w", subject, err))
		}
	}
	if len(kept) == 0 {
		return nil
	}
	text, d, err := NewIndex(kept)
	if err == nil {
		a.referrers, err = st.putDocument(d.MediaType, text)
	}
	return err
}

// isOurs tells of an error of this machine's files, and not of a registry.
func isOurs(err error) bool {
	return errors.As(err, new(*fs.PathError)) || errors.As(err, new(*os.LinkError))
}

func (st *stage) fetchReferrer(ctx context.Context, src Source, subject Digest, d Descriptor, left *budget) (*Referrer, error) {
	text, err := st.document(ctx, src, d)
	if err != nil {
		return nil, err
	}
	r, err := parseReferrer(text, d)
	if err == nil && r.Subject != subject {
		err = fmt.Errorf("its subject is %s", r.Subject)
	}
	if err != nil {
		return nil, err
	}
	for _, blob := range r.Blobs {
		if err := errors.Join(left.entries.take(1), left.bytes.take(blob.Size)); err != nil {
			return nil, err
		}
		if err := st.fetch(ctx, src, blob, func(_ *pipeline, r io.Reader) error { return drain(r) }); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func parseReferrer(text []byte, d Descriptor) (*Referrer, error) {
	if d.MediaType != mediaTypeManifest {
		return nil, fmt.Errorf("unknown mediaType %.100q of a referrer", d.MediaType)
	}
	var m struct {
		manifest
		Subject Descriptor `json:"subject"`
	}
	if err := parseJSON(text, &m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	r := &Referrer{Descriptor: d, Subject: m.Subject.Digest, Blobs: append([]Descriptor{m.Config}, m.Layers...)}
	for _, blob := range r.Blobs {
		if err := checkDescriptor(blob); err != nil {
			return nil, fmt.Errorf("manifest: a blob %w", err)
		}
	}
	return r, nil
}

// Referrers returns what referred to the image, or to its index, when it was
// pulled by that name.
func (i *Image) Referrers(name string) ([]Referrer, error) {
	return i.store.referrers(digestIn(i.entry(name), annotationReferrers))
}

// reachable returns the digests of all blobs that belong to the image.
func (i *Image) reachable() ([]Digest, error) {
	blobs := []Digest{i.Manifest.Digest, i.ID}
	for _, layer := range i.Layers {
		blobs = append(blobs, layer.Digest)
	}
	for name, entry := range i.entries {
		list := digestIn(entry, annotationReferrers)
		referrers, err := i.store.referrers(list)
		if err != nil {
			return nil, fmt.Errorf("what refers to %s is damaged, and minictr pull brings it again: %w", name, err)
		}
		blobs = append(blobs, digestIn(entry, annotationIndex), list)
		for _, r := range referrers {
			blobs = append(blobs, r.Digest)
			for _, blob := range r.Blobs {
				blobs = append(blobs, blob.Digest)
			}
		}
	}
	return blobs, nil
}

// referrers returns those in the list of that digest.
func (s *Store) referrers(list Digest) (all []Referrer, err error) {
	if list.IsZero() {
		return nil, nil
	}
	_, text, err := s.readIndexBlob(list)
	if err != nil {
		return nil, err
	}
	listed, err := Listed(text)
	for _, d := range listed {
		text, err := readDocument(s.blobPath(d.Digest), d)
		if err != nil {
			return nil, err
		}
		r, err := parseReferrer(text, d)
		if err != nil {
			return nil, err
		}
		all = append(all, *r)
	}
	return all, err
}
