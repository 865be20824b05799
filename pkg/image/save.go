package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Format is one of the archives that Save writes.
type Format string

const (
	// FormatOCI is an OCI layout with the very blobs, so that every digest
	// stays. It has docker save's manifest.json as well, for readers that know
	// nothing else.
	FormatOCI Format = "oci-archive"
	// FormatDocker is what docker save has written since version 1.10: the
	// layers are plain, and there is no manifest, so its digest is lost.
	FormatDocker Format = "docker-archive"
)

// Save writes an archive of the images that Get finds by the names, and in the
// archive an image has these names only. The same images make the same archive.
func (s *Store) Save(ctx context.Context, w io.Writer, format Format, names ...string) (err error) {
	defer annotate(&err, "save")
	lock, err := s.lock("lock", unix.LOCK_SH) // nothing is swept meanwhile
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	a := &saver{ctx: ctx, store: s, out: tar.NewWriter(w), done: map[string]bool{}, index: index{SchemaVersion: 2, MediaType: mediaTypeIndex}}
	add := a.addBlobs
	switch format {
	case FormatDocker:
		add = a.addPlain
	case FormatOCI:
	default:
		return fmt.Errorf("format %.40q is neither %s nor %s", format, FormatOCI, FormatDocker)
	}
	var images []*Image
	tags := map[Digest][]string{}
	for _, name := range names {
		img, err := s.get(name)
		if err != nil {
			return err
		}
		if _, found := tags[img.Manifest.Digest]; !found {
			images = append(images, img)
		}
		tags[img.Manifest.Digest] = append(tags[img.Manifest.Digest], img.askedFor(name)...)
	}
	for _, img := range images {
		list := tags[img.Manifest.Digest]
		slices.Sort(list)
		if err := add(img, slices.Compact(list)); err != nil {
			return fmt.Errorf("%s: %w", img.ID.Short(), err)
		}
	}
	return a.finish(format)
}

// askedFor returns which of its names an image was found by; if it has not that
// very one, those in the same repository.
func (i *Image) askedFor(name string) []string {
	ref, err := ParseReference(name)
	if err != nil {
		return nil // by its ID
	}
	if slices.Contains(i.Names, ref.String()) {
		return []string{ref.String()}
	}
	return slices.DeleteFunc(slices.Clone(i.Names), func(own string) bool {
		other, err := ParseReference(own)
		return err != nil || other.Repository() != ref.Repository()
	})
}

// saver writes one archive.
type saver struct {
	ctx   context.Context
	store *Store
	out   *tar.Writer
	done  map[string]bool // files that are written
	list  []dockerImage   // manifest.json
	index index
}

// addBlobs adds an image as it is.
func (a *saver) addBlobs(img *Image, names []string) error {
	entry := dockerImage{Config: blobName(img.ID)}
	config, err := img.configDescriptor()
	if err != nil {
		return err
	}
	for _, d := range append([]Descriptor{img.Manifest, config}, img.Layers...) {
		if err := a.blob(d); err != nil {
			return err
		}
	}
	for _, layer := range img.Layers {
		entry.Layers = append(entry.Layers, blobName(layer.Digest))
	}
	a.name(entry, names)
	if len(names) == 0 {
		a.index.put(img.Manifest, "")
	}
	for _, name := range names {
		a.index.put(img.Manifest, name)
		a.index.Manifests[len(a.index.Manifests)-1].Annotations[annotationImageName] = name
	}
	return nil
}

func blobName(d Digest) string { return "blobs/sha256/" + d.Hex() }

// name adds to manifest.json.
func (a *saver) name(entry dockerImage, names []string) {
	for _, name := range names {
		if ref, err := ParseReference(name); err == nil && ref.Digest.IsZero() {
			entry.RepoTags = append(entry.RepoTags, name) // in full: short names are podman's own
		}
	}
	a.list = append(a.list, entry)
}

// blob copies a blob of the store, and checks it on the way.
func (a *saver) blob(d Descriptor) error {
	f, err := os.Open(a.store.blobPath(d.Digest))
	if err != nil {
		return err
	}
	defer f.Close()
	return a.file(blobName(d.Digest), d.Size, newVerifier(f, d))
}

// addPlain adds an image with plain layers.
func (a *saver) addPlain(img *Image, names []string) error {
	config, err := img.Document()
	if err != nil {
		return err
	}
	entry := dockerImage{Config: img.ID.Hex() + ".json"}
	if err := a.document(entry.Config, config); err != nil {
		return err
	}
	for i, layer := range img.Layers {
		diffID := img.Config.RootFS.DiffIDs[i]
		entry.Layers = append(entry.Layers, diffID.Hex()+".tar")
		if a.done[entry.Layers[i]] {
			continue
		}
		// The size comes before the content, so the layer is read twice.
		var size counter
		if err := a.plain(layer, func(r io.Reader) error { _, err := io.Copy(&size, r); return err }); err != nil {
			return err
		}
		err := a.plain(layer, func(r io.Reader) error {
			return a.file(entry.Layers[i], int64(size), newVerifier(r, Descriptor{Digest: diffID, Size: int64(size)}))
		})
		if err != nil {
			return err
		}
	}
	a.name(entry, names)
	return nil
}

type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

// plain passes on the plain tar of a layer.
func (a *saver) plain(d Descriptor, use func(io.Reader) error) error {
	f, err := os.Open(a.store.blobPath(d.Digest))
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := decompress(f, anyWindow)
	if err == nil {
		err = errors.Join(use(r), r.Close())
	}
	return err
}

// finish writes what tells of the images.
func (a *saver) finish(format Format) error {
	list, err := json.Marshal(a.list)
	if err != nil {
		return err
	}
	if format == FormatOCI {
		text, err := json.Marshal(a.index)
		if err = errors.Join(err, a.document("index.json", text), a.document("oci-layout", []byte(`{"imageLayoutVersion":"`+layoutVersion+`"}`))); err != nil {
			return err
		}
	}
	return errors.Join(a.document("manifest.json", list), a.out.Close())
}

func (a *saver) document(name string, text []byte) error {
	return a.file(name, int64(len(text)), strings.NewReader(string(text)))
}

// file writes one file, unless the archive has it.
func (a *saver) file(name string, size int64, content io.Reader) error {
	if a.done[name] {
		return nil
	}
	a.done[name] = true
	err := a.ctx.Err()
	if err == nil {
		err = a.out.WriteHeader(&tar.Header{Name: path.Clean(name), Mode: 0o644, Size: size, ModTime: time.Unix(0, 0)})
	}
	if err == nil {
		_, err = io.Copy(a.out, content)
	}
	return err
}

// Document returns the configuration as it came: it may say more than Config.
func (i *Image) Document() ([]byte, error) {
	d, err := i.configDescriptor()
	if err != nil {
		return nil, err
	}
	return readDocument(i.store.blobPath(i.ID), d)
}

// configDescriptor is the configuration's, as the manifest has it.
func (i *Image) configDescriptor() (Descriptor, error) {
	text, err := readDocument(i.store.blobPath(i.Manifest.Digest), i.Manifest)
	if err != nil {
		return Descriptor{}, err
	}
	m, _, err := parseManifest(text, i.Manifest.MediaType)
	if err != nil {
		return Descriptor{}, err
	}
	return m.Config, nil
}
