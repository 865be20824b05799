package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// ManifestTypes are the media types of the documents that an image begins
// with: manifests, and indexes, which lead to them.
var ManifestTypes = []string{mediaTypeManifest, mediaTypeIndex, mediaTypeDockerManifest, mediaTypeDockerList}

// IsDocument tells whether d is that of a manifest or an index.
func (d Descriptor) IsDocument() bool { return slices.Contains(ManifestTypes, d.MediaType) }

// DigestBytes returns the digest of b.
func DigestBytes(b []byte) Digest { return digestBytes(b) }

// Source is where an operation gets blobs from: an archive, a directory, a
// registry. What it gives is verified by who reads it. Open may be called by
// several goroutines at once.
type Source interface {
	Open(ctx context.Context, d Descriptor) (io.ReadCloser, error)
}

// Add adds the image that text leads to, a manifest or an index of that media
// type, under the name ref. The blobs come from src. Of several operations that
// add one image at the same time, one does the work, and the others wait for it.
func (s *Store) Add(ctx context.Context, src Source, mediaType string, text []byte, ref Reference, opts Options) (img *Image, err error) {
	err = s.write(opts, func(st *stage) (err error) {
		top, err := st.putDocument(mediaType, text)
		if err != nil {
			return err
		}
		if top, err = st.resolve(ctx, src, []Descriptor{top}, 0); err != nil {
			return err
		}
		unlock, err := s.alone(ctx, top.Digest)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, unlock()) }()
		added, err := st.add(ctx, src, top, ref.String())
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

// alone waits until no other operation adds the image of this manifest. The
// lock lies in tmp, which is not swept while an operation is at work.
func (s *Store) alone(ctx context.Context, manifest Digest) (unlock func() error, err error) {
	name := s.path("tmp", "adding-"+manifest.Hex())
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	for {
		err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() error {
				err := os.Remove(name) // who comes now has a file of its own to lock, and finds the image
				if errors.Is(err, fs.ErrNotExist) {
					err = nil
				}
				return errors.Join(err, f.Close())
			}, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Blobs returns the descriptors of all that the image's manifest names: the
// configuration and the layers, each once.
func (i *Image) Blobs() (blobs []Descriptor, err error) {
	text, err := readDocument(i.store.blobPath(i.Manifest.Digest), i.Manifest)
	if err != nil {
		return nil, err
	}
	m, _, err := parseManifest(text, i.Manifest.MediaType)
	if err != nil {
		return nil, err
	}
	for _, d := range append([]Descriptor{m.Config}, m.Layers...) {
		if !slices.ContainsFunc(blobs, func(b Descriptor) bool { return b.Digest == d.Digest }) {
			blobs = append(blobs, d)
		}
	}
	return blobs, nil
}

// Open opens the manifest or another blob of the image. The size is checked;
// the digest is by who receives it.
func (i *Image) Open(d Descriptor) (*os.File, error) {
	f, err := os.Open(i.store.blobPath(d.Digest))
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != d.Size {
		_ = f.Close()
		return nil, &DamagedError{i.Manifest.Digest, fmt.Errorf("blob %s has not %d bytes", d.Digest, d.Size)}
	}
	return f, nil
}

// IsDomain tells whether s can be a registry's host.
func IsDomain(s string) bool { return isDomain(s) }
