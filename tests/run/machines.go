package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// A machine is a virtual machine that tests run in.
type machine struct {
	name, image string
	flags       []string   // of minictr vm
	tests       [][]string // of each go test, which tests, and of which packages; the longest first
}

// images are the root file systems of these machines: a name, and programs of
// Debian's that are in it.
var images = [][]string{
	{"tests", "strace", "newuidmap", "newgidmap", "setpriv", "nsenter", "unshare", "ipcmk", "pasta", "slirp4netns"},
	{"podman", "podman", "conmon", "crun", "newuidmap", "newgidmap", "unshare", "setpriv", "pasta", "slirp4netns"},
}

// inside are the packages whose tests run in a virtual machine, too, with
// another kernel, and cgroup version 2 alone; so do those of tests/integration.
var inside = []string{"./pkg/cgroup", "./pkg/container", "./pkg/forkexec", "./pkg/seccomp", "./pkg/wall"}

// slow are those of them that run hundreds of containers, most under strace,
// which takes a quarter of an hour on an emulated processor. They are about the
// runtime, not the kernel. Systemd has a machine of its own, in tests/vm.
const slow = "^(TestErrnoAtEveryCall|TestKilledRuntime|TestKilledAtRandom|TestEveryStepCanFail|TestRuntimeBinary|TestDeepTree|" +
	"TestManyAtOnce|TestScarce|TestKilledOperations|TestRaces|TestThousand|TestNotifyNobodyReads|TestStoreFaults|TestStoreSignals|TestHostileRegistry|TestSystemd|TestRenamedDestination|TestStep|TestStepEnds|TestPrintedIsWhatRunsOfImage|" +
	"TestInit|TestInitIsWhatIsPrinted|TestFlags|TestEngineKilled|TestCrowd|TestStatusKept|TestNetworkKilled|TestUserOwners|TestUserAlone|TestUserRace|TestUserTerminal|TestUserSignals|TestUserKilled|TestUserMonitor|TestUserDevice|TestBoot|TestInitTerminal|TestKilledWithVolume|TestMonitorHoldsNothing|TestStatusTorn|TestNoNetworkToBeHad|TestDefaultNetwork|TestPod|TestRunFlags|TestStepOfImage|TestFewDescriptors|TestWithout)$"

// kernelFacing are the tests that look at what the kernel does with the wall:
// they run on more kernels than one.
const kernelFacing = "^(TestWall|TestWallMounts|TestWallFromOutside|TestSessionKeyring|TestWithout|TestHostNodes|TestLinksInRoot|" +
	"TestMountsBelowMounts|TestMemoryLimit|TestPidsLimit|TestCPULimit|TestExitStatus|TestSignals|TestTerminal|TestGaps)$"

// limitLessons are those whose experiments are about cgroups.
const limitLessons = "^TestLessons$/^(06|07|08|13|22|24)-"

// cgroupFacing are those that look at what another version of cgroups does.
const cgroupFacing = "^(TestWall|TestWallFromOutside|TestMemoryLimit|TestPidsLimit|TestCPULimit|TestExec|TestExecCgroup|TestLifecycle|TestDelegation)$"

// cgroupMusts are the sentences of the specification that another version of
// cgroups, or one that has more controllers, answers otherwise. Other runtimes
// are not in the machine.
const cgroupMusts = "^TestSpecification$/^minictr$/^(config.md,_Linux_Process:_execCPUAffinity|config-linux.md,_(Allowed_Device_list|Block_IO|Cgroups_Path|Cgroup_ownership|Control_groups|CPU|Huge_page_limits|Memory|Network|PIDs|RDMA|Unified):)"

// ofUser are those in which a user without privileges runs containers, by
// Podman or by himself, and limits them, which takes cgroup version 2.
const ofUser = "TestEverydayOfUser|TestRootlessPodman/minictr/(root|detached)|TestRootlessPodman/.*/limits"

