package main

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/format"
	"github.com/minictr/minictr/pkg/volume"
)

// labelsOf reads labels that a flag gives, as NAME=VALUE or NAME.
func labelsOf(words []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		if name == "" {
			return nil, fmt.Errorf("--label: %q is not NAME=VALUE", word)
		}
		labels[name] = value
	}
	return labels, nil
}

func volumeCreateCommand(f *pflag.FlagSet) action {
	var labels []string
	f.Var((*list)(&labels), "label", "give it a label, `NAME=VALUE`")
	driver := f.StringP("driver", "d", "local", "accepted: local is the `DRIVER` that there is")
	return func(c *call) error {
		if len(c.args) > 1 {
			return c.exactly(1, c.command.args)
		}
		if *driver != "local" {
			return fmt.Errorf("--driver: %q is not here: volumes are local", *driver)
		}
		e, err := c.engine()
		if err != nil {
			return err
		}
		v := volume.Volume{}
		if v.Labels, err = labelsOf(labels); err != nil {
			return err
		}
		if len(c.args) > 0 {
			v.Name = c.args[0]
		}
		made, err := e.Volumes().Create(v)
		if err == nil {
			_, err = fmt.Fprintln(c.stdout, made.Name)
		}
		return err
	}
}

func volumeListCommand(f *pflag.FlagSet) action {
	quiet := f.BoolP("quiet", "q", false, "print names only")
	var filters []string
	f.VarP((*list)(&filters), "filter", "f", "only those with `KEY=VALUE`: dangling, driver, label or name")
	list := listFlags(f)
	return withEngine(0, func(c *call, e *engine.Engine) error {
		all, damaged := e.Volumes().List()
		used := map[string][]string{}
		if slices.ContainsFunc(filters, func(f string) bool { return strings.HasPrefix(f, "dangling=") }) {
			var err error
			if used, err = e.VolumeUsers(); err != nil {
				return err
			}
		}
		keep, err := volumeFilter(filters, used)
		if err != nil {
			return err
		}
		var rows []format.Row
		for _, v := range all {
			if keep(v) {
				rows = append(rows, volumeRow(e, v))
			}
		}
		if *quiet {
			return errors.Join(format.Print(c.stdout, "{{.Name}}", rows), damaged)
		}
		return errors.Join(c.print(list, volumeFields(), []string{"Driver", "Name"}, rows), damaged)
	})
}

func volumeFields() []format.Field {
	return []format.Field{
		{Name: "Driver", Heading: "DRIVER"}, {Name: "Name", Heading: "VOLUME NAME"}, {Name: "Mountpoint", Heading: "MOUNTPOINT"}, {Name: "Scope", Heading: "SCOPE"}, {Name: "Labels", Heading: "LABELS"}, {Name: "Label", Heading: "LABEL"},
	}
}

func volumeRow(e *engine.Engine, v *volume.Volume) format.Row {
	return format.Row{
		"Driver": "local", "Name": v.Name, "Mountpoint": path.Clean(e.Volumes().Path(v.Name)), "Scope": "local", "Labels": labelText(v.Labels),
		"Label": format.Method(func(name string) any { return v.Labels[name] }),
	}
}

// volumeFilter says which volumes all filters let through: those of one key are
// alternatives.
func volumeFilter(filters []string, used map[string][]string) (func(*volume.Volume) bool, error) {
	type test func(*volume.Volume) bool
	tests := map[string][]test{}
	for _, filter := range filters {
		key, value, given := strings.Cut(filter, "=")
		var pass test
		switch key {
		case "dangling":
			want, err := strconv.ParseBool(value)
			if err != nil {
				return nil, fmt.Errorf("--filter: dangling is true or false, not %q", value)
			}
			pass = func(v *volume.Volume) bool { return want == (len(used[v.Name]) == 0) }
		case "driver":
			pass = func(*volume.Volume) bool { return value == "local" }
		case "name":
			pass = func(v *volume.Volume) bool { return strings.Contains(v.Name, value) }
		case "label", "label!":
			name, text, hasText := strings.Cut(value, "=")
			pass = func(v *volume.Volume) bool {
				got, found := v.Labels[name]
				return (found && (!hasText || got == text)) == (key == "label")
			}
		}
		if pass == nil || !given {
			return nil, fmt.Errorf("--filter: %q is none of dangling=true, driver=local, label=NAME and name=PART", filter)
		}
		tests[key] = append(tests[key], pass)
	}
	return func(v *volume.Volume) bool {
		for key, list := range tests {
			all := strings.HasPrefix(key, "label") // each of them has to be there
			passed := slices.ContainsFunc(list, func(pass test) bool { return pass(v) != all })
			if passed == all {
				return false
			}
		}
		return true
	}, nil
}

func volumeRemoveCommand(f *pflag.FlagSet) action {
	force := f.BoolP("force", "f", false, "no error for one that is not there")
	return ofNamed("volume", func(c *call, e *engine.Engine) error {
		if err := e.Sweep(); err != nil {
			return err
		}
		return c.each(func(name string) error {
			err := e.Volumes().Remove(name, e.VolumeUsers)
			if *force && errors.Is(err, volume.ErrNotExist) {
				return nil
			}
			return err
		})
	})
}

// volumeView is a volume as volume inspect shows it.
type volumeView struct {
	CreatedAt  string
	Driver     string
	Labels     map[string]string
	Mountpoint string
	Name       string
	Options    map[string]string
	Scope      string
	Anonymous  bool `json:",omitempty"`
}

func volumeInspectCommand(f *pflag.FlagSet) action {
	as := documentFlag(f)
	return ofNamed("volume", func(c *call, e *engine.Engine) error {
		return c.documents(*as, func(name string) (any, error) { return inspectVolume(e, name) })
	})
}

func inspectVolume(e *engine.Engine, name string) (any, error) {
	v, err := e.Volumes().Get(name)
	if err != nil {
		return nil, err
	}
	return volumeView{v.Created.Format(time.RFC3339), "local", v.Labels, path.Clean(e.Volumes().Path(name)), name, nil, "local", v.Anonymous}, nil
}

func volumePruneCommand(f *pflag.FlagSet) action {
	all := f.BoolP("all", "a", false, "those with a name, too")
	force := forceFlag(f)
	var filters []string
	f.Var((*list)(&filters), "filter", "only those with `KEY=VALUE`: label or name")
	return withEngine(0, func(c *call, e *engine.Engine) error {
		keep, err := volumeFilter(filters, nil)
		if err != nil {
			return err
		}
		what := "all volumes without a name that no container uses"
		if *all {
			what = "all volumes that no container uses"
		}
		if err := c.sure(*force, what); err != nil {
			return err
		}
		if err := e.Sweep(); err != nil {
			return err
		}
		return c.pruneVolumes(e, func(v *volume.Volume) bool { return (*all || v.Anonymous) && keep(v) })
	})
}
