package image

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// archive tells what an image archive holds. The files themselves are in the
// stage as blobs by their digests.
type archive struct {
	files map[string]Descriptor
	links map[string]string // symbolic and hard links, cleaned
	first string            // the first entry
}

// nowhere is the source of images whose blobs are in the stage already.
type nowhere struct{}

func (nowhere) Open(context.Context, Descriptor) (io.ReadCloser, error) {
	return nil, fs.ErrNotExist
}

func (*archive) Open(context.Context, Descriptor) (io.ReadCloser, error) {
	return nil, errors.New("is not in the archive")
}

func (a *archive) notImage() error {
	if _, found := a.find("repositories"); found {
		return errors.New("the archive has no manifest.json: it was saved by a docker older than 1.10")
	}
	return &NotImageError{Entry: a.first}
}

// spool reads the tar r into the stage. An archive may name its parts in any
// order, so nothing can be done before the last has come.
func (st *stage) spool(ctx context.Context, r io.Reader) (*archive, error) {
	plain, err := decompress(r, st.limits.Window)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	a := &archive{files: map[string]Descriptor{}, links: map[string]string{}}
	limited := newLimiter(plain, "bytes in an archive", st.limits.Bytes)
	entries := tar.NewReader(limited)
	for range maxArchiveFiles {
		hdr, err := entries.Next()
		if errors.Is(err, io.EOF) {
			// The checksum of a compressed archive is behind its last entry, and
			// who writes into a pipe wants to get rid of everything.
			if err = drain(limited); err == nil {
				return a, nil
			}
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, fmt.Errorf("archive: %w", err)
		}
		if err := st.spoolEntry(a, hdr, entries); err != nil {
			return nil, fmt.Errorf("archive: %.300q: %w", hdr.Name, err)
		}
	}
	if !a.isImage() {
		return nil, a.notImage()
	}
	return nil, &LimitError{What: "files in an archive", Limit: maxArchiveFiles}
}

func (a *archive) isImage() bool {
	_, layout := a.find("index.json")
	_, docker := a.find("manifest.json")
	return layout || docker
}

func (st *stage) spoolEntry(a *archive, hdr *tar.Header, content io.Reader) (err error) {
	if n := int64(len(hdr.Name) + len(hdr.Linkname)); n > 2*st.limits.Path { // they are kept
		return &LimitError{What: "bytes in a name", Limit: st.limits.Path}
	}
	name := cleanName(hdr.Name)
	if a.first == "" && name != "" {
		a.first = hdr.Name
	}
	_, isFile := a.files[name]
	_, isLink := a.links[name]
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeSymlink, tar.TypeLink:
		if isFile || isLink {
			return errors.New("is there twice")
		}
	}
	switch hdr.Typeflag {
	case tar.TypeReg:
		a.files[name], err = st.putStream(content, drain)
	case tar.TypeSymlink:
		a.links[name] = cleanName(path.Join(path.Dir(name), hdr.Linkname))
	case tar.TypeLink:
		a.links[name] = cleanName(hdr.Linkname)
	}
	return err
}

// cleanName brings the spellings of a name in an archive together. Names are
// only looked up, never opened.
func cleanName(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// find returns the blob of the file of that name, or of the file that a link
// of that name leads to.
func (a *archive) find(name string) (Descriptor, bool) {
	name = cleanName(name)
	for range 8 {
		if d, found := a.files[name]; found {
			return d, true
		}
		name = a.links[name]
	}
	return Descriptor{}, false
}

// putStream brings bytes of unknown digest into the stage as a blob, and
// passes them on to use, which reads to io.EOF.
func (st *stage) putStream(r io.Reader, use func(io.Reader) error) (Descriptor, error) {
	f, err := os.CreateTemp(st.dir, "blob-")
	if err != nil {
		return Descriptor{}, fmt.Errorf("blob: %w", err)
	}
	sum := sha256.New()
	err = use(io.TeeReader(r, io.MultiWriter(f, sum)))
	info, statErr := f.Stat()
	if err = errors.Join(err, statErr, f.Close()); err != nil {
		return Descriptor{}, err
	}
	d := Descriptor{Digest: digestOf(sum), Size: info.Size()}
	if err := os.Rename(f.Name(), st.path("blobs", d.Digest.Hex())); err != nil {
		return Descriptor{}, fmt.Errorf("blob: %w", err)
	}
	return d, nil
}

// layerMediaType looks at a blob's first bytes. A compression that has no
// media type counts as none; the unpacker looks for itself.
func (st *stage) layerMediaType(blob Descriptor) (string, error) {
	path, found := st.have(blob)
	if !found {
		return "", fmt.Errorf("blob %s: %w", blob.Digest, fs.ErrNotExist)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("blob: %w", err)
	}
	defer f.Close()
	magic := make([]byte, magicSize)
	n, err := io.ReadFull(f, magic)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", fmt.Errorf("blob: %w", err)
	}
	switch compressionOf(magic[:n]) {
	case gzipped:
		return mediaTypeLayer + "+gzip", nil
	case zstandard:
		return mediaTypeLayer + "+zstd", nil
	case uncompressed, bzipped, xzipped:
	}
	return mediaTypeLayer, nil
}

// dockerImage is an entry of the manifest.json that docker save writes.
type dockerImage struct {
	Config   string
	RepoTags list[string]
	Layers   list[string]
}

// addDocker adds the images of a docker save archive, under manifests of our
// own making, for it has none.
func (st *stage) addDocker(ctx context.Context, a *archive, text []byte) ([]*addition, error) {
	var images list[dockerImage]
	if err := parseJSON(text, &images); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	if len(images) == 0 {
		return nil, errors.New("manifest.json lists no image")
	}
	var additions []*addition
	for i, img := range images {
		added, err := st.addDockerImage(ctx, a, img)
		if err != nil {
			return nil, fmt.Errorf("manifest.json: /%d: %w", i, err)
		}
		additions = append(additions, added)
	}
	return additions, nil
}

func (st *stage) addDockerImage(ctx context.Context, a *archive, img dockerImage) (*addition, error) {
	var names []string
	for _, tag := range img.RepoTags {
		ref, err := ParseReference(tag)
		if err != nil {
			return nil, err
		}
		names = append(names, ref.String())
	}
	config, found := a.find(img.Config)
	if !found {
		return nil, fmt.Errorf("/Config: the archive has no file %.200q", img.Config)
	}
	var layers []Descriptor
	for i, name := range img.Layers {
		layer, found := a.find(name)
		if !found {
			return nil, fmt.Errorf("/Layers/%d: the archive has no file %.200q", i, name)
		}
		layers = append(layers, layer)
	}
	return st.addMade(ctx, config, layers, st.others(names)...)
}
