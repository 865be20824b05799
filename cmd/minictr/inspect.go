package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/pflag"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/format"
	"github.com/minictr/minictr/pkg/image"
)

func inspectCommand(f *pflag.FlagSet) action {
	as := documentFlag(f)
	kind := f.String("type", "", "only of this `TYPE`: container, image, network or volume; otherwise a container or else an image")
	sizes := f.BoolP("size", "s", false, "with the sizes of containers' files")
	return func(c *call) error {
		switch {
		case len(c.args) == 0:
			return errors.New("inspect needs a container or an image: minictr ps -a and minictr images list them")
		case !slices.Contains([]string{"", "container", "image", "network", "volume"}, *kind):
			return fmt.Errorf("--type: %q is none of container, image, network and volume", *kind)
		}
		e, err := c.engine()
		if err != nil {
			return err
		}
		return c.documents(*as, func(name string) (any, error) { return c.document(e, name, *kind, *sizes) })
	}
}

func documentFlag(f *pflag.FlagSet) *string {
	return f.StringP("format", "f", "", "print each in this `FORMAT`: json, on one line, or a template like {{.Id}}")
}

// documents prints what is found by each argument: as a JSON array, or each by
// itself in a format. What is missing is no obstacle for the others.
func (c *call) documents(as string, find func(name string) (any, error)) (missing error) {
	list := []any{}
	for _, name := range c.args {
		d, err := find(name)
		if err == nil && as != "" {
			d, err = format.Document(d)
		}
		if err != nil {
			missing = errors.Join(missing, err)
			continue
		}
		list = append(list, d)
	}
	if as == "" {
		return errors.Join(writeJSON(c.stdout, list), missing)
	}
	err := format.Print(c.stdout, as, list)
	if len(list) == 0 || err != nil {
		fmt.Fprintln(c.stdout) // as docker, for scripts that read a line
	}
	return errors.Join(err, missing)
}

// document is what is known of a container or an image, or of what else is
// asked for.
func (c *call) document(e *engine.Engine, name, kind string, sizes bool) (any, error) {
	switch kind {
	case "network":
		return inspectNetwork(e, name)
	case "volume":
		return inspectVolume(e, name)
	case "", "container":
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
