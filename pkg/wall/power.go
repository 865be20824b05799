package wall

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/sys"
)

// A capSet is a set of capabilities(7), as proc_pid_status(5) has it.
type capSet uint64

func parseCaps(status map[string]string, field string) capSet {
	n, _ := strconv.ParseUint(status[field], 16, 64) // the kernel prints it so
	return capSet(n)
}

func (c capSet) has(capability int) bool { return c&(1<<capability) != 0 }

func (c capSet) names() []string {
	names := make([]string, 0, 64)
	for n := range 64 {
		switch {
		case !c.has(n):
		case n < len(plan.CapNames):
			names = append(names, plan.CapNames[n])
		default: // the kernel is younger than the list
			names = append(names, "CAP_"+strconv.Itoa(n))
		}
	}
	return names
}

// beyond are the capabilities that reach beyond the wall, each by itself, if
// the user namespace is the initial one; reaching knows of the other namespaces.
const beyond capSet = 1<<unix.CAP_SYS_ADMIN | // mounts, namespaces of others, and much more
	1<<unix.CAP_SYS_MODULE | // code in the kernel
	1<<unix.CAP_SYS_RAWIO | // the memory and ports of devices
	1<<unix.CAP_SYS_PTRACE | // the memory of other processes
	1<<unix.CAP_SYS_BOOT | // reboot, another kernel
	1<<unix.CAP_SYS_TIME | // the one clock
	1<<unix.CAP_DAC_READ_SEARCH | // every file, by its handle
	1<<unix.CAP_NET_ADMIN | // addresses, routes and firewall of its network
	1<<unix.CAP_BPF | 1<<unix.CAP_PERFMON | // programs in the kernel, and what it does
	1<<unix.CAP_SYSLOG | // the one log, addresses in the kernel
	1<<unix.CAP_AUDIT_WRITE | 1<<unix.CAP_AUDIT_CONTROL | // the one audit log, and its rules
	1<<unix.CAP_SYS_RESOURCE | 1<<unix.CAP_SYS_NICE | // more than its share of disks, memory and processors
	1<<unix.CAP_MAC_ADMIN | 1<<unix.CAP_MAC_OVERRIDE // the rules of a security module

// reaching are those of a set that reach beyond the process's wall. What is in a
// namespace of its own is inside: its network, the processes that it can name.
func (p *process) reaching(set capSet) (capSet, error) {
	set &= beyond
	for kind, held := range map[string]capSet{
		"net": 1 << unix.CAP_NET_ADMIN,
		"pid": 1<<unix.CAP_SYS_PTRACE | 1<<unix.CAP_AUDIT_CONTROL, // audit_control is for the first PID namespace
	} {
		state, err := p.namespace(kind)
		if err != nil {
			return 0, err
		}
		if state == Walled {
			set &^= held
		}
	}
	return set, nil
}

type capFacts struct {
	Effective   []string `json:"effective"`
	Permitted   []string `json:"permitted"`
	Inheritable []string `json:"inheritable"`
	Bounding    []string `json:"bounding"`
	Ambient     []string `json:"ambient"`
	Dangerous   []string `json:"dangerous"`   // the permitted ones that reach beyond the wall
	OnlyInside  bool     `json:"only_inside"` // its user namespace is not the initial one
}

