package engine

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/format"
	"github.com/minictr/minictr/pkg/spec"
	"github.com/minictr/minictr/pkg/sys"
)

// Paused is the phase of a container that runs, and whose processes are frozen.
// It is the kernel's to know, and stands in no file.
const Paused Phase = "paused"

// A View is a container as it is at one moment.
type View struct {
	*Container
	Now     Status
	Process *container.State // nil if there is none
}

// View looks at a container.
func (c *Container) View() (v View, err error) {
	v.Container = c
	if v.Now, err = c.Status(); err != nil || c.lone == nil && v.Now.Phase != Running {
		return v, err
	}
	s, err := c.State()
	if errors.Is(err, container.ErrNotExist) {
		return v, nil
	}
	if err != nil {
		return v, err
	}
	status, err := s.Status()
	if err != nil || status == specs.StateStopped || s.PID == 0 { // there is none yet, or no more
		return v, err
	}
	v.Process = s
	if status == container.Paused {
		v.Now.Phase = Paused
	}
	return v, nil
}

// PID is that of a container's first process on this host; 0 if there is none.
func (v View) PID() int {
	if v.Process == nil {
		return 0
	}
	return v.Process.PID
}

// Words say how a container is, as docker ps does.
func (s Status) Words(now time.Time) string {
	switch s.Phase {
	case Running:
		return "Up " + format.Duration(now.Sub(s.Started))
	case Paused:
		return "Up " + format.Duration(now.Sub(s.Started)) + " (Paused)"
	case Restarting:
		return fmt.Sprintf("Restarting (%d) %s", s.ExitCode, format.Ago(s.Finished, now))
	case Exited:
		if s.Finished.IsZero() { // nobody was there to see it
			return "Exited"
		}
		return fmt.Sprintf("Exited (%d) %s", s.ExitCode, format.Ago(s.Finished, now))
	default:
		return "Created"
	}
}

// Config is the config.json that a container is made of.
func (c *Container) Config() (*specs.Spec, error) {
	if c.lone != nil {
		return c.engine.Runtime.Config(c.lone)
	}
	return spec.Load(c.dir)
}

// labelsOf are the annotations of a config.json, but for those that tell a
// runtime what to do.
func labelsOf(s *specs.Spec) map[string]string {
	labels := make(map[string]string)
	maps.Copy(labels, s.Annotations)
	maps.DeleteFunc(labels, func(name, _ string) bool { return spec.IsOurs(name) || name == spec.StopSignal })
	return labels
}

// A Mount is one that somebody has asked for, in Docker's words.
type Mount struct {
	Type        string // "bind" or "volume"
	Name        string `json:",omitempty"` // of the volume
	Source      string
	Destination string
	Driver      string `json:",omitempty"`
	Mode        string
	RW          bool
	Propagation string
}

// mountsOf are those of a config.json that show files of the host, but for what
// the engine itself puts in place.
func (c *Container) mountsOf(s *specs.Spec) []Mount {
	list := []Mount{}
	volumes, _ := filepath.Abs(filepath.Join(c.engine.Root, "volumes")) // relative, it is nobody's source
	for _, m := range c.shared(s) {
		source := m.Source
		shown := Mount{Type: "bind", Source: source, Destination: m.Destination, RW: true, Propagation: "rprivate"}
		if rest, ok := strings.CutPrefix(source, volumes+"/"); ok {
			shown.Type, shown.Driver = "volume", "local"
			shown.Name, _, _ = strings.Cut(rest, "/")
		}
		var mode []string
		for _, option := range m.Options {
			switch option {
			case "ro":
				shown.RW = false
			case "private", "shared", "slave", "rshared", "rslave":
				shown.Propagation = option
			case "bind", "rbind", "rprivate", "rw":
				continue
			}
			mode = append(mode, option)
		}
		shown.Mode = strings.Join(mode, ",")
		list = append(list, shown)
	}
	return list
}

// shared are the mounts that show files of the host, by their paths there, but
// for those that the engine has made.
func (c *Container) shared(s *specs.Spec) (list []specs.Mount) {
	for _, m := range s.Mounts {
		if !filepath.IsAbs(m.Source) {
			m.Source = filepath.Join(c.dir, m.Source)
		}
		dir, name := filepath.Split(m.Source)
		ours := filepath.Dir(filepath.Clean(dir)) == filepath.Dir(c.dir) && slices.Contains(etcFiles[:], name) // also another container's
		if m.Type == "bind" && !ours {
			list = append(list, m)
		}
	}
	return list
}

// mountsOf is Sources.MountsOf.
func (e *Engine) mountsOf(name string) ([]specs.Mount, error) {
	c, err := e.Find(name)
	if err != nil {
		return nil, err
	}
	s, err := c.Config()
	if err != nil {
		return nil, err
	}
	return c.shared(s), nil
}

// Details are what takes another look than View.
type Details struct {
	Labels  map[string]string
	Mounts  []Mount
	Network string // whose it is on: "none", "host" or its name
}

// Details reads a container's config.json.
func (c *Container) Details() (d Details, err error) {
	s, err := c.Config()
	if err != nil {
		return d, err
	}
	return Details{labelsOf(s), c.mountsOf(s), c.networkOf(s)}, nil
}

// networkMode is networkOf, in Docker's words.
func (c *Container) networkMode(s *specs.Spec) string {
	if c.Options.Fallback {
		return "default"
	}
	return c.networkOf(s)
}

// networkOf is whose network a container is on: what was asked for or, without
// a record, what config.json says.
func (c *Container) networkOf(s *specs.Spec) string {
	if asked := cmp.Or(c.Options.On(), c.Options.Network); asked != "" {
		return asked
	}
	for _, n := range s.Linux.Namespaces {
		if n.Type == specs.NetworkNamespace {
			if n.Path != "" {
				return "ns:" + n.Path
			}
			return "none"
		}
	}
	return "host"
}

// Sizes are the bytes of the files that a container has written, and those of
// all files of its root, also of what is hidden in it.
func (c *Container) Sizes() (own, root int64, err error) {
	if own, err = sys.TreeSize(filepath.Join(c.dir, "upper")); err != nil {
		return 0, 0, err
	}
	root = own
	layers, err := filepath.Glob(filepath.Join(c.dir, "l", "*"))
	for _, layer := range layers {
		dir, e := filepath.EvalSymlinks(layer)
		if e == nil {
			var n int64
			n, e = sys.TreeSize(dir)
			root += n
		}
		err = errors.Join(err, e)
	}
	return own, root, err
}
