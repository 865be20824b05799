package image

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/klauspost/compress/gzip"
)

// Import makes an image of one layer out of the tar of a root file system,
// which may be compressed, and names it. config says how to run it; its
// platform is that of opts unless it has one.
func (s *Store) Import(ctx context.Context, r io.Reader, name string, config Config, opts Options) (img *Image, err error) {
	defer annotate(&err, "import")
	return s.make(ctx, nil, r, name, config, opts)
}

// Commit makes an image of another one and one more layer, which r is the tar
// of, and names it. config is the other one's, changed; its last entry of the
// history is the layer's. What the other's says beyond Config stays.
func (s *Store) Commit(ctx context.Context, base *Image, r io.Reader, name string, config Config, opts Options) (img *Image, err error) {
	defer annotate(&err, "commit")
	return s.make(ctx, base, r, name, config, opts)
}

func (s *Store) make(ctx context.Context, base *Image, r io.Reader, name string, config Config, opts Options) (img *Image, err error) {
	ref, err := ParseReference(name)
	if err != nil {
		return nil, err
	}
	if !ref.Digest.IsZero() {
		return nil, fmt.Errorf("name %s: a name with a digest can't be given", name)
	}
	if config.OS == "" {
		config.Platform = opts.platform()
	}
	config.RootFS = RootFS{Type: "layers"}
	var layers []Descriptor
	text := []byte("{}")
	if base != nil {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, base.Config.RootFS.DiffIDs...)
		layers = append(layers, base.Layers...)
		if text, err = base.Document(); err != nil {
			return nil, err
		}
	}
	opts.Platform = config.Platform
	err = s.write(func(st *stage) error {
		blob, diffID, err := st.makeLayer(ctx, r)
		if err != nil {
			return err
		}
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID)
		if text, err = config.replace(text); err != nil {
			return fmt.Errorf("configuration: %w", err)
		}
		configBlob, err := st.putDocument(mediaTypeConfig, text)
		if err != nil {
			return err
		}
		a, err := st.addMade(ctx, configBlob, append(layers, blob), opts, ref.String())
		if err != nil {
			return err
		}
		images, err := st.commit([]*addition{a})
		if err == nil {
			img = images[0]
		}
		return err
	})
	return img, err
}

// makeLayer brings a tar into the stage, as a blob and unpacked. One that has
// no compression, or one that layers may not have, is compressed by gzip.
func (st *stage) makeLayer(ctx context.Context, r io.Reader) (blob Descriptor, diffID Digest, err error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	magic, err := buffered.Peek(magicSize)
	if err != nil && err != io.EOF {
		return blob, diffID, err
	}
	if len(magic) == 0 {
		return blob, diffID, &NotImageError{}
	}
	r = buffered
	if kind := compressionOf(magic); kind != gzipped && kind != zstandard {
		z := compress(buffered)
		defer z.Close()
		r = z
	}
	unnamed := st.path("layers", "made")
	blob, err = st.putStream(r, func(r io.Reader) (err error) {
		diffID, err = unpackArchive(ctx, r, unnamed)
		return err
	})
	if err != nil {
		return blob, diffID, err
	}
	if err := os.Rename(unnamed, st.path("layers", diffID.Hex())); err != nil {
		return blob, diffID, fmt.Errorf("layer: %w", err)
	}
	return blob, diffID, nil
}

// compress returns the plain bytes of r compressed by gzip. Closing the result
// early ends the work.
func compress(r io.Reader) io.ReadCloser {
	out, in := io.Pipe()
	go func() {
		in.CloseWithError(func() error {
			plain, err := decompress(r)
			if err != nil {
				return err
			}
			defer plain.Close()
			z := gzip.NewWriter(in)
			if _, err := io.Copy(z, plain); err != nil {
				return err
			}
			return z.Close()
		}())
	}()
	return out
}

// replace gives a configuration the fields of c, and keeps those that c has no
// word for, such as a health check. What tells of the container that the old
// one was made in goes.
func (c Config) replace(text []byte) ([]byte, error) {
	var old Config
	var doc struct{ Config json.RawMessage }
	if err := parseJSON(text, &old); err != nil {
		return nil, err
	}
	if err := parseJSON(text, &doc); err != nil {
		return nil, err
	}
	if doc.Config == nil {
		doc.Config = []byte("{}")
	}
	inner, err := replaceFields(doc.Config, old.Config, c.Config, nil)
	if err != nil {
		return nil, err
	}
	return replaceFields(text, old, c, inner, "container", "container_config")
}

// replaceFields replaces the fields of a document that are old's by those of v;
// the field config, if it is not nil, is written as it is.
func replaceFields(text json.RawMessage, old, v any, config json.RawMessage, drop ...string) ([]byte, error) {
	doc, err := fields(text)
	if err != nil {
		return nil, err
	}
	known, err := fields(old)
	if err != nil {
		return nil, err
	}
	changed, err := fields(v)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.AppendSeq(drop, maps.Keys(known)) {
		delete(doc, name)
	}
	maps.Copy(doc, changed)
	if config != nil {
		doc["config"] = config
	}
	return json.Marshal(doc)
}

func fields(v any) (m map[string]json.RawMessage, err error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return m, parseJSON(text, &m)
}

// Made is the configuration of an image that was made of another one's, or of
// none: now, by somebody, as a layer that something made.
func (c Config) Made(now time.Time, layer History) Config {
	c.Created, layer.Created = &now, &now
	if layer.Author != "" {
		c.Author = layer.Author
	}
	c.History = append(c.History[:len(c.History):len(c.History)], layer)
	return c
}
