package integration_test

import (
	"strings"
	"testing"

	"github.com/minictr/minictr/tests/alone"
)

// dirs are where a host keeps what a container may not leave.
func (h host) dirs() []string {
	return []string{h.run, h.root + "/containers", h.root + "/tmp", h.root + "/names", h.root + "/networks", h.root + "/volumes"}
}

// A fingerprint is of the machine and a host on it.
type fingerprint alone.Fingerprint

func machine(h host) fingerprint { return fingerprint(alone.Machine(h.dirs()...)) }

// unchanged has the test fail if, when it ends, the machine is not as it is
// now.
func unchanged(t *testing.T, h host) {
	t.Helper()
	before := machine(h)
	t.Cleanup(func() {
		if t.Failed() {
			alone.KillChildren(t) // and leave no trouble for the tests that follow
			_ = h.command("ps").Run()
		}
		before.compare(t, h, "after the test")
	})
}

// compare has the test fail if the machine is changed.
func (before fingerprint) compare(t *testing.T, h host, when string) {
	t.Helper()
	if list := alone.Fingerprint(before).Differences(h.dirs()...); len(list) > 0 {
		t.Errorf("%s the machine is changed:\n%s", when, strings.Join(list, "\n"))
	}
}
