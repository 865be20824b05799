package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/minictr/minictr/pkg/image"
	"github.com/minictr/minictr/pkg/lang"
	"github.com/minictr/minictr/pkg/spec"
)

// Unpack makes the directory dir with the files of an image, image.Unpack.
func (e *Engine) Unpack(ctx context.Context, name, dir string, devices bool) error {
	img, err := e.Image(ctx, name, true)
	if err != nil {
		return err
	}
	left, err := img.Unpack(ctx, dir, devices)
	for _, name := range left {
		fmt.Fprintf(e.Messages, "minictr: left out the device node %q: --devices makes it\n", name)
	}
	return err
}

// Bundle makes the directory dir an OCI bundle of an image, which any runtime
// can run: its files below rootfs, and a config.json as run would write it. Its
// device nodes are guarded by the container's device cgroup. The directory can
// be entered by its owner alone: there may be set-user-ID programs in it.
func (e *Engine) Bundle(ctx context.Context, o Options, dir string) (err error) {
	img, err := e.imageFor(ctx, o)
	if err != nil {
		return err
	}
	template := Template{Config: spec.Image(img.Config.Config), Read: img.ReadFile}
	if !o.ReadOnly {
		template.Config.Volumes = nil // the root is one directory, with theirs in it
	}
	volumes := e.volumesFor(&o, "")
	if o, err = e.known(o); err != nil {
		return err
	}
	s, bricks, err := Spec(NewID(), template, o)
	if err != nil {
		return err
	}
	unlock, err := volumes.hold(ctx, img, s, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	for _, b := range bricks {
		fmt.Fprintf(e.Messages, "minictr: %s\n", lang.Local().Line(b.String()))
	}
	return image.MakeDir(dir, func(partial string) error {
		if _, err := img.Unpack(ctx, filepath.Join(partial, "rootfs"), true); err != nil {
			return err
		}
		return spec.Write(partial, s)
	})
}
