package spec

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// DefaultDevices are the rules for the devices that every container may use,
// whatever its own rules say, and for the nodes that it asks for: nodes may be
// made, but of all devices only these opened. For a node that a rule of its own
// names, that says how it may be used.
func DefaultDevices(s *specs.Spec) []specs.LinuxDeviceCgroup {
	rule := func(kind string, major, minor int64, access string) specs.LinuxDeviceCgroup {
		r := specs.LinuxDeviceCgroup{Allow: true, Type: kind, Access: access}
		if major >= 0 {
			r.Major = &major
		}
		if minor >= 0 {
			r.Minor = &minor
		}
		return r
	}
	rules := []specs.LinuxDeviceCgroup{
		rule("c", -1, -1, "m"), rule("b", -1, -1, "m"), // mknod(2) of any
		rule("c", 1, 3, "rwm"),    // null
		rule("c", 1, 5, "rwm"),    // zero
		rule("c", 1, 7, "rwm"),    // full
		rule("c", 1, 8, "rwm"),    // random
		rule("c", 1, 9, "rwm"),    // urandom
		rule("c", 5, 0, "rwm"),    // tty
		rule("c", 5, 2, "rwm"),    // ptmx
		rule("c", 136, -1, "rwm"), // pts
	}
	if s.Process.Terminal {
		rules = append(rules, rule("c", 5, 1, "rwm")) // console
	}
	for _, d := range s.Linux.Devices {
		if kind := strings.Replace(d.Type, "u", "c", 1); kind != "p" && !ruled(s, kind, d) {
			rules = append(rules, rule(kind, d.Major, d.Minor, "rwm"))
		}
	}
	return rules
}

// ruled says whether a rule of the spec is for this very device.
func ruled(s *specs.Spec, kind string, d specs.LinuxDevice) bool {
	return s.Linux.Resources != nil && slices.ContainsFunc(s.Linux.Resources.Devices, func(r specs.LinuxDeviceCgroup) bool {
		return r.Type == kind && r.Major != nil && *r.Major == d.Major && r.Minor != nil && *r.Minor == d.Minor
	})
}
