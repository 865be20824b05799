package wall

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

// kmsg is the number of the device /dev/kmsg.
var kmsg = unix.Mkdev(1, 11)

// logGap tells whether the process may read the kernel log: syslog(2), or
// /dev/kmsg, for which the kernel asks the same, or /proc/kmsg.
func logGap(p *process) (Gap, error) {
	g := Gap{Name: "log", State: Walled, Inside: "not readable"}
	restrict, err := sys.ReadFile("/proc/sys/kernel/dmesg_restrict")
	if err != nil {
		return g, err
	}
	g.Host = "kernel.dmesg_restrict = " + strings.TrimSpace(string(restrict))
	may, err := p.can(unix.CAP_SYSLOG)
	if err != nil {
		return g, err
	}
	if !may && g.Host != "kernel.dmesg_restrict = 0" {
		g.Means = "There is one kernel log, but this process has no CAP_SYSLOG of the host's, which kernel.dmesg_restrict asks for."
		return g, nil
	}
	refused, err := p.refused("syslog")
	if err != nil {
		return g, err
	}
	device, err := p.view("dev/kmsg")
	if err != nil {
		return g, err
	}
	file, err := p.view("proc/kmsg")
	if refused && device.device != kmsg && !(may && file.kernels) {
		g.Means = "There is one kernel log, but the process's filters refuse syslog(2), and it has no file of the log."
		return g, err
	}
	g.State, g.Inside = Shared, "readable"
	g.Means = "There is one kernel log: this process reads in it what the kernel says of the host and of every container."
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
	var uid string
	if uids := strings.Fields(p.status["Uid"]); len(uids) > 1 {
		uid = uids[1]
	}
	g.Host = "no keys of uid " + uid
	for line := range strings.Lines(string(users)) {
		if words := strings.Fields(line); len(words) > 3 && words[0] == uid+":" {
			g.Host = words[3] + " keys of uid " + uid // of so many at most
		}
	}
	refused, err := p.refused("keyctl")
	if err != nil {
		return g, err
	}
	list, err := p.view("proc/keys")
	switch {
	case refused && !list.kernels:
		g.Means = "Keyrings are in no namespace but the user namespace; the process's filters refuse keyctl(2), and /proc/keys is covered."
		return g, err
	case refused:
		g.Inside = "names of keys"
		g.Means = "Keyrings are in no namespace but the user namespace: the process's filters refuse keyctl(2), but /proc/keys lists what its uid may see."
	case p.hasHosts("user"):
		g.Inside = g.Host
		g.Means = "Keyrings are in no namespace but the user namespace: this process has the user keyring that the host's processes of its uid have."
	default:
		g.Inside = "user keyrings of its own"
		g.Means = "Its user namespace has user keyrings of its own, but its session keyring is that of who started it, unless it was told to join another."
	}
	g.State = Shared
	return g, err
}
