package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/compare"
	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/image"
	"github.com/minictr/minictr/pkg/vm"
)

func compareCommand(f *pflag.FlagSet) action {
	var o engine.Options
	var m machineFlags
	var config compare.Config
	f.SetInterspersed(false)
	f.StringVarP(&o.Memory, "memory", "m", "", "give both `BYTES` of memory (k, m, g)")
	f.StringVar(&o.CPUs, "cpus", "", "give both `N` processors (a machine has whole ones, and one by itself)")
	m.boot(f)
	f.IntVar(&config.Runs, "runs", 3, "measure each start `N` times, and report the median")
	f.IntVar(&config.Count, "count", 1, "start `N` at once too")
	f.BoolVar(&config.Neighbour, "neighbour", false, "measure too what a noisy neighbour takes away")
	f.BoolVar(&config.Nested, "nested", false, "run the image in a container in the virtual machine too")
	format := f.String("format", "text", "print it in this `FORMAT`: text or json")
	return func(c *call) error {
		if *format != "text" && *format != "json" {
			return fmt.Errorf("--format: %q is neither text nor json", *format)
		}
		if config.Runs < 1 || config.Count < 1 {
			return errors.New("--runs and --count: at least 1")
		}
		e, err := c.engine()
		if err != nil {
			return err
		}
		if err := c.comparison(e, &config, &m, &o); err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(c, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
		defer stop()
		r, err := config.Run(ctx, func(what string) { fmt.Fprintf(c.stderr, "minictr: measuring: %s\n", what) })
		switch {
		case ctx.Err() != nil: // the commands were killed, and left what killed ones leave
			return errors.Join(errors.New("compare was interrupted"), e.Sweep())
		case err != nil:
			return err
		case *format == "json":
			return writeJSON(c.stdout, r)
		}
		return r.Format(c.stdout)
	}
}

// comparison fills a configuration in.
func (c *call) comparison(e *engine.Engine, config *compare.Config, m *machineFlags, o *engine.Options) (err error) {
	if err := c.complete(o); err != nil {
		return err
	}
	machine, err := e.VM(c, *o)
	if err != nil {
		return err
	}
	m.cgroup = string(vm.CgroupV2)
	if err := m.apply(c, machine); err != nil {
		return err
	}
	img, err := e.Image(c, o.Image, false)
	if err != nil {
		return err
	}
	p, _, err := e.Plan(*o)
	if err != nil {
		return err
	}
	if config.Self, err = os.Executable(); err != nil {
		return err
	}
	config.Globals = []string{"--data-root", c.dataRoot, "--root", c.root}
	for _, name := range []string{"memory", "cpus"} {
		if c.flags.Changed(name) {
			config.Flags = append(config.Flags, "--"+name, c.flags.Lookup(name).Value.String())
		}
	}
	config.Machine = []string{"--kernel", machine.Kernel.Image, "--accel", string(machine.Accel)}
	config.Emulated = machine.Accel == vm.TCG
	config.Args, config.Command = o.Args, machine.Process.Args
	config.Image = compare.Image{Name: o.Image, ID: img.ID.String()}
	if config.Image.Index, config.Image.Files, err = img.Layout(); err != nil {
		return err
	}
	return c.costs(config, machine, img, p.Len())
}

// costs are what lies on the disk and what must come up, known beforehand.
func (c *call) costs(config *compare.Config, machine *vm.Config, img *image.Image, calls int) error {
	layers, err := img.LayerDirs()
	if err != nil {
		return err
	}
	files, err := diskUsage(layers...)
	if err != nil {
		return err
	}
	kernel, err := diskUsage(machine.Kernel.Image)
	if err != nil {
		return err
	}
	config.NestedMemory = 512<<20 + 2*(img.Size+files) // it is loaded from memory into memory
	config.Files = map[compare.Place]int64{compare.Container: files, compare.Machine: files + kernel}
	config.Boots = map[compare.Place]string{
		compare.Bare: "nothing", compare.Container: fmt.Sprintf("nothing: %d calls", calls),
		compare.Machine: fmt.Sprintf("a kernel of %d MB", kernel>>20),
	}
	return nil
}

// diskUsage is what files and directories take, in bytes, as du(1) counts: a
// file with several names once.
func diskUsage(paths ...string) (size int64, err error) {
	seen := make(map[[2]uint64]bool)
	for _, path := range paths {
		resolved, err := filepath.EvalSymlinks(path)
		if err != nil {
			return 0, err
		}
		err = filepath.WalkDir(resolved, func(path string, _ fs.DirEntry, err error) error {
			var st unix.Stat_t
			if err == nil {
				err = unix.Lstat(path, &st)
			}
			if file := [2]uint64{uint64(st.Dev), st.Ino}; !seen[file] {
				seen[file] = true
				size += st.Blocks * 512
			}
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return size, nil
}
