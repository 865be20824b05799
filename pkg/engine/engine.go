// Package engine is what people do with containers every day: run an image,
// by name, with a terminal, and take it away again. It puts the halves
// together: package image and spec write a bundle, package container runs it.
package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/image"
	"github.com/minictr/minictr/rootfs"
)

// Default directories of root's engine.
const (
	DefaultRoot = "/var/lib/minictr" // images, and the files of containers
	DefaultRun  = "/run/minictr"     // state of containers; a reboot empties it
)

// An Engine keeps images and runs containers of them.
type Engine struct {
	Root    string // of files that stay
	Runtime container.Runtime
	Pull    image.PullOptions
	// Messages takes notices for people: what is pulled, what was repaired.
	Messages io.Writer
}

// Images opens the store of images.
func (e *Engine) Images() (*image.Store, error) { return image.Open(e.Root) }

// Sweep takes away what killed containers have left, and says so. It also
// removes bundles without a state: a power cut empties the one directory, and
// not the other.
func (e *Engine) Sweep() error {
	bundles, err := os.ReadDir(filepath.Join(e.Root, "containers"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	swept, err := e.Runtime.Sweep()
	for _, s := range swept {
		fmt.Fprintf(e.Messages, "minictr: removed what was left of container %s, whose runtime was killed\n", s.ID)
	}
	for _, b := range bundles {
		if !e.Runtime.Has(b.Name()) {
			err = errors.Join(err, os.RemoveAll(e.bundle(b.Name())))
		}
	}
	return err
}

// RemoveImage removes a name, and the image if that was its last, unless a
// container needs it.
func (e *Engine) RemoveImage(name string) error {
	if name == rootfs.Short {
		name = rootfs.Name
	}
	store, err := e.Images()
	if err != nil {
		return err
	}
	img, err := store.Get(name)
	if err != nil {
		return err
	}
	containers, err := e.Runtime.List()
	if err != nil {
		return err
	}
	for _, c := range containers {
		if c.ImageID == img.ID.String() {
			return fmt.Errorf("image %s is the root of container %s: minictr rm -f %[2]s", name, c.ID)
		}
	}
	return store.Remove(name)
}

// bundle is the directory of a container's files.
func (e *Engine) bundle(id string) string { return filepath.Join(e.Root, "containers", id) }

// Image finds an image by name: the built-in one, which is made anew when this
// program is another than the one that it holds; one of the store; or, if pull
// says so, one of a registry.
func (e *Engine) Image(ctx context.Context, name string, pull bool) (*image.Image, error) {
	store, err := e.Images()
	if err != nil {
		return nil, err
	}
	if name == rootfs.Short || name == rootfs.Name {
		return builtin(ctx, store)
	}
	img, err := store.Get(name)
	var missing *image.NotFoundError
	if !pull || !errors.As(err, &missing) {
		return img, err
	}
	ref, err := image.ParseReference(name)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(e.Messages, "minictr: image %s is not here: pulling %s\n", name, ref)
	return store.Pull(ctx, ref, e.Pull)
}

func builtin(ctx context.Context, store *image.Store) (*image.Image, error) {
	id, err := rootfs.ID()
	if err != nil {
		return nil, err
	}
	img, err := store.Get(rootfs.Name)
	var missing *image.NotFoundError
	switch {
	case err == nil && img.Config.Config.Labels[rootfs.LabelID] == id:
		return img, nil
	case err != nil && !errors.As(err, &missing):
		return nil, err
	}
	var layout bytes.Buffer
	if err := rootfs.Write(&layout); err != nil {
		return nil, err
	}
	images, err := store.LoadStream(ctx, &layout, image.Options{})
	if err != nil {
		return nil, err
	}
	return images[0], nil
}
