// Package process lays the bricks that decide what a container may do: its
// limits, its capabilities(7), its user and its system calls, and then makes
// it the program, execve(2).
package process

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// A Host is what compiling needs to know of the machine.
type Host struct {
	LastCap    int    // the highest capability of this kernel
	OwnStdio   []int  // descriptors among 0, 1 and 2 that the container's user must own to open again
	Foreground bool   // the container must not outlive the runtime
	Waits      bool   // the process waits before it becomes the program
	Preserved  int    // descriptors from 3 on that the program gets as well
	AppArmor   string // the file of proc_pid_attr(5) for a profile; "" without that LSM
	Home       string // of the user, where the environment does not say
	OldKeys    bool   // the process keeps the runtime's session keyring
	NoGroups   bool   // it may not change its supplementary groups
	Rootless   bool   // the runtime has no privileges
	Init       bool   // process 1 is the parent of the program
	Hook       string // path of the program, if it is a hook and not the container's own
}

const (
	// Start is the input on which a process that waits is told to begin.
	Start plan.Reg = "start"
	// Gate is the input at which a process waits while its listener is taken:
	// a pipe that is full until the runtime reads.
	Gate plan.Reg = "gate"
	// GateEnd is the other end of Gate.
	GateEnd plan.Reg = "gate/runtime"
)

// Marks has the process write into files of its own in proc(5), as long as they
// are its own: they are root's for who has changed its user. What it writes
// stays with it, and with its children.
func Marks(b *plan.Builder, s *specs.Spec, h Host) {
	adj, profile, label := s.Process.OOMScoreAdj, s.Process.ApparmorProfile, s.Process.SelinuxLabel
	if adj == nil && profile == "" && label == "" {
		return
	}
	b.Section(plan.Child, "marks", "what the kernel is to remember of the process")
	if adj != nil {
		b.At("/process/oomScoreAdj")
		fd := b.Get("file", "how readily the kernel kills it when memory runs out",
			plan.Openat(plan.AtFdcwd, "/proc/self/oom_score_adj", unix.O_WRONLY))
		write := b.Do("from -1000, never, to 1000, first", plan.Write(fd, fmt.Sprint(*adj)))
		if h.Rootless {
			write.Allow(plan.Next, unix.EACCES) // more readily than others is all that it may ask for
		}
	}
	if profile != "" {
		b.At("/process/apparmorProfile")
		fd := b.Get("file", "what AppArmor shall do with the next program", plan.Openat(plan.AtFdcwd, "/proc/thread-self/attr/"+h.AppArmor, unix.O_WRONLY))
		b.Do("be confined by this profile: the stub is the next program, and hands it on", plan.Write(fd, "exec "+profile))
	}
	if label != "" {
		b.At("/process/selinuxLabel")
		fd := b.Get("file", "what SELinux shall take new keys for", plan.Openat(plan.AtFdcwd, "/proc/thread-self/attr/keycreate", unix.O_WRONLY))
		b.Do("a keyring of its own has the label as well", plan.Write(fd, label))
	}
}

// Session makes the process a leader: of a session without a terminal, and of
// keys that nobody else has.
func Session(b *plan.Builder, h Host) {
	b.Section(plan.Child, "session", "a session and keys of its own")
	b.At("/process")
	b.Do("nobody may look into this process while it still holds the runtime's memory", plan.NotDumpable())
	b.Do("file modes are as given while the wall is built", plan.Umask(0))
	b.Do("a session of its own, so no terminal of the runtime controls it", plan.Setsid())
	if !h.OldKeys {
		b.Do("a keyring of its own: the runtime's keys stay outside", plan.JoinSessionKeyring()).Allow(plan.Next, unix.ENOSYS)
	}
}

// The standard streams of a hook are inputs: the state of its container, and
// a file that keeps what the hook says.
const (
	HookInput  plan.Reg = "hook/input"
	HookOutput plan.Reg = "hook/output"
)

// Stdio gives a hook its standard streams.
func Stdio(b *plan.Builder) {
	b.Section(plan.Child, "stdio", "what a hook reads and writes")
	b.At("/hooks")
	b.Do("it reads the container's state", plan.Dup3(HookInput, 0))
	b.Do("what it says is kept", plan.Dup3(HookOutput, 1))
	b.Do("what it says is kept", plan.Dup3(HookOutput, 2))
}

// Limits sets resource limits, setrlimit(2), and the file mode mask.
func Limits(b *plan.Builder, s *specs.Spec) error {
	b.Section(plan.Child, "rlimits", "limits of one process")
	for i, l := range s.Process.Rlimits {
		pointer := fmt.Sprintf("/process/rlimits/%d", i)
		number := slices.Index(plan.RlimitNames[:], l.Type)
		if number < 0 {
			return fmt.Errorf("%s/type: unknown resource limit %q", pointer, l.Type)
		}
		b.At(pointer)
		b.Do("it may raise its own limit up to the hard one", plan.Prlimit(number, l.Soft, l.Hard))
	}
	umask := uint32(0o22)
	b.At("/process/user")
	if u := s.Process.User.Umask; u != nil {
		umask = *u
		b.At("/process/user/umask")
	}
	b.Do("new files are not for others to write", plan.Umask(umask))
	return nil
}
