package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/overlay"
	"github.com/minictr/minictr/pkg/sys"
)

// maxStack is how many lower directories overlayfs takes (fs/overlayfs).
const maxStack = 500

// linkLayers makes the directory that Image.Lower tells of: a link to each
// layer of the image, 0 on top. A layer that the image has twice is there once,
// on the upper of its two places: overlayfs refuses the same directory twice,
// and the lower one would add nothing. What lies below a layer whose root is
// opaque is left out, for overlayfs does not look at the roots of layers. An
// image without layers gets an empty directory in their place.
func (st *stage) linkLayers(id Digest, config *Config) error {
	dir := st.path("images", id.Hex(), "l")
	if exists(dir) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var layers []Digest
	for _, d := range slices.Backward(config.RootFS.DiffIDs) {
		if slices.Contains(layers, d) {
			continue
		}
		if layers = append(layers, d); overlay.IsOpaque(filepath.Join(st.layer(d), layerTree)) {
			break
		}
	}
	if len(layers) == 0 {
		return os.Mkdir(filepath.Join(dir, "0"), 0o755)
	}
	f := fixer{unlisted: map[string]bool{}, top: filepath.Join(dir, "0")}
	for _, d := range layers {
		if err := f.add(st.layer(d)); err != nil {
			return fmt.Errorf("layer %s: %w", d, err)
		}
	}
	f.merged = map[string][]string{".": f.trees}
	first, err := f.fix()
	if err != nil {
		return err
	}
	if first+len(layers) > maxStack {
		return &LimitError{What: "layers, of which one has the attributes of directories that others do not list", Limit: maxStack}
	}
	for i, d := range layers {
		target := "../../../layers/" + d.Hex() + "/" + layerTree
		if err := os.Symlink(target, filepath.Join(dir, strconv.Itoa(first+i))); err != nil {
			return err
		}
	}
	return nil
}

// layer returns the directory of a layer, which the stage or the store has.
func (st *stage) layer(d Digest) string {
	if dir := st.path("layers", d.Hex()); exists(dir) {
		return dir
	}
	return st.store.layerPath(d)
}

// A fixer gives directories the attributes that an archive has for them. A
// layer may have a directory only because there is something in it, without
// listing it: then it has no attributes for it, and must not hide those that a
// lower layer has. But overlayfs shows what the top layer has. So the image gets
// one more layer on top, with those directories alone.
type fixer struct {
	trees    []string            // of the layers, the top one first
	unlisted map[string]bool     // paths of directories that only exist
	merged   map[string][]string // by path in the image, see overlay.Merge
	names    []string            // paths in the image of what may have to be fixed
	top      string              // the layer to be made
}

func (f *fixer) add(layer string) error {
	text, err := os.ReadFile(filepath.Join(layer, layerNote))
	if err != nil {
		return err
	}
	var unlisted []string
	if err := json.Unmarshal(text, &unlisted); err != nil {
		return err
	}
	tree := filepath.Join(layer, layerTree)
	f.trees = append(f.trees, tree)
	for _, name := range unlisted {
		f.unlisted[filepath.Join(tree, name)] = true
	}
	f.names = append(f.names, unlisted...)
	return nil
}

// fix makes the layer, if there is anything to put right, and returns how many
// layers it has made.
func (f *fixer) fix() (int, error) {
	slices.Sort(f.names)
	made := map[string]string{} // by path in the image, of whom it has the attributes
	for _, name := range slices.Compact(f.names) {
		merged, err := f.stack(name)
		if err != nil {
			return 0, err
		}
		from, err := f.listed(name)
		if err != nil {
			return 0, err
		}
		if len(merged) == 0 || from == "" || from == merged[0] {
			continue
		}
		same, err := sameAttributes(from, merged[0])
		if err == nil && !same {
			err = f.make(name, made)
		}
		if err != nil {
			return 0, err
		}
	}
	// What was made in a directory has changed its times.
	for name, from := range made {
		if err := copyTimes(from, filepath.Join(f.top, name)); err != nil {
			return 0, err
		}
	}
	return min(len(made), 1), nil
}

// stack returns the directories that are one directory in the image.
func (f *fixer) stack(name string) (merged []string, err error) {
	if merged, found := f.merged[name]; found {
		return merged, nil
	}
	parents, err := f.stack(path.Dir(name))
	if err == nil {
		merged, err = overlay.Merge(parents, path.Base(name))
	}
	f.merged[name] = merged
	return merged, err
}

