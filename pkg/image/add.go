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
// type if it is known, under the name ref. The blobs come from src. Of several
// operations that add one image at the same time, one does the work, and the
// others wait for it.
func (s *Store) Add(ctx context.Context, src Source, mediaType string, text []byte, ref Reference, opts Options) (img *Image, err error) {
	m, list, err := parseManifest(text, mediaType)
	if err != nil {
		return nil, err
	}
	if list != nil {
		mediaType = list.MediaType
	} else {
		mediaType = m.MediaType
	}
	err = s.write(opts, func(st *stage) (err error) {
		top, err := st.putDocument(mediaType, text)
		if err != nil {
			return err
		}
		found, err := st.resolve(ctx, src, []Descriptor{top}, 0)
		if err != nil {
			return err
		}
		unlock, err := s.alone(ctx, found.Digest)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, unlock()) }()
		added, err := st.add(ctx, src, found, ref.String())
		if err != nil {
			return err
		}
		if found.Digest != top.Digest {
			added.index = top
		}
		if opts.Referrers != nil {
			if err := st.addReferrers(ctx, src, added); err != nil {
				return err
			}
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
	for {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock: %w", err)
		}
		locked, err := lockInPlace(f)
		if locked {
			return func() error { return errors.Join(os.Remove(name), f.Close()) }, nil
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// lockInPlace takes a flock(2) on a file or directory, if nobody has it and it
// still has its name.
func lockInPlace(f *os.File) (bool, error) {
	if err := flock(f, unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	ours, err := f.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Lstat(f.Name())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(ours, there), err
}

// digestIn is the one in an annotation of an entry of index.json, or the zero
// Digest.
func digestIn(entry Descriptor, annotation string) (d Digest) {
	d, _ = ParseDigest(entry.Annotations[annotation])
	return d
}

// entry is that of index.json which gives the image that name, or, if it was found
// otherwise, its first name.
func (i *Image) entry(name string) Descriptor {
	if ref, err := ParseReference(name); err == nil {
		if entry, found := i.entries[ref.String()]; found {
			return entry
		}
	}
	if len(i.Names) == 0 {
		return i.Manifest
	}
	return i.entries[i.Names[0]]
}

// IndexOf returns the digest of the index by which the image came when it was
// pulled by that name, or, if it has not that name, by its first; it is zero if
// there was none.
func (i *Image) IndexOf(name string) Digest { return digestIn(i.entry(name), annotationIndex) }

// ReadIndex returns an index that the store keeps for its images, and those of
// the images in it that the store has. whole says that these are all.
func (s *Store) ReadIndex(d Digest) (index Descriptor, text []byte, images []*Image, whole bool, err error) {
	defer annotate(&err, "index "+d.Short())
	index, text, err = s.readIndexBlob(d)
	if err != nil {
		return index, nil, nil, false, err
	}
	_, list, err := parseManifest(text, "")
	if err == nil && list == nil {
		err = errors.New("index: is a manifest")
	}
	if err != nil {
		return index, nil, nil, false, err
	}
	index.MediaType = list.MediaType
	here, _ := s.list() // one that is damaged is not here
	for _, entry := range list.Manifests {
		if n := slices.IndexFunc(here, func(i *Image) bool { return i.Manifest.Digest == entry.Digest }); n >= 0 {
			images = append(images, here[n])
		}
	}
	return index, text, images, len(images) == len(list.Manifests), err
}

// readIndexBlob reads one of which only the digest is known.
func (s *Store) readIndexBlob(d Digest) (index Descriptor, text []byte, err error) {
	info, err := os.Stat(s.blobPath(d))
	if err != nil {
		return index, nil, err
	}
	index = Descriptor{MediaType: mediaTypeIndex, Digest: d, Size: info.Size()}
	text, err = readDocument(s.blobPath(d), index)
	return index, text, err
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
		if !d.In(blobs) {
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
