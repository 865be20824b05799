// Command run passes all tests of minictr on a Debian machine that has only
// Go: it installs from Debian's packages what the tests need, saying so, and
// then runs the tiers in order, or those that are named.
//
//	go run ./tests/run [--no-install] [core | root | peers | lint | vm]...
//
// In the tier vm, --run PATTERN runs only such tests, --kernel FILE boots
// another kernel, and --shell opens a shell in a machine like the one in which
// tests failed. What the kernels say is kept in the cache directory, in logs/.
//
// A skipped test counts as a failure unless permitted knows why, and whatever
// a tier leaves behind on the machine is a failure too. The last line tells
// the numbers, and the exit status is 0 only if nothing failed.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// A tier is a group of tests that need the same of the machine.
type tier struct {
	name string
	run  func(*suite)
}

var tiers = []tier{
	{"core", core},   // whatever needs no privilege
	{"root", root},   // namespaces, mounts and cgroups of this machine
	{"peers", peers}, // container managers, with minictr below them
	{"lint", lint},   // tools that read the source
	{"vm", vm},       // another kernel, with cgroup v2
}

func main() {
	noInstall := flag.Bool("no-install", false, "install nothing from Debian's packages")
	s := new(suite)
	flag.StringVar(&s.pattern, "run", "", "in virtual machines, run only tests that match this `PATTERN`")
	flag.StringVar(&s.kernel, "kernel", "", "in virtual machines, boot the kernel `FILE`")
	flag.BoolVar(&s.shell, "shell", false, "open a shell in a virtual machine like the one in which tests failed")
	flag.Parse()
	for _, name := range flag.Args() {
		if !slices.ContainsFunc(tiers, func(t tier) bool { return t.name == name }) {
			exit(fmt.Errorf("no tier %q", name))
		}
	}
	if !*noInstall {
		exit(install())
	}
	tmp, err := os.MkdirTemp("", "minictr-tests-")
	exit(err)
	exit(os.Chmod(tmp, 0o777|os.ModeSticky))
	s.tmp = tmp
	exit(s.adoptOrphans())
	for _, t := range tiers {
		if flag.NArg() == 0 || slices.Contains(flag.Args(), t.name) {
			s.run(t)
		}
	}
	exit(os.RemoveAll(tmp))
	fmt.Println(s.counts)
	if s.failed > 0 {
		os.Exit(1)
	}
}

// exit ends this program if there is an error.
func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "tests/run:", err)
		os.Exit(1)
	}
}

// counts are the numbers of tests. A check by a tool is one test.
type counts struct{ passed, failed, skipped int }

func (c counts) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", c.passed, c.failed, c.skipped)
}

// A suite is one run of this program.
type suite struct {
	counts
	tier string
	tmp  string // TMPDIR of all tests: what is left in it is a leak

	pattern, kernel string // of the tier vm
	shell           bool

	mu       sync.Mutex
	commands []int // that this process waits for
}

func (s *suite) run(t tier) {
	fmt.Printf("== %s\n", t.name)
	before, start, counted := s.machine(), time.Now(), s.counts
	s.tier = t.name
	t.run(s)
	if list := s.leaks(before); len(list) > 0 {
		s.fail("the tier leaves the machine changed", strings.Join(list, "\n"))
	}
	counted = counts{s.passed - counted.passed, s.failed - counted.failed, s.skipped - counted.skipped}
	fmt.Printf("== %s took %.1f minutes: %v\n\n", t.name, time.Since(start).Minutes(), counted)
}

func (s *suite) count(c counts) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts = counts{s.passed + c.passed, s.failed + c.failed, s.skipped + c.skipped}
}

// fail counts one failure, and tells all that is known of it.
func (s *suite) fail(what, output string) {
	s.count(counts{failed: 1})
	fmt.Printf("FAIL  %s\n%s\n", what, strings.TrimSuffix(output, "\n"))
}
