package seccomp

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A FieldError tells which field of a profile cannot be compiled, and why.
type FieldError struct {
	Field  string // JSON pointer into config.json
	Reason string
}

// Error returns the pointer and the reason in one line.
func (e *FieldError) Error() string { return e.Field + ": " + e.Reason }

func fieldError(field, format string, args ...any) error {
	return &FieldError{"/linux/seccomp" + field, fmt.Sprintf(format, args...)}
}

const (
	maxErrno   = 4095 // MAX_ERRNO: the kernel would silently lower what is above
	maxMessage = unix.SECCOMP_RET_DATA
	maxArgs    = 6
)

// A profile is a specs.LinuxSeccomp that has been checked, its words resolved.
type profile struct {
	otherwise Action     // for calls that no rule matches
	rules     []rule     // the first that matches decides
	uses      []use      // which calls the rules are for
	permitted [abis]bool // the ABIs that may be used at all
	flags     uint32     // for seccomp(2)
	notifies  bool       // some rule's action is Notify
	unknown   []string   // names that are in no table
}

// A rule decides if all its conditions hold.
type rule struct {
	conditions []specs.LinuxSeccompArg
	action     Action
}

// A use binds a rule to a call: two indices, into profile.rules and calls.
type use struct{ rule, call int32 }

// Notifies says whether a profile has an agent asked about some calls. A nil
// one has not.
func Notifies(p *specs.LinuxSeccomp) bool {
	return p != nil && slices.ContainsFunc(p.Syscalls, func(s specs.LinuxSyscall) bool { return s.Action == specs.ActNotify })
}

func parse(p *specs.LinuxSeccomp, arch Arch) (*profile, error) {
	r := &profile{notifies: Notifies(p)}
	if arch != X86_64 && arch != AArch64 {
		return nil, fmt.Errorf("seccomp: no filters for %v, only for x86_64 and aarch64", arch)
	}
	r.permitted[abiX86_64] = arch == X86_64
	r.permitted[abiAArch64] = arch == AArch64

	if reason := r.otherwise.parse(p.DefaultAction, nil); reason != "" {
		return nil, fieldError("/defaultAction", "%s", reason)
	}
	if reason := r.otherwise.parse(p.DefaultAction, p.DefaultErrnoRet); reason != "" {
		return nil, fieldError("/defaultErrnoRet", "%s", reason)
	}
	if r.otherwise == Notify {
		return nil, fieldError("/defaultAction", "SCMP_ACT_NOTIFY would stop the calls that hand the listener over, too")
	}
	for i, name := range p.Architectures {
		if err := r.permit(name, arch); err != nil {
			return nil, fieldError(fmt.Sprintf("/architectures/%d", i), "%v", err)
		}
	}
	r.uses = make([]use, 0, 512)
	for i := range p.Syscalls {
		if err := r.add(&p.Syscalls[i], i); err != nil {
			return nil, err
		}
	}
	if r.notifies && p.ListenerPath == "" {
		return nil, fieldError("/listenerPath", "is missing, and an action is SCMP_ACT_NOTIFY")
	}
	if p.ListenerMetadata != "" && p.ListenerPath == "" {
		return nil, fieldError("/listenerMetadata", "is set without listenerPath")
	}
	return r, r.parseFlags(p.Flags)
}

// parse sets a from a profile's words and returns what is wrong with them, if anything is.
func (a *Action) parse(name specs.LinuxSeccompAction, errno *uint) (reason string) {
	datum, limit := uint(unix.EPERM), uint(maxErrno)
	if errno != nil {
		datum = *errno
	}
	takesErrno := false
	switch name {
	case specs.ActKill, specs.ActKillThread:
		*a = KillThread
	case specs.ActKillProcess:
		*a = KillProcess
	case specs.ActTrap:
		*a = Trap
	case specs.ActAllow:
		*a = Allow
	case specs.ActLog:
		*a = Log
	case specs.ActNotify:
		*a = Notify
	case specs.ActErrno:
		*a, takesErrno = Errno(unix.Errno(datum)), true
	case specs.ActTrace:
		*a, takesErrno, limit = Trace(uint16(datum)), true, maxMessage
	default:
		return fmt.Sprintf("unknown action %q", name)
	}
	if errno != nil && !takesErrno {
		return fmt.Sprintf("%s takes no errno", name)
	}
	if datum > limit {
		return fmt.Sprintf("%d is larger than %d", datum, limit)
	}
	return ""
}

