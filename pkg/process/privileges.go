package process

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// User takes the groups of the container's user, and its real ids: with those
// access(2) answers for the user while the process is still root.
func User(b *plan.Builder, s *specs.Spec, h Host) {
	u := s.Process.User
	b.Section(plan.Child, "ids", "the user and groups it runs as")
	b.At("/process/user")
	for _, fd := range h.OwnStdio {
		b.Do("the user can open its own standard streams again", plan.FchownStdio(fd, int64(u.UID))).
			Allow(plan.Next, unix.EINVAL, unix.EPERM, unix.EROFS)
	}
	if len(u.AdditionalGids) > 0 {
		b.At("/process/user/additionalGids")
	}
	if !h.NoGroups {
		b.Do("the groups of the runtime's user are gone", plan.Setgroups(u.AdditionalGids))
	}
	b.At("/process/user/gid")
	b.Do("its real group", plan.Setresgid(int64(u.GID), -1, -1))
	b.At("/process/user/uid")
	b.Do("its real user", plan.Setresuid(int64(u.UID), -1, -1))
}

// drop gives up the capabilities that the program may not have, for ever, and
// becomes its user.
func drop(b *plan.Builder, s *specs.Spec, h Host) {
	sets := setsOf(s.Process.Capabilities)
	pointer := "/process"
	if s.Process.Capabilities != nil {
		pointer = "/process/capabilities"
	}
	b.At(pointer)
	for c := range h.LastCap + 1 {
		if sets.bounding&(1<<c) == 0 {
			b.Do("no program can ever have this again", plan.DropBounding(c))
		}
	}
	uid, gid := int64(s.Process.User.UID), int64(s.Process.User.GID)
	b.At("/process/user")
	b.Do("capabilities outlast the change of user; they are set next", plan.KeepCaps())
	b.Do("its group", plan.Setresgid(gid, gid, gid))
	b.Do("its user", plan.Setresuid(uid, uid, uid))
	b.At(pointer)
	b.Do("the parts of root's power that are left", plan.Capset(sets.effective, sets.permitted, sets.inheritable))
	for c := range h.LastCap + 1 {
		if sets.ambient&(1<<c) != 0 {
			b.At("/process/capabilities/ambient")
			b.Do("it is kept by programs that are not root's", plan.RaiseAmbient(c))
		}
	}
}

// sets are the capability sets of a process, capabilities(7).
type sets struct{ bounding, effective, permitted, inheritable, ambient uint64 }

// Unknown lists the capabilities that are asked for, and not known to this
// program.
func Unknown(c *specs.LinuxCapabilities) (names []string) {
	if c == nil {
		return nil
	}
	for _, name := range slices.Concat(c.Bounding, c.Effective, c.Permitted, c.Inheritable, c.Ambient) {
		if !slices.Contains(plan.CapNames[:], name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// setsOf passes over names that this program does not know: a container does
// without what nobody can give it.
func setsOf(c *specs.LinuxCapabilities) (s sets) {
	if c == nil {
		return s // absent means none
	}
	for _, set := range [...]struct {
		bits  *uint64
		names []string
	}{
		{&s.bounding, c.Bounding},
		{&s.effective, c.Effective},
		{&s.permitted, c.Permitted},
		{&s.inheritable, c.Inheritable},
		{&s.ambient, c.Ambient},
	} {
		for _, name := range set.names {
			if number := slices.Index(plan.CapNames[:], name); number >= 0 {
				*set.bits |= 1 << number
			}
		}
	}
	// The kernel raises nothing else, and runc's own example asks for more.
	s.ambient &= s.permitted & s.inheritable
	return s
}
