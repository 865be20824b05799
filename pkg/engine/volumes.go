package engine

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

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
	top, err := filepath.Abs(c.engine.Volumes().Root)
	for _, m := range config.Mounts {
		if rest, ok := strings.CutPrefix(m.Source, top+"/"); ok {
			name, _, _ := strings.Cut(rest, "/")
			names = append(names, name)
		}
	}
	return names, err
}

// RemoveAnonymous removes the volumes that were made for a container alone,
// which has just been removed. What others use by now stays.
func (e *Engine) RemoveAnonymous(names []string) (failed error) {
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

// FillVolume copies into an empty volume what an image has at a path.
func (e *Engine) FillVolume(ctx context.Context, name string, img *image.Image, path string) error {
	layers, err := img.LayerDirs()
	if err != nil {
		return err
	}
	return e.Volumes().Fill(ctx, name, layers, path)
}