// listed returns the directory whose attributes count: the uppermost that a
// layer lists, or "" if none does. One that is opaque without being listed has
// lost what was in it, and not its attributes.
func (f *fixer) listed(name string) (string, error) {
	same := f.trees
	if name != "." {
		parents, err := f.stack(path.Dir(name))
		if err != nil {
			return "", err
		}
		same = nil
		for _, parent := range parents {
			same = append(same, filepath.Join(parent, path.Base(name)))
		}
	}
	for _, dir := range same {
		stat, err := statOf(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return "", err
		case stat.Mode&unix.S_IFMT != unix.S_IFDIR:
			return "", nil // what lies below is gone
		case !f.unlisted[dir]:
			return dir, nil
		}
	}
	return "", nil
}

// make makes a directory and those above it.
func (f *fixer) make(name string, made map[string]string) error {
	if made[name] != "" {
		return nil
	}
	if name != "." {
		if err := f.make(path.Dir(name), made); err != nil {
			return err
		}
	}
	from, err := f.listed(name)
	if err != nil {
		return err
	}
	if from == "" {
		merged, err := f.stack(name)
		if err != nil {
			return err
		}
		from = merged[0]
	}
	made[name] = from
	to := filepath.Join(f.top, name)
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	return copyAttributes(from, to)
}

// sameAttributes tells whether a directory has no other attributes than one
// that is not listed.
func sameAttributes(dir, unlisted string) (bool, error) {
	a, err := statOf(dir)
	if err != nil {
		return false, err
	}
	b, err := statOf(unlisted)
	if err != nil {
		return false, err
	}
	names, err := xattrsOf(dir)
	return len(names) == 0 && a.Mode == b.Mode && a.Uid == b.Uid && a.Gid == b.Gid && a.Mtim == b.Mtim, err
}

func statOf(path string) (stat unix.Stat_t, err error) {
	if err := sys.Call("lstat", func() error { return unix.Lstat(path, &stat) }); err != nil {
		return stat, fmt.Errorf("%s: %w", path, err)
	}
	return stat, nil
}

// xattrsOf returns the names of a file's extended attributes, but for those of
// overlayfs.
func xattrsOf(path string) (names []string, err error) {
	list, err := readXattr("llistxattr", func(buf []byte) (int, error) { return unix.Llistxattr(path, buf) })
	if err != nil && !errors.Is(err, unix.ENOTSUP) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for name := range strings.SplitSeq(string(list), "\x00") {
		if name != "" && !isOverlayXattr(name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// copyAttributes gives a file the owner, the mode and the extended attributes
// of another, but for those that overlayfs has put there. A link has no mode.
func copyAttributes(from, to string) error {
	stat, err := statOf(from)
	if err != nil {
		return err
	}
	if err := os.Lchown(to, int(stat.Uid), int(stat.Gid)); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := sys.Call("chmod", func() error { return unix.Chmod(to, stat.Mode&0o7777) }); err != nil {
			return fmt.Errorf("%s: %w", to, err)
		}
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := dropACLs(to); err != nil {
			return err
		}
	}
	names, err := xattrsOf(from)
	if err != nil {
		return err
	}
	for _, name := range names {
		value, err := readXattr("lgetxattr", func(buf []byte) (int, error) { return unix.Lgetxattr(from, name, buf) })
		if err == nil {
			err = sys.Call("lsetxattr", func() error { return unix.Lsetxattr(to, name, value, 0) })
		}
		if err != nil {
			return fmt.Errorf("%s: copy attribute %q: %w", to, name, err)
		}
	}
	return nil
}

// readXattr calls read with a buffer of the size that read says it wants.
func readXattr(call string, read func([]byte) (int, error)) ([]byte, error) {
	size, err := sys.Number(call, func() (int, error) { return read(nil) })
	if err != nil || size == 0 {
		return nil, err
	}
	buf := make([]byte, size)
	n, err := sys.Number(call, func() (int, error) { return read(buf) })
	return buf[:max(n, 0)], err
}

func copyTimes(from, to string) error {
	stat, err := statOf(from)
	if err != nil {
		return err
	}
	return setTimes(unix.AT_FDCWD, to, stat.Atim, stat.Mtim)
}
