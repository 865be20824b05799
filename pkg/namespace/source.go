package namespace

import (
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/sys"
)

// What bind mounts show is copied by the parent for a child in a user
// namespace, who may be a stranger to the directories on the way. It is copied
// from the child's own mount namespace: there the kernel has locked what the
// mounts forbid, so that a root that is nobody outside can't undo it. A parent
// without privileges could do no more than the child can.

// copies says whether there is anything to copy.
func copies(s *specs.Spec, h Host) bool {
	return h.Owner == nil && Has(s, specs.UserNamespace) && slices.ContainsFunc(s.Mounts, IsBind)
}

// Sources has the parent copy mounts, and send them to the child, who waits.
func Sources(b *plan.Builder, s *specs.Spec, h Host) {
	if !copies(s, h) {
		return
	}
	b.Section(plan.Parent, "sources", "copy mounts that the process could not reach")
	b.At("/mounts")
	if joinsUser(s) {
		b.Act("its mounts are there then", "read($report/runtime)", func(r *plan.Run) error { return r.Await() })
	}
	b.Act("the process alone has this end: should it die, nobody waits for it", "close($sync)", func(r *plan.Run) error {
		defer delete(r.Fd, sync)
		return unix.Close(r.Fd[sync])
	})
	ownIDs(b, s)
	for i, m := range s.Mounts {
		if !IsBind(m) {
			continue
		}
		source, flags, recursive := Source(m, h.Bundle), uint(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC), ""
		if optionsOf(m.Options).rbind {
			flags, recursive = flags|unix.AT_RECURSIVE, "AT_RECURSIVE|"
		}
		mapped, mapIDs := mapping(s, i)
		b.At(fmt.Sprintf("/mounts/%d", i))
		b.Act("the same files that the host has at "+source+", and no mount made inside comes back",
			fmt.Sprintf(`setns("/proc/$pid/ns/mnt"), open_tree(%q, %sOPEN_TREE_CLONE), mount_setattr(MS_SLAVE), %ssendmsg($sync/write, SCM_RIGHTS)`, source, recursive, mapped),
			func(r *plan.Run) error {
				return sys.OnThread(func() error { return copyFrom(r, source, flags, mapIDs) })
			})
	}
}

// copyFrom enters the mount namespace of a process to copy a mount there.
func copyFrom(r *plan.Run, source string, flags uint, mapIDs func(r *plan.Run, fd int) error) error {
	name := fmt.Sprintf("/proc/%d/ns/mnt", r.PID)
	ns, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	if err := errors.Join(unix.Unshare(unix.CLONE_FS), unix.Setns(ns, unix.CLONE_NEWNS), unix.Close(ns)); err != nil {
		return fmt.Errorf("setns to %s: %w", name, err)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, source, flags)
	if err != nil {
		return fmt.Errorf("open_tree %s: %w", source, err)
	}
	defer unix.Close(fd)
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Propagation: unix.MS_SLAVE}); err != nil {
		return fmt.Errorf("mount_setattr: %w", err)
	}
	if err := mapIDs(r, fd); err != nil {
		return err
	}
	if err := unix.Sendmsg(r.Fd[sync+"/write"], []byte{1}, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("sendmsg: %w", err)
	}
	return nil
}

// takeSources has the child take the copies.
func takeSources(b *plan.Builder, s *specs.Spec, h Host) {
	if !copies(s, h) {
		return
	}
	for i, m := range s.Mounts {
		if IsBind(m) {
			b.At(fmt.Sprintf("/mounts/%d", i))
			b.Get(sourceOf(i), "the runtime has copied what it could not reach", plan.RecvFd(sync))
		}
	}
}

func sourceOf(mount int) plan.Reg { return plan.Reg(fmt.Sprintf("source/%d", mount)) }
