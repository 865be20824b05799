package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/overlay"
)

// A LayerChange is what one layer does to what lies below it.
type LayerChange struct {
	Blob     Descriptor
	Command  string // that made it, if the history tells
	Unpacked int64  // bytes of its files
	Adds     int    // entries
	Replaces int    // entries of lower layers that it has another of
	Removes  int    // entries of lower layers, with all that was in them
	// Hides is how many bytes of lower layers' files can't be seen any more:
	// they were replaced or removed. They stay in the image.
	Hides int64
}

// Changes tells what each layer does, from the lowest.
func (i *Image) Changes() (changes []LayerChange, err error) {
	defer annotate(&err, i.ID.Short())
	unlock, err := i.Hold(i.ID.Short())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	var commands []string
	for _, h := range i.Config.History {
		if !h.EmptyLayer {
			commands = append(commands, h.CreatedBy+" "+h.Comment)
		}
	}
	root := &node{children: map[string]*node{}}
	for n, blob := range i.Layers {
		l := &layerWalk{LayerChange: LayerChange{Blob: blob}, seen: map[inode]bool{}}
		if len(commands) == len(i.Layers) { // else it can't be known which is whose
			l.Command = strings.TrimSpace(commands[n])
		}
		if err := l.merge(filepath.Join(i.store.layerPath(i.Config.RootFS.DiffIDs[n]), layerTree), root); err != nil {
			return nil, fmt.Errorf("layer %d of %d: %w", n+1, len(i.Layers), err)
		}
		changes = append(changes, l.LayerChange)
	}
	return changes, nil
}

// node is a name in the image, as the layers so far show it.
type node struct {
	size     int64
	children map[string]*node // nil unless it is a directory
}

// layerWalk puts one layer on top of what is there.
type layerWalk struct {
	LayerChange
	seen map[inode]bool // files with several names: their bytes are the first one's
}

func (l *layerWalk) directory(path string, dir *node) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := l.entry(filepath.Join(path, e.Name()), e.Name(), dir); err != nil {
			return err
		}
	}
	return nil
}

func (l *layerWalk) entry(path, base string, dir *node) error {
	stat, err := statOf(path)
	if err != nil {
		return err
	}
	old := dir.children[base]
	if overlay.IsWhiteout(&stat) {
		l.remove(old)
		delete(dir.children, base)
		return nil
	}
	this := new(node)
	if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		if old != nil && old.children != nil {
			return l.merge(path, old)
		}
		this.children = map[string]*node{}
	}
	if id := (inode{stat.Dev, stat.Ino}); stat.Mode&unix.S_IFMT == unix.S_IFREG && !l.seen[id] {
		l.seen[id] = stat.Nlink > 1
		this.size = stat.Size
		l.Unpacked += stat.Size
	}
	if old == nil {
		l.Adds++
	} else {
		l.Replaces++
		l.Removes-- // it is no removal of itself
		l.remove(old)
	}
	dir.children[base] = this
	if this.children == nil {
		return nil
	}
	return l.directory(path, this)
}

// merge goes into a directory that a lower layer has, too, as the root is. That
// it is listed again, as every directory above a change is, changes nothing.
func (l *layerWalk) merge(path string, old *node) error {
	if overlay.IsOpaque(path) {
		for name, child := range old.children {
			l.remove(child)
			delete(old.children, name)
		}
	}
	return l.directory(path, old)
}

// remove counts a name that goes, and all that is in it.
func (l *layerWalk) remove(n *node) {
	if n == nil {
		return
	}
	l.Removes++
	l.Hides += n.size
	for _, child := range n.children {
		l.remove(child)
	}
}
