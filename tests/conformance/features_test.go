package conformance_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"

	"github.com/minictr/minictr/pkg/spec"
)

// features are what the runtime says of itself. Properties that the
// specification does not know are an error.
func (b *box) features() (f features.Features, err error) {
	if err := b.run("features"); err != nil {
		return f, err
	}
	d := json.NewDecoder(bytes.NewReader([]byte(b.said)))
	d.DisallowUnknownFields()
	err = d.Decode(&f)
	if f.Linux == nil {
		f.Linux = new(features.Linux)
	}
	if f.Linux.Seccomp == nil {
		f.Linux.Seccomp = new(features.Seccomp)
	}
	if f.Linux.MemoryPolicy == nil {
		f.Linux.MemoryPolicy = new(features.MemoryPolicy)
	}
	return f, err
}

// claim has a container for each word of a list of features: each must be one
// that can be created.
func claim(section, what string, list func(features.Features) []string, edit func(s *specs.Spec, word string)) must {
	return must{section: section, text: "each of " + what + " is known", check: func(b *box) error {
		f, err := b.features()
		if err != nil {
			return err
		}
		words := list(f)
		if len(words) == 0 && b.name == "minictr" { // others need not tell
			return errors.New("there is none")
		}
		for _, word := range words {
			s := base(b)
			edit(s, word)
			b.write(s)
			if e := b.create(); e != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w", word, e))
				continue
			}
			if strings.Contains(b.said, word) {
				err = errors.Join(err, fmt.Errorf("%s: %s", word, b.said))
			}
			e := b.run("delete", "--force", b.id())
			_, e2 := b.ended()
			err = errors.Join(err, e, e2)
		}
		return err
	}}
}

// optionOf asks for a mount with one option, and what belongs to it.
func optionOf(s *specs.Spec, word string) {
	kind := mount(word)
	switch word {
	case "idmap", "ridmap":
		kind = idmap("/tmp", "bind", word)
	case "remount":
		mount()(s)
		kind = mount("remount")
	case "bind", "rbind", "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable":
		kind = bind("/tmp", "bind", word)
	}
	kind(s)
}

func hookOf(s *specs.Spec, kind string) {
	s.Hooks = new(specs.Hooks)
	for _, list := range spec.HooksOf(s) {
		if list.Kind == kind {
			*list.Hooks = []specs.Hook{{Path: "/bin/true"}}
			return
		}
	}
	s.Process.Args = []string{"no such hook"}
}

func namespaceOf(s *specs.Spec, word string) {
	kind := specs.LinuxNamespaceType(word)
	without(kind)(s)
	if kind == specs.UserNamespace {
		mapped(s)
		return
	}
	with(specs.LinuxNamespace{Type: kind})(s)
}

// actionOf is for a call that nobody makes.
func actionOf(s *specs.Spec, word string) {
	call := specs.LinuxSyscall{Names: []string{"swapon"}, Action: specs.LinuxSeccompAction(word)}
	filter(specs.ActAllow, call)(s)
}

func policyOf(s *specs.Spec, word string) {
	s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MemoryPolicyModeType(word)}
	if s.Linux.MemoryPolicy.Mode != specs.MpolDefault && s.Linux.MemoryPolicy.Mode != specs.MpolLocal {
		s.Linux.MemoryPolicy.Nodes = "0"
	}
}

