package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/minictr/minictr/pkg/image"
)

func mirrorsOf(flags []string) (map[string][]string, error) {
	if len(flags) == 0 {
		return nil, nil
	}
	mirrors := make(map[string][]string)
	for _, f := range flags {
		host, url, ok := strings.Cut(f, "=")
		if !ok || host == "" || url == "" {
			return nil, fmt.Errorf("--mirror: %q is not HOST=URL, as in docker.io=http://localhost:5000", f)
		}
		mirrors[host] = append(mirrors[host], url)
	}
	return mirrors, nil
}

func pullCommand() *cli.Command {
	return &cli.Command{
		Name: "pull", Usage: "fetch an image from a registry", ArgsUsage: "IMAGE", OnUsageError: usageError,
		Action: func(c *cli.Context) error {
			e, err := theEngine(c)
			if err != nil {
				return err
			}
			if err := exactly(c, 1, "IMAGE"); err != nil {
				return err
			}
			ref, err := image.ParseReference(c.Args().First())
			if err != nil {
				return err
			}
			store, err := e.Images()
			if err != nil {
				return err
			}
			img, err := store.Pull(c.Context, ref, e.Pull)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.App.Writer, img.ID)
			return err
		},
	}
}

func loadCommand() *cli.Command {
	return &cli.Command{
		Name:      "load",
		Usage:     "take images from an OCI layout, or an archive of docker save or of an OCI layout",
		ArgsUsage: "FILE|DIR|-",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "import", Usage: "FILE is the archive of a bare root file system: make an image `NAME` of it"},
			&cli.StringFlag{Name: "name", Usage: "call the image `NAME`, where the archive holds one without a name"},
		},
		OnUsageError: usageError,
		Action: func(c *cli.Context) (err error) {
			e, err := theEngine(c)
			if err != nil {
				return err
			}
			if err := exactly(c, 1, "FILE"); err != nil {
				return err
			}
			store, err := e.Images()
			if err != nil {
				return err
			}
			path := c.Args().First()
			if name := c.String("import"); name != "" {
				img, err := importFile(c, store, path, name)
				return errors.Join(err, printImages(c, img))
			}
			images, err := loadFile(c, store, path, c.String("name"))
			if err != nil {
				return err
			}
			return printImages(c, images...)
		},
	}
}

// loadFile loads a file, a directory, or standard input, and calls the one
// image in it by the name, if there is one to be given.
func loadFile(c *cli.Context, store *image.Store, path, name string) (images []*image.Image, err error) {
	if name != "" {
		if _, err := image.ParseReference(name); err != nil {
			return nil, fmt.Errorf("--name: %w", err)
		}
	}
	if path == "-" {
		images, err = store.LoadStream(c.Context, os.Stdin, image.Options{})
	} else {
		images, err = store.Load(c.Context, path, image.Options{})
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
func importFile(c *cli.Context, store *image.Store, path, name string) (*image.Image, error) {
	f := os.Stdin
	if path != "-" {
		var err error
		if f, err = os.Open(path); err != nil {
			return nil, err
		}
		defer f.Close()
	}
	config := image.Config{Config: image.ContainerConfig{Cmd: []string{"/bin/sh"}}}
	return store.Import(c.Context, f, name, config, image.Options{})
}

func printImages(c *cli.Context, images ...*image.Image) error {
	for _, img := range images {
		if img == nil {
			continue
		}
		name := "without a name; minictr load --name gives it one"
		if len(img.Names) > 0 {
			name = strings.Join(img.Names, " ")
		}
		if _, err := fmt.Fprintf(c.App.Writer, "loaded %s %s\n", img.ID.Short(), name); err != nil {
			return err
		}
	}
	return nil
}

func imagesCommand() *cli.Command {
	return &cli.Command{
		Name: "images", Usage: "list the images", OnUsageError: usageError,
		Flags: []cli.Flag{&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "only their IDs"}},
		Action: func(c *cli.Context) error {
			e, err := theEngine(c)
			if err != nil {
				return err
			}
			if err := exactly(c, 0, ""); err != nil {
				return err
			}
			store, err := e.Images()
			if err != nil {
				return err
			}
			images, err := store.List()
			if err != nil {
				return err
			}
			out := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
			if !c.Bool("quiet") {
				fmt.Fprintln(out, "IMAGE\tID\tLAYERS\tSIZE\tCREATED")
			}
			for _, img := range images {
				if c.Bool("quiet") {
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
			return out.Flush()
		},
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

func rmiCommand() *cli.Command {
	return &cli.Command{
		Name: "rmi", Usage: "remove images", ArgsUsage: "IMAGE...", OnUsageError: usageError,
		Action: func(c *cli.Context) error {
			e, err := theEngine(c)
			if err != nil {
				return err
			}
			if !c.Args().Present() {
				return errors.New("rmi needs an image: minictr images lists them")
			}
			if err := e.Sweep(); err != nil {
				return err
			}
			for _, name := range c.Args().Slice() {
				if err := e.RemoveImage(name); err != nil {
					return err
				}
				if _, err := fmt.Fprintln(c.App.Writer, "removed", name); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// exactly checks the number of arguments.
func exactly(c *cli.Context, n int, what string) error {
	switch {
	case c.NArg() == n:
		return nil
	case n == 0:
		return fmt.Errorf("%s takes no arguments", c.Command.Name)
	}
	return fmt.Errorf("%s requires exactly %d argument(s): minictr %[1]s %[3]s", c.Command.Name, n, what)
}
