package engine

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// mountAt is the mount of a wall at a place.
func mountAt(t *testing.T, s *specs.Spec, dest string) specs.Mount {
	t.Helper()
	i := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == dest })
	if i < 0 {
		t.Fatalf("nothing is mounted at %s", dest)
	}
	return s.Mounts[i]
}

// TestNested has walls be such that root of a user namespace can build them.
func TestNested(t *testing.T) {
	for _, test := range []struct {
		what         string
		n            Nested
		o            Options
		sys, devpts  string // how they are mounted
		ping, limits string
	}{
		{"many ids", Nested{IDs: 65537, Limits: true}, Options{}, "sysfs", "gid=5", "0 65536", "2048"},
		{"one id", Nested{IDs: 1}, Options{}, "sysfs", "", "0 0", "none"},
		{"a limit asked for", Nested{IDs: 1}, Options{Limits: Limits{Pids: 10}}, "sysfs", "", "0 0", "10"},
		{"the host's network", Nested{IDs: 65537}, Options{Connection: Connection{Network: "host"}}, "rbind,nosuid,noexec,nodev,rro", "gid=5", "", "none"},
		{"no cgroup", Nested{IDs: 65537}, Options{Without: []string{"cgroup"}}, "sysfs", "gid=5", "0 65536", "none"},
	} {
		test.o.Nested = &test.n
		s, _, err := Spec("ID", alpine(), test.o)
		if err != nil {
			t.Fatal(err)
		}
		sys := mountAt(t, s, "/sys")
		if how := sys.Type; how != test.sys && (how != "bind" || sys.Source != "/sys" || strings.Join(sys.Options, ",") != test.sys) {
			t.Errorf("%s: %v", test.what, sys)
		}
		if o := mountAt(t, s, "/dev/pts").Options; slices.Contains(o, "gid=5") != (test.devpts != "") {
			t.Errorf("%s: devpts: %v", test.what, o)
		}
		if o := mountAt(t, s, "/").Options; !slices.Contains(o, "userxattr") {
			t.Errorf("%s: overlay: %v", test.what, o)
		}
		if got := s.Linux.Sysctl["net.ipv4.ping_group_range"]; got != test.ping {
			t.Errorf("%s: ping_group_range %q", test.what, got)
		}
		limits := "none"
		if r := s.Linux.Resources; r != nil && r.Pids != nil {
			limits = strconv.FormatInt(*r.Pids.Limit, 10)
		}
		if limits != test.limits || s.Linux.CgroupsPath != "minictr-ID" && test.o.Without == nil {
			t.Errorf("%s: limit %s, in %s", test.what, limits, s.Linux.CgroupsPath)
		}
	}
	none, some := (*Nested)(nil), &Nested{IDs: 1000}
	for ids, want := range map[[2]uint32]bool{{999, 999}: true, {1000, 0}: false, {0, 1000}: false} {
		if err := some.has(specs.User{UID: ids[0], GID: ids[1]}); (err == nil) != want {
			t.Errorf("%v: %v", ids, err)
		}
	}
	if err := none.has(specs.User{UID: 1000}); err != nil {
		t.Error(err)
	}
}
