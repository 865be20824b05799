package container

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/forkexec"
	"github.com/minictr/minictr/pkg/namespace"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/process"
	"github.com/minictr/minictr/pkg/spec"
	"github.com/minictr/minictr/pkg/sys"
)

// Hooks are programs of others that run at certain moments of a container's
// life: config.md, "POSIX-platform Hooks".

// early are the kinds of hooks that run while the wall is built, and whether
// in the container's namespaces.
var early = [...]earlyHooks{{"prestart", false}, {"createRuntime", false}, {"createContainer", true}}

type earlyHooks struct {
	kind   string
	inside bool
}

func hasEarly(s *specs.Spec) bool {
	return slices.ContainsFunc(early[:], func(e earlyHooks) bool { return len(spec.HooksOfKind(s, e.kind)) > 0 })
}

// hooks runs those of the runtime's side, and of the container's, while the
// child waits before it changes its root.
func hooks(b *plan.Builder, s *specs.Spec, h Host) {
	if !hasEarly(s) {
		return
	}
	b.Section(plan.Child, "hooks", "wait for programs that finish the wall")
	b.At("/hooks")
	namespace.Wait(b, s, h.Host, "they can reach its namespaces, and the root is not changed yet")
	b.Section(plan.Parent, "hooks", "run programs that finish the wall")
	b.At("/hooks")
	b.Act("its namespaces and mounts are there then", "read($report/runtime)", func(r *plan.Run) error { return r.Await() })
	for _, list := range early {
		for i, hook := range spec.HooksOfKind(s, list.kind) {
			b.At(fmt.Sprintf("/hooks/%s/%d", list.kind, i))
			where := "on the host"
			if list.inside {
				where = "in the container's namespaces"
			}
			b.Act("asked for: a program "+where, fmt.Sprintf("run(%q, %q)", hook.Path, hook.Args), func(r *plan.Run) error {
				target, pid := 0, r.PID
				if list.inside {
					target, pid = r.PID, inside(r.PID)
				}
				return runHook(list.kind, i, hook, ociState(h, s, pid, specs.StateCreating), onHost(hook, target))
			})
		}
	}
	b.At("/hooks")
	namespace.GoOn(b)
}

// beforeStart runs the hooks that start in the container, before the program.
// Their files are the container's, so each is one more process of it, with no
// more power than the program is to have.
func (r *Runtime) beforeStart(s *State) error {
	return r.runHooks("startContainer", s, specs.StateCreated, func(config *specs.Spec, hook specs.Hook) prepare {
		return func(*plan.Run) (*plan.Plan, error) {
			as := ProcessOf(config, hookArgs(hook))
			as.Env = hook.Env
			return r.PlanExec(s, as, Options{hook: hook.Path, status: specs.StateCreated})
		}
	})
}

// afterStart runs the hooks that follow the program's begin. That one fails ends
// the container since version 1.3 of the specification; before it was a warning.
func (r *Runtime) afterStart(s *State) error {
	return r.runHooks("poststart", s, specs.StateRunning, outside)
}

// ofConsequence says whether a hook that fails then ends the container.
func ofConsequence(status specs.ContainerState, config *specs.Spec) bool {
	return status == specs.StateCreated || status == specs.StateRunning && spec.MinorVersion(config) >= 3
}

// afterStop runs the hooks that follow the container's removal.
func afterStop(s *State, config *specs.Spec) error {
	return runHooks("poststop", s, config, specs.StateStopped, outside)
}

// inside is the PID that a process has in its own namespace, as its hooks there
// know it: the last of the line NSpid in proc_pid_status(5); 0 if it is gone.
func inside(pid int) (own int) {
	text, _ := sys.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, line, _ := strings.Cut(string(text), "\nNSpid:")
	line, _, _ = strings.Cut(line, "\n")
	_, _ = fmt.Sscan(line[strings.LastIndexByte(line, '\t')+1:], &own)
	return own
}

func outside(_ *specs.Spec, hook specs.Hook) prepare { return onHost(hook, 0) }

// runHooks reads config.json, if it asks for hooks, and runs those of a kind.
// That one fails which is of no consequence is a warning.
func (r *Runtime) runHooks(kind string, s *State, status specs.ContainerState, how func(*specs.Spec, specs.Hook) prepare) error {
	if !s.Hooks {
		return nil
	}
	config, err := r.Config(s)
	if err != nil {
		return err
	}
	err = runHooks(kind, s, config, status, how)
	if !ofConsequence(status, config) {
		r.warn(err)
		return nil
	}
	return err
}

// A hookError is that of a hook by which a container's life ends as it begins.
type hookError struct{ error }

func (e hookError) Unwrap() error { return e.error }

// runHooks runs the hooks of one kind up to one that fails; those that are of no
// consequence each, whatever became of the others.
func runHooks(kind string, s *State, config *specs.Spec, status specs.ContainerState, how func(*specs.Spec, specs.Hook) prepare) (err error) {
	for i, hook := range spec.HooksOfKind(config, kind) {
		pid := s.PID
		if status == specs.StateCreated {
			pid = inside(pid)
		}
		err = errors.Join(err, runHook(kind, i, hook, ociState(s.Host, config, pid, status), how(config, hook)))
		if err != nil && ofConsequence(status, config) {
			return err
		}
	}
	return err
}

