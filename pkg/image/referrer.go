package image

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// MaxReferrers is how many referrers of an image are looked at. Whoever may push
// to a repository can add some.
const MaxReferrers = 64

// A Referrer is a manifest whose subject is an image's manifest or index. It says
// something about the image, such as a signature or a list of what is in it
// (image-spec, manifest.md).
type Referrer struct {
	Descriptor // with the type and the annotations of the manifest
	Subject    Digest
	Blobs      []Descriptor // its configuration and layers, of whatever types, each once
}

// Listed returns what an index lists, as far as it can be read: the media types,
// digests and sizes. The error is that of the first entry that can't.
func Listed(text []byte) (listed []Descriptor, err error) {
	var x struct {
		Manifests *list[json.RawMessage] `json:"manifests"`
	}
	if err := parseJSON(text, &x); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	if x.Manifests == nil {
		return nil, errors.New("index: has no manifests")
	}
	for i, entry := range *x.Manifests {
		var d Descriptor
		e := parseJSON(entry, &d)
		if e = cmp.Or(e, checkDescriptor(d)); e == nil {
			listed = append(listed, Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size})
		} else if err == nil {
			err = fmt.Errorf("index: /manifests/%d: %w", i, e)
		}
	}
	return listed, err
}

// Lengthened returns an index that lists more, and its descriptor. All else in it
// is as it was; without a text it is a new one.
func Lengthened(text []byte, more []Descriptor) ([]byte, Descriptor, error) {
	x := map[string]any{"schemaVersion": 2, "mediaType": mediaTypeIndex, "manifests": []any{}}
	if text != nil {
		if err := parseJSON(text, &x); err != nil {
			return nil, Descriptor{}, fmt.Errorf("index: %w", err)
		}
	}
	before, _ := x["manifests"].([]any)
	for _, d := range more {
		before = append(before, d)
	}
	x["manifests"] = before
	text, err := json.Marshal(x)
	return text, Descriptor{MediaType: mediaTypeIndex, Digest: digestBytes(text), Size: int64(len(text))}, err
}

// referrers are those of an image that are kept, and what more may be.
type referrers struct {
	list, others []Descriptor // the manifests, and all blobs

	tries, failures, manifests, blobs, bytes int64
}

// addReferrers fetches what refers to the image and to the index that led to it.
// What can't be had of that is told and left: the image is whole without it.
func (st *stage) addReferrers(ctx context.Context, src Source, a *addition) error {
	kept := &referrers{tries: MaxReferrers, failures: 8, manifests: 4 << 20, blobs: 256, bytes: 64 << 20}
	for _, subject := range []Digest{a.index.Digest, a.manifest.Digest} {
		if subject.IsZero() {
			continue
		}
		found, err := st.opts.Referrers(ctx, subject)
		if err != nil {
			found = append(found, st.knownReferrers(a)...)
		}
		failed := st.keepReferrers(ctx, src, subject, found, kept)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if isLocal(failed) {
			return failed
		}
		if err = cmp.Or(err, failed); err != nil {
			st.store.warn(fmt.Errorf("what refers to %s is not kept in full: %w", subject, err))
		}
	}
	if len(kept.list) == 0 {
		return nil
	}
	text, d, err := Lengthened(nil, kept.list)
	if err == nil {
		a.others = kept.others
		a.referrers, err = st.putDocument(d.MediaType, text)
	}
	return err
}

// keepReferrers keeps what can be had of those that were found. The error is that
// of the first which can't.
func (st *stage) keepReferrers(ctx context.Context, src Source, subject Digest, found []Descriptor, kept *referrers) (err error) {
	for _, d := range found {
		if d.In(kept.list) {
			continue
		}
		r, e := st.fetchReferrer(ctx, src, subject, d, kept)
		if e == nil {
			kept.list, kept.others = append(kept.list, d), append(append(kept.others, d), r.Blobs...)
			continue
		}
		if isLocal(e) || ctx.Err() != nil {
			return e
		}
		err = cmp.Or(err, fmt.Errorf("%s: %w", d.Digest, e))
		if kept.failures--; kept.tries <= 0 || kept.failures <= 0 {
			break
		}
	}
	return err
}

