package main

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/format"
	"github.com/minictr/minictr/pkg/image"
)

func inspectCommand(f *pflag.FlagSet) action {
	as := f.StringP("format", "f", "", "print each in this `FORMAT`: json, on one line, or a template like {{.Id}}")
	kind := f.String("type", "", "only of this `TYPE`: container or image; otherwise a container counts first")
	sizes := f.BoolP("size", "s", false, "with the sizes of containers' files")
	return func(c *call) error {
		switch {
		case len(c.args) == 0:
			return errors.New("inspect needs a container or an image: minictr ps -a and minictr images list them")
		case *kind != "" && *kind != "container" && *kind != "image":
			return fmt.Errorf("--type: %q is neither container nor image", *kind)
		}
		e, err := c.engine()
		if err != nil {
			return err
		}
		list := []any{}
		var missing error
		for _, name := range c.args {
			d, err := c.document(e, name, *kind, *sizes)
			if err != nil {
				missing = errors.Join(missing, err)
				continue
			}
			list = append(list, d)
		}
		if *as == "" {
			return errors.Join(writeJSON(c.stdout, list), missing)
		}
		for i := range list {
			if list[i], err = format.Document(list[i]); err != nil {
				return err
			}
		}
		return errors.Join(format.Print(c.stdout, *as, list), missing)
	}
}

// document is what is known of a container or an image.
func (c *call) document(e *engine.Engine, name, kind string, sizes bool) (any, error) {
	if kind != "image" {
		found, err := e.Find(name)
		if err == nil {
			return containerDocument(e, found, sizes)
		}
		if kind == "container" || !errors.Is(err, container.ErrNotExist) {
			return nil, err
		}
	}
	img, err := e.Image(c, name, false)
	if missing, ok := errors.AsType[*image.NotFoundError](err); ok && kind == "" {
		return nil, fmt.Errorf("no container is called %s, and %w", name, missing)
	}
	if err != nil {
		return nil, err
	}
	d, err := documentOf(img)
	if err != nil {
		return nil, err
	}
	if err := d.refer(img); err != nil {
		fmt.Fprintf(c.stderr, "minictr: warning: %s\n", printable(err.Error()))
	}
	return d, nil
}

func containerDocument(e *engine.Engine, found *engine.Container, sizes bool) (any, error) {
	i, err := e.Inspect(found)
	if err != nil || !sizes {
		return i, err
	}
	own, root, err := found.Sizes()
	i.SizeRw, i.SizeRootFs = &own, &root
	return i, err
}
