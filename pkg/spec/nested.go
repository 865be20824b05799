package spec

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Nested changes a wall of ours into one that root of a user namespace can build,
// in which there are so many ids: user_namespaces(7). The kernel lets him mount what
// tells of namespaces of his own; of others the host's is shown.
func Nested(s *specs.Spec, ids uint32) {
	for i := range s.Mounts {
		m := &s.Mounts[i]
		switch m.Type {
		case "overlay":
			m.Options = append(m.Options, "userxattr")
		case "devpts":
			if ids <= terminals {
				m.Options = withoutGroup(m.Options)
			}
		case "proc":
			if shown(s, m, specs.PIDNamespace) {
				delete(s.Linux.Sysctl, pingGroups) // it is set through a proc of one's own
			}
		case "sysfs":
			shown(s, m, specs.NetworkNamespace)
		case "mqueue":
			shown(s, m, specs.IPCNamespace)
		}
	}
	if _, set := s.Linux.Sysctl[pingGroups]; set {
		s.Linux.Sysctl[pingGroups] = fmt.Sprintf("0 %d", ids-1)
	}
	if ids == 1 { // then setgroups(2) is denied
		s.Process.User.AdditionalGids = nil
	}
}

// shown shows a file system of the kernel as the host has it, if the namespace that
// it tells of is the host's: then nobody else may mount one.
func shown(s *specs.Spec, m *specs.Mount, tells specs.LinuxNamespaceType) bool {
	own := slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == tells })
	if own {
		return false
	}
	options := slices.Concat([]string{"rbind"}, m.Options)
	if i := slices.Index(options, "ro"); i >= 0 {
		options[i] = "rro"
	}
	*m = specs.Mount{Destination: m.Destination, Type: "bind", Source: m.Destination, Options: options}
	return true
}
