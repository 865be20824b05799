package process

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// A label of SELinux is for the program alone, so it is the stub that asks for
// it: the stub's own file is no entry to any type, and lies on a mount of the
// kernel's own, which SELinux takes for a nosuid one. The file to ask by takes
// words only from the program that has opened it. So the stub opens it, below
// a descriptor of the host's /proc; and having no registers, it makes room at
// number 0, where the kernel opens a file then.

const (
	proc  plan.Reg = "proc"
	stdin plan.Reg = "stdin" // a number that standard input has meanwhile
)

// Label has the parent open what a label takes.
func Label(b *plan.Builder, s *specs.Spec) {
	if s.Process.SelinuxLabel == "" {
		return
	}
	b.Section(plan.Parent, "label", "a way to say what SELinux shall take the program for")
	b.At("/process/selinuxLabel")
	b.Act("the process will see another /proc, which may be anything", fmt.Sprintf(`%s = open("/proc", O_PATH|O_DIRECTORY|O_CLOEXEC)`, proc), func(r *plan.Run) (err error) {
		r.Fd[proc], err = unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return err
	})
	b.Act("a number that nothing else has", fmt.Sprintf("%s = fcntl(0, F_DUPFD_CLOEXEC, 3)", stdin), func(r *plan.Run) (err error) {
		r.Fd[stdin], err = unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3)
		return err
	})
}

// label has the stub ask for it, and lets go of /proc.
func label(b *plan.Builder, s *specs.Spec) {
	if s.Process.SelinuxLabel == "" {
		return
	}
	b.At("/process/selinuxLabel")
	b.Do("standard input makes room: the next file to be opened is number 0", plan.DupStdin(stdin))
	b.Do("standard input makes room: the next file to be opened is number 0", plan.CloseStdin())
	b.Do("what SELinux shall take the next program for", plan.Openat(proc, "thread-self/attr/exec", unix.O_WRONLY))
	b.Do("be known by this label", plan.WriteTo(0, s.Process.SelinuxLabel))
	b.Do("standard input is back", plan.Dup3(stdin, 0))
	b.Do("the host's /proc is out of reach again", plan.Close(proc))
}
