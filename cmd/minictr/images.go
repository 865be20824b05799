package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/image"
)

// store is the engine's store of images.
func (c *call) store() (*engine.Engine, *image.Store, error) {
	e, err := c.engine()
	if err != nil {
		return nil, nil, err
	}
	store, err := e.Images()
	return e, store, err
}

func loadCommand(f *pflag.FlagSet) action {
	bare := f.String("import", "", "FILE is the archive of a bare root file system: make an image `NAME` of it")
	name := f.String("name", "", "call the image `NAME`, where the archive holds one without a name")
	return func(c *call) error {
		if err := c.exactly(1, "FILE"); err != nil {
			return err
		}
		_, store, err := c.store()
		if err != nil {
			return err
		}
		var images []*image.Image
		if *bare != "" {
			images, err = importFile(c, store, c.args[0], *bare)
		} else {
			images, err = loadFile(c, store, c.args[0], *name)
		}
		if err != nil {
			return err
		}
		return printImages(c.stdout, images)
	}
}

// loadFile loads a file, a directory, or standard input, and calls the one
// image in it by the name, if there is one to be given.
func loadFile(ctx context.Context, store *image.Store, path, name string) (images []*image.Image, err error) {
	if name != "" {
		if _, err := image.ParseReference(name); err != nil {
			return nil, fmt.Errorf("--name: %w", err)
		}
	}
	if path == "-" {
		images, err = store.LoadStream(ctx, os.Stdin, image.Options{})
	} else {
		images, err = store.Load(ctx, path, image.Options{})
	}
	if err != nil || name == "" {
		return images, err
	}
	if len(images) != 1 {
		return nil, fmt.Errorf("--name: %s holds %d images", path, len(images))
	}
	if err := store.Tag(images[0].ID.String(), name); err != nil {
		return nil, err
	}
	images[0], err = store.Get(name)
	return images, err
}

// importFile makes an image of a root file system that says nothing about
// itself: it runs a shell.
func importFile(ctx context.Context, store *image.Store, path, name string) ([]*image.Image, error) {
	f := os.Stdin
	if path != "-" {
		var err error
		if f, err = os.Open(path); err != nil {
			return nil, err
		}
		defer f.Close()
	}
	config := image.Config{Config: image.ContainerConfig{Cmd: []string{"/bin/sh"}}}
	img, err := store.Import(ctx, f, name, config, image.Options{})
	return []*image.Image{img}, err
}

func printImages(w io.Writer, images []*image.Image) error {
	for _, img := range images {
		name := "without a name; minictr load --name gives it one"
		if len(img.Names) > 0 {
			name = strings.Join(img.Names, " ")
		}
		if _, err := fmt.Fprintf(w, "loaded %s %s\n", img.ID.Short(), name); err != nil {
			return err
		}
	}
	return nil
}

func imagesCommand(f *pflag.FlagSet) action {
	quiet := f.BoolP("quiet", "q", false, "only their IDs")
	return func(c *call) error {
		if err := c.exactly(0, ""); err != nil {
			return err
		}
		_, store, err := c.store()
		if err != nil {
			return err
		}
		images, damaged := store.List()
		out := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
		if !*quiet {
			fmt.Fprintln(out, "IMAGE\tID\tLAYERS\tSIZE\tCREATED")
		}
		for _, img := range images {
			if *quiet {
				fmt.Fprintln(out, img.ID.Short())
				continue
			}
			names := img.Names
			if len(names) == 0 {
				names = []string{"<none>"}
			}
			for _, name := range names {
				fmt.Fprintf(out, "%s\t%s\t%d\t%s\t%s\n", familiar(name), img.ID.Short(), len(img.Layers), size(img.Size), created(img.Config.Created))
			}
		}
		return errors.Join(out.Flush(), damaged)
	}
}

// familiar is a name as people write it.
func familiar(name string) string {
	if ref, err := image.ParseReference(name); err == nil {
		return ref.Familiar()
	}
	return name
}

func size(n int64) string {
	const unit = 1000
	switch {
	case n < unit:
		return fmt.Sprintf("%dB", n)
	case n < unit*unit:
		return fmt.Sprintf("%.1fkB", float64(n)/unit)
	case n < unit*unit*unit:
		return fmt.Sprintf("%.1fMB", float64(n)/unit/unit)
	}
	return fmt.Sprintf("%.2fGB", float64(n)/unit/unit/unit)
}

func created(t *time.Time) string {
	if t == nil || t.Unix() <= 0 {
		return "-"
	}
	return t.Format("2006-01-02")
}

func rmiCommand(*pflag.FlagSet) action {
	return func(c *call) error {
		if len(c.args) == 0 {
			return errors.New("rmi needs an image: minictr images lists them")
		}
		e, err := c.engine()
		if err != nil {
			return err
		}
		if err := e.Sweep(); err != nil {
			return err
		}
		return c.each(e.RemoveImage)
	}
}
