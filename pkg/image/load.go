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

// Load adds the images of a file or directory: an OCI image layout, the tar of
// one, or the tar that docker save writes. A tar may be compressed by gzip,
// zstd, bzip2 or xz. An image that names itself gets its names. All images are
// added, or none.
//
// A tar that is no image, such as one of a root file system, gives a
// NotImageError; Import makes an image of it.
func (s *Store) Load(ctx context.Context, path string, opts Options) (images []*Image, err error) {
	defer annotate(&err, "load "+path)
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return s.loadLayout(ctx, path, opts)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return s.loadArchive(ctx, f, opts)
}

// LoadStream is Load of an archive that arrives as a stream.
func (s *Store) LoadStream(ctx context.Context, r io.Reader, opts Options) (images []*Image, err error) {
	defer annotate(&err, "load")
	return s.loadArchive(ctx, r, opts)
}

func (s *Store) loadArchive(ctx context.Context, r io.Reader, opts Options) (images []*Image, err error) {
	err = s.write(opts, func(st *stage) error {
		a, err := st.spool(ctx, r)
		if err != nil {
			return err
		}
		additions, err := st.addArchive(ctx, a)
		if err != nil {
			return err
		}
		images, err = st.commit(additions)
		return err
	})
	return images, err
}

func (st *stage) addArchive(ctx context.Context, a *archive) ([]*addition, error) {
	if layout, found := a.find("oci-layout"); found {
		text, err := st.document(ctx, a, layout)
		if err == nil {
			err = checkLayout(text)
		}
		if err != nil {
			return nil, err
		}
	}
	if list, found := a.find("index.json"); found {
		text, err := st.document(ctx, a, list)
		if err != nil {
			return nil, err
		}
		return st.addIndex(ctx, a, text)
	}
	if list, found := a.find("manifest.json"); found {
		text, err := st.document(ctx, a, list)
		if err != nil {
			return nil, err
		}
		return st.addDocker(ctx, a, text)
	}
	return nil, a.notImage()
}

func (s *Store) loadLayout(ctx context.Context, dir string, opts Options) (images []*Image, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	limit, err := s.MaxDocument()
	if err != nil {
		return nil, err
	}
	layout := layoutDir{root, limit}
	text, err := layout.read("oci-layout")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("the directory is no OCI image layout: it has no file oci-layout")
	}
	if err == nil {
		err = checkLayout(text)
	}
	if err == nil {
		text, err = layout.read("index.json")
	}
	if err != nil {
		return nil, err
	}
	err = s.write(opts, func(st *stage) error {
		additions, err := st.addIndex(ctx, layout, text)
		if err != nil {
			return err
		}
		images, err = st.commit(additions)
		return err
	})
	return images, err
}

// addMade makes the manifest of an image whose blobs are in the stage, and
// adds the image.
func (st *stage) addMade(ctx context.Context, config Descriptor, layers []Descriptor, names ...string) (*addition, error) {
	for i, blob := range layers {
		mediaType, err := st.layerMediaType(blob)
		if err != nil {
			return nil, err
		}
		layers[i] = Descriptor{MediaType: mediaType, Digest: blob.Digest, Size: blob.Size}
	}
	config.MediaType = mediaTypeConfig
	text, err := json.Marshal(manifest{SchemaVersion: 2, MediaType: mediaTypeManifest, Config: config, Layers: layers})
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	d, err := st.putDocument(mediaTypeManifest, text)
	if err != nil {
		return nil, err
	}
	return st.add(ctx, nowhere{}, d, names...)
}
