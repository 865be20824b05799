package image

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
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
	err = s.write(opts, func(st *stage) error {
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
		a, err := st.addMade(ctx, configBlob, append(layers, blob), ref.String())
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
	if err != nil && !errors.Is(err, io.EOF) {
		return blob, diffID, err
	}
	if len(magic) == 0 {
		return blob, diffID, &NotImageError{}
	}
	r = buffered
	if kind := compressionOf(magic); kind != gzipped && kind != zstandard {
		z := st.compress(buffered)
		defer z.Close()
		r = z
	}
	unnamed := st.path("layers", "made")
	blob, err = st.putStream(r, func(r io.Reader) (err error) {
		diffID, err = st.unpackArchive(ctx, nil, r, unnamed)
		return err
	})
	if err != nil {
		return blob, diffID, err
	}
	if err := os.Rename(unnamed, st.path("layers", diffID.Hex())); err != nil {
		return blob, diffID, fmt.Errorf("layer: %w", err)
	}
	st.contents.add(blob.Digest, diffID)
	return blob, diffID, nil
}

// compress returns the plain bytes of r compressed by gzip. Closing the result
// early ends the work.
func (st *stage) compress(r io.Reader) io.ReadCloser {
	out, in := io.Pipe()
	go func() {
		in.CloseWithError(func() error {
			plain, err := decompress(r, st.limits.Window)
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
// one was made in goes. Without such fields the document is as the usual
// libraries write it, so that the image keeps its ID where they copy it.
func (c Config) replace(text []byte) ([]byte, error) {
	var old Config
	doc := struct{ Config json.RawMessage }{json.RawMessage("{}")}
	if err := errors.Join(parseJSON(text, &old), parseJSON(text, &doc)); err != nil {
		return nil, err
	}
	outer, err := more(text, old)
	delete(outer, "container")
	delete(outer, "container_config")
	inner, e := more(doc.Config, old.Config)
	if err = errors.Join(err, e); err != nil {
		return nil, err
	}
	if len(outer)+len(inner) == 0 {
		return json.Marshal(c)
	}
	known, err := fields(c.Config)
	maps.Copy(inner, known)
	all, e := fields(c)
	maps.Copy(outer, all)
	text, marshalErr := json.Marshal(inner)
	if err = errors.Join(err, e, marshalErr); err != nil {
		return nil, err
	}
	outer["config"] = text
	return json.Marshal(outer)
}

// more returns the fields of a document that are not v's.
func more(text json.RawMessage, v any) (map[string]json.RawMessage, error) {
	doc, err := fields(text)
	known, e := fields(v)
	maps.DeleteFunc(doc, func(name string, _ json.RawMessage) bool { _, found := known[name]; return found })
	return doc, errors.Join(err, e)
}

func fields(v any) (map[string]json.RawMessage, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var m map[string]json.RawMessage
	if err := parseJSON(text, &m); err != nil || m != nil {
		return m, err
	}
	return map[string]json.RawMessage{}, nil // null
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
