package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
)

// An event is a line that go test -json prints: go doc test2json.
type event struct {
	Action      string
	Package     string
	Test        string
	Output      string
	ImportPath  string  // of a build
	FailedBuild string  // the build for want of which a package failed
	Elapsed     float64 // seconds
}

// tests are those of one package.
type tests struct {
	ended, failed int
	said          map[string]string // by tests that have not ended; "" is the package
}

// read counts the tests of a run by its events, and prints one line for each
// package, and all that failures said.
func (s *suite) read(events io.Reader) {
	builds := make(map[string]string)
	packages := make(map[string]*tests)
	decoder := json.NewDecoder(events)
	for {
		var e event
		if err := decoder.Decode(&e); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			s.fail("go test -json", err.Error())
			return
		}
		p := packages[e.Package]
		if p == nil {
			p = &tests{said: make(map[string]string)}
			packages[e.Package] = p
		}
		switch e.Action {
		case "build-output":
			builds[e.ImportPath] += e.Output
		case "output":
			p.said[e.Test] += e.Output
		case "pass", "fail", "skip":
			if e.Test == "" {
				s.endPackage(e, p, builds[e.FailedBuild])
			} else {
				s.endTest(e, p)
			}
		}
	}
}

// long is how many seconds a test may take before its time is printed: a tier
// has only some minutes.
const long = 10

func (s *suite) endTest(e event, p *tests) {
	said := p.said[e.Test]
	delete(p.said, e.Test)
	p.ended++
	if e.Elapsed > long && !strings.Contains(e.Test, "/") {
		fmt.Printf("      %s: %.0f s\n", e.Test, e.Elapsed)
	}
	switch {
	case e.Action == "pass":
		s.passed++
	case e.Action == "skip" && permitted(s.tier, said):
		s.skipped++
		if strings.Contains(said, noCollection) {
			fmt.Printf("skip  %s %s: %s\n", e.Package, e.Test, noCollection)
		}
	default:
		p.failed++
		s.fail(e.Package+" "+e.Test, said)
	}
}

// endPackage tells of a failed package what its failed tests have not told:
// it does not build, or it ended while tests ran.
func (s *suite) endPackage(e event, p *tests, build string) {
	switch {
	case e.Action == "fail" && p.failed == 0:
		for _, said := range p.said {
			build += said
		}
		s.fail(e.Package, build)
	case e.Action == "pass":
		fmt.Printf("ok    %s: %d tests (%.1f s)\n", e.Package, p.ended, e.Elapsed)
	}
}

// Images that others have made lie beside the repository, or where the
// environment says.
const (
	collection   = "MINICTR_TEST_IMAGES"
	noCollection = "the collection of images is not here"
)

// permitted tells by what a skipped test said whether that is no failure.
func permitted(tier, said string) bool {
	_, noImages := os.Stat(cmp.Or(os.Getenv(collection), "../shared/images"))
	for _, reason := range []struct {
		words string
		holds bool
	}{
		{"needs root", tier == "core"},           // the tier root runs it
		{"in the virtual machine", tier == "vm"}, // cgroup v1: the tier root runs it
		{"the tier vm brings", tier != "vm"},     // a kernel to boot
		{noCollection, noImages != nil},          // other tests make images of each kind
		{"for amd64", runtime.GOARCH != "amd64"},
	} {
		if reason.holds && strings.Contains(said, reason.words) {
			return true
		}
	}
	return false
}
