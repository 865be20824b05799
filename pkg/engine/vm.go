package engine

import (
	"context"

	"github.com/minictr/minictr/pkg/vm"
)

// VM configures a virtual machine that runs what Run would run in a container:
// the same files, the same process, the same limits of memory and processors.
// What the host has is copied into it: volumes are not shared.
func (e *Engine) VM(ctx context.Context, o Options) (*vm.Config, error) {
	img, err := e.imageFor(ctx, o)
	if err != nil {
		return nil, err
	}
	template, err := templateOf(img)
	if err != nil {
		return nil, err
	}
	s, _, err := Spec(NewID(), template, o)
	if err != nil {
		return nil, err
	}
	layers, err := img.LayerDirs()
	if err != nil {
		return nil, err
	}
	c := &vm.Config{
		Cgroup: vm.CgroupV2, Modules: containerModules, CPUs: 1,
		Layers: layers, Process: s.Process, Hostname: s.Hostname,
	}
	if limit := s.Linux.Resources.Memory; limit != nil && limit.Limit != nil {
		c.Memory = *limit.Limit
	}
	if cpu := s.Linux.Resources.CPU; cpu != nil && cpu.Quota != nil {
		c.CPUs = max(1, int((*cpu.Quota+int64(*cpu.Period)-1)/int64(*cpu.Period)))
	}
	for _, m := range s.Mounts {
		if m.Type == "bind" {
			c.Files = append(c.Files, vm.File{Host: m.Source, Guest: m.Destination})
		}
	}
	return c, nil
}

// containerModules are those that containers in the machine need.
var containerModules = []string{"overlay", "veth", "bridge", "nf_tables"}
