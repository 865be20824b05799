package engine

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/image"
	"github.com/minictr/minictr/pkg/spec"
	"github.com/minictr/minictr/pkg/volume"
)

// Volumes are the engine's volumes.
func (e *Engine) Volumes() *volume.Store {
	return &volume.Store{Root: filepath.Join(e.Root, "volumes")}
}

// VolumeUsers are the containers that use each volume, by their mounts: those
// of the record are what was asked for, and may have changed since.
func (e *Engine) VolumeUsers() (map[string][]string, error) {
	list, err := e.Containers()
	if err != nil {
		return nil, err
	}
	used := make(map[string][]string)
	for _, c := range list {
		names, err := c.volumes()
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			used[name] = append(used[name], c.Title())
		}
	}
	return used, nil
}

// volumes are the names of those that a container's mounts show.
func (c *Container) volumes() (names []string, err error) {
	config, err := spec.Load(c.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it is just being removed, or its bundle is gone
	}
	if err != nil {
		return nil, err
	}
	return slices.Collect(maps.Values(namesOf(c.engine.Volumes(), config))), nil
}

// namesOf are the names of the volumes that mounts show, by their places.
func namesOf(store *volume.Store, config *specs.Spec) map[string]string {
	names := map[string]string{}
	top, err := filepath.Abs(store.Root)
	for _, m := range config.Mounts {
		if rest, ok := strings.CutPrefix(m.Source, top+"/"); ok && err == nil {
			name, _, _ := strings.Cut(rest, "/")
			names[path.Clean(m.Destination)] = name
		}
	}
	return names
}

// removeAnonymous removes the volumes that were made for a container alone,
// which has just been removed. What others use by now stays.
func (e *Engine) removeAnonymous(names []string) (failed error) {
	store := e.Volumes()
	for _, name := range names {
		v, err := store.Get(name)
		if err == nil && v.Anonymous {
			err = store.Remove(name, e.VolumeUsers)
		}
		if err != nil && !errors.Is(err, volume.ErrInUse) && !errors.Is(err, volume.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// removeVolumesOf removes the anonymous volumes of a container of the foreground
// that was killed with its runtime.
func (e *Engine) removeVolumesOf(id string) error {
	list, err := e.Volumes().List()
	var names []string
	for _, v := range list {
		if v.Of == id {
			names = append(names, v.Name)
		}
	}
	return errors.Join(err, e.removeAnonymous(names))
}

// A volumeSet are the volumes that a new container is to have.
type volumeSet struct {
	*volume.Store
	anonymous []string
	of        string // the ID of the container, if it is in the foreground
}

// volumesFor has a container's options name volumes of this engine. None is made
// until hold.
func (e *Engine) volumesFor(o *Options, id string) *volumeSet {
	v := &volumeSet{Store: e.Volumes(), of: id}
	o.Volume = v.source
	return v
}

// source is Sources.Volume.
func (v *volumeSet) source(name string) (string, error) {
	if name == "" {
		name = volume.NewName()
		v.anonymous = append(v.anonymous, name)
	}
	if err := volume.ValidateName(name); err != nil {
		return "", err
	}
	return filepath.Abs(v.Path(name))
}

// hold makes the volumes that a container's mounts show, and fills the empty
// ones with what the image has there. They stay until unlock: by then the
// container is known to use them.
func (v *volumeSet) hold(ctx context.Context, img *image.Image, s *specs.Spec, o Options) (unlock func() error, err error) {
	names := namesOf(v.Store, s)
	if len(names) == 0 {
		return func() error { return nil }, nil
	}
	layers, err := img.LayerDirs()
	if err != nil {
		return nil, err
	}
	if unlock, err = v.Lock(); err != nil {
		return nil, err
	}
	for dest, name := range names {
		made := volume.Volume{Name: name}
		if slices.Contains(v.anonymous, name) {
			made.Anonymous, made.Of = true, v.of
		}
		_, err := v.CreateLocked(made)
		if err == nil && !o.copiesNothing(dest) {
			err = v.Fill(ctx, name, layers, dest)
		}
		if err != nil {
			return nil, errors.Join(err, unlock())
		}
	}
	return unlock, nil
}

// copiesNothing says whether a volume at a place is to begin empty.
func (o Options) copiesNothing(dest string) bool {
	for _, text := range o.Volumes {
		parts := strings.Split(text, ":")
		if len(parts) == 3 && path.Clean(parts[1]) == dest && slices.Contains(strings.Split(parts[2], ","), "nocopy") {
			return true
		}
	}
	for _, text := range o.Mounts {
		f, err := fieldsOf(text, mountKeys()...)
		nocopy, e := truth(f, "volume-nocopy")
		if err == nil && e == nil && nocopy && path.Clean(f["target"]) == dest {
			return true
		}
	}
	return false
}
