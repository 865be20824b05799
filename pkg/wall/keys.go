package wall

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

// logGap tells whether the process may read the kernel log: by syslog(2), from
// /dev/kmsg, for which the kernel asks the same, or from /proc/kmsg.
func logGap(p *process) (Gap, error) {
	g := Gap{Name: "log", State: Walled, Inside: "not readable"}
	restrict, err := sys.ReadFile("/proc/sys/kernel/dmesg_restrict")
	if err != nil {
		return g, err
	}
	g.Host = "kernel.dmesg_restrict = " + strings.TrimSpace(string(restrict))
	who, err := p.identity()
	if err != nil {
		return g, err
	}
	if !who.capable(unix.CAP_SYSLOG) && restrict[0] != '0' {
		g.Means = "there is one kernel log, but this process has no CAP_SYSLOG of the host's, which kernel.dmesg_restrict asks for"
		return g, nil
	}
	passes, err := p.passes("syslog")
	if err != nil {
		return g.unread(err), nil
	}
	devices, err := p.nodes()
	if err != nil {
		return g, err
	}
	file, err := p.file("/proc/kmsg")
	node := devices.log()
	switch {
	case passes || file.Read || is(node, true):
	case node == nil:
		g.State, g.Inside = Unknown, "unknown"
		g.Means = "there is one kernel log, and whether its cgroup lets it open /dev/kmsg can't be told"
		return g, err
	default:
		g.Means = "there is one kernel log, but the process's filters refuse syslog(2), and it can read no file of the log"
		return g, err
	}
	g.State, g.Inside = Shared, "readable"
	g.Means = "there is one kernel log: this process reads in it what the kernel says of the host and of every container"
	return g, err
}

// keysGap tells whether the process may come by keys of others. The user
// keyrings of a uid are those of its user namespace; the session keyring is
// that of who started it, unless it joined another, which nobody else sees.
func keysGap(p *process) (Gap, error) {
	g := Gap{Name: "keys", State: Walled, Inside: "out of reach"}
	users, err := sys.ReadFile("/proc/key-users")
	if err != nil {
		return g, err
	}
	who, err := p.identity()
	if err != nil {
		return g, err
	}
	uid := strconv.Itoa(who.euid)
	g.Host = "no keys of uid " + uid
	for line := range strings.Lines(string(users)) {
		if words := strings.Fields(line); len(words) > 3 && words[0] == uid+":" {
			g.Host = words[3] + " keys of uid " + uid // so many of so many
		}
	}
	passes, err := p.passes("keyctl")
	if err != nil {
		return g.unread(err), nil
	}
	list, err := p.file("/proc/keys")
	switch {
	case !passes && !list.Read:
		g.Means = "keyrings are in no namespace but the user namespace; the process's filters refuse keyctl(2), and it can't read /proc/keys"
		return g, err
	case !passes:
		g.Inside = "names of keys"
		g.Means = "keyrings are in no namespace but the user namespace; the process's filters refuse keyctl(2), but /proc/keys names what its uid may see"
	case who.initial:
		g.Inside = g.Host
		g.Means = "keyrings are in no namespace but the user namespace: this process has the user keyring that the host's processes of its uid have"
	default:
		g.Inside = "user keyrings of its own"
		g.Means = "its user namespace has user keyrings of its own, but its session keyring is that of who started it, unless it joined another"
	}
	g.State = Shared
	return g, err
}

// unread is the gap of a process whose filters can't be read.
func (g Gap) unread(err error) Gap {
	g.State, g.Inside = Unknown, "unknown"
	g.Means = "whether the process's filters refuse the call for it can't be told: " + err.Error()
	return g
}
