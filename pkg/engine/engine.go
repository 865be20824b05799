// Package engine is what people do with containers every day: run an image,
// by name, with a terminal, and take it away again. It puts the halves
// together: package image and spec write a bundle, package container runs it.
package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"path/filepath"
	"runtime/debug"
	"slices"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/image"
	"github.com/minictr/minictr/pkg/registry"
	"github.com/minictr/minictr/pkg/rootless"
	"github.com/minictr/minictr/rootfs"
)

// Default directories of root's engine.
const (
	DefaultDataRoot = "/var/lib/minictr" // images, and the files of containers
	DefaultRoot     = "/run/minictr"     // state of containers; a reboot empties it
)

// An Engine keeps images and runs containers of them.
type Engine struct {
	Root    string // of files that stay
	Runtime container.Runtime
	// Registries returns who speaks to them, once that is needed.
	Registries func() (*registry.Client, error)
	// Limits, if not nil, returns those of images that come from outside, once
	// that is needed.
	Limits func() (image.Limits, error)
	// Progress returns whom to tell of what a pull brings, and what to call at
	// its end.
	Progress func() (report func(image.Progress), stop func() error)
	// Messages takes notices for people: what is pulled, what was repaired.
	Messages io.Writer

	host *rootless.Network // that plays the host for networks, once it is joined
}

// Images opens the store of images.
func (e *Engine) Images() (*image.Store, error) {
	store, err := image.Open(e.Root)
	if err == nil {
		store.Limits = e.Limits
		store.Warn = func(err error) { fmt.Fprintf(e.Messages, "minictr: warning: %v\n", err) }
	}
	return store, err
}

// FullName is the name by which the store knows the built-in image, if that is
// meant, and else the name itself.
func FullName(name string) string {
	if name == rootfs.Short {
		return rootfs.Name
	}
	return name
}

// RemoveImage removes a name, and the image if that was its last, unless a
// container needs it. It returns the names that are gone, and the image and its
// layers if they are.
func (e *Engine) RemoveImage(name string) (untagged []string, deleted []image.Digest, err error) {
	name = FullName(name)
	store, err := e.Images()
	if err != nil {
		return nil, nil, err
	}
	unlock, err := store.Reserve()
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	img, err := store.Get(name)
	if damaged := (*image.DamagedError)(nil); errors.As(err, &damaged) {
		return nil, nil, store.Remove(name) // no container can be made of it
	}
	if err != nil {
		return nil, nil, err
	}
	containers, err := e.Containers()
	if err != nil {
		return nil, nil, err
	}
	for _, c := range containers {
		if c.ImageID == img.ID.String() {
			return nil, nil, fmt.Errorf("image %s is the root of container %s: minictr rm -f %[2]s", name, c.ID)
		}
	}
	if err := store.Remove(name); err != nil {
		return nil, nil, err
	}
	left, _ := store.List() // a damaged image holds nothing of this one
	untagged, deleted = gone(img, left)
	return untagged, deleted, nil
}

// gone says which names of an image, and what of it, are not among the images
// that are left: the top layer comes first, as Docker has it.
func gone(img *image.Image, left []*image.Image) (names []string, deleted []image.Digest) {
	names, deleted = slices.Clone(img.Names), []image.Digest{img.ID}
	for _, layer := range slices.Backward(img.Config.RootFS.DiffIDs) {
		deleted = append(deleted, layer)
	}
	for _, other := range left {
		if other.ID == img.ID {
			names = slices.DeleteFunc(names, func(name string) bool { return slices.Contains(other.Names, name) })
		}
		deleted = slices.DeleteFunc(deleted, func(d image.Digest) bool {
			return d == other.ID || slices.Contains(other.Config.RootFS.DiffIDs, d)
		})
	}
	return names, deleted
}

// bundle is the directory of a container's files. Its name also tells where
// the container's state is, so that an engine with the same root and another
// directory for states does not take it for abandoned.
func (e *Engine) bundle(id string) string {
	run, err := filepath.Abs(e.Runtime.Root)
	if err != nil {
		run = e.Runtime.Root
	}
	hash := fnv.New32a()
	_, _ = io.WriteString(hash, run) // it can't fail, hash.Hash
	return filepath.Join(e.Root, "containers", fmt.Sprintf("%08x-%s", hash.Sum32(), id))
}

// Image finds an image by name: the built-in one, which is made anew when this
// program is another than the one that it holds; one of the store; or, if pull
// says so, one of a registry.
func (e *Engine) Image(ctx context.Context, name string, pull bool) (*image.Image, error) {
	store, err := e.Images()
	if err != nil {
		return nil, err
	}
	if name == rootfs.Short || name == rootfs.Name {
		return e.builtin(ctx, store)
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
	return e.Pull(ctx, ref, image.Platform{})
}

// pullMemory is for how much memory the collector works harder while layers are
// inflated: not a bound, but what they need is less.
const pullMemory = 24 << 20

// Pull fetches an image from a registry; see image.Options for the platform.
func (e *Engine) Pull(ctx context.Context, ref image.Reference, platform image.Platform) (*image.Image, error) {
	store, err := e.Images()
	if err != nil {
		return nil, err
	}
	registries, err := e.Registries()
	if err != nil {
		return nil, err
	}
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(pullMemory))
	report, stop := e.Progress()
	img, err := registries.Pull(ctx, store, ref, image.Options{Platform: platform, Progress: report})
	return img, errors.Join(err, stop())
}

// builtin makes the built-in image, unless it is there. The one that another
// build of this program has made goes, if no container needs it.
func (e *Engine) builtin(ctx context.Context, store *image.Store) (*image.Image, error) {
	id, err := rootfs.ID()
	if err != nil {
		return nil, err
	}
	old, err := store.Get(rootfs.Name)
	var missing *image.NotFoundError
	switch {
	case err == nil && old.Config.Config.Labels[rootfs.LabelID] == id:
		return old, nil
	case err != nil && !errors.As(err, &missing):
		return nil, err
	}
	var layout bytes.Buffer
	if err := rootfs.Write(&layout); err != nil {
		return nil, err
	}
	images, err := store.LoadStream(ctx, &layout, image.Options{BuiltIn: true})
	if err != nil {
		return nil, err
	}
	if old != nil {
		_, _, _ = e.RemoveImage(old.ID.String()) // it stays while it is in use
	}
	return images[0], nil
}
