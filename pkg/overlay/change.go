package overlay

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A Change is what the top directory of a stack makes of one name.
type Change struct {
	Kind byte   // 'A': it adds it, 'C': it has another, 'D': it hides it
	Path string // from the root, "/etc/passwd"
}

// Changes lists what the upper directory changes of the lower ones, the top one
// first, in the order of paths. Of what is hidden the top is listed alone, and a
// directory that lies above a change is changed. Others may write to the upper
// directory meanwhile: no link in it is followed.
func Changes(upper string, lower []string) ([]Change, error) {
	dir, err := os.Open(upper)
	if err != nil {
		return nil, err
	}
	list, err := changes("/", dir, lower, false)
	slices.SortFunc(list, func(a, b Change) int { return cmp.Compare(a.Path, b.Path) })
	return list, errors.Join(err, dir.Close())
}

// changes lists the changes in one directory, and below. Alone says that nothing
// of the lower directories is seen there.
func changes(name string, upper *os.File, lower []string, alone bool) (list []Change, err error) {
	names, err := upper.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if alone = alone || isOpaque(upper); alone {
		for _, hidden := range namesIn(lower) {
			if !slices.Contains(names, hidden) && below(lower, hidden) != nil {
				list = append(list, Change{'D', filepath.Join(name, hidden)})
			}
		}
	}
	for _, base := range names {
		more, err := change(filepath.Join(name, base), upper, base, lower, alone)
		if err != nil && !errors.Is(err, unix.ENOENT) { // else it has just been removed
			return nil, err
		}
		list = append(list, more...)
	}
	return list, nil
}

func isOpaque(dir *os.File) bool {
	var value [1]byte
	n, err := unix.Fgetxattr(int(dir.Fd()), OpaqueXattr(), value[:])
	return err == nil && n == 1 && value[0] == 'y'
}

// namesIn are the names that any of the directories has.
func namesIn(dirs []string) (names []string) {
	for _, dir := range dirs {
		entries, _ := os.ReadDir(dir) // it lies in a layer, which nobody changes
		for _, e := range entries {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// below is the status of what the directories show under a name, or nil.
func below(dirs []string, base string) *unix.Stat_t {
	for _, dir := range dirs {
		var stat unix.Stat_t
		if unix.Lstat(filepath.Join(dir, base), &stat) != nil {
			continue
		}
		if IsWhiteout(&stat) {
			return nil
		}
		return &stat
	}
	return nil
}

// change lists what one name in the upper directory changes.
func change(name string, upper *os.File, base string, lower []string, alone bool) (list []Change, err error) {
	var stat unix.Stat_t
	if err := unix.Fstatat(int(upper.Fd()), base, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, fmt.Errorf("fstatat %s: %w", name, err)
	}
	old := below(lower, base)
	kind := byte('C')
	switch {
	case IsWhiteout(&stat) && old == nil:
		return nil, nil
	case IsWhiteout(&stat):
		return []Change{{'D', name}}, nil
	case old == nil:
		kind = 'A'
	}
	if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		if list, err = inside(name, upper, base, lower, alone); err != nil {
			return nil, err
		}
	}
	if old == nil || len(list) > 0 || differ(&stat, old) {
		list = append(list, Change{kind, name})
	}
	return list, nil
}

// inside lists what is changed in a directory of the upper one.
func inside(name string, upper *os.File, base string, lower []string, alone bool) ([]Change, error) {
	fd, err := unix.Openat(int(upper.Fd()), base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("openat %s: %w", name, err)
	}
	dir := os.NewFile(uintptr(fd), base)
	merged, err := Merge(lower, base)
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	list, err := changes(name, dir, merged, alone)
	return list, errors.Join(err, dir.Close())
}

// differ says whether a file is another than the one below it, as far as its
// status tells. A directory's size and times say nothing about itself.
func differ(a, b *unix.Stat_t) bool {
	if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Rdev != b.Rdev {
		return true
	}
	return a.Mode&unix.S_IFMT != unix.S_IFDIR && (a.Size != b.Size || a.Mtim != b.Mtim)
}

// String is Docker's spelling.
func (c Change) String() string { return string(c.Kind) + " " + strings.ToValidUTF8(c.Path, "?") }
