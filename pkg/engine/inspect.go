package engine

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/image"
	"github.com/minictr/minictr/pkg/network"
	"github.com/minictr/minictr/pkg/spec"
)

// An Inspection is what docker inspect prints of a container.
type Inspection struct {
	ID           string `json:"Id"`
	Created      time.Time
	Path         string // the program
	Args         []string
	State        StateInspection
	Image        string // its ID
	LogPath      string
	Name         string // with a slash before it
	RestartCount int
	Driver       string
	Platform     string
	HostConfig   HostConfig
	SizeRw       *int64 `json:",omitempty"`
	SizeRootFs   *int64 `json:",omitempty"`
	Mounts       []Mount
	Config       ConfigInspection

	NetworkSettings NetworkSettings
}

// A StateInspection is how a container is.
type StateInspection struct {
	Status                                       Phase
	Running, Paused, Restarting, OOMKilled, Dead bool
	Pid                                          int
	ExitCode                                     int
	Error                                        string
	StartedAt, FinishedAt                        time.Time
}

// A HostConfig is what a container may take of the host. Limits that are not
// set are 0.
type HostConfig struct {
	Binds          []string
	LogConfig      LogConfig
	NetworkMode    string
	RestartPolicy  RestartPolicy
	AutoRemove     bool
	Privileged     bool
	CapAdd         []string
	CapDrop        []string
	CgroupParent   string
	PidMode        string
	IpcMode        string
	UTSMode        string
	ReadonlyRootfs bool
	OomScoreAdj    int
	ShmSize        int64
	Sysctls        map[string]string `json:",omitempty"`

	Memory, MemorySwap, MemoryReservation int64
	NanoCpus                              int64 // billionths of a processor
	CpuShares                             uint64
	CpuPeriod                             uint64
	CpuQuota                              int64
	CpusetCpus, CpusetMems                string
	PidsLimit                             int64
}

// A LogConfig says where a container's output is kept.
type LogConfig struct {
	Type   string
	Config map[string]string
}

// A RestartPolicy says when a container that has ended is started again.
type RestartPolicy struct {
	Name              string
	MaximumRetryCount int
}

// A ConfigInspection is what a container runs.
type ConfigInspection struct {
	Hostname     string
	Domainname   string
	User         string
	Tty          bool
	Env          []string
	Cmd          []string
	Image        string // as it was asked for
	Volumes      map[string]struct{}
	WorkingDir   string
	Entrypoint   []string
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Labels       map[string]string
	StopSignal   string `json:",omitempty"`
}

// NetworkSettings are a container's addresses, and what is published of it.
type NetworkSettings struct {
	SandboxKey  string // the file of its network namespace
	IPAddress   string
	IPPrefixLen int
	Gateway     string
	MacAddress  string
	Ports       map[string][]PortBinding // by "80/tcp"
	Networks    map[string]Connected
}

// A PortBinding is an address of the host that leads to a port of a container.
type PortBinding struct{ HostIp, HostPort string }

func (b PortBinding) String() string { return net.JoinHostPort(b.HostIp, b.HostPort) }

// Connected is how a container is on a network.
type Connected struct {
	IPAddress           string
	IPPrefixLen         int
	Gateway             string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	IPv6Gateway         string
	MacAddress          string
	Aliases             []string
}

// Inspect tells all that is known of a container.
func (e *Engine) Inspect(c *Container) (*Inspection, error) {
	v, err := c.View()
	if err != nil {
		return nil, err
	}
	s, err := c.Config()
	if err != nil {
		return nil, err
	}
	now := v.Now
	if now.Phase == Running || now.Phase == Paused {
		now.ExitCode = 0 // it is of the life before
	}
	i := &Inspection{
		ID: c.ID, Created: c.Created.UTC(), Image: c.ImageID, LogPath: c.LogFile(), Name: "/" + c.Title(), RestartCount: now.Restarts,
		Driver: "overlay", Platform: "linux", Args: []string{}, Mounts: c.mountsOf(s), Config: e.configOf(c, s), HostConfig: c.hostConfig(s),
		State: StateInspection{
			Status: now.Phase, Paused: now.Phase == Paused, Running: now.Phase == Running || now.Phase == Paused, Restarting: now.Phase == Restarting,
			OOMKilled: now.OOMKilled, Pid: v.PID(), ExitCode: now.ExitCode, Error: now.Error, StartedAt: now.Started.UTC(), FinishedAt: now.Finished.UTC(),
		},
	}
	if len(c.Command) > 0 {
		i.Path, i.Args = c.Command[0], c.Command[1:]
	}
	i.NetworkSettings, err = e.settings(c, c.networkOf(s))
	if v.Process != nil {
		i.NetworkSettings.SandboxKey = path.Join("/proc", strconv.Itoa(v.PID()), "ns/net")
	}
	return i, err
}

