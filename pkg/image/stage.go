package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

// stage is the private directory of one operation, laid out as the store is.
// What has come into it whole moves into the store by commit.
type stage struct {
	store    *Store
	dir      string
	opts     Options
	limits   Limits
	budget   *budget // of the image at hand
	contents contents
	mu       sync.Mutex // of Options.Progress
}

func newStage(s *Store, opts Options) (*stage, error) {
	limits, err := s.limits()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(s.path("tmp"), "stage-")
	if err != nil {
		return nil, fmt.Errorf("stage: %w", err)
	}
	st := &stage{store: s, dir: dir, opts: opts, limits: limits, budget: newBudget(limits)}
	for _, sub := range []string{"blobs", "layers", "images"} {
		if err := os.Mkdir(st.path(sub), 0o700); err != nil {
			return nil, errors.Join(fmt.Errorf("stage: %w", err), sys.RemoveAll(dir))
		}
	}
	return st, nil
}

func (st *stage) path(elem ...string) string {
	return filepath.Join(append([]string{st.dir}, elem...)...)
}

// have returns the path of the blob, if the stage or the store has it, whole
// as far as its size tells.
func (st *stage) have(d Descriptor) (path string, found bool) {
	path = st.path("blobs", d.Digest.Hex())
	if exists(path) {
		return path, true
	}
	path = st.store.blobPath(d.Digest)
	info, err := os.Lstat(path)
	return path, err == nil && info.Size() == d.Size
}

