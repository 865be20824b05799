package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A machine is a virtual machine that tests run in.
type machine struct {
	name     string
	flags    []string // of minictr vm
	packages []string
	run      string // a pattern of tests/integration's tests; "" is all but the slow
	musts    string // a pattern of tests/conformance's; "" is none
}

// inside are the packages whose tests run in a virtual machine, too, with
// another kernel, and cgroup version 2 alone; so do those of tests/integration.
var inside = []string{"./pkg/cgroup", "./pkg/container", "./pkg/forkexec", "./pkg/seccomp"}

// slow are those of them that run hundreds of containers, most under strace,
// which takes a quarter of an hour on an emulated processor. They are about the
// runtime, not the kernel. Systemd has a machine of its own, in tests/vm; and
// the machine has no newuidmap(1).
const slow = "^(TestErrnoAtEveryCall|TestKilledRuntime|TestKilledAtRandom|TestEveryStepCanFail|TestRuntimeBinary|TestDeepTree|" +
	"TestManyAtOnce|TestScarce|TestKilledOperations|TestRaces|TestThousand|TestNotifyNobodyReads|TestSystemd|TestRootlessHelpers|TestRenamedDestination|TestPrintedIsWhatRunsOfImage)$"

// kernelFacing are the tests that look at what the kernel does with the wall:
// they run on more kernels than one.
const kernelFacing = "^(TestWall|TestWallMounts|TestWallFromOutside|TestSessionKeyring|TestWithout|TestHostNodes|TestLinksInRoot|" +
	"TestMountsBelowMounts|TestMemoryLimit|TestPidsLimit|TestCPULimit|TestExitStatus|TestSignals|TestTerminal)$"

// cgroupFacing are those that look at what another version of cgroups does.
const cgroupFacing = "^(TestWall|TestWallFromOutside|TestMemoryLimit|TestPidsLimit|TestCPULimit|TestExec|TestExecCgroup|TestLifecycle|TestDelegation)$"

// cgroupMusts are the sentences of the specification that another version of
// cgroups, or one that has more controllers, answers otherwise. Other runtimes
// are not in the machine.
const cgroupMusts = "^TestSpecification$/^minictr$/^(config.md,_Linux_Process:_execCPUAffinity|config-linux.md,_(Allowed_Device_list|Block_IO|Cgroups_Path|Cgroup_ownership|Control_groups|CPU|Huge_page_limits|Memory|Network|PIDs|RDMA|Unified):)"

// vm boots virtual machines, each with one test program in it, as go test
// -exec has them made; and tests what machines are for themselves.
func vm(s *suite) {
	dir := s.tmp + "/vm"
	if err := os.Mkdir(dir, 0o755); err != nil {
		s.fail("mkdir", err.Error())
		return
	}
	defer func() { _ = s.wait(s.command(superuser, "rm", "-rf", dir)) }() // a leak check follows
	list, env, err := s.machines(dir)
	if err != nil {
		s.fail("what the virtual machines need", err.Error())
		return
	}
	minictr := dir + "/minictr"
	s.check("go build", "env", withoutCgo, "go", "build", "-ldflags=-s -w", "-o", minictr, "./cmd/minictr")
	global := []string{minictr, "--data-root", dir + "/root", "--root", dir + "/run"}
	load := append(global[:len(global):len(global)], "load", "--import", "tests", dir+"/system.tar")
	if out, err := s.command(superuser, load...).CombinedOutput(); err != nil {
		s.fail("minictr load", string(out)+err.Error())
		return
	}
	env = append(env, "MINICTR="+minictr)
	for _, m := range list {
		failed := s.failed
		fmt.Printf("in a virtual machine: %s\n", m.name)
		command := slices.Concat(global, []string{
			"vm", "--accel", "tcg", "--cpus", "2", "-m", "2g", "--module", "loop", "--module", "veth", "--module", "bfq",
			"-v", minictr + ":/minictr", "-e", "MINICTR=/minictr",
		}, m.flags)
		execute := "-exec=" + strings.Join(append(command, "--timeout", "15m", "--exec", "tests"), " ")
		s.test(superuser, withoutCgo, append([]string{"-p=1", "-short", execute, "-run=" + s.pattern}, m.packages...), env...)
		which := "-skip=" + slow
		if run := cmp.Or(s.pattern, m.run); run != "" {
			which = "-run=" + run
		}
		s.test(superuser, withoutCgo, []string{"-short", execute, which, "./tests/integration"}, env...)
		if m.musts != "" {
			s.test(superuser, withoutCgo, []string{execute, "-run=" + cmp.Or(s.pattern, m.musts), "./tests/conformance"}, env...)
		}
		if s.failed > failed && s.shell {
			s.open(append(command, "tests", "sh"))
		}
	}
	if s.pattern == "" && s.kernel == "" {
		s.test(superuser, withoutCgo, []string{"./tests/vm"}, env...)
	}
}

// machines lists those that are wanted, brings what they need, and returns the
// environment for the tests.
func (s *suite) machines(dir string) (list []machine, env []string, err error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, nil, err
	}
	if err := system(dir + "/system.tar"); err != nil {
		return nil, nil, err
	}
	image := s.kernel
	if image == "" {
		if image, err = stable.fetch(dir, cache); err != nil {
			return nil, nil, err
		}
	}
	logs := filepath.Join(cache, "logs")
	if err := os.RemoveAll(logs); err != nil { // of the run before
		return nil, nil, err
	}
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return nil, nil, err
	}
	log := func(name string) []string { return []string{"--log", filepath.Join(logs, name)} }
	list = []machine{{"cgroup v2", append(log("v2"), "--kernel", image), inside, "", cgroupMusts}}
	if s.kernel != "" || s.pattern != "" {
		return list, nil, nil
	}
	young, err := newest.fetch(dir, filepath.Join(cache, newest.suite))
	if err != nil {
		return nil, nil, err
	}
	arm, err := foreign.fetch(dir, filepath.Join(cache, foreign.arch))
	if err != nil {
		return nil, nil, err
	}
	few := []string{"./pkg/cgroup", "./pkg/seccomp"}
	list = append(list,
		machine{"cgroup v1", append(log("v1"), "--kernel", image, "--cgroup", "v1"), few, cgroupFacing, cgroupMusts},
		machine{"the kernel of Debian's " + newest.suite, append(log(newest.suite), "--kernel", young), few, kernelFacing, ""})
	return list, []string{"MINICTR_VM_CACHE=" + cache, "MINICTR_VM_ARM64=" + arm}, nil
}

// open is a shell in a machine like the one in which tests have failed.
func (s *suite) open(command []string) {
	fmt.Printf("a shell in such a machine: %s\n", strings.Join(command, " "))
	cmd := s.command(superuser, command...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	_ = s.wait(cmd) // how it ends is the business of who types
}
