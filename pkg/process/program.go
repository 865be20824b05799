package process

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/seccomp"
)

// defaultPath is where programs are looked for without a PATH, execvp(3).
const defaultPath = "/bin:/usr/bin"

// maxPath is how many directories a PATH may have: each is a few steps.
const maxPath = 256

// Program drops the process's privileges and makes it the program.
//
// The child becomes the stub first, so that the program can never reach the
// runtime's file through /proc/self/exe. A system call filter is loaded by
// the stub: with no_new_privs after everything else, and without it, which
// needs a privilege, before the privileges go; so then they go in the stub.
// Who waits to be told to begin has lost them, and has its filter: a neighbour
// that takes it over gains nothing. A filter that lets no write(2) pass comes
// after the wait, and is refused where the privileges would wait with it.
//
// A filter that asks an agent gives the process a listener. The runtime's part
// of handing that over is laid by handOver; the process waits meanwhile.
func Program(b *plan.Builder, s *specs.Spec, h Host, handOver func(*plan.Builder)) error {
	args, env := s.Process.Args, environment(s, h)
	name := args[0]
	if h.Hook != "" {
		name = h.Hook
	}
	filter, err := filterOf(s)
	if err != nil {
		return err
	}
	late := len(filter.Program) == 0 || s.Process.NoNewPrivileges
	mute := len(filter.Program) > 0 && !filter.Passes("write", seccomp.Native())
	if mute && h.Waits && !late {
		return errors.New("/linux/seccomp: write does not pass, by which a process tells that it stands, and waits; with noNewPrivileges the filter can be loaded after that")
	}
	if late {
		b.Section(plan.Child, "caps", "most of root's power goes, for ever")
		drop(b, s, h)
	}
	b.Section(plan.Child, "exec", "find the program, and leave the runtime's file")
	keepOpen(b, s, h, filter.Listener)
	if err := leave(b, name, args, env); err != nil {
		return err
	}

	if len(filter.Program) > 0 {
		b.Section(plan.Stub, "seccomp", "only harmless system calls from here on")
	} else {
		b.Section(plan.Stub, "handover", "the last that is done for the program")
	}
	b.At("/process")
	b.Do("nothing of the runtime stays open in the program", plan.SetCloexec(plan.Report, true))
	if filter.Listener {
		b.Do("nor this, at which it waits for its listener to be taken", plan.SetCloexec(Gate, true))
	}
	if h.Waits {
		b.Do("nor this, by which it is told to begin", plan.SetCloexec(Start, true))
	}
	b.Do("nobody may reach what is open until then", plan.NotDumpable())
	label(b, s)
	b.At("/process")
	if late {
		dieWithParent(b, h) // before the pipe, which a dead runtime's child can't write to
	}
	if mute {
		stands(b, h)
	}
	if s.Process.NoNewPrivileges {
		b.At("/process/noNewPrivileges")
		b.Do("no program gives more privileges than this one has, not even a setuid one", plan.NoNewPrivs())
	}
	if len(filter.Program) > 0 {
		load(b, filter, handOver)
	}
	if !late {
		drop(b, s, h)
		dieWithParent(b, h) // a change of credentials would have undone it
	}
	if !mute {
		stands(b, h)
	}
	stays, err := part(b, s, h)
	if err != nil {
		return err
	}
	b.Section(plan.Stub, "program", "the process becomes your program")
	b.At("/process/args")
	b.Do("from here on it is an ordinary process behind a wall", plan.Execve(name, args, env))
	return stay(b, h, stays, filter)
}

// environment has each name once: programs differ in which of two they take.
// The last one holds, in its own place.
func environment(s *specs.Spec, h Host) (env []string) {
	all := s.Process.Env
	if h.Home != "" {
		all = append(all[:len(all):len(all)], "HOME="+h.Home)
	}
	for i, e := range all {
		name, _, _ := strings.Cut(e, "=")
		name += "="
		if !slices.ContainsFunc(all[i+1:], func(later string) bool { return strings.HasPrefix(later, name) }) {
			env = append(env, e)
		}
	}
	return env
}

func stands(b *plan.Builder, h Host) {
	b.At("/process")
	b.Do("tell the runtime that the wall stands", plan.Write(plan.Report, plan.Ready))
	if h.Waits {
		b.Do("wait to be told: this pipe is full until then", plan.Write(Start, "\x01"))
		b.Do("answer that it has been", plan.Write(plan.Report, "\x01"))
	}
}

