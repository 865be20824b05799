package container_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/spec"
)

// marked asks for all that a process writes into files of its own in proc(5).
func marked() *specs.Spec {
	s := spec.Default()
	s.Process.Args = []string{"/bin/true"}
	s.Process.OOMScoreAdj = new(500)
	s.Process.ApparmorProfile = "walled"
	s.Process.User.UID = 1000
	return s
}

// join has the container share namespaces with others.
func join(s *specs.Spec, kinds ...specs.LinuxNamespaceType) {
	for _, k := range kinds {
		s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == k })
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: k, Path: "/run/ns/" + string(k)})
	}
}

func childCalls(p *plan.Plan) (calls []string) {
	for _, s := range p.Sections {
		for _, step := range s.Steps {
			if s.Where == plan.Child {
				calls = append(calls, step.Call.String())
			}
		}
	}
	return calls
}

func execPlan(t *testing.T, s *specs.Spec, h container.Host) *plan.Plan {
	t.Helper()
	kinds := unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNS
	p, err := container.CompileExec(s, h, 5, kinds, specs.StateRunning, func() (int, error) { return -1, nil })
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestOrder is that a process writes what is to be remembered of it while its
// files in proc(5) are its own, and that nobody who is in a namespace already
// can look into it: it can't be dumped from before it enters.
func TestOrder(t *testing.T) {
	for name, edit := range map[string]func(*specs.Spec){
		"new": func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace}, specs.LinuxNamespace{Type: specs.TimeNamespace})
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1000}}
		},
		"shared":      func(s *specs.Spec) { join(s, specs.PIDNamespace, specs.NetworkNamespace, specs.IPCNamespace) },
		"shared user": func(s *specs.Spec) { join(s, specs.UserNamespace, specs.PIDNamespace, specs.NetworkNamespace) },
	} {
		s := marked()
		edit(s)
		h := host("hybrid", s)
		h.Process.AppArmor = "apparmor/exec"
		p, err := container.Compile(s, h)
		if err != nil {
			t.Fatal(err)
		}
		for kind, p := range map[string]*plan.Plan{"first": p, "exec": execPlan(t, s, h)} {
			calls := childCalls(p)
			at := func(part string) int {
				return slices.IndexFunc(calls, func(c string) bool { return strings.Contains(c, part) })
			}
			private := at("PR_SET_DUMPABLE")
			enters := slices.IndexFunc(calls, func(c string) bool {
				return strings.HasPrefix(c, "setns($ns/") || strings.HasPrefix(c, "setns($container")
			})
			if private < 0 || enters >= 0 && enters < private {
				t.Errorf("%s, %s: it can be dumped until step %d of the child, and enters in step %d", name, kind, private, enters)
			}
			for _, file := range []string{`"500"`, `"exec walled"`, `"boottime 1000 0"`} {
				wanted := file != `"boottime 1000 0"` || name == "new" && kind == "first"
				if i := at(file); wanted != (i >= 0) || i > private || i > at("setresuid(") {
					t.Errorf("%s, %s: %s is written in step %d, it can be dumped until %d, and changes its user in %d", name, kind, file, i, private, at("setresuid("))
				}
			}
		}
	}
}

// TestInitialAffinity is that a process which enters a container runs on the
// processors of before only where there is a before: one that is born in its
// cpuset has that one's, which may be others.
func TestInitialAffinity(t *testing.T) {
	s := marked()
	s.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "3", Final: "0"}
	for kind, want := range map[string][]string{"hybrid": {"[3]", "[0]"}, "v2": {"[0]"}} {
		var got []string
		for _, c := range childCalls(execPlan(t, s, host(kind, s))) {
			if _, cpus, ok := strings.Cut(c, "sched_setaffinity(0, "); ok {
				got = append(got, cpus[strings.Index(cpus, "["):strings.Index(cpus, "]")+1])
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, not %q", kind, got, want)
		}
	}
}