func caps(p *process) (Brick, error) {
	b := Brick{Name: "caps", State: Shared, Call: "prctl(PR_CAPBSET_DROP), capset(2)"}
	who, err := p.identity()
	if err != nil {
		return b, err
	}
	permitted, bounding := parseCaps(p.status, "CapPrm"), parseCaps(p.status, "CapBnd")
	hosts, hostsBounding := parseCaps(p.host, "CapPrm"), parseCaps(p.host, "CapBnd")
	dangerous, err := p.reaching(permitted)
	if err != nil {
		return b, err
	}
	facts := capFacts{
		Effective: parseCaps(p.status, "CapEff").names(), Permitted: permitted.names(),
		Inheritable: parseCaps(p.status, "CapInh").names(), Bounding: bounding.names(),
		Ambient: parseCaps(p.status, "CapAmb").names(), Dangerous: dangerous.names(), OnlyInside: !who.initial,
	}
	b.Facts = facts
	b.Inside = fmt.Sprintf("has %d, can get %d", len(facts.Permitted), len(facts.Bounding))
	b.Host = fmt.Sprintf("has %d, can get %d", len(hosts.names()), len(hostsBounding.names()))
	if !who.initial || hosts&^permitted != 0 || hostsBounding&^bounding != 0 {
		b.State = Walled
	}
	switch {
	case !who.initial:
		b.Means = "they count for what belongs to its user namespace, and for nothing of the host's"
	case len(facts.Dangerous) > 0:
		b.Means = "with these it reaches beyond its wall: " + strings.Join(facts.Dangerous, ", ")
	case bounding|permitted == 0:
		b.Means = "root in there is a user like others, and no program makes it more"
	case permitted == 0 && p.status["NoNewPrivs"] == "0":
		b.Means = "it is a user like others; a set-user-ID program can give it those that it can get"
	case permitted == 0:
		b.Means = "it is a user like others, and no_new_privs keeps it so"
	default:
		b.Means = "it has a part of root's power, and nothing of it reaches beyond its wall by itself"
	}
	return b, nil
}

func nnp(p *process) (Brick, error) {
	say := map[string]string{"0": "off", "1": "on"}
	b := Brick{
		Name: "nnp", State: Missing, Inside: say[p.status["NoNewPrivs"]], Host: say[p.host["NoNewPrivs"]],
		Call: "prctl(PR_SET_NO_NEW_PRIVS)", Facts: map[string]bool{"set": p.status["NoNewPrivs"] == "1"},
		Means: "a set-user-ID program, or one with file capabilities, can give it what its bounding set has",
	}
	if p.status["NoNewPrivs"] == "1" {
		b.State = Walled
		if p.host["NoNewPrivs"] == "1" {
			b.State = Shared
		}
		b.Means = "no program that it executes has more rights than it has now, and this can't be undone"
	}
	return b, nil
}

// modules are the security modules that give a process a label, and the file
// in /proc/PID/attr that has it. SELinux has none of its own: it comes last.
var modules = [...]struct{ name, file string }{
	{"AppArmor", "apparmor/current"}, {"Smack", "smack/current"}, {"SELinux", "current"},
}

// label reads what a security module calls a process, and which module it is;
// "" if no module gives labels on this kernel.
func label(who string) (module, name string, err error) {
	for _, m := range modules {
		text, err := sys.ReadFile("/proc/" + who + "/attr/" + m.file)
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL): // it is not built in, or off
		case err != nil:
			return "", "", err
		case len(text) > 0:
			return m.name, strings.Trim(string(text), "\x00\n"), nil
		}
	}
	return "", "", nil
}

// lsm doesn't see Landlock's rules: the kernel shows them to nobody.
func lsm(p *process) (Brick, error) {
	b := Brick{Name: "lsm", Call: `write("/proc/self/attr/exec")`}
	module, inside, err := label(strconv.Itoa(p.pid))
	if err != nil {
		return b, err
	}
	_, host, err := label("self")
	if err != nil {
		return b, err
	}
	b.Inside, b.Host = module+" label "+inside, module+" label "+host
	b.Facts = map[string]string{"module": module, "label": inside}
	enforce, _ := sys.ReadFile("/sys/fs/selinux/enforce") // it is there with SELinux alone
	b.State, b.Means = labelled(module, inside, host, string(enforce) == "0")
	if module == "" {
		b.Inside, b.Host = "no label", "no label"
	}
	return b, nil
}

// labelled says what a label is worth, beside that of who looks.
func labelled(module, inside, host string, permissive bool) (State, string) {
	switch {
	case module == "":
		return Missing, "no security module of this kernel gives labels to processes; Landlock's rules can't be seen"
	case module == "SELinux" && permissive, strings.HasSuffix(inside, " (complain)"):
		return Missing, module + " only writes down what it would refuse"
	case inside == "unconfined", strings.HasSuffix(inside, " (unconfined)"), slices.Contains(strings.Split(inside, ":"), "unconfined_t"):
		return Missing, module + " lets it do what it likes"
	case inside == host:
		return Shared, module + " treats it as it treats who looks"
	}
	return Walled, module + " refuses what the rules for this label don't allow, to root too"
}
