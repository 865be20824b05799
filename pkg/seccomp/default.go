package seccomp

import (
	"slices"

	moby "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Default returns the default profile for a process whose bounding set is caps ("CAP_CHOWN" and so
// on), on a kernel of architecture X86_64 or AArch64: that of github.com/moby/profiles, tightened in
// two places. It permits no x32 calls; and on i386, socketcall(2) makes no sockets, because its
// arguments are behind a pointer where a filter cannot see the address family: AF_ALG and AF_VSOCK
// would be open that way.
func Default(caps []string, arch Arch) *specs.LinuxSeccomp {
	source := moby.DefaultProfile()
	p := &source.LinuxSeccomp
	host := environment{caps: caps}
	if arch == X86_64 {
		host.arch = "amd64"
		p.Architectures = []specs.Arch{specs.ArchX86_64, specs.ArchX86}
	} else {
		host.arch = "arm64"
		p.Architectures = []specs.Arch{specs.ArchAARCH64, specs.ArchARM}
	}
	for _, s := range source.Syscalls {
		if !host.includes(s.Includes) || host.excludes(s.Excludes) {
			continue
		}
		s.Names = slices.DeleteFunc(s.Names, func(name string) bool { return name == "socketcall" })
		p.Syscalls = append(p.Syscalls, s.LinuxSyscall)
	}
	const sysSocket = 1 // SYS_SOCKET of linux/net.h
	p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{
		Names:  []string{"socketcall"},
		Action: specs.ActAllow,
		Args:   []specs.LinuxSeccompArg{{Index: 0, Value: sysSocket, Op: specs.OpNotEqual}},
	})
	return p
}

// An environment is what the rules of the module's profile depend on. They depend on the kernel's
// version too, but name only versions that every kernel minictr runs on has passed.
type environment struct {
	arch string
	caps []string
}

func (e environment) includes(f *moby.Filter) bool {
	if f == nil {
		return true
	}
	if len(f.Arches) > 0 && !slices.Contains(f.Arches, e.arch) {
		return false
	}
	return !slices.ContainsFunc(f.Caps, func(c string) bool { return !slices.Contains(e.caps, c) })
}

func (e environment) excludes(f *moby.Filter) bool {
	if f == nil {
		return false
	}
	return slices.Contains(f.Arches, e.arch) || f.MinKernel != nil ||
		slices.ContainsFunc(f.Caps, func(c string) bool { return slices.Contains(e.caps, c) })
}
