package rootless

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/namespace"
	"github.com/minictr/minictr/pkg/plan"
)

// Inputs of the plans: the user namespace, and the file whose locks say who is in
// it.
const (
	userns plan.Reg = "userns"
	locks  plan.Reg = "locks"
)

// Make is the plan by which the first command makes the user namespace: a child is
// born into it, and ends as soon as others can enter. Help runs a program that has
// more power than its caller.
func Make(ids IDs, help func(path string, args ...string) error) *plan.Plan {
	s := &specs.Spec{Linux: &specs.Linux{
		Namespaces:  []specs.LinuxNamespace{{Type: specs.UserNamespace}},
		UIDMappings: ids.Users, GIDMappings: ids.Groups,
	}}
	h := namespace.Host{Owner: &namespace.Owner{UID: ids.Users[0].HostID, GID: ids.Groups[0].HostID}, Help: help}
	b := plan.New()
	namespace.Sync(b, s, h, false)
	namespace.Clone(b, s, h, "")
	namespace.Maps(b, s, h)
	namespace.User(b, s, h)
	b.Section(plan.Child, "enter", "be there until others can enter")
	b.Do("the runtime can tell that it is root here", plan.Write(plan.Report, plan.Ready))
	b.Do("that was all it was for: who has the namespace open keeps it", plan.Exit())
	b.Section(plan.Parent, "enter", "take hold of the user namespace")
	b.Act("it is root of the namespace then", "read($report/runtime)", func(r *plan.Run) error { return r.Await() })
	b.Act("a descriptor keeps it without anybody in it", userns.String()+` = open("/proc/$pid/ns/user", O_RDONLY|O_CLOEXEC)`, func(r *plan.Run) (err error) {
		r.Lent[userns], err = unix.Open(fmt.Sprintf("/proc/%d/ns/user", r.PID), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	})
	return b.Plan()
}

// Become is the plan by which a command enters the user namespace, that of a
// process if it is not its own input, and becomes the same program again. The
// kernel moves no process that has threads, as all of Go's have; the stub has none.
// It passes over EPERM, which the program finds out.
func Become(member int, path string, args, env []string) *plan.Plan {
	b := plan.New()
	if member != 0 {
		b.Section(plan.Parent, "enter", "take hold of the user namespace")
		b.Act("another command of the user is in it", fmt.Sprintf(`%s = open("/proc/%d/ns/user", O_RDONLY|O_CLOEXEC)`, userns, member), func(r *plan.Run) (err error) {
			r.Fd[userns], err = unix.Open(fmt.Sprintf("/proc/%d/ns/user", member), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			return err
		})
	}
	b.Section(plan.Stub, "enter", "be root of the user namespace, with its power over what belongs to it")
	b.Do("all that the user's commands make belongs to one user namespace", plan.Setns(userns, unix.CLONE_NEWUSER)).Allow(plan.Next, unix.EPERM)
	b.Do("group 0 of the namespace", plan.Setresgid(0, 0, 0)).Allow(plan.Next, unix.EPERM)
	b.Do("user 0 of the namespace", plan.Setresuid(0, 0, 0)).Allow(plan.Next, unix.EPERM)
	b.Do("who is in it needs no descriptor", plan.Close(userns))
	b.Section(plan.Stub, "program", "the command goes on")
	b.Do("the same program, with the same PID and terminal, is root now", plan.Execve(path, args, env))
	return b.Plan()
}
