package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/rootless"
)

// wallFlags are the flags of run and plan that change the wall. In plan, -v is
// not the short form of --volume. What follows the image is not ours.
func wallFlags(f *pflag.FlagSet, o *engine.Options, volume string) {
	f.SetInterspersed(false)
	programFlags(f, o, volume)
	brickFlags(f, o)
}

// initFlag is one of those, but not of vm, where process 1 is the machine's.
func initFlag(f *pflag.FlagSet, o *engine.Options) {
	f.BoolVar(&o.Init, "init", false, "make process 1 a parent of the program, which reaps and passes signals on")
}

// Flags whose options tell whether they were given.
const entrypoint, stopTimeout = "entrypoint", "stop-timeout"

// programFlags are those that mean something behind any wall.
func programFlags(f *pflag.FlagSet, o *engine.Options, volume string) {
	f.BoolVarP(&o.Interactive, "interactive", "i", false, "keep standard input open (always so, in the foreground)")
	f.VarP(new(list), "attach", "a", "accepted, and of no effect: all its `STREAMS` are ours in the foreground")
	f.BoolVarP(&o.Terminal, "tty", "t", false, "give it a terminal (by itself, if this is one)")
	f.VarP((*list)(&o.Env), "env", "e", "set `NAME=VALUE` in its environment")
	f.Var((*list)(&o.EnvFiles), "env-file", "set the variables of the lines of `FILE`")
	f.StringVarP(&o.Workdir, "workdir", "w", "", "begin in `DIR`")
	f.StringVarP(&o.User, "user", "u", "", "run as `USER[:GROUP]`")
	f.Var((*list)(&o.Groups), "group-add", "be in another `GROUP`, too")
	f.VarP((*list)(&o.Volumes), "volume", volume, "show `HOST:CONTAINER[:ro]`, a file or directory; NAME:CONTAINER is a volume")
	f.StringVarP(&o.Hostname, "hostname", "h", "", "have it believe that the machine is called `NAME`")
	f.StringVarP(&o.Memory, "memory", "m", "", "limit its memory to `BYTES` (k, m, g)")
	f.StringVar(&o.CPUs, "cpus", "", "limit it to `N` processors' time (0.5)")
	f.String(entrypoint, "", "run `PROGRAM` in place of the image's")
	f.StringVar(&o.Pull, "pull", "missing", "fetch the image `WHEN`: always, missing (it is not here) or never")
	f.StringVar(&o.Platform, "platform", "", "take the image for `OS/ARCH[/VARIANT]`")
}

