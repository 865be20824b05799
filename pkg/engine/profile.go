package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/spec"
	"github.com/minictr/minictr/pkg/sys"
)

// A seccompProfile is a file of --security-opt seccomp=FILE: what config.json
// has at linux.seccomp, or the form of it that Docker takes, whose rules say
// for which machines and capabilities they are.
type seccompProfile struct {
	DefaultAction    specs.LinuxSeccompAction `json:"defaultAction"`
	DefaultErrnoRet  *uint                    `json:"defaultErrnoRet"`
	Architectures    []specs.Arch             `json:"architectures"`
	ArchMap          []seccompMachine         `json:"archMap"`
	Flags            []specs.LinuxSeccompFlag `json:"flags"`
	ListenerPath     string                   `json:"listenerPath"`
	ListenerMetadata string                   `json:"listenerMetadata"`
	Syscalls         []seccompRule            `json:"syscalls"`
}

type seccompMachine struct {
	Architecture specs.Arch   `json:"architecture"`
	Others       []specs.Arch `json:"subArchitectures"`
}

type seccompRule struct {
	Name     string                   `json:"name"`
	Names    []string                 `json:"names"`
	Action   specs.LinuxSeccompAction `json:"action"`
	ErrnoRet *uint                    `json:"errnoRet"`
	Args     []specs.LinuxSeccompArg  `json:"args"`
	Includes seccompCondition         `json:"includes"`
	Excludes seccompCondition         `json:"excludes"`
}

// A seccompCondition is about the container and its machine.
type seccompCondition struct {
	Caps      []string `json:"caps"`
	Arches    []string `json:"arches"`
	MinKernel string   `json:"minKernel"`
}

// profile reads a profile for a container with these capabilities.
func profile(file string, caps []string) (*specs.LinuxSeccomp, error) {
	data, err := sys.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var p seccompProfile
	if err := spec.Unmarshal(data, &p); err != nil {
		return nil, err
	}
	if p.DefaultAction == "" {
		return nil, fmt.Errorf("%s is no profile: it has no defaultAction", file)
	}
	out := &specs.LinuxSeccomp{
		DefaultAction: p.DefaultAction, DefaultErrnoRet: p.DefaultErrnoRet, Architectures: p.Architectures,
		Flags: p.Flags, ListenerPath: p.ListenerPath, ListenerMetadata: p.ListenerMetadata,
	}
	here := thisMachine()
	for _, m := range p.ArchMap {
		if string(m.Architecture) == here.seccomp {
			out.Architectures = append(append(out.Architectures, m.Architecture), m.Others...)
		}
	}
	for _, r := range p.Syscalls {
		in, ex := r.Includes, r.Excludes
		has := func(c string) bool { return slices.Contains(caps, c) }
		lacks := func(c string) bool { return !has(c) }
		switch {
		case slices.ContainsFunc(in.Caps, lacks), slices.ContainsFunc(ex.Caps, has),
			len(in.Arches) > 0 && !slices.Contains(in.Arches, here.docker), slices.Contains(ex.Arches, here.docker),
			in.MinKernel != "" && !here.atLeast(in.MinKernel), ex.MinKernel != "" && here.atLeast(ex.MinKernel):
			continue
		}
		if r.Name != "" {
			r.Names = append(r.Names, r.Name)
		}
		out.Syscalls = append(out.Syscalls, specs.LinuxSyscall{Names: r.Names, Action: r.Action, ErrnoRet: r.ErrnoRet, Args: r.Args})
	}
	return out, nil
}

// A machine is how profiles call this one, and its kernel's release.
type machine struct{ seccomp, docker, release string }

func thisMachine() machine {
	var u unix.Utsname
	_ = unix.Uname(&u) // it can't fail, uname(2)
	n := machine{release: unix.ByteSliceToString(u.Release[:])}
	switch unix.ByteSliceToString(u.Machine[:]) {
	case "aarch64":
		n.seccomp, n.docker = "SCMP_ARCH_AARCH64", "arm64"
	default:
		n.seccomp, n.docker = "SCMP_ARCH_X86_64", "amd64"
	}
	return n
}

// atLeast compares the kernel's release with another, "5.8", number by number.
func (n machine) atLeast(want string) bool {
	numbers := func(text string) (list []int64) {
		for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '.' || r == '-' }) {
			number, err := whole(part, 0, 1<<30)
			if err != nil {
				break
			}
			list = append(list, number)
		}
		return list
	}
	return slices.Compare(numbers(n.release), numbers(want)) >= 0
}
