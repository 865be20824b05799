package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/spec"
)

// one is the container of a command that has no other argument.
func (c *call) one() (*container.State, error) {
	if err := c.exactly(1, "ID"); err != nil {
		return nil, err
	}
	return c.load(c.args[0])
}

func pauseCommand(*pflag.FlagSet) action {
	return func(c *call) error {
		return c.frozen((*container.State).Pause, (*engine.Engine).Pause)
	}
}

func resumeCommand(*pflag.FlagSet) action {
	return func(c *call) error {
		return c.frozen((*container.State).Resume, (*engine.Engine).Unpause)
	}
}

// frozen stops containers, or lets them go on: one of the OCI's family, or those
// of the engine.
func (c *call) frozen(one func(*container.State) error, each func(*engine.Engine, *engine.Container) error) error {
	if c.runc || len(c.args) == 1 && !c.isKept(c.args[0]) {
		s, err := c.one()
		if err != nil {
			return err
		}
		return one(s)
	}
	return c.ofContainers(each)
}

// A limit is a flag of update that is a number.
type limit struct {
	flag, about string
	bytes       bool // it takes 20m, and -1 for no limit
	unsigned    bool
	set         func(*specs.LinuxResources, int64)
}

func cpuOf(r *specs.LinuxResources) *specs.LinuxCPU {
	if r.CPU == nil {
		r.CPU = new(specs.LinuxCPU)
	}
	return r.CPU
}

func memoryOf(r *specs.LinuxResources) *specs.LinuxMemory {
	if r.Memory == nil {
		r.Memory = new(specs.LinuxMemory)
	}
	return r.Memory
}

// parse reads the flag's value.
func (l limit) parse(text string) (n int64, err error) {
	switch {
	case !l.bytes || text == "-1":
		n, err = strconv.ParseInt(text, 10, 64)
	default:
		n, err = engine.Bytes(text)
	}
	if err != nil || n < 0 && l.unsigned {
		return 0, fmt.Errorf("--%s: %q is no such number", l.flag, text)
	}
	return n, nil
}

func unsigned(n int64) *uint64 {
	u := uint64(n)
	return &u
}

var limits = [...]limit{
	{"cpu-period", "microseconds", false, true, func(r *specs.LinuxResources, n int64) { cpuOf(r).Period = unsigned(n) }},
	{"cpu-quota", "microseconds of each period", false, false, func(r *specs.LinuxResources, n int64) { cpuOf(r).Quota = &n }},
	{"cpu-burst", "microseconds saved up", false, true, func(r *specs.LinuxResources, n int64) { cpuOf(r).Burst = unsigned(n) }},
	{"cpu-share", "its weight among others, 1024 by default", false, true, func(r *specs.LinuxResources, n int64) { cpuOf(r).Shares = unsigned(n) }},
	{"cpu-shares", "as --cpu-share, by Docker's name", false, true, func(r *specs.LinuxResources, n int64) { cpuOf(r).Shares = unsigned(n) }},
	{"cpu-rt-period", "microseconds, of realtime processes", false, true, func(r *specs.LinuxResources, n int64) { cpuOf(r).RealtimePeriod = unsigned(n) }},
	{"cpu-rt-runtime", "microseconds of each realtime period", false, false, func(r *specs.LinuxResources, n int64) { cpuOf(r).RealtimeRuntime = &n }},
	{"cpu-idle", "1: only when nobody else wants the processor", false, false, func(r *specs.LinuxResources, n int64) { cpuOf(r).Idle = &n }},
	{"memory", "most", true, false, func(r *specs.LinuxResources, n int64) { memoryOf(r).Limit = &n }},
	{"memory-reservation", "what it keeps when memory is short", true, false, func(r *specs.LinuxResources, n int64) { memoryOf(r).Reservation = &n }},
	{"memory-swap", "most of memory and swap together", true, false, func(r *specs.LinuxResources, n int64) { memoryOf(r).Swap = &n }},
	{"pids-limit", "most processes and threads", false, false, func(r *specs.LinuxResources, n int64) { r.Pids = &specs.LinuxPids{Limit: &n} }},
}

