package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/format"
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
	input := f.StringP("input", "i", "", "load `FILE`: the same as without the flag")
	name := f.String("name", "", "call the image `NAME`, where the archive holds one without a name")
	quiet, plain := progressFlags(f)
	return func(c *call) error {
		if *input != "" {
			c.args = append(c.args, *input)
		}
		if len(c.args) == 0 && !term.IsTerminal(0) {
			c.args = []string{"-"}
		}
		if err := c.exactly(1, "FILE"); err != nil {
			return err
		}
		_, store, err := c.store()
		if err != nil {
			return err
		}
		report, stop := c.progress(*quiet, *plain)
		images, err := loadFile(c, store, c.args[0], *name, image.Options{Progress: report})
		if err = errors.Join(err, stop()); err != nil {
			return err
		}
		return printImages(c.stdout, images)
	}
}

// loadFile loads a file, a directory, or standard input, and calls the one
// image in it by the name, if there is one to be given.
func loadFile(ctx context.Context, store *image.Store, path, name string, o image.Options) (images []*image.Image, err error) {
	if name != "" {
		if _, err := image.ParseReference(name); err != nil {
			return nil, fmt.Errorf("--name: %w", err)
		}
	}
	if path == "-" {
		images, err = store.LoadStream(ctx, os.Stdin, o)
	} else {
		images, err = store.Load(ctx, path, o)
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

func printImages(w io.Writer, images []*image.Image) error {
	var lines []string
	for _, img := range images {
		for _, name := range img.Names {
			lines = append(lines, "Loaded image: "+familiar(name)+"\n")
		}
		if len(img.Names) == 0 {
			lines = append(lines, "Loaded image ID: "+img.ID.String()+"\n")
		}
	}
	slices.Sort(lines) // an image is there once for each of its names
	_, err := io.WriteString(w, strings.Join(slices.Compact(lines), ""))
	return err
}

func imagesCommand(f *pflag.FlagSet) action {
	quiet := f.BoolP("quiet", "q", false, "only their IDs")
	f.BoolP("all", "a", false, "accepted, and of no effect: none is hidden")
	digests := f.Bool("digests", false, "with the digests of their manifests")
	var filters []string
	f.VarP((*list)(&filters), "filter", "f", "only those with `KEY=VALUE`: dangling=true, without a name; label=KEY or label=KEY=VALUE")
	list := listFlags(f)
	return func(c *call) error {
		_, store, err := c.store()
		if err != nil {
			return err
		}
		images, damaged := store.List()
		if images, err = filtered(images, filters); err != nil {
			return err
		}
		if len(c.args) > 0 {
			if images, err = ofRepository(images, c.args[0]); err == nil {
				err = c.exactly(1, c.command.args)
			}
			if err != nil {
				return err
			}
		}
		if *quiet {
			for _, img := range images {
				fmt.Fprintln(c.stdout, list.id(img.ID))
			}
			return damaged
		}
		return errors.Join(c.listImages(images, list, *digests), damaged)
	}
}

// filtered are the images that each filter lets through.
func filtered(images []*image.Image, filters []string) ([]*image.Image, error) {
	for _, filter := range filters {
		key, value, _ := strings.Cut(filter, "=")
		label, text, hasText := strings.Cut(value, "=")
		want, err := strconv.ParseBool(value)
		if (key != "label" || label == "") && (key != "dangling" || err != nil) {
			return nil, fmt.Errorf("--filter: %q is neither dangling=true, dangling=false nor label=KEY; minictr images NAME finds names", filter)
		}
		images = slices.DeleteFunc(images, func(img *image.Image) bool {
			got, found := img.Config.Config.Labels[label]
			if key == "dangling" {
				return want == (len(img.Names) > 0)
			}
			return !found || hasText && got != text
		})
	}
	return images, nil
}

// listImages prints a line for each name of each image.
func (c *call) listImages(images []*image.Image, list listing, digests bool) error {
	var rows []format.Row
	for _, img := range images {
		names := img.Names
		if len(names) == 0 {
			names = []string{none}
		}
		for _, name := range names {
			rows = append(rows, list.image(img, name))
		}
	}
	table := []string{"Repository", "Tag", "ID", "CreatedSince", "Size"}
	if digests {
		table = slices.Insert(table, 2, "Digest")
	}
	return c.print(list, imageFields(), table, rows)
}

func imageFields() []format.Field {
	return []format.Field{
		{Name: "Image", Heading: "IMAGE", Long: true},
		{Name: "Repository", Heading: "REPOSITORY", Long: true},
		{Name: "Tag", Heading: "TAG"},
		{Name: "Digest", Heading: "DIGEST", Long: true},
		{Name: "ID", Heading: "IMAGE ID"},
		{Name: "Layers", Heading: "LAYERS"},
		{Name: "Size", Heading: "SIZE"},
		{Name: "Created", Heading: "CREATED"},
		{Name: "CreatedSince", Heading: "CREATED"},
		{Name: "CreatedAt", Heading: "CREATED AT"},
	}
}

// image is what docker images says of one of an image's names.
func (l listing) image(img *image.Image, name string) format.Row {
	repository, tag := none, none
	if ref, err := image.ParseReference(name); err == nil {
		tag = ref.Tag
		ref.Tag, ref.Digest = "", image.Digest{}
		repository = strings.TrimSuffix(ref.Familiar(), ":latest")
	}
	created := img.Config.Created
	return format.Row{
		"Image": computed(familiar(name)), "Repository": repository, "Tag": tag, "Digest": img.Manifest.Digest.String(), "ID": l.id(img.ID),
		"Layers": computed(strconv.Itoa(len(img.Layers))), "Size": format.Size(img.Size),
		"Created": computed(day(created)), "CreatedSince": since(created), "CreatedAt": moment(created),
	}
}

// ofRepository are the images that have a name in a repository, or with its tag;
// they lose the others.
func ofRepository(images []*image.Image, name string) (list []*image.Image, err error) {
	ref, err := image.ParseReference(name)
	for _, img := range images {
		img.Names = slices.DeleteFunc(img.Names, func(own string) bool {
			other, err := image.ParseReference(own)
			return err != nil || other.Repository() != ref.Repository() || ref.Tag != "" && ref.Tag != other.Tag
		})
		if len(img.Names) > 0 {
			list = append(list, img)
		}
	}
	return list, err
}

// familiar is a name as people write it.
func familiar(name string) string {
	if ref, err := image.ParseReference(name); err == nil {
		return ref.Familiar()
	}
	return name
}

func rmiCommand(f *pflag.FlagSet) action {
	f.BoolP("force", "f", false, "accepted, and of no effect: what a container uses stays")
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
		var failed error
		for _, name := range c.args {
			untagged, deleted, err := e.RemoveImage(name)
			for _, name := range untagged {
				fmt.Fprintln(c.stdout, "Untagged:", familiar(name))
			}
			for _, d := range deleted {
				fmt.Fprintln(c.stdout, "Deleted:", d)
			}
			failed = errors.Join(failed, err)
		}
		return failed
	}
}
