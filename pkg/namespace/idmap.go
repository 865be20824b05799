package namespace

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// A mount can show other owners than the disk has: ids pass through the maps
// of a user namespace, and back when something is written. The kernel wants
// such a namespace, but nobody needs to be in it.

// mapsIDs says whether a mount shows ids through maps.
func mapsIDs(m specs.Mount) bool { return optionsOf(m.Options).idmap || len(m.UIDMappings) > 0 }

// containerIDs is the input that is the container's own user namespace.
const containerIDs plan.Reg = "ids/container"

// idsOf is the input that is the user namespace with the maps of a mount.
// Mounts with the same maps share one.
func idsOf(s *specs.Spec, mount int) plan.Reg {
	of := s.Mounts[mount]
	if len(of.UIDMappings) == 0 {
		return containerIDs
	}
	first := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool {
		return slices.Equal(m.UIDMappings, of.UIDMappings) && slices.Equal(m.GIDMappings, of.GIDMappings)
	})
	return plan.Reg(fmt.Sprintf("ids/%d", first))
}

// MountIDs has the parent make the user namespaces that mounts with maps of
// their own need.
func MountIDs(b *plan.Builder, s *specs.Spec) {
	made := make(map[plan.Reg]bool)
	for i, m := range s.Mounts {
		ids := idsOf(s, i)
		if ids == containerIDs || made[ids] {
			continue
		}
		if len(made) == 0 {
			b.Section(plan.Parent, "idmap", "say who the owners of files are in a mount")
		}
		made[ids] = true
		users, groups := mapText(m.UIDMappings), mapText(m.GIDMappings)
		b.At(fmt.Sprintf("/mounts/%d/uidMappings", i))
		b.Act("a user namespace holds the maps, and its one process has ended",
			fmt.Sprintf(`%s = clone3(CLONE_NEWUSER), write("/proc/$new/uid_map", %q), write("/proc/$new/gid_map", %q), open("/proc/$new/ns/user"), wait4($new)`, ids, users, groups),
			func(r *plan.Run) error {
				return r.Newborn(unix.CLONE_NEWUSER, func(pid int) error {
					return cmp.Or(writeProc(pid, "uid_map", users), writeProc(pid, "gid_map", groups), openIDs(r, ids, pid))
				})
			})
	}
}

func openIDs(r *plan.Run, ids plan.Reg, pid int) error {
	return open(ids, fmt.Sprintf("/proc/%d/ns/user", pid))(r)
}

// ownIDs has the parent open the container's user namespace, if there are
// mounts that take its maps.
func ownIDs(b *plan.Builder, s *specs.Spec) {
	if slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return mapsIDs(m) && len(m.UIDMappings) == 0 }) {
		b.Act("mounts without maps of their own take the container's", containerIDs.String()+` = open("/proc/$pid/ns/user")`,
			func(r *plan.Run) error { return openIDs(r, containerIDs, r.PID) })
	}
}

// mapping is what the parent does to its copy of a mount that maps ids, and
// its text: only who has power over the file system may, and only before the
// copy is attached.
func mapping(s *specs.Spec, mount int) (text string, do func(r *plan.Run, fd int) error) {
	m := s.Mounts[mount]
	if !mapsIDs(m) {
		return "", func(*plan.Run, int) error { return nil }
	}
	ids, flags, recursive := idsOf(s, mount), uint(unix.AT_EMPTY_PATH), ""
	if optionsOf(m.Options).ridmap {
		flags, recursive = flags|unix.AT_RECURSIVE, "AT_RECURSIVE, "
	}
	return fmt.Sprintf("mount_setattr(%sMOUNT_ATTR_IDMAP, %s), ", recursive, ids), func(r *plan.Run, fd int) error {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(r.Fd[ids])}
		if err := unix.MountSetattr(fd, "", flags, &attr); err != nil {
			return fmt.Errorf("mount_setattr of MOUNT_ATTR_IDMAP: %w", err)
		}
		return nil
	}
}
