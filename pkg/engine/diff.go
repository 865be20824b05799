package engine

import (
	"path"
	"path/filepath"
	"slices"

	overlayfs "github.com/minictr/minictr/pkg/overlay"
)

// Diff lists what a container has changed of its image's files, in the order of
// their paths. The empty files and directories that mounts cover are the
// engine's, and no change.
func (e *Engine) Diff(ref string) ([]overlayfs.Change, error) {
	_, c, base, err := e.rootOf(ref)
	if err != nil {
		return nil, err
	}
	layers, err := base.LayerDirs()
	if err != nil {
		return nil, err
	}
	covered, err := c.covered()
	if err != nil {
		return nil, err
	}
	list, err := overlayfs.Changes(filepath.Join(c.Dir(), "upper"), layers)
	return withoutPlaces(list, covered), err
}

// withoutPlaces drops the places that mounts cover, and directories of which
// nothing else is known but that such a place was made in them.
func withoutPlaces(list []overlayfs.Change, covered []string) []overlayfs.Change {
	above := map[string]bool{}
	list = slices.DeleteFunc(list, func(c overlayfs.Change) bool {
		place := slices.Contains(covered, c.Path)
		above[path.Dir(c.Path)] = above[path.Dir(c.Path)] || place
		return place
	})
	children := map[string]bool{}
	for _, c := range list {
		children[path.Dir(c.Path)] = true
	}
	return slices.DeleteFunc(list, func(c overlayfs.Change) bool { return c.Kind == 'C' && above[c.Path] && !children[c.Path] })
}
