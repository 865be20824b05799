package process

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/plan"
)

// Schedule says when the process runs, and from where its memory comes: what
// the specification calls scheduler, ioPriority, memoryPolicy and personality.
func Schedule(b *plan.Builder, s *specs.Spec) error {
	p, l := s.Process, s.Linux
	if p.Scheduler == nil && p.IOPriority == nil && l.MemoryPolicy == nil && l.Personality == nil {
		return nil
	}
	b.Section(plan.Child, "schedule", "when it runs, and from where its memory comes")
	if sc := p.Scheduler; sc != nil {
		attr, err := schedOf(sc)
		if err != nil {
			return err
		}
		b.At("/process/scheduler")
		b.Do("whose turn it is at the processor", plan.Schedule(attr))
	}
	if io := p.IOPriority; io != nil {
		class := slices.Index(plan.IOClassNames[:], string(io.Class))
		if class < 0 {
			return fmt.Errorf("/process/ioPriority/class: unknown class %q", io.Class)
		}
		if io.Priority < 0 || io.Priority > 7 {
			return fmt.Errorf("/process/ioPriority/priority: %d is not from 0 to 7", io.Priority)
		}
		b.At("/process/ioPriority")
		b.Do("whose turn it is at the disk", plan.IOPriority(class, io.Priority))
	}
	if m := l.MemoryPolicy; m != nil {
		c, err := memoryPolicy(m)
		if err != nil {
			return err
		}
		b.At("/linux/memoryPolicy")
		b.Do("which nodes its memory comes from", c)
	}
	if d := l.Personality; d != nil {
		if len(d.Flags) > 0 {
			return fmt.Errorf("/linux/personality/flags: %q: no flag is supported", d.Flags[0])
		}
		if d.Domain != specs.PerLinux && d.Domain != specs.PerLinux32 {
			return fmt.Errorf("/linux/personality/domain: unknown domain %q", d.Domain)
		}
		b.At("/linux/personality")
		b.Do("what machine it believes to run on", plan.Personality(d.Domain == specs.PerLinux32))
	}
	return nil
}

func schedOf(s *specs.Scheduler) (attr plan.Sched, err error) {
	attr = plan.Sched{
		Policy: slices.Index(plan.SchedPolicyNames[:], string(s.Policy)), Nice: s.Nice, Priority: s.Priority,
		Runtime: s.Runtime, Deadline: s.Deadline, Period: s.Period,
	}
	if attr.Policy < 0 {
		return attr, fmt.Errorf("/process/scheduler/policy: unknown policy %q", s.Policy)
	}
	for i, f := range s.Flags {
		bit := slices.Index(plan.SchedFlagNames[:], string(f))
		if bit < 0 {
			return attr, fmt.Errorf("/process/scheduler/flags/%d: unknown flag %q", i, f)
		}
		attr.Flags |= 1 << bit
	}
	return attr, nil
}

func memoryPolicy(m *specs.LinuxMemoryPolicy) (c plan.Call, err error) {
	mode := slices.Index(plan.MemoryPolicyNames[:], string(m.Mode))
	if mode < 0 {
		return c, fmt.Errorf("/linux/memoryPolicy/mode: invalid memory policy mode %q", m.Mode)
	}
	var flags []string
	for i, f := range m.Flags {
		if plan.MemoryFlags[string(f)] == 0 {
			return c, fmt.Errorf("/linux/memoryPolicy/flags/%d: invalid memory policy flag %q", i, f)
		}
		flags = append(flags, string(f))
	}
	nodes, err := plan.Numbers(m.Nodes)
	if err != nil {
		return c, fmt.Errorf("/linux/memoryPolicy/nodes: invalid memory policy nodes: %w", err)
	}
	return plan.MemoryPolicy(mode, flags, nodes), nil
}

// InitialAffinity says on which processors a process that enters a container
// runs until it is in its cgroup. One that is born in the cgroup, whose
// processors are that cgroup's from the first, has no such time.
func InitialAffinity(b *plan.Builder, s *specs.Spec, bornInside bool) error {
	if a := s.Process.ExecCPUAffinity; a != nil && !bornInside {
		return affinity(b, "initial", a.Initial, "until it is in the cgroup")
	}
	return nil
}

// FinalAffinity says on which processors it runs then.
func FinalAffinity(b *plan.Builder, s *specs.Spec) error {
	if a := s.Process.ExecCPUAffinity; a != nil {
		return affinity(b, "final", a.Final, "from here on")
	}
	return nil
}

func affinity(b *plan.Builder, field, list, when string) error {
	cpus, err := plan.Numbers(list)
	if err != nil {
		return fmt.Errorf("/process/execCPUAffinity/%s: %w", field, err)
	}
	if len(cpus) == 0 {
		return nil
	}
	b.Section(plan.Child, "affinity", "which processors it runs on")
	b.At("/process/execCPUAffinity/" + field)
	b.Do(when+", on these processors alone", plan.Affinity(cpus))
	return nil
}