// permit adds an architecture of the profile. One that the host's kernel cannot run permits nothing.
func (r *profile) permit(name specs.Arch, arch Arch) error {
	switch name {
	case specs.ArchX32:
		r.permitted[abiX32] = arch == X86_64
	case specs.ArchX86:
		r.permitted[abiI386] = arch == X86_64
	case specs.ArchARM:
		r.permitted[abiARM] = arch == AArch64
	case specs.ArchX86_64, specs.ArchAARCH64, specs.ArchMIPS, specs.ArchMIPS64, specs.ArchMIPS64N32,
		specs.ArchMIPSEL, specs.ArchMIPSEL64, specs.ArchMIPSEL64N32, specs.ArchPPC, specs.ArchPPC64,
		specs.ArchPPC64LE, specs.ArchS390, specs.ArchS390X, specs.ArchPARISC, specs.ArchPARISC64,
		specs.ArchRISCV64, specs.ArchLOONGARCH64, specs.ArchM68K, specs.ArchSH, specs.ArchSHEB:
	default:
		return fmt.Errorf("unknown architecture %q", name)
	}
	return nil
}

// add appends the rules of /syscalls/i.
func (r *profile) add(s *specs.LinuxSyscall, i int) error {
	fail := func(field, format string, args ...any) error {
		return fieldError(fmt.Sprintf("/syscalls/%d%s", i, field), format, args...)
	}
	var action Action
	if reason := action.parse(s.Action, nil); reason != "" {
		return fail("/action", "%s", reason)
	}
	if reason := action.parse(s.Action, s.ErrnoRet); reason != "" {
		return fail("/errnoRet", "%s", reason)
	}
	if len(s.Names) == 0 {
		return fail("/names", "is empty")
	}
	var seen [maxArgs]bool
	repeated := false
	for j, c := range s.Args {
		if c.Index >= maxArgs {
			return fail(fmt.Sprintf("/args/%d/index", j), "%d: a system call has %d arguments", c.Index, maxArgs)
		}
		if !knownOperator(c.Op) {
			return fail(fmt.Sprintf("/args/%d/op", j), "unknown operator %q", c.Op)
		}
		repeated = repeated || seen[c.Index]
		seen[c.Index] = true
	}

	first := len(r.rules)
	if repeated {
		for j := range s.Args {
			r.rules = append(r.rules, rule{s.Args[j : j+1], action})
		}
	} else {
		r.rules = append(r.rules, rule{s.Args, action})
	}
	call := 0
	for j, name := range s.Names {
		if name == "" {
			return fail(fmt.Sprintf("/names/%d", j), "is empty")
		}
		if action == Notify && name == "write" {
			return fail(fmt.Sprintf("/names/%d", j), "SCMP_ACT_NOTIFY cannot be used for the write syscall, by which a process tells of its listener")
		}
		found := find(name, call)
		if found < 0 {
			r.unknown = append(r.unknown, name)
			continue
		}
		call = found
		for k := first; k < len(r.rules); k++ {
			r.uses = append(r.uses, use{int32(k), int32(call)})
		}
	}
	return nil
}

func knownOperator(op specs.LinuxSeccompOperator) bool {
	switch op {
	case specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo,
		specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual:
		return true
	}
	return false
}

func (r *profile) parseFlags(flags []specs.LinuxSeccompFlag) error {
	if r.notifies {
		r.flags |= unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	}
	for i, name := range flags {
		switch name {
		case specs.LinuxSeccompFlagLog:
			r.flags |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			r.flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case specs.LinuxSeccompFlagWaitKillableRecv:
			if r.notifies { // EINVAL without a listener
				r.flags |= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
			}
		case "SECCOMP_FILTER_FLAG_TSYNC": // nothing to do: the container begins with one thread
		default:
			return fieldError(fmt.Sprintf("/flags/%d", i), "unknown flag %q", name)
		}
	}
	return nil
}
