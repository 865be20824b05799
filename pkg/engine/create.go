package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/image"
	"github.com/minictr/minictr/pkg/lang"
	"github.com/minictr/minictr/pkg/spec"
	"github.com/minictr/minictr/pkg/sys"
)

// Create makes a container of an image that outlives this process, and does not
// start it. It is locked: the caller starts it, or calls Close.
func (e *Engine) Create(ctx context.Context, o Options) (c *Container, err error) {
	if err := e.Sweep(); err != nil {
		return nil, err
	}
	img, err := e.imageFor(ctx, o)
	if err != nil {
		return nil, err
	}
	template, err := templateOf(img)
	if err != nil {
		return nil, err
	}
	id := NewID()
	volumes := e.volumesFor(&o, "")
	defer func() {
		if err != nil {
			err = errors.Join(err, e.removeAnonymous(volumes.anonymous))
		}
	}()
	s, err := e.spec(id, template, o)
	if err != nil {
		return nil, err
	}
	c = &Container{
		ID: id, Name: o.Name, ImageID: img.ID.String(), Command: s.Process.Args, Created: time.Now().UTC(), Options: o,
		StopSignal: cmp.Or(o.StopSignal, img.Config.Config.StopSignal, "TERM"), dir: e.bundle(id), engine: e,
	}
	if c.Restart, err = ParseRestart(o.Restart); err != nil {
		return nil, err
	}
	if c.Log, err = ParseLog(o.LogDriver, o.LogOpts); err != nil {
		return nil, err
	}
	if c.Ports, err = published(o.Connection, img.Config.Config.ExposedPorts); err != nil {
		return nil, err
	}
	unlock, err := img.Hold(o.Image)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := e.claimFiles(c); err != nil {
		return nil, err
	}
	release, err := volumes.hold(ctx, img, s, o)
	if err == nil {
		defer func() { err = errors.Join(err, release()) }()
		err = bundle(c.dir, img, s)
	}
	if err == nil {
		err = c.writeStatus(Status{Phase: Created})
	}
	if err == nil {
		err = o.noteID(id)
	}
	if err == nil {
		err = c.writeRecord() // from now on it is a container
	}
	if err != nil {
		return nil, errors.Join(err, c.remove())
	}
	e.event(c, "create", nil)
	return c, nil
}

// spec compiles options to a config.json, and says what of the wall is left out.
func (e *Engine) spec(id string, template Template, o Options) (*specs.Spec, error) {
	o, err := e.known(o)
	if err != nil {
		return nil, err
	}
	s, bricks, err := Spec(id, template, o)
	if err != nil {
		return nil, err
	}
	for _, b := range bricks {
		fmt.Fprintf(e.Messages, "minictr: %s\n", lang.Local().Line(b.String()))
	}
	return s, e.showFiles(s, o.Connection)
}

// claimFiles makes the directory of a container, which is locked, and takes its
// name.
func (e *Engine) claimFiles(c *Container) error {
	unlock, err := e.guard()
	if err != nil {
		return err
	}
	if c.Name != "" {
		err = e.takeName(c.Name, c.ID)
	}
	if err == nil {
		err = os.Mkdir(c.dir, 0o700) // there may be set-user-ID programs in it, and secrets
	}
	if err == nil {
		c.lock, err = sys.LockDir(c.dir, unix.LOCK_EX)
	}
	return errors.Join(err, unlock())
}

// Close leaves a container that Create or Hold has locked to others.
func (c *Container) Close() error {
	fd := c.lock
	c.lock = 0
	if fd <= 0 {
		return nil
	}
	return unix.Close(fd)
}

// hold locks a container that nobody monitors. The error is EWOULDBLOCK if
// somebody does.
func (c *Container) hold() (err error) {
	c.lock, err = sys.LockDir(c.dir, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s", container.ErrNotExist, c.Title())
	}
	if err == nil {
		if _, gone := os.Stat(c.dir); gone != nil { // while we waited
			return errors.Join(fmt.Errorf("%w: %s", container.ErrNotExist, c.Title()), c.Close())
		}
	}
	return err
}

// remove takes a container away whose lock is ours: the record first, so that
// what is left by a killed command is nobody's container.
func (c *Container) remove() error {
	err := os.Remove(filepath.Join(c.dir, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	err = errors.Join(err, c.engine.freeName(c.Name, c.ID))
	if err == nil {
		err = sys.RemoveAll(c.dir)
	}
	return errors.Join(err, c.Close())
}

// bundle writes the files of a container into its directory: its config.json, a
// link to the image's layers, the layer that it writes to, and the place for
// all.
func bundle(dir string, img *image.Image, s *specs.Spec) error {
	for _, d := range []string{"rootfs", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	layers, _, err := img.Lower()
	if err != nil {
		return err
	}
	if err := os.Symlink(filepath.Join(layers, "l"), filepath.Join(dir, "l")); err != nil {
		return err
	}
	return spec.Write(dir, s)
}
