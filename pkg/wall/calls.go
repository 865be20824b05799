package wall

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/seccomp"
)

// dangerous are system calls that reach much of the kernel, or what it has but
// once, and why. Some want capabilities too: there seccomp(2) is a second lock.
var dangerous = [...]string{
	"acct",              // the kernel writes down every process's end
	"add_key",           // keyrings are not walled
	"bpf",               // programs that run in the kernel
	"clock_adjtime",     // there is one clock
	"clock_settime",     // there is one clock
	"clone",             // a new user namespace opens much of the kernel to all users
	"clone3",            // a new user namespace opens much of the kernel to all users, and no filter can look into its argument
	"delete_module",     // the kernel's own code
	"finit_module",      // code that becomes the kernel's own
	"fsmount",           // a mount can undo what mounts hide
	"init_module",       // code that becomes the kernel's own
	"io_uring_setup",    // a ring does the work of other calls, past their filters
	"ioperm",            // ports of devices
	"iopl",              // ports of devices
	"kcmp",              // tells of other processes' memory
	"kexec_file_load",   // another kernel
	"kexec_load",        // another kernel
	"keyctl",            // keyrings are not walled
	"mount",             // a mount can undo what mounts hide
	"mount_setattr",     // a mount can undo what mounts hide
	"move_mount",        // a mount can undo what mounts hide
	"name_to_handle_at", // a handle names a file outside of the root
	"open_by_handle_at", // opens a file outside of the root by its handle
	"open_tree",         // a mount can undo what mounts hide
	"perf_event_open",   // measures the kernel and other processes
	"pivot_root",        // another root
	"process_vm_readv",  // another process's memory
	"process_vm_writev", // another process's memory
	"ptrace",            // another process's memory and calls
	"quotactl",          // a file system's quotas
	"reboot",            // there is one machine
	"request_key",       // keyrings are not walled, and the host's program fills them
	"setns",             // the namespaces of others
	"settimeofday",      // there is one clock
	"swapoff",           // there is one swap space
	"swapon",            // there is one swap space
	"syslog",            // there is one log
	"umount2",           // uncovers what mounts hide
	"unshare",           // a new user namespace opens much of the kernel to all users
	"userfaultfd",       // stops the kernel in the middle of a copy
	"vhangup",           // the terminal of others
}

type seccompFacts struct {
	Mode      int             `json:"mode"`
	Filters   int             `json:"filters"`
	Calls     *seccompCalls   `json:"calls"` // null if the filters can't be read
	Dangerous []string        `json:"dangerous"`
	Foreign   map[string]bool `json:"foreign"` // whether calls of the machine's other ABIs pass
}

type seccompCalls struct {
	Pass    []string `json:"pass"`
	Depends []string `json:"depends"` // on the arguments, or on who supervises
	Refused []string `json:"refused"`
}

func (p *process) seccompMode() int {
	mode, _ := strconv.Atoi(p.status["Seccomp"]) // absent: this kernel has no seccomp
	return mode
}

func calls(p *process) (Brick, error) {
	b := Brick{Name: "seccomp", State: Missing, Host: "no filter", Call: "seccomp(SECCOMP_SET_MODE_FILTER)"}
	facts := seccompFacts{Mode: p.seccompMode()}
	facts.Filters, _ = strconv.Atoi(p.status["Seccomp_filters"]) // absent before Linux 5.9
	if p.host["Seccomp"] != "0" {
		b.Host = fmt.Sprintf("mode %s, %s filters", p.host["Seccomp"], p.host["Seccomp_filters"])
	}
	if facts.Mode != 0 {
		b.State = Walled
	}
	if facts.Mode != 0 && p.status["Seccomp"] == p.host["Seccomp"] && p.status["Seccomp_filters"] == p.host["Seccomp_filters"] {
		b.State = Shared // filters are inherited
	}
	if err := facts.tell(p); err != nil {
		b.Inside, b.Facts = fmt.Sprintf("%d filters", facts.Filters), facts
		b.Means = "what they let pass can't be read: " + err.Error()
		return b, nil
	}
	b.Facts = facts
	if len(facts.Calls.Depends)+len(facts.Calls.Refused) == 0 {
		b.State = Missing
	}
	all := len(facts.Calls.Pass) + len(facts.Calls.Depends) + len(facts.Calls.Refused)
	b.Inside = fmt.Sprintf("%d of %d system calls pass, %d more by their arguments",
		len(facts.Calls.Pass), all, len(facts.Calls.Depends))
	switch {
	case b.State == Missing:
		b.Means = "every system call reaches the kernel, and every error in one of them is within reach"
	case facts.Mode == unix.SECCOMP_MODE_STRICT:
		b.Means = "it may read, write and end; any other call kills it"
	case len(facts.Dangerous) > 0:
		b.Means = "of the dangerous calls these pass: " + strings.Join(facts.Dangerous, ", ")
	default:
		b.Means = "none of the dangerous calls passes whatever its arguments"
	}
	return b, nil
}

