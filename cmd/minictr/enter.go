package main

import (
	"errors"
	"os"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/rootless"
)

// enter makes a user who is not root that of a user namespace, if the command has
// to do with images or their containers. It returns, with nil, if there is nothing
// to do: else the command begins once more.
func (c *call) enter() error {
	if os.Geteuid() == 0 || !c.needsRoot() {
		return nil
	}
	// Who is root there has other defaults.
	if err := errors.Join(os.Setenv(envRoot, c.root), os.Setenv(envDataRoot, c.dataRoot)); err != nil {
		return err
	}
	return rootless.Enter(c.root, container.Help)
}

// needsRoot says whether the command needs root's power over files and processes.
// Who calls the OCI's family comes in a user namespace of his own, or asks for one
// in config.json; but a container of an image is in that of the everyday commands.
func (c *call) needsRoot() bool {
	switch c.name {
	case "compare", "completion", "doctor", "explain", "help", "lesson", "login", "logout", "spec", "version", "wall", "wall diff":
		return false
	case "plan":
		if c.flags.Changed("container") {
			return c.ofImage(c.flags.Lookup("container").Value.String())
		}
		return c.flags.Changed("step") && len(c.args) > 0 && !isBundle(c.args[0])
	}
	if !c.ociFamily() {
		return true
	}
	return c.flags.Changed("all") && c.name == "start" || len(c.args) > 0 && c.ofImage(c.args[0])
}

// ofImage says whether a container is one of the everyday commands.
func (c *call) ofImage(name string) bool {
	e, err := c.engine()
	if err != nil {
		return false
	}
	ctr, err := e.Find(name)
	return err == nil && ctr.ImageID != ""
}
