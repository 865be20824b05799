package wall

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

// strength is the sentence of a namespace's brick: without the kind in the
// kernel there is one for all.
func strength(s State, walled, shared string) string {
	switch s {
	case Walled:
		return walled
	case Shared:
		return shared
	default:
		return "this kernel has no such namespace: all processes share one"
	}
}

func user(p *process) (b Brick, err error) {
	b = Brick{Name: "user", Call: `clone3(CLONE_NEWUSER), write("/proc/PID/uid_map")`}
	var facts struct {
		UIDs []idMap `json:"uid_map"`
		GIDs []idMap `json:"gid_map"`
		UID  int     `json:"uid"` // as the host sees it
		GID  int     `json:"gid"`
	}
	if b.State, err = p.namespace("user"); err != nil {
		return b, err
	}
	b.Means = strength(b.State, "root inside is an ordinary user outside: its power ends at what its namespaces own",
		"root inside is the host's root: only the other bricks hold it")
	who, err := p.identity()
	if err != nil {
		return b, err
	}
	if id, ok := inside(who.uids, 0); b.State == Walled && ok && id == 0 {
		b.Means = "root inside is user 0 outside, too: the host root's files are its own, but the rest of its power ends at what its namespaces own"
	}
	facts.UIDs, facts.GIDs, facts.UID, facts.GID = who.uids, who.gids, who.euid, who.egid
	b.Facts = facts
	b.Host = fmt.Sprintf("user %d", facts.UID)
	b.Inside = b.Host
	if b.State == Walled {
		ids := 0
		for _, m := range facts.UIDs {
			ids += m[2]
		}
		if id, ok := inside(facts.UIDs, facts.UID); ok {
			b.Inside = fmt.Sprintf("user %d, of %d ids", id, ids)
		} else {
			b.Inside = "a user without a number"
		}
	}
	return b, nil
}

func pid(p *process) (b Brick, err error) {
	b = Brick{
		Name: "pid", Call: "clone3(CLONE_NEWPID)", Facts: map[string][]int{"numbers": p.inside},
		Inside: fmt.Sprintf("process %d", p.inside[len(p.inside)-1]), Host: fmt.Sprintf("process %d", p.pid),
	}
	b.State, err = p.namespace("pid")
	b.Means = strength(b.State, "it signals no process outside, and sees none but through a /proc of theirs; the host sees all of its own",
		"it sees every process of the host, and root in it can signal them")
	return b, err
}

func net(p *process) (b Brick, err error) {
	b = Brick{Name: "net", Call: "clone3(CLONE_NEWNET)"}
	if b.State, err = p.namespace("net"); err != nil {
		return b, err
	}
	b.Means = strength(b.State, "only through devices that it is given does a packet come or go; the network code is the host's",
		"it uses the host's devices, addresses, ports and abstract sockets")
	own, err := p.devices()
	host, e := p.looker().devices()
	b.Inside, b.Host, b.Facts = some(own), some(host), map[string][]string{"devices": own}
	return b, errors.Join(err, e)
}

// devices lists the network devices that the process has.
func (p *process) devices() (list []string, err error) {
	text, err := p.read("net/dev")
	for line := range strings.Lines(text) {
		if name, _, ok := strings.Cut(line, ":"); ok {
			list = append(list, strings.TrimSpace(name))
		}
	}
	return list, err
}

// some names the first of a list of devices.
func some(list []string) string {
	const most = 3
	switch {
	case len(list) == 0:
		return "no device"
	case len(list) <= most:
		return strings.Join(list, " ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], " "), len(list)-most)
}

func uts(p *process) (b Brick, err error) {
	b = Brick{Name: "uts", Call: "clone3(CLONE_NEWUTS), sethostname()"}
	if b.State, err = p.namespace("uts"); err != nil {
		return b, err
	}
	b.Means = strength(b.State, "the name is its own, and nothing else hangs on that", "it has the host's name, and root in it can change it")
	if b.Host, err = nodename(); err != nil {
		return b, err
	}
	err = p.within(func() (err error) {
		b.Inside, err = nodename()
		return err
	}, member{"uts", unix.CLONE_NEWUTS})
	b.Facts = map[string]string{"name": b.Inside}
	return b, err
}

func nodename() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	return unix.ByteSliceToString(u.Nodename[:]), nil
}

func ipc(p *process) (b Brick, err error) {
	b = Brick{Name: "ipc", Call: "clone3(CLONE_NEWIPC)"}
	if b.State, err = p.namespace("ipc"); err != nil {
		return b, err
	}
	b.Means = strength(b.State, "System V objects and POSIX message queues of others are out of reach; /dev/shm is a mount, and no part of this",
		"it can attach to the host's System V shared memory, as far as its users allow")
	if b.Host, err = objects(); err != nil {
		return b, err
	}
	err = p.within(func() (err error) {
		b.Inside, err = objects()
		return err
	}, member{"ipc", unix.CLONE_NEWIPC})
	return b, err
}

// objects counts what there is of System V IPC: sysvipc(7). The files show the
// namespace of who opens them.
func objects() (string, error) {
	n := 0
	for _, name := range [...]string{"shm", "sem", "msg"} {
		text, err := sys.ReadFile("/proc/sysvipc/" + name)
		if err != nil {
			return "", err
		}
		n += strings.Count(string(text), "\n") - 1 // the first line names the columns
	}
	return fmt.Sprintf("%d shared objects", n), nil
}

func clocks(p *process) (b Brick, err error) {
	b = Brick{Name: "time", Call: `unshare(CLONE_NEWTIME), write("/proc/PID/timens_offsets")`, Host: "0 s"}
	b.State, err = p.namespace("time")
	b.Means = strength(b.State, "its monotonic and boot clocks are shifted; the date is the host's",
		"it has the host's clocks: few containers have a wall here, and none has one for the date")
	b.Inside = b.Host
	if b.State != Walled || err != nil {
		return b, err
	}
	text, err := p.read("timens_offsets") // time_namespaces(7)
	facts := make(map[string]string)
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 3 {
			facts[f[0]] = f[1]
		}
	}
	b.Inside, b.Facts = fmt.Sprintf("monotonic %s s, boot %s s", facts["monotonic"], facts["boottime"]), facts
	return b, err
}

func cgroups(p *process) (b Brick, err error) {
	b = Brick{Name: "cgroup", Call: "unshare(CLONE_NEWCGROUP)"}
	if b.State, err = p.namespace("cgroup"); err != nil {
		return b, err
	}
	b.Means = strength(b.State, "its own cgroup looks like the root of all; limits are other bricks",
		"it sees the path of its cgroup, and by that how the host is arranged")
	host, err := p.hierarchies()
	if err != nil {
		return b, err
	}
	longest := 0
	for i := range host {
		if len(host[i]) > len(host[longest]) {
			longest = i
		}
	}
	err = p.within(func() error {
		own, err := p.hierarchies()
		if err == nil && longest < len(own) {
			b.Inside, b.Host = own[longest], host[longest]
		}
		return err
	}, member{"cgroup", unix.CLONE_NEWCGROUP})
	b.Facts = map[string]string{"path": b.Host, "inside": b.Inside}
	return b, err
}

// hierarchies lists the process's cgroup in each of them, as a path below the
// root that the calling thread's cgroup namespace shows: cgroups(7).
func (p *process) hierarchies() (paths []string, err error) {
	text, err := p.read("cgroup")
	for line := range strings.Lines(text) {
		if f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3); len(f) == 3 {
			paths = append(paths, f[2])
		}
	}
	return paths, err
}