// modules are those of the kernel that the tests need, besides what every
// machine has.
func modules() (flags []string) {
	for _, name := range []string{"loop", "veth", "bfq", "bridge", "nft_chain_nat", "nft_masq", "nft_fib_inet", "nft_ct", "nft_nat", "tun"} {
		flags = append(flags, "--module", name)
	}
	return flags
}

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
	for _, image := range images {
		load := append(global[:len(global):len(global)], "import", dir+"/"+image[0]+".tar", image[0])
		if _, err := s.said(s.command(superuser, load...)); err != nil {
			s.fail("minictr import", err.Error())
			return
		}
	}
	env = append(env, "MINICTR="+minictr)
	commands := make([][]string, len(list))
	unwell := make([]atomic.Bool, len(list))
	var jobs []func()
	for i, m := range list {
		commands[i] = slices.Concat(global, []string{
			"vm", "--accel", "tcg", "--cpus", "2", "-m", "2g", "-v", minictr + ":/minictr", "-e", "MINICTR=/minictr",
		}, modules(), m.flags)
		execute := "-exec=" + strings.Join(append(commands[i][:len(commands[i]):len(commands[i])], "--timeout", limit, "--exec", m.image), " ")
		for _, args := range m.tests {
			if s.pattern != "" {
				args[0] = "-run=" + s.pattern
			}
			jobs = append(jobs, func() {
				if !s.testAt(" ("+m.name+")", superuser, withoutCgo, append([]string{"-p=1", "-short", execute}, args...), env...) {
					unwell[i].Store(true)
				}
			})
		}
	}
	if s.pattern == "" && s.kernel == "" {
		jobs = slices.Insert(jobs, 2,
			func() { s.testAt("", superuser, withoutCgo, []string{"./tests/vm"}, env...) },
			func() {
				s.testAt("", superuser, withoutCgo, []string{"-run=^TestMachineLessons$", "./tests/lessons"}, env...)
			})
	}
	twoAtOnce(jobs)
	for i, m := range list {
		if s.shell && unwell[i].Load() {
			s.open(append(commands[i], m.image, "sh"))
		}
	}
}

// twoAtOnce does jobs in their order. A machine keeps one processor busy, which
// emulates its processors.
func twoAtOnce(jobs []func()) {
	next := make(chan func())
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			for job := range next {
				job()
			}
		})
	}
	for _, job := range jobs {
		next <- job
	}
	close(next)
	workers.Wait()
}

// machines lists those that are wanted, brings what they need, and returns the
// environment for the tests.
func (s *suite) machines(dir string) (list []machine, env []string, err error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, nil, err
	}
	for _, image := range images {
		if err := s.system(dir+"/"+image[0]+".tar", image[1:]...); err != nil {
			return nil, nil, err
		}
	}
	image := s.kernel
	if image == "" {
		if image, err = stable.fetch(s, dir, cache); err != nil {
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
	musts := []string{"-run=" + cgroupMusts, "./tests/conformance"}
	list = []machine{
		{"a user", "podman", append(log("podman"), "--kernel", image), [][]string{{"-run=" + ofUser, "./tests/peers"}}},
		{"cgroup v2", "tests", append(log("v2"), "--kernel", image), [][]string{
			{"-skip=" + slow, "./tests/integration"}, append([]string{"-skip=" + slow}, inside...), {"-run=" + limitLessons, "./tests/lessons"}, musts,
		}},
	}
	if s.kernel != "" || s.pattern != "" {
		return list, nil, nil
	}
	young, err := newest.fetch(s, dir, filepath.Join(cache, newest.suite))
	if err != nil {
		return nil, nil, err
	}
	arm, err := foreign.fetch(s, dir, filepath.Join(cache, foreign.arch))
	if err != nil {
		return nil, nil, err
	}
	list = append(list,
		machine{"cgroup v1", "tests", append(log("v1"), "--kernel", image, "--cgroup", "v1"), [][]string{{"-run=", "./pkg/cgroup"}, {"-run=" + cgroupFacing, "./tests/integration"}, musts}},
		machine{"the kernel of Debian's " + newest.suite, "tests", append(log(newest.suite), "--kernel", young), [][]string{{"-run=", "./pkg/cgroup", "./pkg/seccomp"}, {"-run=" + kernelFacing, "./tests/integration"}}})
	return list, []string{"MINICTR_VM_CACHE=" + cache, "MINICTR_VM_ARM64=" + arm}, nil
}

// open is a shell in a machine like the one in which tests have failed.
func (s *suite) open(command []string) {
	fmt.Printf("a shell in such a machine: %s\n", strings.Join(command, " "))
	cmd := s.command(superuser, command...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	_ = s.wait(cmd) // how it ends is the business of who types
}