// brickFlags are those of a container's wall, and of who keeps it.
func brickFlags(f *pflag.FlagSet, o *engine.Options) {
	limitFlags(f, &o.Limits)
	networkFlags(f, &o.Connection)

	f.Bool("no-healthcheck", false, "accepted, and of no effect: there are no health checks")
	f.StringVar(&o.Name, "name", "", "call the container `NAME`")
	f.StringVar(&o.CIDFile, "cidfile", "", "write its ID to a new `FILE`")
	f.VarP((*list)(&o.Labels), "label", "l", "give it a label `NAME=VALUE`")
	f.Var((*list)(&o.LabelFiles), "label-file", "give it the labels of the lines of `FILE`")
	f.Var((*list)(&o.Annotations), "annotation", "add `NAME=VALUE` to the annotations of config.json")
	f.StringVar(&o.Restart, "restart", "no", "start it again by `POLICY`: no, on-failure[:N], always or unless-stopped")
	f.StringVar(&o.LogDriver, "log-driver", "json-file", "keep its output by `DRIVER`: json-file, or none")
	f.Var((*list)(&o.LogOpts), "log-opt", "keep so much of it as `NAME=VALUE` says: max-size=BYTES, max-file=N")
	f.StringVar(&o.StopSignal, "stop-signal", "", "stop it by this `SIGNAL` (TERM)")
	f.Int(stopTimeout, defaultStop, "kill it so many `SECONDS` after that (-1: never)")

	f.BoolVar(&o.ReadOnly, "read-only", false, "make its root read-only")
	f.Var((*list)(&o.Mounts), "mount", "mount what `KEY=VALUE,...` says: type=bind, volume or tmpfs, src=, dst=, readonly")
	f.Var((*list)(&o.VolumesFrom), "volumes-from", "show what the `CONTAINER[:ro]` has of the host, and of volumes")
	f.Var((*list)(&o.Tmpfs), "tmpfs", "mount a file system in memory at `PATH[:OPTIONS]`")
	f.StringVar(&o.ShmSize, "shm-size", "", "limit /dev/shm to `BYTES` (64m)")
	f.Var((*list)(&o.Secrets), "secret", "show what `id=NAME,src=FILE` says as /run/secrets/NAME, in memory only")
	f.Var((*list)(&o.Configs), "config", "show what `src=FILE,target=PATH` says, a copy in memory only")
	f.Var((*list)(&o.Devices), "device", "let it use the device `HOST[:CONTAINER[:rwm]]`")

	f.Var((*list)(&o.CapAdd), "cap-add", "add a `CAPABILITY`, or ALL")
	f.Var((*list)(&o.CapDrop), "cap-drop", "take away a `CAPABILITY`, or ALL")
	f.Var((*list)(&o.Security), "security-opt", "set `NAME=VALUE`: no-new-privileges, seccomp=FILE, apparmor=PROFILE, mask=PATH and others")
	f.BoolVar(&o.Privileges, "new-privileges", false, "let setuid programs give privileges (no_new_privs off)")
	f.BoolVar(&o.Privileged, "privileged", false, "give it all of root's power, and the host's devices")
	f.Var((*list)(&o.Without), "without", "leave out a `BRICK` of the wall, to see what leaks")
	f.StringVar(&o.Domainname, "domainname", "", "have it believe to be in the NIS domain `NAME`")
	f.StringVar(&o.PID, "pid", "", "see the processes of `host|container:NAME`")
	f.StringVar(&o.IPC, "ipc", "", "share System V IPC and message queues with `host|container:NAME`")
	f.StringVar(&o.UTS, "uts", "", "have the host name of `host|container:NAME`")
	f.StringVar(&o.Cgroupns, "cgroupns", "", "see its own cgroups, or the host's: `private|host`")
	f.StringVar(&o.Userns, "userns", "", "have the ids of `host`, as is always so")
}

// limitFlags are those that say how much it may take.
func limitFlags(f *pflag.FlagSet, l *engine.Limits) {
	f.StringVar(&l.CgroupParent, "cgroup-parent", "", "make its cgroup below `PATH`")
	f.StringVar(&l.MemorySwap, "memory-swap", "", "limit memory and swap together to `BYTES` (-1: no limit; by itself: no swap)")
	f.StringVar(&l.MemoryReservation, "memory-reservation", "", "let it keep `BYTES` when memory is short")
	f.IntVar(&l.OOMScoreAdj, "oom-score-adj", 0, "be killed `N` readily when memory runs out (-1000 to 1000)")
	f.BoolVar(&l.OOMKillDisable, "oom-kill-disable", false, "wait, and not be killed, when its limit of memory is reached (cgroup v1)")
	f.Uint64VarP(&l.CPUShares, "cpu-shares", "c", 0, "get `N` shares of busy processors (1024)")
	f.Uint64Var(&l.CPUPeriod, "cpu-period", 0, "count its time in periods of `MICROSECONDS`")
	f.Int64Var(&l.CPUQuota, "cpu-quota", 0, "run `MICROSECONDS` in each period")
	f.StringVar(&l.CpusetCPUs, "cpuset-cpus", "", "run on the processors of `LIST` (0-2,4)")
	f.StringVar(&l.CpusetMems, "cpuset-mems", "", "take memory from the NUMA nodes of `LIST`")
	f.Uint16Var(&l.BlkioWeight, "blkio-weight", 0, "get the share `N` of busy disks (10 to 1000)")
	f.Int64Var(&l.Pids, "pids-limit", 0, "limit it to `N` processes and threads (-1: no limit)")
	f.Var((*list)(&l.Ulimits), "ulimit", "limit each process: `NAME=SOFT[:HARD]`, as nofile=1024")
	f.Var((*list)(&l.Sysctls), "sysctl", "set the kernel parameter `NAME=VALUE` of its namespaces")
}