// A table is one way to number system calls, and what the filters do with its calls.
type table struct {
	abi   string // as a fact; the first is the kernel's own
	calls []seccomp.Outcome
}

// explore finds out what the filters do in all tables of the machine.
func (p *process) explore() (list []table, err error) {
	filters, err := p.filters()
	if err != nil {
		return nil, err
	}
	explore := func(abi string, outcomes func() ([]seccomp.Outcome, error)) {
		if err == nil {
			t := table{abi: abi}
			t.calls, err = outcomes()
			list = append(list, t)
		}
	}
	small := map[seccomp.Arch]seccomp.Arch{seccomp.X86_64: seccomp.I386, seccomp.AArch64: seccomp.ARM}
	for _, arch := range [...]seccomp.Arch{seccomp.Native(), small[seccomp.Native()]} {
		explore(arch.String(), func() ([]seccomp.Outcome, error) { return seccomp.Outcomes(filters, arch) })
	}
	if seccomp.Native() == seccomp.X86_64 {
		explore("x32", func() ([]seccomp.Outcome, error) { return seccomp.OutcomesX32(filters) })
	}
	return list, err
}

// passes says whether the process's filters let one of some calls pass, in any
// table. Strict mode lets none pass that is asked for.
func (p *process) passes(calls ...string) (bool, error) {
	if p.seccompMode() == unix.SECCOMP_MODE_STRICT {
		return false, nil
	}
	tables, err := p.tables()
	return slices.ContainsFunc(tables, func(t table) bool {
		return slices.ContainsFunc(t.calls, func(o seccomp.Outcome) bool { return o.MayPass() && slices.Contains(calls, o.Name) })
	}), err
}

// tell fills in what passes.
func (f *seccompFacts) tell(p *process) error {
	strict := []string{"exit", "read", "rt_sigreturn", "write"} // seccomp(2), SECCOMP_SET_MODE_STRICT
	tables, err := p.tables()
	if err != nil {
		return err
	}
	f.Dangerous, f.Foreign = []string{}, make(map[string]bool)
	f.Calls = &seccompCalls{Pass: []string{}, Depends: []string{}, Refused: []string{}}
	for _, o := range tables[0].calls {
		switch refused := f.Mode == unix.SECCOMP_MODE_STRICT && !slices.Contains(strict, o.Name); {
		case refused || !o.MayPass():
			f.Calls.Refused = append(f.Calls.Refused, o.Name)
		case o.MayFail():
			f.Calls.Depends = append(f.Calls.Depends, o.Name)
		default:
			f.Calls.Pass = append(f.Calls.Pass, o.Name)
			if slices.Contains(dangerous[:], o.Name) {
				f.Dangerous = append(f.Dangerous, o.Name)
			}
		}
	}
	for _, t := range tables[1:] {
		f.Foreign[t.abi] = slices.ContainsFunc(t.calls, seccomp.Outcome.MayPass) && (t.abi != "x32" || f.Mode != unix.SECCOMP_MODE_STRICT)
	}
	return nil
}
