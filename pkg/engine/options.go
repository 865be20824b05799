package engine

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/image"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/seccomp"
	"github.com/minictr/minictr/pkg/spec"
)

// Options are those of run and plan. A zero value is what the image says,
// behind the default wall.
type Options struct {
	Name       string
	Image      string
	Args       []string // in place of the image's Cmd
	Entrypoint []string // in place of the image's; nil is the image's
	Env        []string // NAME=VALUE, or NAME to take it from Lookup
	Lookup     func(name string) (string, bool)
	Workdir    string
	User       string   // USER[:GROUP]
	Volumes    []string // HOST:CONTAINER[:OPTIONS]
	Hostname   string
	Memory     string // bytes, with b, k, m or g
	CPUs       string // processors, "0.5"
	Pids       int64  // 0 is the default, -1 no limit
	ReadOnly   bool
	CapAdd     []string
	CapDrop    []string
	Network    string // "none" or "host"
	Privileges bool   // setuid programs may give privileges
	Terminal   bool
	Without    []string // bricks to leave out
	Nested     *Nested  // if it is made in a user namespace
}

// A Template is what a spec needs to know of an image.
type Template struct {
	Config spec.Image
	Layers []string // names for overlayfs, the top one first, relative to the bundle; none if rootfs has the files
	Read   spec.FileReader
}

func templateOf(img *image.Image) (Template, error) {
	_, layers, err := img.Lower()
	return Template{Config: spec.Image(img.Config.Config), Layers: layers, Read: img.ReadFile}, err
}

// Spec compiles options and an image to a config.json. It returns the bricks
// that were left out.
func Spec(id string, img Template, o Options) (*specs.Spec, []spec.Brick, error) {
	if o.Name != "" {
		if err := container.ValidateID(o.Name); err != nil {
			return nil, nil, fmt.Errorf("--name: %w", err)
		}
	}
	s := spec.Default()
	s.Hostname = o.Hostname
	if s.Hostname == "" {
		s.Hostname = id
	}
	s.Linux.CgroupsPath = "/minictr/" + id
	s.Process.Terminal = o.Terminal
	s.Process.NoNewPrivileges = !o.Privileges
	s.Root.Readonly = o.ReadOnly
	if o.Terminal {
		spec.SetEnv(s, "TERM=xterm")
	}
	if len(img.Layers) > 0 {
		s.Mounts = slices.Insert(s.Mounts, 0, overlay(img))
	}
	if err := setProcess(s, img, o); err != nil {
		return nil, nil, err
	}
	for _, edit := range [...]func(*specs.Spec, Options) error{setCapabilities, setLimits, setNetwork, setVolumes} {
		if err := edit(s, o); err != nil {
			return nil, nil, err
		}
	}
	if o.ReadOnly {
		setImageVolumes(s, img.Config.Volumes)
	}
	s.Linux.Seccomp = seccomp.Default(s.Process.Capabilities.Bounding, seccomp.Native())
	bricks, err := spec.Without(s, o.Without...)
	if err != nil {
		return nil, nil, fmt.Errorf("--without: %w", err)
	}
	setNested(s, id, o)
	return s, bricks, spec.Validate(s)
}

// overlay is the root: the layers of the image, and a directory of the
// container's own on top, all named relative to the bundle.
func overlay(img Template) specs.Mount {
	return specs.Mount{
		Destination: "/", Type: "overlay", Source: "overlay",
		Options: []string{"lowerdir=" + strings.Join(img.Layers, ":"), "upperdir=upper", "workdir=work"},
	}
}

func setProcess(s *specs.Spec, img Template, o Options) error {
	config := img.Config
	if o.User != "" {
		config.User = o.User
	}
	for _, e := range o.Env {
		name, _, given := strings.Cut(e, "=")
		if name == "" {
			return fmt.Errorf("--env: %q is not NAME=VALUE", e)
		}
		if !given {
			value, ok := o.Lookup(name)
			if !ok {
				continue // as docker does: nothing to take over
			}
			e = name + "=" + value
		}
		config.Env = append(config.Env[:len(config.Env):len(config.Env)], e)
	}
	spec.SetEnv(s, "HOSTNAME="+s.Hostname)
	if err := spec.SetImage(s, config, o.Entrypoint, o.Args, img.Read); err != nil {
		return err
	}
	if o.Workdir != "" {
		if !path.IsAbs(o.Workdir) {
			return fmt.Errorf("--workdir: %q is not an absolute path", o.Workdir)
		}
		s.Process.Cwd = o.Workdir
	}
	return nil
}

func setCapabilities(s *specs.Spec, o Options) error {
	caps := s.Process.Capabilities.Bounding
	drop, err := capabilities("--cap-drop", o.CapDrop)
	if err != nil {
		return err
	}
	add, err := capabilities("--cap-add", o.CapAdd)
	if err != nil {
		return err
	}
	if slices.Contains(drop, "ALL") {
		caps = nil
	}
	if slices.Contains(add, "ALL") {
		return errors.New("--cap-add: ALL is not a wall; name the capabilities that the program needs")
	}
	caps = slices.DeleteFunc(slices.Concat(caps, add), func(c string) bool { return slices.Contains(drop, c) })
	slices.Sort(caps)
	caps = slices.Compact(caps)
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	return nil
}