func (r *Runtime) warn(err error) {
	if err != nil && r.Warn != nil {
		r.Warn(err)
	}
}

func ociState(h Host, s *specs.Spec, pid int, status specs.ContainerState) *specs.State {
	return &specs.State{Version: specs.Version, ID: h.ID, Status: status, Pid: pid, Bundle: h.Bundle, Annotations: s.Annotations}
}

// prepare makes the plan by which a hook runs, and opens what that takes.
type prepare func(*plan.Run) (*plan.Plan, error)

// onHost is for a hook whose file is the host's: a process like the runtime, in
// the namespaces of a child of it, if that is not 0.
func onHost(hook specs.Hook, child int) prepare {
	return func(run *plan.Run) (p *plan.Plan, err error) {
		kinds := 0
		if child != 0 {
			if kinds, err = namespace.Other(child); err != nil {
				return nil, err
			}
			if run.Fd[namespace.Target], err = unix.PidfdOpen(child, 0); err != nil {
				return nil, fmt.Errorf("pidfd_open: %w", err)
			}
		}
		return hookPlan(hook, kinds), nil
	}
}

// runHook runs one hook to its end. It reads the state from a file in memory,
// and writes into another, so that nobody has to wait for a pipe's end.
func runHook(kind string, i int, hook specs.Hook, state *specs.State, how prepare) error {
	fail := func(err error, output string) error {
		return fmt.Errorf("error running %s hook #%d: %s: %w%s", kind, i, hook.Path, err, output)
	}
	output, err := unix.MemfdCreate("hook's output", unix.MFD_CLOEXEC)
	if err != nil {
		return fail(err, "")
	}
	defer unix.Close(output)
	run := &plan.Run{Fd: make(map[plan.Reg]int), Lent: map[plan.Reg]int{process.HookOutput: output}}
	if run.Fd[process.HookInput], err = unix.MemfdCreate("state", unix.MFD_CLOEXEC); err != nil {
		return fail(err, "")
	}
	p, err := how(run)
	if err == nil {
		_, err = unix.Pwrite(run.Fd[process.HookInput], spec.Marshal(state), 0)
	}
	if err != nil {
		for _, fd := range run.Fd {
			_ = unix.Close(fd)
		}
		return fail(err, "")
	}
	proc, err := forkexec.Start(p, run)
	if err != nil {
		return fail(err, "")
	}
	defer proc.Close()
	if err := proc.Started(); err != nil {
		proc.Kill()
		return fail(err, "")
	}
	if hook.Timeout != nil {
		if ended, err := proc.Ended(time.Duration(*hook.Timeout) * time.Second); err != nil || !ended {
			proc.Kill()
			return fail(fmt.Errorf("timeout of %d s", *hook.Timeout), said(output))
		}
	}
	switch ws, err := proc.Wait(); {
	case err != nil:
		return fail(err, "")
	case ws.Signaled():
		return fail(fmt.Errorf("signal: %v", ws.Signal()), said(output))
	case ws.ExitStatus() != 0:
		return fail(fmt.Errorf("exit status %d", ws.ExitStatus()), said(output))
	}
	return nil
}

// said is the beginning of what a hook has written.
func said(output int) string {
	text := make([]byte, 4096)
	n, _ := unix.Pread(output, text, 0)
	if n <= 0 {
		return ""
	}
	return ", and says: " + strings.TrimSpace(string(text[:n]))
}

func hookArgs(hook specs.Hook) []string {
	if len(hook.Args) == 0 {
		return []string{hook.Path}
	}
	return hook.Args
}

// hookPlan is the plan of a hook: a process of the runtime's own kind.
func hookPlan(hook specs.Hook, kinds int) *plan.Plan {
	args := hookArgs(hook)
	b := plan.New()
	namespace.AttachChild(b, "")
	first := plan.Next
	if kinds != 0 {
		first = namespace.Attach(b, &specs.Spec{Linux: &specs.Linux{}}, kinds)
	}
	process.Stdio(b)
	b.Section(plan.Child, "hook", "become the hook")
	b.At("/hooks")
	b.Do("nothing of the runtime stays open in it", plan.CloseOnExec(3))
	b.Do("but a failure can be told of", plan.SetCloexec(plan.Report, false))
	b.Do("signals work again", plan.UnblockSignals())
	b.Do("leave the runtime's file", plan.Execveat(plan.Sealed, append([]string{hook.Path}, args...), hook.Env))
	b.Section(plan.Stub, "program", "the process becomes the hook")
	b.At("/hooks")
	b.Do("nothing of the runtime stays open in it", plan.SetCloexec(plan.Report, true))
	b.Do("all is well", plan.Write(plan.Report, plan.Ready))
	b.Do("the hook itself", plan.Execve(hook.Path, args, hook.Env))
	namespace.First(b, first)
	return b.Plan()
}
