package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// stage is the private directory of one operation, laid out as the store is.
// What has come into it whole moves into the store by commit.
type stage struct {
	store *Store
	dir   string
}

func newStage(s *Store) (*stage, error) {
	dir, err := os.MkdirTemp(s.path("tmp"), "stage-")
	if err != nil {
		return nil, fmt.Errorf("stage: %w", err)
	}
	st := &stage{store: s, dir: dir}
	for _, sub := range []string{"blobs", "layers", "images"} {
		if err := os.Mkdir(st.path(sub), 0o700); err != nil {
			return nil, errors.Join(fmt.Errorf("stage: %w", err), st.remove())
		}
	}
	return st, nil
}

func (st *stage) remove() error {
	if err := os.RemoveAll(st.dir); err != nil {
		return fmt.Errorf("stage: %w", err)
	}
	return nil
}

func (st *stage) path(elem ...string) string {
	return filepath.Join(append([]string{st.dir}, elem...)...)
}

// have returns the path of the blob, if the stage or the store has it whole.
func (st *stage) have(d Descriptor) (path string, found bool) {
	path = st.path("blobs", d.Digest.Hex())
	if exists(path) {
		return path, true
	}
	// One of another size was damaged, and is brought anew.
	path = st.store.blobPath(d.Digest)
	info, err := os.Lstat(path)
	return path, err == nil && info.Size() == d.Size
}

// fetch brings the blob into the stage, unless it is in the store, and passes
// its bytes on to use as they come. use must read to io.EOF: then they are
// verified. The blob has its name only when they are.
func (st *stage) fetch(ctx context.Context, src Source, d Descriptor, use func(io.Reader) error) error {
	if path, found := st.have(d); found {
		return useFile(path, d, use)
	}
	from, err := src.Open(ctx, d)
	if err != nil {
		return fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	defer from.Close()
	f, err := os.CreateTemp(st.dir, "blob-")
	if err != nil {
		return fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	err = use(io.TeeReader(newVerifier(from, d), f))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), st.path("blobs", d.Digest.Hex()))
}

func useFile(path string, d Descriptor, use func(io.Reader) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	defer f.Close()
	return use(newVerifier(f, d))
}

// document fetches a manifest, an index or a configuration and returns it.
func (st *stage) document(ctx context.Context, src Source, d Descriptor) (text []byte, err error) {
	if d.Size > MaxDocument {
		return nil, &LimitError{What: "bytes in blob " + d.Digest.String(), Limit: MaxDocument}
	}
	err = st.fetch(ctx, src, d, func(r io.Reader) error {
		text, err = io.ReadAll(r)
		return err
	})
	return text, err
}

// putDocument puts a document that we have made into the stage.
func (st *stage) putDocument(mediaType string, text []byte) (Descriptor, error) {
	d := Descriptor{MediaType: mediaType, Digest: digestBytes(text), Size: int64(len(text))}
	if err := os.WriteFile(st.path("blobs", d.Digest.Hex()), text, 0o600); err != nil {
		return Descriptor{}, fmt.Errorf("blob: %w", err)
	}
	return d, nil
}

// addition is an image that an operation adds, whole in stage or store.
type addition struct {
	manifest Descriptor
	parts    *manifest
	config   *Config
	names    []string
	index    Descriptor // that led to it; without a digest if none did
}

// add fetches and unpacks all that belongs to the image of the manifest d.
func (st *stage) add(ctx context.Context, src Source, d Descriptor, opts Options, names ...string) (*addition, error) {
	text, err := st.document(ctx, src, d)
	if err != nil {
		return nil, err
	}
	m, _, err := parseManifest(text, d.MediaType)
	if err != nil {
		return nil, err
	}
	if m == nil {
		return nil, fmt.Errorf("manifest %s is an index", d.Digest)
	}
	if text, err = st.document(ctx, src, m.Config); err != nil {
		return nil, err
	}
	config, err := parseConfig(text, len(m.Layers))
	if err != nil {
		return nil, err
	}
	if err := opts.accept(config.Platform); err != nil {
		return nil, err
	}
	for i, layer := range m.Layers {
		if err := st.addLayer(ctx, src, layer, config.RootFS.DiffIDs[i], opts); err != nil {
			return nil, fmt.Errorf("layer %d of %d: %w", i+1, len(m.Layers), err)
		}
	}
	return &addition{manifest: d, parts: m, config: config, names: names}, st.linkLayers(m.Config.Digest, config)
}

