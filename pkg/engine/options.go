package engine

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/image"
	"github.com/minictr/minictr/pkg/seccomp"
	"github.com/minictr/minictr/pkg/spec"
)

// Options are those of run and plan, as they were typed. A zero value is what
// the image says, behind the default wall.
type Options struct {
	Name       string
	Image      string
	Args       []string // in place of the image's Cmd
	Entrypoint []string // in place of the image's; nil is the image's
	Pull       string   // "always", "missing" or "never"
	Platform   string   // OS/ARCH[/VARIANT]
	CIDFile    string   // takes the container's ID

	Env         []string // NAME=VALUE, or NAME to take it from Lookup
	EnvFiles    []string
	Labels      []string // NAME=VALUE, or NAME
	LabelFiles  []string
	Annotations []string // NAME=VALUE
	Workdir     string
	User        string   // USER[:GROUP]
	Groups      []string // names or numbers
	Terminal    bool
	Hostname    string
	Domainname  string
	StopSignal  string
	StopTimeout *int // seconds; nil is the default, -1 for ever

	ReadOnly    bool
	Volumes     []string // [HOST|NAME:]CONTAINER[:OPTIONS]
	Mounts      []string // KEY=VALUE,...
	Tmpfs       []string // PATH[:OPTIONS]
	VolumesFrom []string // CONTAINER[:ro]
	Secrets     []string // id=NAME,src=FILE,...
	Configs     []string // src=FILE,target=PATH,...
	ShmSize     string   // bytes
	Devices     []string // HOST[:CONTAINER[:rwm]]

	Limits

	CapAdd     []string
	CapDrop    []string
	Privileges bool     // setuid programs may give privileges
	Security   []string // KEY[=VALUE] of --security-opt
	Privileged bool
	Init       bool     // process 1 is the parent of the program
	Without    []string // bricks to leave out
	Nested     *Nested  `json:"-"` // if it is made in a user namespace

	// Whose namespaces it has: "" is its own, "host", or "container:NAME".
	PID, IPC, UTS, Cgroupns, Userns string
	Connection

	Detach      bool
	Remove      bool // it is removed when it ends
	Interactive bool // standard input stays open

	Restart   string   // see ParseRestart
	LogDriver string   // "json-file" or "none"
	LogOpts   []string // see ParseLog

	Sources `json:"-"`
}

// Sources know what names in options stand for. Where one is nil, there is
// nothing of the kind.
type Sources struct {
	Lookup func(name string) (string, bool) // a variable of the environment
	// Volume is the directory of a volume, which is made if there is none yet;
	// "" is a new one that nobody has named.
	Volume func(name string) (source string, err error)
	// Join is the file of a container's namespace: of kind pid, ipc, uts or network.
	Join func(kind, container string) (path string, err error)
	// MountsOf are the files that a container shares with the host.
	MountsOf func(container string) ([]specs.Mount, error)
	// FindNetwork says whether there is a network of this name.
	FindNetwork func(name string) error
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
	s.Domainname = o.Domainname
	s.Linux.CgroupsPath = path.Join("/", o.CgroupParent, id)
	if o.CgroupParent == "" {
		s.Linux.CgroupsPath = "/minictr/" + id
	}
	s.Process.Terminal = o.Terminal
	s.Root.Readonly = o.ReadOnly
	if o.Init {
		spec.SetInit(s)
	}
	if o.Terminal {
		spec.SetEnv(s, "TERM=xterm")
	}
	if len(img.Layers) > 0 {
		s.Mounts = slices.Insert(s.Mounts, 0, overlay(img))
	}
	if err := setProcess(s, img, o); err != nil {
		return nil, nil, err
	}
	w := &wall{Spec: s}
	for _, edit := range [...]func(*wall, Options) error{
		setLabels, setCapabilities, setSecurity, setLimits, setMounts, setDevices, setNamespaces, setNetwork, checkRecord,
	} {
		if err := edit(w, o); err != nil {
			return nil, nil, err
		}
	}
	if err := setImageVolumes(s, img.Config.Volumes, o); err != nil {
		return nil, nil, err
	}
	if s.Linux.Seccomp == nil && !w.lacks("seccomp") {
		s.Linux.Seccomp = seccomp.Default(s.Process.Capabilities.Bounding, seccomp.Native())
	}
	names := slices.DeleteFunc(slices.Clone(o.Without), w.lacks)
	bricks, err := spec.Without(s, names...)
	if err != nil {
		return nil, nil, fmt.Errorf("--without: %w", err)
	}
	if err := setNested(s, id, o); err != nil {
		return nil, nil, err
	}
	return s, append(w.gone, bricks...), spec.Validate(s)
}

// A wall is a spec in the making, and what has been left out of it.
type wall struct {
	*specs.Spec
	gone []spec.Brick
}

// lacks says whether a brick is gone already.
func (w *wall) lacks(name string) bool {
	return slices.ContainsFunc(w.gone, func(b spec.Brick) bool { return b.Name == name })
}

// leave leaves bricks out that are there yet.
func (w *wall) leave(bricks ...spec.Brick) {
	for _, b := range bricks {
		if !w.lacks(b.Name) {
			b.Leave(w.Spec)
			w.gone = append(w.gone, b)
		}
	}
}

// overlay is the root: the layers of the image, and a directory of the
// container's own on top, all named relative to the bundle.
func overlay(img Template) specs.Mount {
	return specs.Mount{
		Destination: "/", Type: "overlay", Source: "overlay",
		Options: []string{"lowerdir=" + strings.Join(img.Layers, ":"), "upperdir=upper", "workdir=work"},
	}
}
