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

// A report is what one run of go test says.
type report struct {
	suite    *suite
	where    string // it runs, if not here
	failed   int
	builds   map[string]string // by import path, what they said
	packages map[string]*tests
}

func newReport(s *suite, where string) *report {
	return &report{suite: s, where: where, builds: make(map[string]string), packages: make(map[string]*tests)}
}

// tests are those of one package.
type tests struct {
	ended, failed int
	said          map[string]string // by tests that have not ended; "" is the package
}

// read counts tests by their events, and prints one line for each package, and
// all that failures said.
func (r *report) read(events io.Reader) {
	decoder := json.NewDecoder(events)
	for {
		var e event
		if err := decoder.Decode(&e); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			r.fail("go test -json", err.Error())
			return
		}
		p := r.packages[e.Package]
		if p == nil {
			p = &tests{said: make(map[string]string)}
			r.packages[e.Package] = p
		}
		switch e.Action {
		case "build-output":
			r.builds[e.ImportPath] += e.Output
		case "output":
			p.said[e.Test] += e.Output
		case "pass", "fail", "skip":
			if e.Test == "" {
				r.endPackage(e, p)
			} else {
				r.endTest(e, p)
			}
		}
	}
}

func (r *report) fail(what, output string) {
	r.failed++
	r.suite.fail(what+r.where, output)
}

// long is how many seconds a test may take before its time is printed: a tier
// has only some minutes.
const long = 10

func (r *report) endTest(e event, p *tests) {
	said := p.said[e.Test]
	delete(p.said, e.Test)
	p.ended++
	if e.Elapsed > long && !strings.Contains(e.Test, "/") {
		fmt.Printf("      %s%s: %.0f s\n", e.Test, r.where, e.Elapsed)
	}
	switch {
	case e.Action == "pass":
		r.suite.count(counts{passed: 1})
	case e.Action == "skip" && permitted(r.suite.tier, said):
		r.suite.count(counts{skipped: 1})
		if strings.Contains(said, noCollection) {
			fmt.Printf("skip  %s %s: %s\n", e.Package, e.Test, noCollection)
		}
	default:
		p.failed++
		r.fail(e.Package+" "+e.Test, said)
	}
}

// endPackage tells of a failed package what its failed tests have not told:
// it does not build, or it ended while tests ran.
func (r *report) endPackage(e event, p *tests) {
	switch {
	case e.Action == "fail" && p.failed == 0:
		output := r.builds[e.FailedBuild]
		for _, said := range p.said {
			output += said
		}
		r.fail(e.Package, output)
	case e.Action == "pass":
		fmt.Printf("ok    %s%s: %d tests (%.1f s)\n", e.Package, r.where, p.ended, e.Elapsed)
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