func dieWithParent(b *plan.Builder, h Host) {
	if h.Foreground {
		b.At("/process")
		b.Do("if the runtime is killed, this process is too", plan.DieWithParent())
	}
}

func filterOf(s *specs.Spec) (seccomp.Filter, error) {
	if s.Linux.Seccomp == nil {
		return seccomp.Filter{}, nil
	}
	return seccomp.Compile(s.Linux.Seccomp, seccomp.Native())
}

func load(b *plan.Builder, f seccomp.Filter, handOver func(*plan.Builder)) {
	b.At("/linux/seccomp")
	b.Do(fmt.Sprintf("every system call from here on passes a filter of %d instructions", len(f.Program)), plan.LoadFilter(f.Bytes(), f.Flags))
	if !f.Listener {
		return
	}
	b.Do("the listener is there, until the program is: the runtime can take it", plan.Write(plan.Report, plan.Ready))
	b.Do("wait until it has: this pipe is full", plan.Write(Gate, "\x01"))
	handOver(b)
	b.Section(plan.Stub, "handover", "the last that is done for the program")
}

// keepOpen leaves open what the program gets, and what the stub needs.
func keepOpen(b *plan.Builder, s *specs.Spec, h Host, listener bool) {
	b.At("/process")
	b.Do("nothing of the runtime stays open in the program", plan.CloseOnExec(3+h.Preserved))
	b.Do("but the stub can still tell of a failure", plan.SetCloexec(plan.Report, false))
	if listener {
		b.Do("and wait for its listener to be taken", plan.SetCloexec(Gate, false))
	}
	if h.Waits {
		b.Do("and be told to begin", plan.SetCloexec(Start, false))
	}
	if s.Process.SelinuxLabel != "" {
		b.At("/process/selinuxLabel")
		b.Do("and ask for the label", plan.SetCloexec(proc, false))
		b.Do("and ask for the label", plan.SetCloexec(stdin, false))
		b.At("/process")
	}
}

// leave looks for the program as a shell would, execvp(3), and executes the
// stub, with the path that was found before the program's own arguments.
func leave(b *plan.Builder, name string, args, env []string) error {
	b.At("/process")
	b.Do("signals work again: until here none could disturb", plan.UnblockSignals())
	b.At("/process/args")
	paths := candidates(name, env)
	if len(paths) > maxPath {
		return fmt.Errorf("/process/env: PATH has %d directories, and %d are the most", len(paths), maxPath)
	}
	given := strings.Contains(name, "/") // a path, not a name to look for
	directory := b.Label()
	for _, path := range paths {
		next := b.Label()
		if !given {
			b.Do("is it here, for this user", plan.MayExecute(path)).Allow(next, unix.ENOENT, unix.ENOTDIR, unix.EACCES)
			b.Do("a directory is no program", plan.MayExecute(path+"/.")).Then(next).Allow(plan.Next, unix.ENOTDIR)
		} else {
			b.Do("it must be there, for this user", plan.MayExecute(path))
			b.Do("a directory is no program", plan.MayExecute(path+"/.")).Then(directory).Allow(plan.Next, unix.ENOTDIR)
		}
		b.Do("leave the runtime's file for a few bytes that only go on to "+path,
			plan.Execveat(plan.Sealed, append([]string{path}, args...), env))
		b.Place(next)
	}
	if given {
		b.Place(directory)
		b.Do("the kernel says what it says of a directory", plan.Execve(name, args, nil))
		return nil
	}
	// It is nowhere: find out why, in the words of the kernel. A file that
	// may not be executed counts for more than the lack of one.
	for i, path := range paths {
		step := b.Do("it is nowhere; is it here, but not for this user", plan.MayExecute(path))
		if i < len(paths)-1 {
			step.Allow(plan.Next, unix.ENOENT, unix.ENOTDIR)
		}
	}
	return nil
}

// candidates are the paths by which a program may be found.
func candidates(name string, env []string) (paths []string) {
	if strings.Contains(name, "/") {
		return []string{name}
	}
	path := defaultPath
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	for dir := range strings.SplitSeq(path, ":") {
		if dir == "" {
			dir = "." // an empty element is the working directory, execvp(3)
		}
		paths = append(paths, strings.TrimSuffix(dir, "/")+"/"+name)
	}
	return paths
}
