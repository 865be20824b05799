package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"time"
)

// Tools that are Go modules, at versions that this code is clean under.
const (
	gofumpt     = "mvdan.cc/gofumpt@v0.12.0"
	staticcheck = "honnef.co/go/tools/cmd/staticcheck@v0.8.2"
	golangci    = "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0"
	deadcode    = "golang.org/x/tools/cmd/deadcode@v0.52.0"
)

// withoutCgo is how minictr is built; only the race detector needs C.
const withoutCgo = "CGO_ENABLED=0"

func core(s *suite) {
	s.check("gofmt", "gofmt", "-l", ".")
	s.check("go vet", "go", "vet", "./...")
	s.check("go vet for arm64", "env", "GOARCH=arm64", "go", "vet", "./...")
	s.check("go build", "env", withoutCgo, "go", "build", "./...")
	s.test(nobody, withoutCgo, s.packages())
	s.test(self, "CGO_ENABLED=1", []string{"-race", "./pkg/..."})
}

// root runs one package after the other: tests look for what is left on the
// machine, and measure time. Where this program is root, core has run those of
// pkg as root, too.
func root(s *suite) {
	packages := s.packages()
	if os.Getuid() == 0 {
		packages = slices.DeleteFunc(packages, func(p string) bool { return strings.Contains(p, "/pkg/") })
	}
	s.test(superuser, withoutCgo, append(packages, "-p=1"))
}

// lint takes minutes when its tools are built for the first time.
func lint(s *suite) {
	scripts := []string{".ci/run", "tests/run/nobody.sh"}
	s.check("gofumpt", "go", "run", gofumpt, "-l", ".")
	// A strings.Builder for a few words is slower to read and to run.
	s.check("go fix", "go", "fix", "-diff", "-stringsbuilder=false", "./...")
	s.check("staticcheck", "go", "run", staticcheck, "./...")
	s.check("golangci-lint", "go", "run", golangci, "run", "--show-stats=false", "./...")
	s.check("deadcode", "go", "run", deadcode, "-test", "./...")
	s.check("shellcheck", append([]string{"shellcheck"}, scripts...)...)
	s.check("shfmt", append([]string{"shfmt", "-d"}, scripts...)...)
}

// peers has container managers work with minictr, and with runc; and holds
// runtimes to the specification.
func peers(s *suite) {
	// Its modules are not ours, and where it is built again there is no network.
	s.check("go build of a client of containerd", "env", withoutCgo, "go", "build", "-C", "tests/cri", "-o", os.DevNull, ".")
	s.test(superuser, withoutCgo, []string{"-p=1", "./tests/conformance", "./tests/peers"})
}

// packages lists all packages but those that have a tier of their own.
func (s *suite) packages() []string {
	return slices.DeleteFunc(strings.Fields(s.output("go", "list", "./...")), func(p string) bool {
		return slices.Contains([]string{"conformance", "peers", "vm"}, path.Base(p))
	})
}

// output is what a command that can't fail says.
func (s *suite) output(args ...string) string {
	var out bytes.Buffer
	cmd := s.command(self, args...)
	cmd.Stdout = &out
	if err := s.wait(cmd); err != nil {
		s.fail(cmd.String(), err.Error())
	}
	return strings.TrimSpace(out.String())
}

// check runs a tool that must succeed and find nothing to say.
func (s *suite) check(what string, args ...string) {
	start := time.Now()
	var out, errs bytes.Buffer
	cmd := s.command(self, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	switch err := s.wait(cmd); {
	case err != nil:
		s.fail(what, out.String()+errs.String()+err.Error())
	case out.Len() > 0:
		s.fail(what, out.String())
	default:
		s.count(counts{passed: 1})
		fmt.Printf("ok    %s (%.1f s)\n", what, time.Since(start).Seconds())
	}
}

// test runs the tests of packages here.
func (s *suite) test(as user, cgo string, args []string) { s.testAt("", as, cgo, args) }

// limit is how long the tests of a package may take: the longest take seven
// minutes, and twice that where other machines have the processors too.
const limit = "30m"

// testAt runs the tests of packages, never from the cache, and returns whether
// all is well.
func (s *suite) testAt(where string, as user, cgo string, args []string, env ...string) bool {
	words := slices.Concat([]string{"env", cgo}, env, []string{"go", "test", "-json", "-count=1", "-timeout=" + limit}, args)
	cmd := s.command(as, words...)
	events, out := io.Pipe()
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	ended := make(chan error, 1)
	go func() {
		ended <- s.wait(cmd)
		_ = out.Close()
	}()
	r := newReport(s, where)
	r.read(events)
	_ = events.Close()
	if err := <-ended; err != nil && r.failed == 0 {
		r.fail(cmd.String(), err.Error())
	}
	return r.failed == 0
}

// user is whom a command runs as.
type user int

const (
	self      user = iota // whoever started this program
	superuser             // through sudo, if that is not root
	nobody                // without privileges, if that is root
)

// command makes a command with the TMPDIR of this suite.
func (s *suite) command(as user, args ...string) *exec.Cmd {
	env := []string{"TMPDIR=" + s.tmp, "GOFLAGS=" + strings.TrimSpace(os.Getenv("GOFLAGS")+" -buildvcs=false")}
	isRoot := os.Getuid() == 0
	switch {
	case as == superuser && !isRoot:
		env = append(env, "PATH="+os.Getenv("PATH"), collection+"="+os.Getenv(collection), "GOMODCACHE="+s.output("go", "env", "GOMODCACHE"))
		args = slices.Concat([]string{"sudo", "-H", "env"}, env, args)
	case as == nobody && isRoot:
		args = slices.Concat([]string{"unshare", "--mount", "tests/run/nobody.sh"}, args)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = 10 * time.Second // for a process that is left with our pipe
	return cmd
}