// networkFlags are those that say how it is connected.
func networkFlags(f *pflag.FlagSet, c *engine.Connection) {
	f.StringVar(&c.Network, "network", "", "none: only itself; host: the host's; container:NAME: that one's; or the network `NAME` [$"+envNetwork+", bridge]")
	f.Var((*list)(&c.Aliases), "network-alias", "be called `NAME` too on the network")
	f.StringVar(&c.MAC, "mac-address", "", "have the hardware address `MAC`")
	f.StringVar(&c.IP, "ip", "", "have the IPv4 `ADDRESS`")
	f.StringVar(&c.IP6, "ip6", "", "have the IPv6 `ADDRESS`")
	f.VarP((*list)(&c.Publish), "publish", "p", "let the host answer for it: `[[IP:]HOST:]CONTAINER[/udp]`")
	f.BoolVarP(&c.PublishAll, "publish-all", "P", false, "publish all ports that the image or --expose names")
	f.Var((*list)(&c.Expose), "expose", "name a `PORT[/PROTO]` that it serves")
	f.Var((*list)(&c.AddHosts), "add-host", "add `NAME:IP` to its /etc/hosts")
	f.Var((*list)(&c.DNS), "dns", "ask the name server at `IP`")
	f.Var((*list)(&c.DNSSearch), "dns-search", "look names up in `DOMAIN`, too")
	f.Var((*list)(&c.DNSOptions), "dns-option", "add an `OPTION` to its resolv.conf")
}

// defaultNetwork is the network of who asks for none. For a user it takes a program
// that connects it.
func defaultNetwork() string {
	if name := os.Getenv(envNetwork); name != "" {
		return name
	}
	if rootless.IsUser() && rootless.Carrier() == "" {
		return "none"
	}
	return engine.DefaultNetwork
}

// complete adds to the flags' options what is no flag's value as it stands.
func (c *call) complete(o *engine.Options) error {
	for _, name := range []string{"name", "workdir", "user", "hostname", "memory", "cpus", "network", "cidfile", "shm-size", "stop-signal"} {
		if c.flags.Changed(name) && c.flags.Lookup(name).Value.String() == "" {
			return fmt.Errorf("--%s: it is empty: leave it out, or give it a value", name)
		}
	}
	if len(c.args) == 0 {
		return fmt.Errorf("%s needs an image: minictr %[1]s tiny sh", c.name)
	}
	o.Image, o.Args, o.Lookup = c.args[0], c.args[1:], os.LookupEnv
	o.CapAdd, o.CapDrop, o.Without = words(o.CapAdd), words(o.CapDrop), words(o.Without)
	switch {
	case c.name == "vm", c.name == "compare", slices.Contains(o.Without, "net"): // these have others, or none
	case o.Network == "":
		publishes := len(o.Publish) > 0 || o.PublishAll
		if o.Network = defaultNetwork(); o.Network == "none" && publishes {
			o.Network = engine.DefaultNetwork
		}
		asked := os.Getenv(envNetwork) != "" || publishes || o.IP != "" || o.IP6 != "" || o.MAC != "" || len(o.Aliases) > 0
		o.Fallback = o.Network == engine.DefaultNetwork && !asked
	}
	if c.flags.Changed(stopTimeout) {
		n, err := c.flags.GetInt(stopTimeout)
		if err != nil {
			return err
		}
		o.StopTimeout = &n
	}
	if !c.flags.Changed("tty") {
		o.Terminal = term.IsTerminal(0) && term.IsTerminal(1)
	}
	if c.flags.Changed(entrypoint) {
		o.Entrypoint = []string{} // none at all, unless it is named
		if program := c.flags.Lookup(entrypoint).Value.String(); program != "" {
			o.Entrypoint = append(o.Entrypoint, program)
		}
	}
	return nil
}

// absent says why a flag that docker has is not there; "" for others.
func absent(flag string) string {
	switch {
	case strings.HasPrefix(flag, "health-"):
		return "there are no health checks: what serves says itself whether it does"
	case flag == "gpus":
		return "nothing here knows how to share a graphics processor; --device gives a device that the host has"
	case flag == "runtime":
		return "minictr is the runtime itself, and knows no other"
	case flag == "isolation":
		return "it is for Windows; here it is made of the bricks of the wall: minictr plan"
	}
	return ""
}