// configOf is what a container runs, by its config.json; what that does not tell
// is the image's, if it is still here.
func (e *Engine) configOf(c *Container, s *specs.Spec) ConfigInspection {
	o := c.Options
	config := ConfigInspection{
		Hostname: s.Hostname, Domainname: s.Domainname, User: o.User, Image: o.Image, Labels: labelsOf(s), Cmd: o.Args, Entrypoint: o.Entrypoint,
		StopSignal: s.Annotations[spec.StopSignal],
	}
	if s.Process != nil {
		config.Tty, config.Env, config.WorkingDir = s.Process.Terminal, s.Process.Env, s.Process.Cwd
	}
	img := e.imageOf(c)
	if img == nil {
		config.Cmd, config.Entrypoint = c.Command, nil
		return config
	}
	of := img.Config.Config
	config.Volumes, config.ExposedPorts = of.Volumes, exposed(of.ExposedPorts, o.Expose)
	if config.User == "" {
		config.User = of.User
	}
	if o.Entrypoint == nil {
		config.Entrypoint = of.Entrypoint
		if len(o.Args) == 0 {
			config.Cmd = of.Cmd
		}
	}
	return config
}

// exposed are the ports that an image says it serves, and those that a flag adds:
// "80/tcp".
func exposed(image map[string]struct{}, more []string) map[string]struct{} {
	all := maps.Clone(image)
	for _, text := range more {
		ports, _ := network.ParsePorts(text) // Create has read them
		for _, p := range ports {
			if all == nil {
				all = map[string]struct{}{}
			}
			all[fmt.Sprintf("%d/%s", p.Container, p.Proto)] = struct{}{}
		}
	}
	return all
}

// imageOf is the image of a container; nil if it has none, or it can't be read.
func (e *Engine) imageOf(c *Container) *image.Image {
	if c.ImageID == "" {
		return nil
	}
	store, err := e.Images()
	if err != nil {
		return nil
	}
	img, err := store.Get(c.ImageID)
	if err != nil {
		return nil
	}
	return img
}

// hostConfig is what a container may take of the host, by its config.json.
func (c *Container) hostConfig(s *specs.Spec) HostConfig {
	o := c.Options
	h := HostConfig{
		Binds: o.Volumes, LogConfig: logConfig(o), NetworkMode: c.networkMode(s), RestartPolicy: RestartPolicy{cmp.Or(c.Restart.Policy, "no"), c.Restart.Retries},
		AutoRemove: o.Remove || c.lone != nil && !c.lone.Detached, Privileged: o.Privileged, CapAdd: o.CapAdd, CapDrop: o.CapDrop, CgroupParent: path.Dir(s.Linux.CgroupsPath), Sysctls: s.Linux.Sysctl,
		PidMode: cmp.Or(o.PID, modeOf(s, specs.PIDNamespace)), IpcMode: cmp.Or(o.IPC, modeOf(s, specs.IPCNamespace), "private"), UTSMode: cmp.Or(o.UTS, modeOf(s, specs.UTSNamespace)),
	}
	if s.Root != nil {
		h.ReadonlyRootfs = s.Root.Readonly
	}
	if s.Process != nil && s.Process.OOMScoreAdj != nil {
		h.OomScoreAdj = *s.Process.OOMScoreAdj
	}
	for _, m := range s.Mounts {
		if i := slices.IndexFunc(m.Options, func(o string) bool { return strings.HasPrefix(o, "size=") }); m.Destination == "/dev/shm" && i >= 0 {
			h.ShmSize, _ = Bytes(strings.TrimPrefix(m.Options[i], "size=")) // it may be a share of all memory
		}
	}
	h.setLimits(s.Linux.Resources, o.CPUs != "")
	return h
}

func logConfig(o Options) LogConfig {
	c := LogConfig{Type: cmp.Or(o.LogDriver, "json-file"), Config: map[string]string{}}
	for _, option := range o.LogOpts {
		name, text, _ := strings.Cut(option, "=")
		c.Config[name] = text
	}
	return c
}

// modeOf is whose namespace a container has: "" is its own.
func modeOf(s *specs.Spec, kind specs.LinuxNamespaceType) string {
	for _, n := range s.Linux.Namespaces {
		switch {
		case n.Type == kind && n.Path != "":
			return "ns:" + n.Path
		case n.Type == kind:
			return ""
		}
	}
	return "host"
}

func (h *HostConfig) setLimits(r *specs.LinuxResources, asProcessors bool) {
	if r == nil {
		return
	}
	if m := r.Memory; m != nil {
		h.Memory, h.MemorySwap, h.MemoryReservation = value(m.Limit), value(m.Swap), value(m.Reservation)
	}
	if c := r.CPU; c != nil {
		h.CpuShares, h.CpuPeriod, h.CpuQuota, h.CpusetCpus, h.CpusetMems = value(c.Shares), value(c.Period), value(c.Quota), c.Cpus, c.Mems
		if asProcessors && h.CpuPeriod > 0 {
			h.NanoCpus = int64(math.Round(float64(h.CpuQuota) / float64(h.CpuPeriod) * 1e9))
			h.CpuPeriod, h.CpuQuota = 0, 0
		}
	}
	if r.Pids != nil {
		h.PidsLimit = value(r.Pids.Limit)
	}
}

// value is what a pointer leads to, or the zero value.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
