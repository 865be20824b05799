package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/image"
)

// A Making says who makes an image, and what is to be changed of how it runs.
type Making struct {
	Author, Message string
	Env             []string // NAME=VALUE, of an image that is made of no other
	Changes         []string // as in a Dockerfile, see image.ContainerConfig.Change
}

// now is the time at which images are made: the clock's, or the one that
// reproducible builds set.
func now() (time.Time, error) {
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		return time.Now().UTC(), nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %q is no number of seconds", epoch)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// Import makes an image of the tar of a root file system, which says nothing
// about itself: unless the changes do, it runs a shell.
func (e *Engine) Import(ctx context.Context, r io.Reader, name, from string, m Making) (*image.Image, error) {
	at, err := now()
	if err != nil {
		return nil, err
	}
	var config image.Config
	config.Config.Cmd, config.Config.Env = []string{"/bin/sh"}, m.Env
	for _, e := range m.Env {
		if name, _, found := strings.Cut(e, "="); !found || name == "" {
			return nil, fmt.Errorf("--env: %q is not NAME=VALUE", e)
		}
	}
	if err := config.Config.Change(m.Changes...); err != nil {
		return nil, err
	}
	store, err := e.Images()
	if err != nil {
		return nil, err
	}
	return store.Import(ctx, r, name, config.Made(at, image.History{Author: m.Author, Comment: cmp.Or(m.Message, "Imported from "+from)}), image.Options{})
}

// ImportDir makes an image of a directory tree.
func (e *Engine) ImportDir(ctx context.Context, dir, name string, m Making) (img *image.Image, err error) {
	var newest time.Time
	if os.Getenv("SOURCE_DATE_EPOCH") != "" { // then two builds of a tree shall be the same
		if newest, err = now(); err != nil {
			return nil, err
		}
	}
	err = piped(ctx, func(w io.Writer) error { return image.Pack(w, []string{dir}, newest) }, func(r io.Reader) error {
		img, err = e.Import(ctx, r, name, filepath.Base(dir), m)
		return err
	})
	return img, err
}

// piped has one function write what another reads, until one of them fails, or
// the context ends.
func piped(ctx context.Context, write func(io.Writer) error, read func(io.Reader) error) error {
	out, in := io.Pipe()
	defer context.AfterFunc(ctx, func() { in.CloseWithError(ctx.Err()) })()
	ended := make(chan struct{})
	go func() {
		in.CloseWithError(write(in))
		close(ended)
	}()
	err := read(out)
	out.CloseWithError(io.ErrClosedPipe)
	<-ended
	return err
}

// Commit makes an image of a container's: what the container has changed in its
// root is one more layer. Its processes stand still while it is read, if pause
// says so.
func (e *Engine) Commit(ctx context.Context, ref, name string, pause bool, m Making) (img *image.Image, err error) {
	at, err := now()
	if err != nil {
		return nil, err
	}
	store, c, base, err := e.rootOf(ref)
	if err != nil {
		return nil, err
	}
	config := base.Config
	if err := config.Config.Change(m.Changes...); err != nil {
		return nil, err
	}
	config = config.Made(at, image.History{Author: m.Author, CreatedBy: strings.Join(c.Command, " "), Comment: m.Message})
	if pause {
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM) // it must not stay paused
		defer stop()
		resume, e := c.pause()
		if e != nil {
			return nil, e
		}
		defer func() { err = errors.Join(err, resume()) }()
	}
	covered, err := c.covered()
	if err != nil {
		return nil, err
	}
	err = piped(ctx, func(w io.Writer) error { return image.PackUpper(w, filepath.Join(c.Dir(), "upper"), covered) }, func(r io.Reader) error {
		img, err = store.Commit(ctx, base, r, name, config, image.Options{})
		return err
	})
	return img, err
}

// covered are the places of its mounts, clean paths.
func (c *Container) covered() ([]string, error) {
	s, err := c.Config()
	if err != nil {
		return nil, err
	}
	places := make([]string, len(s.Mounts))
	for i, m := range s.Mounts {
		places[i] = path.Clean("/" + m.Destination)
	}
	return places, nil
}

// pause has a container's processes stand still, if it runs, until resume.
func (c *Container) pause() (resume func() error, err error) {
	none := func() error { return nil }
	s, err := c.State()
	if errors.Is(err, container.ErrNotExist) {
		return none, nil
	}
	if err != nil {
		return nil, err
	}
	if status, err := s.Status(); err != nil || status != specs.StateRunning {
		return none, err
	}
	if len(s.Host.Cgroup.Places) == 0 {
		fmt.Fprintf(c.engine.Messages, "minictr: container %s goes on meanwhile: without a cgroup it can't be paused\n", c.Title())
		return none, nil
	}
	if err := s.Pause(); err != nil {
		return nil, fmt.Errorf("pause: %w", err)
	}
	return func() error {
		err := s.Resume()
		if now, _ := s.Status(); err != nil && now != specs.StateStopped { // it may have been killed meanwhile
			return fmt.Errorf("resume: %w", err)
		}
		return nil
	}, nil
}

// Export writes the tar of a container's root, without what is mounted in it.
func (e *Engine) Export(ref string, w io.Writer) error {
	_, c, base, err := e.rootOf(ref)
	if err != nil {
		return err
	}
	layers, err := base.LayerDirs()
	if err != nil {
		return err
	}
	return image.Pack(w, append([]string{filepath.Join(c.Dir(), "upper")}, layers...), time.Time{})
}

// rootOf finds a container that is of an image, and that image.
func (e *Engine) rootOf(ref string) (*image.Store, *Container, *image.Image, error) {
	c, err := e.Find(ref)
	if err != nil {
		return nil, nil, nil, err
	}
	if c.ImageID == "" {
		return nil, nil, nil, fmt.Errorf("container %s is of a bundle, and has no image: its files are in %s", ref, c.Dir())
	}
	store, err := e.Images()
	if err != nil {
		return nil, nil, nil, err
	}
	img, err := store.Get(c.ImageID)
	return store, c, img, err
}

// Prune removes the images that no container uses and that have no name, or
// all that no container uses. It returns them, and how many bytes became free.
func (e *Engine) Prune(all bool) (removed []*image.Image, freed int64, err error) {
	store, err := e.Images()
	if err != nil {
		return nil, 0, err
	}
	unlock, err := store.Reserve()
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	containers, err := e.Containers()
	if err != nil {
		return nil, 0, err
	}
	used := map[string]bool{}
	for _, c := range containers {
		used[c.ImageID] = true
	}
	return store.Prune(func(img *image.Image) bool { return used[img.ID.String()] || !all && len(img.Names) > 0 })
}
