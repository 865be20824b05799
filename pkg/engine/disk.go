package engine

import (
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/minictr/minictr/pkg/image"
	"github.com/minictr/minictr/pkg/sys"
)

// A Disk is what all things of a kind take of the disk.
type Disk struct {
	Type          string
	Total, Active int   // how many there are, and how many are in use
	Size, Free    int64 // bytes, and how many of them a prune of all would free
}

func (d *Disk) add(size int64, active bool) {
	d.Total, d.Size = d.Total+1, d.Size+size
	if active {
		d.Active++
	} else {
		d.Free += size
	}
}

// DiskUsage is what images, containers and volumes take. What can't be read is
// told of in the error, and no obstacle for the others.
func (e *Engine) DiskUsage() ([]Disk, error) {
	images, containers, volumes := Disk{Type: "Images"}, Disk{Type: "Containers"}, Disk{Type: "Local Volumes"}
	all, err := e.Containers()
	used := map[string]bool{} // images
	for _, c := range all {
		used[c.ImageID] = true
		size, e1 := sys.TreeSize(filepath.Join(c.dir, "upper"))
		s, e2 := c.Status()
		if errors.Is(e2, fs.ErrNotExist) { // it is being removed
			continue
		}
		containers.add(size, s.Phase == Running || s.Phase == Restarting)
		err = errors.Join(err, e1, e2)
	}
	store, e1 := e.Images()
	if e1 != nil {
		return nil, errors.Join(err, e1)
	}
	list, e1 := store.List()
	active := map[image.Digest]bool{} // layers, and whether a container needs them
	sizes := map[image.Digest]int64{}
	for _, img := range list {
		images.add(0, used[img.ID.String()])
		for i, d := range img.Config.RootFS.DiffIDs {
			sizes[d], active[d] = img.Layers[i].Size, active[d] || used[img.ID.String()]
		}
	}
	for d, size := range sizes {
		if images.Size += size; !active[d] {
			images.Free += size
		}
	}
	users, e2 := e.VolumeUsers()
	found, e3 := e.Volumes().List()
	err = errors.Join(err, e1, e2, e3)
	for _, v := range found {
		size, failed := sys.TreeSize(e.Volumes().Path(v.Name))
		volumes.add(size, len(users[v.Name]) > 0)
		err = errors.Join(err, failed)
	}
	return []Disk{images, containers, volumes}, err
}
