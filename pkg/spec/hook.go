package spec

import "github.com/opencontainers/runtime-spec/specs-go"

// Hooks are those of one kind.
type Hooks struct {
	Kind  string // the field's name
	Hooks *[]specs.Hook
}

// HooksOf lists the kinds of hooks, in the order of a container's life; none
// where the spec has no hooks.
func HooksOf(s *specs.Spec) []Hooks {
	h := s.Hooks
	if h == nil {
		return nil
	}
	return []Hooks{
		//lint:ignore SA1019 deprecated, and Docker's bridge hangs on it
		{"prestart", &h.Prestart}, //nolint:staticcheck // the same, for another tool
		{"createRuntime", &h.CreateRuntime},
		{"createContainer", &h.CreateContainer},
		{"startContainer", &h.StartContainer},
		{"poststart", &h.Poststart},
		{"poststop", &h.Poststop},
	}
}

// HooksOfKind are the hooks of one kind, by its name.
func HooksOfKind(s *specs.Spec, kind string) []specs.Hook {
	for _, list := range HooksOf(s) {
		if list.Kind == kind {
			return *list.Hooks
		}
	}
	return nil
}
