package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/format"
	"github.com/minictr/minictr/pkg/network"
	"github.com/minictr/minictr/pkg/volume"
)

func forceFlag(f *pflag.FlagSet) *bool { return f.BoolP("force", "f", false, "do not ask") }

// sure asks whether things are to be removed, unless that is clear.
func (c *call) sure(force bool, what string) error {
	if force {
		return nil
	}
	fmt.Fprintf(c.stderr, "minictr: this removes %s: go on? [y/N] ", what)
	answer, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return errors.New("nothing is removed: --force does not ask")
	}
	return nil
}

// heading prints a line over the first of a list.
func (c *call) heading(n int, text string) {
	if n > 0 {
		fmt.Fprintln(c.stdout, text)
	}
}

func (c *call) pruneContainers(e *engine.Engine) error {
	removed, err := e.PruneContainers()
	c.heading(len(removed), "Deleted Containers:")
	for _, ctr := range removed {
		fmt.Fprintln(c.stdout, ctr.ID)
	}
	return err
}

func (c *call) pruneNetworks(e *engine.Engine) error {
	all, failed := e.Networks().List()
	var removed []string
	for _, n := range all {
		if n.Name == network.Default {
			continue
		}
		switch err := e.RemoveNetwork(n.Name); {
		case err == nil:
			removed = append(removed, n.Name)
		case !errors.Is(err, network.ErrInUse):
			failed = errors.Join(failed, err)
		}
	}
	c.heading(len(removed), "Deleted Networks:")
	for _, name := range removed {
		fmt.Fprintln(c.stdout, name)
	}
	return failed
}

func (c *call) pruneVolumes(e *engine.Engine, meant func(*volume.Volume) bool) error {
	removed, freed, err := e.Volumes().Prune(e.VolumeUsers, meant)
	c.heading(len(removed), "Deleted Volumes:")
	for _, v := range removed {
		fmt.Fprintln(c.stdout, v.Name)
	}
	c.heading(len(removed), "")
	c.reclaimed(freed)
	return err
}

func (c *call) pruneImages(e *engine.Engine, all bool) error {
	removed, freed, err := e.Prune(all)
	for _, img := range removed {
		for _, name := range img.Names {
			fmt.Fprintln(c.stdout, "untagged:", familiar(name))
		}
		fmt.Fprintln(c.stdout, "deleted:", img.ID)
	}
	c.reclaimed(freed)
	return err
}

func (c *call) reclaimed(freed int64) {
	fmt.Fprintln(c.stdout, "Total reclaimed space:", format.Size(freed))
}

// pruneCommand is a prune of one kind.
func pruneCommand(what string, prune func(*call, *engine.Engine) error) func(*pflag.FlagSet) action {
	return func(f *pflag.FlagSet) action {
		force := forceFlag(f)
		return withEngine(0, func(c *call, e *engine.Engine) error {
			if err := c.sure(*force, what); err != nil {
				return err
			}
			if err := e.Sweep(); err != nil {
				return err
			}
			return prune(c, e)
		})
	}
}

func containerPruneCommand(f *pflag.FlagSet) action {
	return pruneCommand("all containers that are not running", (*call).pruneContainers)(f)
}

func networkPruneCommand(f *pflag.FlagSet) action {
	return pruneCommand("all networks that no container is on", (*call).pruneNetworks)(f)
}

func systemPruneCommand(f *pflag.FlagSet) action {
	all := f.BoolP("all", "a", false, "all images that no container uses, not only those without a name")
	volumes := f.Bool("volumes", false, "volumes without a name, too")
	return pruneCommand("all containers that are not running, and networks and images that no container uses", func(c *call, e *engine.Engine) error {
		err := errors.Join(c.pruneContainers(e), c.pruneNetworks(e))
		if *volumes {
			err = errors.Join(err, c.pruneVolumes(e, func(v *volume.Volume) bool { return v.Anonymous }))
		}
		return errors.Join(err, c.pruneImages(e, *all))
	})(f)
}