// fetch brings the blob into the stage, unless it is in the store, and passes
// its bytes on to use as they come. use must read to io.EOF: then they are
// verified. The blob has its name only when they are. One that is damaged in
// the store is brought anew.
func (st *stage) fetch(ctx context.Context, src Source, d Descriptor, use func(*pipeline, io.Reader) error) error {
	p := newPipeline(ctx)
	defer p.end()
	path, found := st.have(d)
	if found && path == st.store.blobPath(d.Digest) {
		found = useFile(ctx, path, d, drain) == nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if found {
		return useFile(ctx, path, d, func(r io.Reader) error { return use(p, r) })
	}
	from, err := src.Open(p.ctx, d)
	if err != nil {
		return fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	defer from.Close()
	defer p.end() // from is read no more when it is closed
	f, err := os.CreateTemp(st.dir, "blob-")
	if err != nil {
		return fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	err = use(p, p.ahead(io.TeeReader(newVerifier(from, d), f), func() {}))
	p.end()
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), st.path("blobs", d.Digest.Hex()))
}

func useFile(ctx context.Context, path string, d Descriptor, use func(io.Reader) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	defer f.Close()
	return use(newVerifier(interruptible{ctx, f}, d))
}

// document fetches a manifest, an index or a configuration and returns it.
func (st *stage) document(ctx context.Context, src Source, d Descriptor) (text []byte, err error) {
	if d.Size > st.limits.Document {
		return nil, &LimitError{What: "bytes in blob " + d.Digest.String(), Limit: st.limits.Document}
	}
	err = st.fetch(ctx, src, d, func(_ *pipeline, r io.Reader) error {
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
	manifest  Descriptor
	parts     *manifest
	config    *Config
	names     []string
	index     Descriptor   // that led to it; without a digest if none did
	referrers Descriptor   // a list of them; without a digest if there are none
	others    []Descriptor // blobs that belong to them
}

// add fetches and unpacks all that belongs to the image of the manifest d.
func (st *stage) add(ctx context.Context, src Source, d Descriptor, names ...string) (*addition, error) {
	for _, name := range names {
		if err := checkName(name); err != nil && !st.opts.BuiltIn {
			return nil, err
		}
	}
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
	d.MediaType = m.MediaType
	if err := st.checkSizes(m); err != nil {
		return nil, err
	}
	if text, err = st.document(ctx, src, m.Config); err != nil {
		return nil, err
	}
	config, err := parseConfig(text, len(m.Layers))
	if err != nil {
		return nil, err
	}
	if err := st.opts.accept(config.Platform); err != nil {
		return nil, err
	}
	if err := st.addLayers(ctx, src, m.Layers, config.RootFS.DiffIDs); err != nil {
		return nil, err
	}
	return &addition{manifest: d, parts: m, config: config, names: names}, st.linkLayers(m.Config.Digest, config)
}

// checkName refuses the names of images that only this program makes.
func checkName(name string) error {
	if strings.HasPrefix(name, LocalHost+"/") {
		return fmt.Errorf("name %s: %s is kept for images that are built in", name, LocalHost)
	}
	return nil
}

// others are the names but for those that only this program gives.
func (st *stage) others(names []string) []string {
	if st.opts.BuiltIn {
		return names
	}
	return slices.DeleteFunc(names, func(name string) bool { return checkName(name) != nil })
}

// checkSizes refuses what is too much before any of it is brought, and begins
// the budget of what it may become.
func (st *stage) checkSizes(m *manifest) error {
	if int64(len(m.Layers)) > st.limits.Layers {
		return &LimitError{What: "layers", Limit: st.limits.Layers}
	}
	packed := newBudget(st.limits)
	for _, layer := range m.Layers {
		if err := packed.bytes.take(layer.Size); err != nil {
			return err
		}
	}
	st.budget = newBudget(st.limits)
	return nil
}

// parallelLayers is how many layers are fetched and unpacked at once.
const parallelLayers = 3

// addLayers adds the layers at once, but for those that have their blob or
// their files in common with one before.
func (st *stage) addLayers(ctx context.Context, src Source, blobs []Descriptor, diffIDs []Digest) error {
	add := func(ctx context.Context, i int) error {
		if err := st.addLayer(ctx, src, blobs[i], diffIDs[i]); err != nil {
			return fmt.Errorf("layer %d of %d: %w", i+1, len(blobs), err)
		}
		return nil
	}
	seen := map[Digest]bool{}
	var later []int
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(parallelLayers)
	for i, blob := range blobs {
		if seen[blob.Digest] || seen[diffIDs[i]] {
			later = append(later, i)
			continue
		}
		seen[blob.Digest], seen[diffIDs[i]] = true, true
		group.Go(func() error { return add(groupCtx, i) })
	}
	err := group.Wait()
	for _, i := range later {
		if err == nil {
			err = add(ctx, i)
		}
	}
	return err
}

// addLayer fetches a layer's blob and unpacks it, each unless it is there. That
// the files which are there come from this blob must be known: else it is read
// to see, for it will be passed on as theirs.
func (st *stage) addLayer(ctx context.Context, src Source, blob Descriptor, diffID Digest) error {
	unpacked := exists(st.path("layers", diffID.Hex())) || exists(st.store.layerPath(diffID))
	if _, found := st.have(blob); found && unpacked && st.contents.known(st.store, blob.Digest, diffID) {
		st.progress(Progress{Layer: blob.Digest, Done: blob.Size, Total: blob.Size})
		return nil
	}
	err := st.fetch(ctx, src, blob, func(p *pipeline, r io.Reader) error {
		r = &progressReader{r: r, st: st, p: Progress{Layer: blob.Digest, Total: blob.Size}}
		if unpacked {
			return st.verifyLayer(p, r, diffID)
		}
		return st.unpackLayer(p, r, diffID, st.path("layers", diffID.Hex()))
	})
	if err == nil {
		st.contents.add(blob.Digest, diffID)
		st.progress(Progress{Layer: blob.Digest, Done: blob.Size, Total: blob.Size})
	}
	return err
}

// contents are layers' blobs, and what was found in them: those of the images in
// the store, and those of this stage.
type contents struct {
	read sync.Once // the store's
	seen sync.Map
}

func (c *contents) known(s *Store, blob, diffID Digest) bool {
	c.read.Do(func() {
		images, _ := s.list() // of those that are damaged nothing is known
		for _, img := range images {
			for i, layer := range img.Layers {
				c.add(layer.Digest, img.Config.RootFS.DiffIDs[i])
			}
		}
	})
	_, found := c.seen.Load([2]Digest{blob, diffID})
	return found
}

func (c *contents) add(blob, diffID Digest) { c.seen.Store([2]Digest{blob, diffID}, true) }

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
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
			d := a.manifest
			d.Annotations = map[string]string{annotationIndex: a.index.Digest.String(), annotationReferrers: a.referrers.Digest.String()}
			for _, name := range a.names {
				x.put(d, name)
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
	err = sys.Call("syncfs", func() error { return unix.Syncfs(int(f.Fd())) })
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// place moves the image's parts to their places in the store.
func (st *stage) place(a *addition) error {
	s := st.store
	for _, d := range slices.Concat([]Descriptor{a.manifest, a.parts.Config, a.index, a.referrers}, a.parts.Layers, a.others) {
		if d.Digest.IsZero() {
			continue
		}
		if err := moveBlob(st.path("blobs", d.Digest.Hex()), s.blobPath(d.Digest)); err != nil {
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

// moveBlob moves a blob to its place, and over the one that is there: it is the
// same, or damaged. If neither is there, that is an error.
func moveBlob(from, to string) error {
	err := os.Rename(from, to)
	if errors.Is(err, fs.ErrNotExist) && exists(to) {
		return nil
	}
	return err
}

// moveNew moves from to to, unless to is there already: then another operation
// was first with the same content. If neither is there, that is an error.
func moveNew(from, to string) error {
	err := sys.Call("renameat2", func() error {
		return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	})
	if err == nil || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) && exists(to) {
		return nil
	}
	return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
}