func updateCommand(f *pflag.FlagSet) action {
	resources := f.StringP("resources", "r", "", "all limits as JSON, in `FILE`, or - for standard input")
	for _, l := range limits {
		short := ""
		if l.flag == "memory" {
			short = "m"
		}
		f.StringP(l.flag, short, "", "`N` "+l.about)
	}
	restart := f.String("restart", "", "start it again by `POLICY`: no, on-failure[:N], always or unless-stopped")
	f.Uint16("blkio-weight", 0, "`N` its weight among others at the disk")
	f.String("cpuset-cpus", "", "the processors in this `LIST`")
	f.String("cpuset-mems", "", "the memory nodes in this `LIST`")
	for _, name := range []string{"l3-cache-schema", "mem-bw-schema"} {
		f.String(name, "", "refused: Intel RDT is not supported `SCHEMA`")
	}
	return func(c *call) (err error) {
		r := new(specs.LinuxResources)
		if *resources != "" {
			if r, err = readResources(*resources); err != nil {
				return err
			}
		}
		if err := resourcesOf(f, r); err != nil {
			return err
		}
		if !c.runc && len(c.args) > 0 && c.isKept(c.args[0]) {
			return c.ofContainers(func(e *engine.Engine, ctr *engine.Container) error { return e.Update(ctr, r, *restart) })
		}
		if *restart != "" {
			return errors.New("--restart is for containers that run -d and create have made of an image")
		}
		s, err := c.one()
		if err != nil {
			return err
		}
		return c.runtime().Update(s, r)
	}
}

// resourcesOf adds what the flags of update set.
func resourcesOf(f *pflag.FlagSet, r *specs.LinuxResources) (err error) {
	f.Visit(func(given *pflag.Flag) {
		i := slices.IndexFunc(limits[:], func(l limit) bool { return l.flag == given.Name })
		switch value := given.Value.String(); {
		case err != nil:
		case i >= 0:
			var n int64
			if n, err = limits[i].parse(value); err == nil {
				limits[i].set(r, n)
			}
		case given.Name == "blkio-weight":
			weight, _ := f.GetUint16(given.Name) // it is one
			r.BlockIO = &specs.LinuxBlockIO{Weight: &weight}
		case given.Name == "cpuset-cpus":
			cpuOf(r).Cpus = value
		case given.Name == "cpuset-mems":
			cpuOf(r).Mems = value
		case given.Name != "resources" && given.Name != "restart":
			err = fmt.Errorf("--%s: Intel RDT is not supported", given.Name)
		}
	})
	return err
}

func readResources(name string) (*specs.LinuxResources, error) {
	in := io.Reader(os.Stdin)
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		in = file
	}
	data, err := io.ReadAll(in)
	if err != nil {
		return nil, err
	}
	r := new(specs.LinuxResources)
	return r, spec.Unmarshal(data, r)
}

// eventInterval is how often events prints statistics, by default.
const eventInterval = 5 * time.Second

func eventsCommand(f *pflag.FlagSet) action {
	interval := f.Duration("interval", eventInterval, "print statistics every `DURATION`")
	once := f.Bool("stats", false, "print statistics once")
	return func(c *call) error {
		s, err := c.one()
		if err != nil {
			return err
		}
		if *interval <= 0 {
			return errors.New("duration interval must be greater than 0")
		}
		if status, err := s.Status(); err != nil || status == specs.StateStopped {
			return errors.Join(err, fmt.Errorf("%w: %s", container.ErrStopped, s.ID))
		}
		kills, err := s.Host.Cgroup.OOMKills()
		if err != nil {
			return err
		}
		for ended := false; err == nil && !ended; time.Sleep(*interval) {
			if kills, ended, err = printEvents(c.stdout, s, kills, *once); *once {
				break
			}
		}
		return err
	}
}

// printEvents prints what there is to say of a container, after kills of its
// processes that were told of, and whether it has ended.
func printEvents(w io.Writer, s *container.State, kills uint64, once bool) (now uint64, ended bool, err error) {
	status, err := s.Status() // first: a container that has ended may have been killed
	if err != nil {
		return kills, false, err
	}
	ended = status == specs.StateStopped
	stats, err := s.Host.Cgroup.Stats()
	if err != nil {
		return kills, ended, err
	}
	out := json.NewEncoder(w)
	if now = stats.Memory.OOMKills; now > kills && !once {
		err = out.Encode(event{Type: "oom", ID: s.ID})
	}
	if !ended {
		err = errors.Join(err, out.Encode(event{"stats", s.ID, statsOf(stats)}))
	}
	return now, ended, err
}

func refusedCommand(f *pflag.FlagSet) action {
	f.ParseErrorsAllowlist.UnknownFlags = true
	f.BoolP("help", "h", false, "refused, too: that a runtime has help for this is taken for its support")
	return func(c *call) error {
		return fmt.Errorf("%s is not supported: minictr does not freeze processes to disk", c.name)
	}
}
