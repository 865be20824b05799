package process

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/seccomp"
)

// Few programs know what being process 1 means: to be the parent of all who
// lose theirs, and to get no signal that one has no handler for. So the stub
// can be process 1 itself. It makes a child, which becomes the program, and
// stays, waits for signals, and passes them on. The child is the leader of its
// session, as the program always is: so a terminal is its own, and keys that are
// signals reach whom they would reach without process 1.

// initAt is the place in config.json that asks for all this.
const initAt = "/annotations/org.minictr.init"

// part makes the process two, if that is asked for. The steps that follow are
// the child's; the other goes on at the label.
func part(b *plan.Builder, s *specs.Spec, h Host) (stays plan.Label, err error) {
	if !h.Init {
		return plan.Next, nil
	}
	if p := s.Process.Scheduler; p != nil && slices.Contains(p.Flags, specs.SchedFlagResetOnFork) {
		return plan.Next, fmt.Errorf("/process/scheduler/flags: %s is for the program's children, and with %s the program is one", specs.SchedFlagResetOnFork, initAt)
	}
	b.Section(plan.Stub, "init", "process 1 has a child that becomes the program")
	b.At(initAt)
	orphans := !slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace && n.Path == "" })
	if orphans {
		b.Do("without a PID namespace it is not process 1, and gets orphans all the same", plan.Subreaper())
	}
	b.Do("from here on no signal is lost: each waits until it is asked for", plan.BlockSignals())
	stays = b.Label()
	b.Do("the child goes on with the next step, its parent elsewhere", plan.Fork()).Out(plan.Forked).Then(stays)
	if orphans {
		b.Do("should its parent be killed, the child is too", plan.DieWithParent())
	}
	b.Do("the child leads a session, as if it were process 1", plan.Setsid())
	if s.Process.Terminal {
		b.At("/process/terminal")
		b.Do("the terminal controls it: Ctrl-C reaches the program, and not process 1", plan.ControllingInput())
		b.At(initAt)
	}
	b.Do("signals work again: those that have come meanwhile arrive", plan.UnblockSignals())
	return stays, nil
}

// stay is what process 1 does from then on. The stub knows the order of these
// calls: the second is made again and again, and what it returns decides which
// of the others follows. All of init's calls are made behind the filter.
func stay(b *plan.Builder, h Host, stays plan.Label, f seccomp.Filter) error {
	if !h.Init {
		return nil
	}
	b.Section(plan.Stub, "init", "process 1 reaps until that child has ended")
	b.At(initAt)
	b.Place(stays)
	b.Do("it keeps nothing open that the program, or the runtime, waits to see closed", plan.CloseAll())
	b.Do("wait for a signal, and again after each", plan.NextSignal()).Out(plan.Signal)
	b.Do("any but SIGCHLD is for the program", plan.PassSignal())
	b.Do("SIGCHLD says that children have ended: take them away, one by one", plan.Reap())
	b.Do("if the program is among them, end as it has: 128 and the number of the signal, if one has killed it", plan.ExitAs())
	for _, section := range b.Plan().Sections {
		for _, step := range section.Steps {
			if section.Brick == "init" && len(f.Program) > 0 && !f.Passes(step.Call.Name, seccomp.Native()) {
				return fmt.Errorf("/linux/seccomp: %s does not pass, which process 1 makes behind the filter: let it pass, or leave out %s", step.Call.Name, initAt)
			}
		}
	}
	return nil
}