// knownReferrers are those that the store has of the same image under the same
// name.
func (st *stage) knownReferrers(a *addition) (known []Descriptor) {
	for _, name := range a.names {
		img, err := st.store.get(name)
		if err != nil || img.Manifest.Digest != a.manifest.Digest {
			continue
		}
		referrers, err := img.Referrers(name)
		for _, r := range referrers {
			known = append(known, Descriptor{MediaType: r.MediaType, Digest: r.Digest, Size: r.Size})
		}
		st.store.warn(err)
	}
	return known
}

// isLocal tells of an error of this machine's files, and not of a registry.
func isLocal(err error) bool {
	return errors.As(err, new(*fs.PathError)) || errors.As(err, new(*os.LinkError))
}

func (st *stage) fetchReferrer(ctx context.Context, src Source, subject Digest, d Descriptor, left *referrers) (*Referrer, error) {
	if left.tries--; left.tries < 0 {
		return nil, &LimitError{What: "referrers of an image", Limit: MaxReferrers}
	}
	if d.MediaType != mediaTypeManifest {
		return nil, fmt.Errorf("unknown mediaType %.100q of a referrer", d.MediaType)
	}
	if d.Size > left.manifests {
		return nil, fmt.Errorf("its manifest has %d bytes, and %d are left for those of referrers", d.Size, left.manifests)
	}
	left.manifests -= d.Size
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
	blobs, bytes := int64(len(r.Blobs)), int64(0)
	for _, blob := range r.Blobs {
		if bytes += blob.Size; bytes < 0 || bytes > left.bytes || blobs > left.blobs {
			return nil, fmt.Errorf("it has more than the %d blobs and %d bytes that are left for those of referrers", left.blobs, left.bytes)
		}
	}
	left.blobs, left.bytes = left.blobs-blobs, left.bytes-bytes
	for _, blob := range r.Blobs {
		if err := st.fetch(ctx, src, blob, func(_ *pipeline, r io.Reader) error { return drain(r) }); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func parseReferrer(text []byte, d Descriptor) (*Referrer, error) {
	var m struct {
		manifest
		ArtifactType string            `json:"artifactType"`
		Subject      Descriptor        `json:"subject"`
		Annotations  map[string]string `json:"annotations"`
	}
	if err := parseJSON(text, &m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	d.ArtifactType, d.Annotations = cmp.Or(m.ArtifactType, m.Config.MediaType), m.Annotations
	r := &Referrer{Descriptor: d, Subject: m.Subject.Digest}
	for _, blob := range append([]Descriptor{m.Config}, m.Layers...) {
		if err := checkDescriptor(blob); err != nil {
			return nil, fmt.Errorf("manifest: a blob %w", err)
		}
		if !blob.In(r.Blobs) {
			r.Blobs = append(r.Blobs, Descriptor{MediaType: blob.MediaType, Digest: blob.Digest, Size: blob.Size})
		}
	}
	return r, nil
}

// Referrers returns what referred to the image, or to its index, when it was
// pulled by that name, or, if it has not that name, by its first.
func (i *Image) Referrers(name string) ([]Referrer, error) {
	return i.store.referrers(name, digestIn(i.entry(name), annotationReferrers))
}

// reachable returns the digests of all blobs that belong to the image.
func (i *Image) reachable() ([]Digest, error) {
	blobs := i.digests()
	for name, entry := range i.entries {
		list := digestIn(entry, annotationReferrers)
		referrers, err := i.store.referrers(name, list)
		if err != nil {
			return nil, err
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

// referrers returns those in the list of that digest, of the image of that name.
func (s *Store) referrers(name string, list Digest) (all []Referrer, err error) {
	if list.IsZero() {
		return nil, nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("what refers to %s is damaged, and minictr pull brings it again: %w", name, err)
		}
	}()
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
