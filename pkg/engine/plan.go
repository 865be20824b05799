package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/image"
	"github.com/minictr/minictr/pkg/namespace"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/spec"
	"github.com/minictr/minictr/rootfs"
)

// Plan compiles the wall that Run would build, and does nothing else: it
// needs no privilege, and for the built-in image no store.
func (e *Engine) Plan(o Options) (*plan.Plan, []spec.Brick, error) {
	img, err := e.template(o.Image)
	if err != nil {
		return nil, nil, err
	}
	if o, err = e.known(o); err != nil {
		return nil, nil, err
	}
	s, bricks, err := Spec(anyID, img, o)
	if err != nil {
		return nil, nil, err
	}
	if err := e.showFiles(s, o.Connection); err != nil {
		return nil, nil, err
	}
	made := etcFiles[:]
	volumes := namesOf(e.Volumes(), s)
	for _, m := range s.Mounts {
		if volumes[path.Clean(m.Destination)] != "" {
			made = append(made, m.Source+"/")
		}
	}
	network, err := e.draft(o, img.Config.ExposedPorts)
	if err != nil {
		return nil, nil, err
	}
	p, _, err := container.Plan(anyID, e.bundle(anyID), s, network, true, made...)
	return p, bricks, err
}

// draft is what the container would be joined to; nil is no network.
func (e *Engine) draft(o Options, exposed map[string]struct{}) (namespace.Network, error) {
	name := o.On()
	if name == "" {
		return nil, nil
	}
	ports, err := published(o.Connection, exposed)
	if err != nil {
		return nil, err
	}
	endpoint, err := o.endpoint(anyID, ports)
	if err != nil {
		return nil, err
	}
	return e.Networks().Draft(endpoint)
}

// template describes an image without making or fetching one.
func (e *Engine) template(name string) (Template, error) {
	if name == rootfs.Short || name == rootfs.Name {
		return builtinTemplate(), nil
	}
	if _, err := os.Stat(e.Root); errors.Is(err, fs.ErrNotExist) {
		return Template{}, fmt.Errorf("image: get: %w", &image.NotFoundError{Name: name}) // no store is made for a plan
	}
	store, err := e.Images()
	if err != nil {
		return Template{}, err
	}
	img, err := store.Get(name)
	if err != nil {
		return Template{}, err
	}
	return templateOf(img)
}

// builtinTemplate describes the built-in image, which need not be made yet.
func builtinTemplate() Template {
	about := rootfs.Describe()
	config := spec.Image{User: about.User, WorkingDir: about.WorkingDir, Cmd: about.Cmd, Env: about.Env, Labels: about.Labels}
	t := Template{Config: config, Read: rootfs.ReadFile}
	for n := range about.Layers {
		t.Layers = append(t.Layers, fmt.Sprintf("l/%d", n)) // as image.Lower names them
	}
	return t
}

// anyID stands in a plan for the ID that a container will have.
const anyID = "ID"

// PlanBundle compiles the wall of a bundle.
func PlanBundle(bundle string) (*plan.Plan, error) {
	s, err := spec.Load(bundle)
	if err != nil {
		return nil, err
	}
	p, _, err := container.Plan(anyID, bundle, s, nil, false)
	return p, err
}
