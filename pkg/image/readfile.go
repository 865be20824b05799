package image

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/overlay"
	"github.com/minictr/minictr/pkg/sys"
)

// maxLinks is how many symbolic links a path may lead through, as in the
// kernel (path_resolution(7)).
const maxLinks = 40

// ReadFile returns the content of a regular file of at most 1 MiB, as a
// process would see it in a container of the image: through the layers from
// top to bottom, with whiteouts and opaque directories, and with symbolic
// links that stay in the image. If there is no such file, errors.Is tells
// fs.ErrNotExist of the error.
func (i *Image) ReadFile(name string) (content []byte, err error) {
	w := &walk{}
	defer func() { err = errors.Join(err, w.close()) }()
	layers, err := i.LayerDirs()
	if err == nil {
		content, err = w.readFile(layers, name)
	}
	if err != nil {
		return nil, fmt.Errorf("image: %s: %w", i.ID.Short(), &fs.PathError{Op: "read", Path: name, Err: err})
	}
	return content, nil
}

// walk resolves one path in a stack of layers.
type walk struct {
	dirs  []merged // from the root to where we are
	links int
	open  []int // every descriptor
}

// merged is a directory as overlayfs shows it: the directories of that path
// in the layers, the top one first.
type merged []int

func (w *walk) close() (err error) {
	for _, fd := range w.open {
		err = errors.Join(err, unix.Close(fd))
	}
	return err
}

func (w *walk) readFile(layers []string, name string) ([]byte, error) {
	file, err := w.find(layers, name)
	if err != nil {
		return nil, err
	}
	if file == nil {
		return nil, unix.EISDIR
	}
	return readRegular(file)
}

// directory opens a directory of the layers.
func (w *walk) directory(layers []string, name string) (merged, error) {
	file, err := w.find(layers, name)
	if file != nil {
		return nil, errors.Join(unix.ENOTDIR, file.Close())
	}
	if err != nil {
		return nil, err
	}
	return w.dirs[len(w.dirs)-1], nil
}

// find goes to a file; there is none if it is a directory, where we are then.
func (w *walk) find(layers []string, name string) (*os.File, error) {
	var root merged
	for _, layer := range layers {
		fd, err := w.openDir(unix.AT_FDCWD, layer, 0)
		if err != nil {
			return nil, err
		}
		root = append(root, fd)
	}
	w.dirs = []merged{root}
	todo := strings.Split(name, "/")
	for len(todo) > 0 {
		component := todo[0]
		todo = todo[1:]
		if w.stays(component) {
			continue
		}
		target, file, err := w.enter(component)
		switch {
		case err != nil:
			return nil, err
		case file != nil && len(todo) > 0:
			return nil, errors.Join(unix.ENOTDIR, file.Close())
		case file != nil:
			return file, nil
		case target != "":
			todo = append(strings.Split(target, "/"), todo...)
		}
	}
	return nil, nil
}

// stays takes the components that need no look-up.
func (w *walk) stays(component string) bool {
	if component == ".." && len(w.dirs) > 1 {
		w.dirs = w.dirs[:len(w.dirs)-1]
	}
	return component == "" || component == "." || component == ".."
}

// enter looks component up where we are. It goes into a directory, or returns
// the target of a symbolic link or another file, opened but not looked at.
func (w *walk) enter(component string) (target string, file *os.File, err error) {
	var dir merged
	for _, layer := range w.dirs[len(w.dirs)-1] {
		var stat unix.Stat_t
		err := sys.Call("fstatat", func() error { return unix.Fstatat(layer, component, &stat, unix.AT_SYMLINK_NOFOLLOW) })
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return "", nil, err
		}
		if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
			fd, err := w.openDir(layer, component, unix.O_NOFOLLOW)
			if err != nil {
				return "", nil, err
			}
			dir = append(dir, fd)
			if isOpaque(fd) {
				break
			}
			continue
		}
		if dir != nil || overlay.IsWhiteout(&stat) {
			break
		}
		return w.leaf(layer, component, stat.Mode&unix.S_IFMT)
	}
	if dir == nil {
		return "", nil, unix.ENOENT
	}
	w.dirs = append(w.dirs, dir)
	return "", nil, nil
}

// leaf opens what is no directory.
func (w *walk) leaf(layer int, component string, kind uint32) (target string, file *os.File, err error) {
	switch kind {
	case unix.S_IFLNK:
		if w.links++; w.links > maxLinks {
			return "", nil, unix.ELOOP
		}
		buf := make([]byte, maxLinkText+1)
		n, err := sys.Number("readlinkat", func() (int, error) { return unix.Readlinkat(layer, component, buf) })
		if err != nil {
			return "", nil, err
		}
		if target = string(buf[:n]); strings.HasPrefix(target, "/") {
			w.dirs = w.dirs[:1]
		}
		return target, nil, nil
	case unix.S_IFREG:
		fd, err := sys.Number("openat", func() (int, error) {
			return unix.Openat(layer, component, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		})
		if err != nil {
			return "", nil, err
		}
		return "", os.NewFile(uintptr(fd), component), nil
	}
	return "", nil, errors.New("is not a regular file")
}

func (w *walk) openDir(at int, name string, flags int) (int, error) {
	fd, err := sys.Number("openat", func() (int, error) {
		return unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|flags, 0)
	})
	if err != nil {
		return -1, err
	}
	w.open = append(w.open, fd)
	return fd, nil
}

func isOpaque(dir int) bool {
	var value [1]byte
	n, err := unix.Fgetxattr(dir, overlay.OpaqueXattr(), value[:])
	return err == nil && n == 1 && value[0] == 'y'
}

func readRegular(file *os.File) (content []byte, err error) {
	defer func() { err = errors.Join(err, file.Close()) }()
	return io.ReadAll(newLimiter(file, "bytes in a file that is read", maxReadFile))
}
