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
	if err := facts.explore(p); err != nil {
		b.Inside, b.Facts = fmt.Sprintf("%d filters", facts.Filters), facts
		b.Means = "what they let pass can't be read: " + err.Error()
		return b, nil
	}
	b.Facts = facts
	all := len(facts.Calls.Pass) + len(facts.Calls.Depends) + len(facts.Calls.Refused)
	b.Inside = fmt.Sprintf("%d of %d system calls pass, %d more by their arguments",
		len(facts.Calls.Pass), all, len(facts.Calls.Depends))
	switch {
	case facts.Mode == unix.SECCOMP_MODE_DISABLED:
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

// explore fills in what passes.
func (f *seccompFacts) explore(p *process) error {
	strict := []string{"exit", "read", "rt_sigreturn", "write"} // seccomp(2), SECCOMP_SET_MODE_STRICT
	filters, err := p.filters()
	if err != nil {
		return err
	}
	f.Dangerous, f.Foreign = []string{}, make(map[string]bool)
	all, err := seccomp.Outcomes(filters, seccomp.Native())
	if err != nil {
		return err
	}
	f.Calls = &seccompCalls{Pass: []string{}, Depends: []string{}, Refused: []string{}}
	for _, o := range all {
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
	if seccomp.Native() != seccomp.X86_64 {
		return nil
	}
	passes := func(all []seccomp.Outcome) bool { return slices.ContainsFunc(all, seccomp.Outcome.MayPass) }
	i386, err := seccomp.Outcomes(filters, seccomp.I386)
	if err != nil {
		return err
	}
	x32, err := seccomp.OutcomesX32(filters)
	f.Foreign["i386"], f.Foreign["x32"] = passes(i386), passes(x32) && f.Mode != unix.SECCOMP_MODE_STRICT
	return err
}