// addLayer fetches a layer's blob and unpacks it, each unless it is there.
func (st *stage) addLayer(ctx context.Context, src Source, blob Descriptor, diffID Digest, opts Options) error {
	unpacked := exists(st.path("layers", diffID.Hex())) || exists(st.store.layerPath(diffID))
	if _, found := st.have(blob); found && unpacked {
		opts.progress(Progress{Layer: blob.Digest, Done: blob.Size, Total: blob.Size})
		return nil
	}
	return st.fetch(ctx, src, blob, func(r io.Reader) error {
		r = &progressReader{r: r, opts: opts, p: Progress{Layer: blob.Digest, Total: blob.Size}}
		if unpacked {
			return drain(r)
		}
		return unpackLayer(ctx, r, diffID, st.path("layers", diffID.Hex()))
	})
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// linkLayers makes the links that Image.Lower tells of. An image without
// layers gets an empty directory in their place, as overlayfs needs one.
func (st *stage) linkLayers(id Digest, config *Config) error {
	dir := st.path("images", id.Hex(), "l")
	if exists(dir) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	stack := stackOf(config.RootFS.DiffIDs)
	if len(stack) == 0 {
		return os.Mkdir(filepath.Join(dir, "0"), 0o755)
	}
	for i, layer := range stack {
		if err := os.Symlink("../../../layers/"+layer.Hex(), filepath.Join(dir, strconv.Itoa(i))); err != nil {
			return err
		}
	}
	return nil
}

// commit makes the additions part of the store and returns their images. The
// order is what a power cut can't break: everything reaches the disk, gets its
// place, the places reach the disk, and last the index tells of them.
// syncfs(2) stands for an fsync(2) of each blob and each file of each layer.
func (st *stage) commit(additions []*addition) ([]*Image, error) {
	if err := st.sync(); err != nil {
		return nil, err
	}
	for _, a := range additions {
		if err := st.place(a); err != nil {
			return nil, fmt.Errorf("commit: %w", err)
		}
	}
	for _, dir := range []string{"blobs/sha256", "layers", "images"} {
		if err := syncDir(st.store.path(dir)); err != nil {
			return nil, fmt.Errorf("commit: %w", err)
		}
	}
	var images []*Image
	err := st.store.editIndex(func(x *index) error {
		for _, a := range additions {
			x.put(a.manifest, "")
			for _, name := range a.names {
				x.put(a.manifest.from(a.index.Digest), name)
			}
		}
		for _, a := range additions {
			img, err := st.store.image(a.manifest, x)
			if err != nil {
				return err
			}
			images = append(images, img)
		}
		return nil
	})
	return images, err
}

func (st *stage) sync() error {
	f, err := os.Open(st.dir)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	err = os.NewSyscallError("syncfs", unix.Syncfs(int(f.Fd())))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// place moves the image's parts to their places in the store.
func (st *stage) place(a *addition) error {
	s := st.store
	blobs := append([]Descriptor{a.manifest, a.parts.Config}, a.parts.Layers...)
	if !a.index.Digest.IsZero() {
		blobs = append(blobs, a.index)
	}
	for _, d := range blobs {
		if err := moveNew(st.path("blobs", d.Digest.Hex()), s.blobPath(d.Digest)); err != nil {
			return err
		}
	}
	for _, d := range a.config.RootFS.DiffIDs {
		if err := moveNew(st.path("layers", d.Hex()), s.layerPath(d)); err != nil {
			return err
		}
	}
	id := a.parts.Config.Digest
	return moveNew(st.path("images", id.Hex()), s.imagePath(id))
}

// moveNew moves from to to, unless to is there already: then another operation
// was first with the same content. If neither is there, that is an error.
func moveNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if err == nil || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) && exists(to) {
		return nil
	}
	return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
}
