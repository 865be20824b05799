package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/spec"
)

// Update changes the limits of a container, and its restart policy, unless that is
// "": at once if it runs, and for its later lives.
func (e *Engine) Update(c *Container, limits *specs.LinuxResources, restart string) (err error) {
	if c.lone != nil {
		return e.Runtime.Update(c.lone, limits)
	}
	policy, err := ParseRestart(restart)
	if err != nil {
		return err
	}
	if c.Options.Remove && policy.Policy != "no" {
		return fmt.Errorf("--restart: container %s is removed when it ends, by --rm", c.Title())
	}
	unlock, err := e.guard()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if c, err = e.record(c.ID); errors.Is(err, fs.ErrNotExist) { // with the name that it has now
		err = container.ErrNotExist
	}
	if err != nil {
		return err
	}
	switch s, err := c.State(); {
	case err == nil:
		err = e.Runtime.Update(s, limits)
		if err != nil && !errors.Is(err, container.ErrStopped) {
			return err
		}
	case !errors.Is(err, container.ErrNotExist):
		return err
	}
	config, err := c.Config()
	if err != nil {
		return err
	}
	if config.Linux.Resources == nil {
		config.Linux.Resources = new(specs.LinuxResources)
	}
	// What the limits do not name stays.
	if err := spec.Unmarshal(spec.Marshal(limits), config.Linux.Resources); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(c.dir, spec.ConfigFile), config, true); err != nil {
		return err
	}
	if restart != "" {
		c.Restart, c.Options.Restart = policy, restart
		err = c.writeRecord()
	}
	if err == nil {
		e.event(c, "update", nil)
	}
	return err
}
