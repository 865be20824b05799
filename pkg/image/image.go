// Package image keeps container images: it reads references and archives,
// takes what registries have, verifies everything by digest, and unpacks layers
// into directories that overlayfs stacks.
//
// The formats are those of the OCI image-spec (image layout, index, manifest,
// configuration, layer) and of docker save. What the kernel does with the layers is in its
// Documentation/filesystems/overlayfs.rst.
package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

// Image is an image in a store.
type Image struct {
	ID       Digest       // of the configuration
	Manifest Descriptor   // as it came, or as made for docker save's archives
	Names    []string     // in full, such as docker.io/library/alpine:latest
	Config   Config       // how to run it
	Layers   []Descriptor // blobs, the lowest layer first
	Size     int64        // bytes of all blobs, as they came

	entries map[string]Descriptor // of index.json, by name
	store   *Store
}

// image reads the image of an entry of index.json.
func (s *Store) image(entry Descriptor, x *index) (img *Image, err error) {
	defer func() {
		if err != nil {
			err = &DamagedError{entry.Digest, err}
		}
	}()
	text, err := readDocument(s.blobPath(entry.Digest), entry)
	if err != nil {
		return nil, err
	}
	m, _, err := parseManifest(text, entry.MediaType)
	if err != nil {
		return nil, err
	}
	if m == nil {
		return nil, fmt.Errorf("store: %s is an index", entry.Digest)
	}
	if text, err = readDocument(s.blobPath(m.Config.Digest), m.Config); err != nil {
		return nil, err
	}
	config, err := parseConfig(text, len(m.Layers))
	if err != nil {
		return nil, err
	}
	img = &Image{ID: m.Config.Digest, Config: *config, Layers: m.Layers, entries: map[string]Descriptor{}, store: s}
	img.Manifest = Descriptor{MediaType: entry.MediaType, Digest: entry.Digest, Size: entry.Size}
	img.Size = entry.Size + m.Config.Size
	for _, layer := range m.Layers {
		img.Size += layer.Size
	}
	for _, other := range x.Manifests {
		if name := nameOf(other); other.Digest == entry.Digest && name != "" {
			img.Names = append(img.Names, name)
			img.entries[name] = other
		}
	}
	return img, nil
}

// readDocument reads a blob that is held in memory and checks it against its
// descriptor, so that a damaged store is noticed.
func readDocument(path string, d Descriptor) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("blob: %w", err)
	}
	defer f.Close()
	var text bytes.Buffer
	if _, err := io.Copy(&text, newVerifier(f, d)); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}

// Lower returns what overlayfs stacks for the image: the paths of its layers,
// the top one first, relative to the directory dir. They are so short that
// those of 500 layers fit into mount(2)'s options: lowerdir=l/0:l/1:l/2. The
// process that mounts has dir as its working directory, or has a link named l
// to dir/l in its own. See linkLayers for what is in them.
func (i *Image) Lower() (dir string, lower []string, err error) {
	dir = i.store.imagePath(i.ID)
	entries, err := os.ReadDir(filepath.Join(dir, "l"))
	if err == nil && len(entries) == 0 {
		err = errors.New("has no layers")
	}
	if err != nil {
		return "", nil, &DamagedError{i.Manifest.Digest, err}
	}
	for n := range entries {
		lower = append(lower, "l/"+strconv.Itoa(n))
	}
	return dir, lower, nil
}

// LayerDirs returns the directories of the layers, the top one first.
func (i *Image) LayerDirs() ([]string, error) {
	dir, dirs, err := i.Lower()
	for n := range dirs {
		if dirs[n], err = filepath.EvalSymlinks(filepath.Join(dir, dirs[n])); err != nil {
			return nil, &DamagedError{i.Manifest.Digest, err}
		}
	}
	return dirs, err
}

// digests returns those of the image's own blobs.
func (i *Image) digests() []Digest {
	list := []Digest{i.ID, i.Manifest.Digest}
	for _, layer := range i.Layers {
		list = append(list, layer.Digest)
	}
	return list
}

// Layout returns what an image layout of this image alone is: its index.json,
// and its other files, which are the store's, by their paths in the layout.
func (i *Image) Layout() (list []byte, files map[string]string, err error) {
	files = map[string]string{"oci-layout": i.store.path("oci-layout")}
	for _, d := range i.digests() {
		files["blobs/sha256/"+d.Hex()] = i.store.blobPath(d)
	}
	list, err = json.Marshal(index{SchemaVersion: 2, MediaType: mediaTypeIndex, Manifests: []Descriptor{i.Manifest}})
	return list, files, err
}
