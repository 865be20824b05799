package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/image"
)

// CopyOptions are those of cp.
type CopyOptions struct {
	Archive bool // files that come to this host keep their owners' numbers
	Follow  bool // a symbolic link that is to be copied is the file that it leads to
}

// A tree is a root directory with its owners: outof says who those of its files
// are elsewhere, and into whose they become here.
type tree struct {
	root        *os.File
	outof, into image.Owner
}

func sameOwner(uid, gid int) (int, int, error) { return uid, gid, nil }

// host is this host's tree. Files that come to it are its maker's, this user's:
// -1 leaves an owner as it is, chown(2).
func host(o CopyOptions) (tree, error) {
	root, err := openPath("/")
	t := tree{root: root, outof: sameOwner, into: sameOwner}
	if !o.Archive {
		t.into = func(int, int) (int, int, error) { return -1, -1, nil }
	}
	return t, err
}

func openPath(name string) (*os.File, error) {
	return os.OpenFile(name, unix.O_PATH|unix.O_DIRECTORY, 0)
}

// A place is a path as it is asked for, in a tree.
type place struct {
	tree
	path     string // absolute and clean
	dir      bool   // it says that it is a directory, by its end
	contents bool   // what is in the directory is meant
}

func (t tree) at(path, workdir string) place {
	p := place{tree: t, contents: path == "." || strings.HasSuffix(path, "/.")}
	p.dir = p.contents || strings.HasSuffix(path, "/")
	if !filepath.IsAbs(path) {
		path = filepath.Join(workdir, path)
	}
	p.path = filepath.Clean(path)
	p.contents = p.contents || p.path == "/"
	return p
}

// find looks the place up. What is not there is no error; its directory must be.
func (p place) find(follow bool) (*image.File, error) {
	f, err := image.Find(p.root, p.path, follow || p.dir)
	if err == nil && f.Exists && p.dir && !f.IsDir() {
		err = errors.Join(unix.ENOTDIR, f.Dir.Close())
	}
	if err != nil {
		return nil, &fs.PathError{Op: "find", Path: p.path, Err: err}
	}
	return f, nil
}

// source finds what is to be copied.
func (p place) source(o CopyOptions) (*image.File, error) {
	f, err := p.find(o.Follow)
	if err == nil && !f.Exists {
		err = errors.Join(&fs.PathError{Op: "find", Path: p.path, Err: unix.ENOENT}, f.Dir.Close())
	}
	return f, err
}

// target says where a copy goes, as cp(1) does, and under which name: into an
// open directory, "." for all that is in the source.
func (p place) target(source place, isDir bool) (dir *os.File, name string, err error) {
	f, err := p.find(true)
	if err != nil {
		return nil, "", err
	}
	switch {
	case f.IsDir():
		name = filepath.Base(source.path)
		if source.contents {
			name = "."
		}
		dir, err = f.Open()
		return dir, name, errors.Join(err, f.Dir.Close())
	case f.Exists && isDir:
		err = fmt.Errorf("cannot copy a directory to a file: %s", p.path)
	case !f.Exists && p.dir && !isDir:
		err = fmt.Errorf("no such directory: %s", p.path)
	}
	if err != nil {
		return nil, "", errors.Join(err, f.Dir.Close())
	}
	return f.Dir, f.Base, nil
}

// copyTo copies a place to another, and returns how many bytes it took.
func (p place) copyTo(ctx context.Context, to place, o CopyOptions) (n int64, err error) {
	source, err := p.source(o)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, source.Dir.Close()) }()
	dir, name, err := to.target(p, source.IsDir())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	err = piped(ctx, func(w io.Writer) error { return source.Pack(w, name, p.outof) }, func(r io.Reader) error {
		return image.Extract(ctx, &counter{r, &n}, dir, to.into)
	})
	return n, err
}

// counter counts what is read.
type counter struct {
	io.Reader
	n *int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	*c.n += int64(n)
	return n, err
}

// CopyFrom copies a container's files to this host, and returns how many bytes
// their archive has. See place.target for what the destination means.
func (e *Engine) CopyFrom(ctx context.Context, ref, src, dst string, o CopyOptions) (n int64, err error) {
	err = e.withHost(o, func(host tree, workdir string) error {
		return e.inRoot(ref, func(root tree) (err error) {
			n, err = root.at(src, "/").copyTo(ctx, host.at(dst, workdir), o)
			return err
		})
	})
	return n, err
}

// CopyTo copies files of this host into a container.
func (e *Engine) CopyTo(ctx context.Context, src, ref, dst string, o CopyOptions) (n int64, err error) {
	err = e.withHost(o, func(host tree, workdir string) error {
		return e.inRoot(ref, func(root tree) (err error) {
			n, err = host.at(src, workdir).copyTo(ctx, root.at(dst, "/"), o)
			return err
		})
	})
	return n, err
}

func (e *Engine) withHost(o CopyOptions, do func(host tree, workdir string) error) error {
	workdir, err := os.Getwd()
	if err != nil {
		return err
	}
	t, err := host(o)
	if err != nil {
		return err
	}
	return errors.Join(do(t, workdir), t.root.Close())
}

// CopyOut writes the archive of a container's file, or directory, as a tar.
func (e *Engine) CopyOut(ref, src string, w io.Writer, o CopyOptions) error {
	return e.inRoot(ref, func(root tree) error {
		p := root.at(src, "/")
		source, err := p.source(o)
		if err != nil {
			return err
		}
		name := filepath.Base(p.path)
		switch {
		case p.contents:
			name = "."
		case o.Follow && source.Base != ".":
			name = source.Base
		}
		return errors.Join(source.Pack(w, name, root.outof), source.Dir.Close())
	})
}

// CopyIn unpacks a tar into a directory of a container.
func (e *Engine) CopyIn(ctx context.Context, r io.Reader, ref, dst string) error {
	return e.inRoot(ref, func(root tree) error {
		f, err := root.at(dst, "/").source(CopyOptions{Follow: true})
		if err != nil {
			return err
		}
		dir, err := f.Open()
		if err = errors.Join(err, f.Dir.Close()); err != nil {
			return fmt.Errorf("%s must be a directory: %w", dst, err)
		}
		return errors.Join(image.Extract(ctx, r, dir, root.into), dir.Close())
	})
}
