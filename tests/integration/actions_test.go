package integration_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

var mappedCopy = regexp.MustCompile(`mount_setattr\((?:(AT_RECURSIVE), )?MOUNT_ATTR_IDMAP, (\d+)\)`)

// callsOf are the system calls that the text of an action stands for, by their
// beginnings. In them @ is the descriptor that the call before returned which
// opens one.
func callsOf(action string) []string {
	words := quoted.FindAllString(action, -1)
	opened := func(i int) string { return "openat(AT_FDCWD, " + words[i] + ", " }
	_, call, isOpen := strings.Cut(action, " = ")
	if !isOpen {
		call = action
	}
	switch name, _, _ := strings.Cut(call, "("); {
	case name == "mkdir":
		return []string{"mkdirat(AT_FDCWD, " + words[0] + ", 0755)"}
	case name == "open":
		return []string{opened(0)}
	case name == "fsmount":
		return []string{"fsmount("}
	case name == "sendfile":
		dir := call[len("sendfile(openat("):strings.Index(call, ",")]
		return []string{opened(1), "openat(" + dir + ", " + words[0] + ", ", "sendfile(@, "}
	case name == "copy":
		return []string{opened(0), "read(@, ", opened(1), "write(@, "}
	case name == "bpf":
		return []string{"bpf(BPF_PROG_ATTACH, "}
	case strings.Contains(call, "cgroup.subtree_control"):
		return []string{opened(0)} // what is on already is not written again
	case name == "write" && strings.HasPrefix(action, `write("`):
		list := []string{opened(0)}
		for _, value := range words[1:] {
			list = append(list, "write(@, "+value+", ")
		}
		return list
	case name == "clone3" && isOpen: // its PID is in no register
		const file = `openat(AT_FDCWD, "/proc/`
		return []string{"clone3(", file, "write(@, " + words[1] + ", ", file, "write(@, " + words[3] + ", ", file}
	case name == "setns" && strings.Contains(call, "open_tree("):
		list := []string{
			opened(0), "unshare(CLONE_FS)", "setns(@, CLONE_NEWNS)", "open_tree(AT_FDCWD, " + words[1] + ", ", "mount_setattr(@, ",
		}
		if m := mappedCopy.FindStringSubmatch(call); m != nil {
			flags := strings.TrimSuffix("AT_EMPTY_PATH|"+m[1], "|")
			list = append(list, `mount_setattr(@, "", `+flags+", {attr_set=MOUNT_ATTR_IDMAP, attr_clr=0, propagation=0, userns_fd="+m[2]+"}")
		}
		return append(list, "sendmsg("+call[strings.Index(call, "sendmsg(")+len("sendmsg("):strings.LastIndex(call, ",")+1]+" ")
	case name == "setns" && len(words) == 1:
		return []string{opened(0), "setns(@, CLONE_NEWPID)"}
	case name == "pidfd_open":
		return []string{call}
	case name == "pipe2":
		return []string{"pipe2(["}
	case strings.HasPrefix(action, "read($report"):
		return []string{"read("}
	case strings.Contains(action, `"...`): // it goes on like that
		return []string{call[:strings.Index(call, `"...`)]}
	case strings.Contains(action, "buf"): // what is read is known to nobody
		return []string{call[:strings.Index(call, "buf")]}
	case name == "pidfd_getfd":
		return []string{call[len("pidfd_getfd(") : strings.Index(call, ")")+1], "pidfd_getfd("}
	case name == "connect":
		return []string{"connect(", "sendmsg("}
	case name == "socketpair":
		return []string{call[:strings.Index(call, "[")+1]}
	}
	return []string{action}
}

// acted finds the parent's actions in what its thread did: all of them, in the
// order of the plan, among other calls. What they open for the child is known
// from here on. What is done in other mounts is done by threads of its own.
func (r *replay) acted(steps []step, tr trace, parent int) error {
	calls := tr[parent]
	for _, s := range steps {
		text := s.Action
		if s.Call != "" {
			text = s.Call + "(" + strings.Join(s.Args, ", ") + ")"
		}
		longest := slices.SortedFunc(maps.Keys(r.regs), func(a, b string) int { return len(b) - len(a) })
		for _, name := range longest {
			text = regexp.MustCompile(regexp.QuoteMeta("$"+name)+`([/,)}])`).ReplaceAllString(text, r.regs[name]+"$1")
		}
		last, rest, err := follow(text, calls)
		if strings.Contains(text, "open_tree(") {
			for tid := range tr {
				if tid != parent && err != nil {
					_, _, err = follow(text, tr[tid])
				}
			}
			rest = calls
		}
		if err == nil {
			err = r.opened(text, last)
		}
		if calls = rest; err != nil {
			return fmt.Errorf("step %d, %s: %w", s.Number, text, err)
		}
	}
	return nil
}

