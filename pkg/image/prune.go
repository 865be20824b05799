package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Prune removes the images that are not to be kept. It returns them, and how
// many bytes of the disk became free. The caller sees to it that no container
// uses them.
func (s *Store) Prune(keep func(*Image) bool) (removed []*Image, freed int64, err error) {
	defer annotate(&err, "prune")
	used := map[string]int64{} // bytes of the disk, by path
	err = s.edit(func(x *index) error {
		images, err := s.list()
		if err != nil {
			return err
		}
		for _, img := range images {
			if keep(img) {
				continue
			}
			removed = append(removed, img)
			x.drop(func(d Descriptor) bool { return d.Digest == img.Manifest.Digest })
			for i, layer := range img.Layers {
				for _, path := range []string{s.blobPath(layer.Digest), s.layerPath(img.Config.RootFS.DiffIDs[i])} {
					if used[path], err = diskUsage(path); err != nil {
						return err
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	for path, n := range used {
		if !exists(path) {
			freed += n
		}
	}
	return removed, freed, nil
}

// diskUsage counts the blocks of a file or a tree, those of a file with several
// names once.
func diskUsage(top string) (n int64, err error) {
	seen := map[inode]bool{}
	err = filepath.WalkDir(top, func(path string, _ fs.DirEntry, err error) error {
		var stat unix.Stat_t
		if err == nil {
			err = os.NewSyscallError("lstat", unix.Lstat(path, &stat))
		}
		if errors.Is(err, unix.ENAMETOOLONG) {
			return nil // a layer's paths are long by themselves
		}
		if id := (inode{stat.Dev, stat.Ino}); err == nil && !seen[id] {
			seen[id] = stat.Nlink > 1
			n += stat.Blocks * 512
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil // it is damaged
	}
	return n, err
}
