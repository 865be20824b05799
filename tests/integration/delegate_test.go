package integration_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/cgroup"
)

// TestExecBelow enters a container whose only processes are in a cgroup of its
// own making.
func TestExecBelow(t *testing.T) {
	s := newSpec("below", "sh", "-c", "mkdir /sys/fs/cgroup/self && echo 0 > /sys/fs/cgroup/self/cgroup.procs && echo +pids > /sys/fs/cgroup/cgroup.subtree_control; echo moved; exec pause")
	i := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Type == "cgroup" })
	s.Mounts[i].Options = slices.DeleteFunc(s.Mounts[i].Options, func(o string) bool { return o == "ro" })
	c, dir := newOCI(t, "below", s)
	c.create(dir)
	c.must("start", c.id)
	c.prints(containing("moved"))
	if r := c.call("exec", c.id, "sh", "-c", "echo inside"); r.stdout != "inside\n" {
		t.Errorf("exec: %v", r)
	}
}

// TestDelegation gives a container whose root is nobody outside a cgroup mount
// that it can write to. On version 2 it makes cgroups of its own, moves its
// processes, limits some of them, and still can't change its own limit; on
// version 1 nothing is handed over.
func TestDelegation(t *testing.T) {
	h := newHost(t)
	layout, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	s := newSpec("delegation", "sh", "-c", `cd /sys/fs/cgroup || exit
		mkdir self small && echo 0 > self/cgroup.procs && echo +pids > cgroup.subtree_control && echo 3 > small/pids.max
		echo delegated $?, $(cat self/cgroup.controllers), $(cat small/pids.max)
		echo 100 > pids.max; echo own limit $?
		sh -c 'echo 0 > small/cgroup.procs; ls | ls'`)
	userNamespace(s)
	limit := int64(30)
	s.Linux.Resources.Pids = &specs.LinuxPids{Limit: &limit}
	i := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Type == "cgroup" })
	s.Mounts[i].Options = slices.DeleteFunc(s.Mounts[i].Options, func(o string) bool { return o == "ro" })
	r := h.minictr(t, "run", "--bundle", newBundle(t, s, "bundle"), "delegation")
	if layout.Version() != cgroup.V2 {
		if strings.Contains(r.stdout, "delegated 0, pids") {
			t.Errorf("a cgroup of version 1 is handed over: %v", r)
		}
		return
	}
	for _, want := range []string{"delegated 0, pids, 3\n", "own limit 1\n"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("no %q: %v", want, r)
		}
	}
	if !strings.Contains(r.stderr, "can't fork") {
		t.Errorf("the inner limit does not bite: %v", r)
	}
}