// follow finds the calls that an action stands for, and returns the last of
// them and what comes after that.
func follow(action string, calls []traced) (last traced, rest []traced, err error) {
	fd := ""
	for _, beginning := range callsOf(action) {
		beginning = strings.Replace(beginning, "@", fd, 1)
		for last = (traced{}); !strings.HasPrefix(last.text, beginning); calls = calls[1:] {
			if len(calls) == 0 {
				return last, nil, fmt.Errorf("no call follows that begins with %s", beginning)
			}
			last = calls[0]
			last.text = spell(tracedSpelling[:], last.text)
		}
		if strings.HasPrefix(last.text, "open") {
			fd = last.result
		}
	}
	return last, calls, nil
}

// opened learns the registers that an action sets.
func (r *replay) opened(action string, c traced) error {
	switch name, isOpen := strings.CutPrefix(action, "$"); {
	case isOpen:
		name, _, _ = strings.Cut(name, " = ")
		return r.learn(name, c.result)
	case strings.HasPrefix(action, "socketpair("), strings.HasPrefix(action, "pipe2("):
		ends := pair(c.text)
		for i, name := range pair(action) {
			if err := r.learn(name[1:], ends[i]); err != nil {
				return err
			}
		}
	case strings.HasPrefix(action, "close("): // the number may be another's then
		delete(r.inputs, argument(action, 0))
	case strings.HasPrefix(action, "clone3("):
		r.regs["pid"] = c.result
	}
	return nil
}

// pair is what stands between brackets in a call that opens two descriptors.
func pair(call string) []string {
	_, ends, _ := strings.Cut(call, "[")
	ends, _, _ = strings.Cut(ends, "]")
	return strings.Split(ends, ", ")
}

// bpfNames are the numbers of linux/bpf_common.h and linux/seccomp.h that
// strace prints by name.
var bpfNames = map[string]uint32{
	"BPF_LD": 0, "BPF_ALU": 4, "BPF_JMP": 5, "BPF_RET": 6, "BPF_W": 0, "BPF_ABS": 0x20, "BPF_K": 0,
	"BPF_AND": 0x50, "BPF_JA": 0, "BPF_JEQ": 0x10, "BPF_JGT": 0x20, "BPF_JGE": 0x30, "BPF_JSET": 0x40,
	"SECCOMP_RET_ALLOW": 0x7fff0000, "SECCOMP_RET_ERRNO": 0x50000, "SECCOMP_RET_KILL_PROCESS": 0x80000000,
	"SECCOMP_RET_KILL_THREAD": 0, "SECCOMP_RET_LOG": 0x7ffc0000, "SECCOMP_RET_TRACE": 0x7ff00000, "SECCOMP_RET_TRAP": 0x30000, "SECCOMP_RET_USER_NOTIF": 0x7fc00000,
}

var instruction = regexp.MustCompile(`BPF_(?:STMT|JUMP)\(([^,]+), ([^,)]+)(?:, ([^,]+), ([^)]+))?\)`)

// instructions reads the filter that strace prints, as bytes: an array of
// struct sock_filter.
func instructions(t *testing.T, text string) (program []byte) {
	t.Helper()
	number := func(text string) (n uint32) {
		for word := range strings.SplitSeq(text, "|") {
			v, named := bpfNames[word]
			if !named {
				u, err := strconv.ParseUint(word, 0, 32)
				if err != nil && word != "" {
					t.Fatalf("strace prints a word that is not in this table: %s", word)
				}
				v = uint32(u)
			}
			n |= v
		}
		return n
	}
	for _, m := range instruction.FindAllStringSubmatch(text, -1) {
		program = binary.NativeEndian.AppendUint16(program, uint16(number(m[1])))
		program = append(program, byte(number(m[3])), byte(number(m[4])))
		program = binary.NativeEndian.AppendUint32(program, number(m[2]))
	}
	return program
}