// structure is features.md and features-linux.md.
var structure = []must{
	{section: "features.md, Specification version", text: "ociVersionMin is accepted", check: func(b *box) error {
		return version(b, func(f features.Features) string { return f.OCIVersionMin })
	}},
	{section: "features.md, Specification version", text: "ociVersionMax is accepted", check: func(b *box) error {
		return version(b, func(f features.Features) string { return f.OCIVersionMax })
	}},
	{section: "features.md, Specification version", text: "ociVersionMax is not less than ociVersionMin", check: func(b *box) error {
		f, err := b.features()
		var least, most [3]int
		_, e := fmt.Sscanf(f.OCIVersionMin, "%d.%d.%d", &least[0], &least[1], &least[2])
		_, e2 := fmt.Sscanf(f.OCIVersionMax, "%d.%d.%d", &most[0], &most[1], &most[2])
		if err := errors.Join(err, e, e2); err != nil || slices.Compare(most[:], least[:]) < 0 {
			return fmt.Errorf("from %s to %s, %w", f.OCIVersionMin, f.OCIVersionMax, err)
		}
		return nil
	}},
	claim("features.md, Hooks", "hooks", func(f features.Features) []string { return f.Hooks }, hookOf),
	claim("features.md, Mount Options", "mountOptions", func(f features.Features) []string { return f.MountOptions }, optionOf),
	{section: "features.md, Annotations", text: "are strings by names that are not empty", check: func(b *box) error {
		f, err := b.features() // of another type they can't be read
		if _, empty := f.Annotations[""]; empty {
			return errors.New("one has no name")
		}
		return err
	}},
	claim("features-linux.md, Namespaces", "namespaces", func(f features.Features) []string { return f.Linux.Namespaces }, namespaceOf),
	claim("features-linux.md, Capabilities", "capabilities", func(f features.Features) []string { return f.Linux.Capabilities }, func(s *specs.Spec, word string) {
		s.Process.Capabilities.Bounding = []string{word}
	}),
	claim("features-linux.md, Seccomp", "actions", func(f features.Features) []string {
		return slices.DeleteFunc(f.Linux.Seccomp.Actions, func(a string) bool { return a == string(specs.ActNotify) }) // an agent's test has it
	}, actionOf),
	claim("features-linux.md, Seccomp", "operators", func(f features.Features) []string { return f.Linux.Seccomp.Operators }, func(s *specs.Spec, word string) {
		filter(specs.ActAllow, specs.LinuxSyscall{Names: []string{"swapon"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 1, Value: 5, Op: specs.LinuxSeccompOperator(word)}}})(s)
	}),
	claim("features-linux.md, Seccomp", "archs", func(f features.Features) []string { return f.Linux.Seccomp.Archs }, func(s *specs.Spec, word string) {
		actionOf(s, string(specs.ActErrno))
		s.Linux.Seccomp.Architectures = []specs.Arch{specs.Arch(word)}
	}),
	claim("features-linux.md, Seccomp", "knownFlags and supportedFlags", func(f features.Features) []string {
		return slices.Concat(f.Linux.Seccomp.KnownFlags, f.Linux.Seccomp.SupportedFlags)
	}, func(s *specs.Spec, word string) {
		actionOf(s, string(specs.ActErrno))
		s.Linux.Seccomp.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlag(word)}
	}),
	claim("features-linux.md, MemoryPolicy", "modes", func(f features.Features) []string { return f.Linux.MemoryPolicy.Modes }, policyOf),
	claim("features-linux.md, MemoryPolicy", "flags", func(f features.Features) []string { return f.Linux.MemoryPolicy.Flags }, func(s *specs.Spec, word string) {
		policyOf(s, string(specs.MpolBind))
		s.Linux.MemoryPolicy.Flags = []specs.MemoryPolicyFlagType{specs.MemoryPolicyFlagType(word)}
	}),
	{section: "features-linux.md, MountExtensions", text: "idmap.enabled is true of who knows uidMappings", check: func(b *box) error {
		f, err := b.features()
		if err != nil {
			return err
		}
		if m := f.Linux.MountExtensions; m == nil || m.IDMap == nil || m.IDMap.Enabled == nil || !*m.IDMap.Enabled {
			return errors.New("it is not")
		}
		return nil
	}},
}

// version has a container of a version that a runtime says to know.
func version(b *box, of func(features.Features) string) error {
	f, err := b.features()
	if err != nil {
		return err
	}
	s := base(b)
	s.Version = of(f)
	b.write(s)
	_, err = b.toTheEnd()
	return err
}