// capabilities puts names in the kernel's form: net_raw is CAP_NET_RAW.
func capabilities(flag string, names []string) (list []string, err error) {
	for _, n := range names {
		n = strings.ToUpper(n)
		if n != "ALL" && !strings.HasPrefix(n, "CAP_") {
			n = "CAP_" + n
		}
		if n != "ALL" && !slices.Contains(plan.CapNames[:], n) {
			return nil, fmt.Errorf("%s: unknown capability %q", flag, n)
		}
		list = append(list, n)
	}
	return list, nil
}

func setLimits(s *specs.Spec, o Options) error {
	r := s.Linux.Resources
	if o.Memory != "" {
		limit, err := Bytes(o.Memory)
		if err == nil && limit < minMemory {
			err = fmt.Errorf("%q is less than %d MB, with which no program begins", o.Memory, minMemory>>20)
		}
		if err != nil {
			return fmt.Errorf("--memory: %w", err)
		}
		swap := limit // no swap: what is over the limit is over it
		r.Memory = &specs.LinuxMemory{Limit: &limit, Swap: &swap}
	}
	if o.CPUs != "" {
		n, err := strconv.ParseFloat(o.CPUs, 64)
		if err != nil || !(n >= 0.01 && n <= 4096) {
			return fmt.Errorf("--cpus: %q is no number of processors from 0.01 to 4096", o.CPUs)
		}
		period := uint64(100_000) // microseconds
		quota := int64(math.Round(n * float64(period)))
		r.CPU = &specs.LinuxCPU{Quota: &quota, Period: &period}
	}
	switch {
	case o.Pids < -1:
		return fmt.Errorf("--pids-limit: %d is neither a number of processes nor -1, no limit", o.Pids)
	case o.Pids != 0:
		r.Pids.Limit = &o.Pids
	}
	return nil
}

// minMemory is Docker's: with less a process can hardly begin.
const minMemory = 6 << 20

// Bytes reads a size: a number with b, k, m or g, in powers of 1024.
func Bytes(s string) (int64, error) {
	number, shift := strings.ToLower(s), 0
	for _, unit := range [...]struct {
		suffix string
		shift  int
	}{{"kib", 10}, {"mib", 20}, {"gib", 30}, {"kb", 10}, {"mb", 20}, {"gb", 30}, {"k", 10}, {"m", 20}, {"g", 30}, {"b", 0}} {
		if n, ok := strings.CutSuffix(number, unit.suffix); ok {
			number, shift = n, unit.shift
			break
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	n *= float64(int64(1) << shift)
	if err != nil || !(n >= 0 && n < math.MaxInt64) {
		return 0, fmt.Errorf("%q is no number of bytes, with or without b, k, m or g", s)
	}
	return int64(n), nil
}

func setNetwork(s *specs.Spec, o Options) error {
	switch o.Network {
	case "", "none":
		return nil
	case "host":
		spec.HostNetwork(s)
		return nil
	}
	return fmt.Errorf("--network: %q is neither none nor host", o.Network)
}

// setImageVolumes keeps what the image calls volumes writable where the root is
// not. Elsewhere the container's own layer serves: it lives as long.
func setImageVolumes(s *specs.Spec, volumes map[string]struct{}) {
	for _, v := range slices.Sorted(maps.Keys(volumes)) {
		dest := path.Clean("/" + v)
		if dest != "/" && !slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return path.Clean(m.Destination) == dest }) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: dest, Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev"}})
		}
	}
}

func setVolumes(s *specs.Spec, o Options) error {
	for _, v := range o.Volumes {
		parts := strings.Split(v, ":")
		if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || !path.IsAbs(parts[1]) || path.Clean(parts[1]) == "/" {
			return fmt.Errorf("--volume: %q is not HOST:CONTAINER[:OPTIONS], with CONTAINER an absolute path below /", v)
		}
		if !strings.ContainsAny(parts[0][:1], "/.") {
			return fmt.Errorf("--volume: %q is the name of a volume, and there are none: a path begins with a slash or a dot", parts[0])
		}
		source, err := filepath.Abs(parts[0])
		if err != nil {
			return fmt.Errorf("--volume: %w", err)
		}
		options := []string{"rbind", "rprivate"}
		if len(parts) == 3 {
			for word := range strings.SplitSeq(parts[2], ",") {
				if !slices.Contains([]string{"ro", "rw", "nosuid", "nodev", "noexec", "rprivate", "private", "rslave", "slave", "rshared", "shared"}, word) {
					return fmt.Errorf("--volume: unknown option %q in %q", word, v)
				}
				options = append(options, word)
			}
		}
		s.Mounts = append(s.Mounts, specs.Mount{Destination: parts[1], Type: "bind", Source: source, Options: options})
	}
	return nil
}
