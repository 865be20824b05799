package namespace

import (
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// sync is the input on which the child waits for what the parent does for it.
const sync plan.Reg = "sync"

// synced says whether the parent has to do something for the child of which
// that knows nothing, besides hooks.
func synced(s *specs.Spec, h Host) bool {
	return IsNew(s, specs.UserNamespace) || copies(s, h) || moves(s, h)
}

// Sync makes the socket pair over which the parent tells a child that it may
// go on: when the maps of its new user namespace are written, and when hooks
// have run, or network interfaces have come. Copies of mounts come the same way.
func Sync(b *plan.Builder, s *specs.Spec, h Host, hooks bool) {
	if !synced(s, h) && !hooks {
		return
	}
	b.Section(plan.Parent, "sync", "a way to tell the process to go on")
	b.At("/process")
	b.Act("the process must wait until all is done for it that it can't do itself", "socketpair(AF_UNIX, SOCK_SEQPACKET|SOCK_CLOEXEC, 0, [$sync, $sync/write])", func(r *plan.Run) error {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("socketpair: %w", err)
		}
		r.Fd[sync], r.Fd[sync+"/write"] = fds[0], fds[1]
		return nil
	})
}

// Maps has the parent write the maps of a new user namespace,
// user_namespaces(7). Without privileges it can map itself, and nobody else:
// who else it may map newuidmap(1) knows.
func Maps(b *plan.Builder, s *specs.Spec, h Host) {
	if !IsNew(s, specs.UserNamespace) {
		return
	}
	b.Section(plan.Parent, "maps", "say who the users inside are outside")
	alone := h.Alone(s)
	if alone {
		planProc(b, "/linux/gidMappings", "no group can be left to get around what it is denied", "setgroups", "deny")
	}
	if alone || h.Owner == nil {
		planMap(b, "/linux/uidMappings", "uid_map", s.Linux.UIDMappings)
		planMap(b, "/linux/gidMappings", "gid_map", s.Linux.GIDMappings)
	} else {
		helpMap(b, h, "/linux/uidMappings", "/usr/bin/newuidmap", s.Linux.UIDMappings)
		helpMap(b, h, "/linux/gidMappings", "/usr/bin/newgidmap", s.Linux.GIDMappings)
	}
	GoOn(b)
}

// Alone says whether an unprivileged runtime maps itself and nobody else. Then
// no process inside may change its supplementary groups.
func (h Host) Alone(s *specs.Spec) bool {
	one := func(maps []specs.LinuxIDMapping, id uint32) bool {
		return len(maps) == 1 && maps[0].HostID == id && maps[0].Size == 1
	}
	return h.Owner != nil && one(s.Linux.UIDMappings, h.Owner.UID) && one(s.Linux.GIDMappings, h.Owner.GID)
}

// helpMap has a program write a map that asks whether it may.
func helpMap(b *plan.Builder, h Host, pointer, program string, maps []specs.LinuxIDMapping) {
	b.At(pointer)
	var ids []string
	for _, m := range maps {
		ids = append(ids, fmt.Sprint(m.ContainerID), fmt.Sprint(m.HostID), fmt.Sprint(m.Size))
	}
	b.Act("it has the power, and knows whose these ids are", fmt.Sprintf("run(%q, $pid, %s)", program, strings.Join(ids, ", ")), func(r *plan.Run) error {
		return h.Help(program, append([]string{program, fmt.Sprint(r.PID)}, ids...)...)
	})
}

// GoOn has the parent tell the child that waits to go on.
func GoOn(b *plan.Builder) {
	b.Act("the process may go on", `write($sync/write, "\1", 1)`, func(r *plan.Run) error {
		_, err := unix.Write(r.Fd[sync+"/write"], []byte{1})
		return err
	})
}

// Wait has the child say that it has come here, and wait until it may go on.
func Wait(b *plan.Builder, s *specs.Spec, h Host, why string) {
	if !synced(s, h) {
		b.Do("the runtime alone holds the other end: should it die, the wait is over", plan.Close(sync+"/write"))
	}
	b.Do("the runtime can tell that it has come here", plan.Write(plan.Report, plan.Ready))
	b.Do(why, plan.ReadByte(sync))
}

// User makes the child root of its new user namespace.
func User(b *plan.Builder, s *specs.Spec, h Host) {
	if !IsNew(s, specs.UserNamespace) {
		return
	}
	b.Section(plan.Child, "user", "be root of the user namespace, and nobody outside")
	b.At("/linux/uidMappings")
	b.Do("the runtime alone holds the other end: should it die, the wait is over", plan.Close(sync+"/write"))
	b.Do("until the maps are written it is nobody at all", plan.ReadByte(sync))
	takeSources(b, s, h)
	b.At("/linux/uidMappings")
	beRoot(b, s)
}

// beRoot makes a child that is in a user namespace its root, if it has one. Of
// a namespace that is joined without its maps the kernel knows.
func beRoot(b *plan.Builder, s *specs.Spec) {
	if mapped(s.Linux.GIDMappings, 0) {
		b.Do("group 0 of the namespace", plan.Setresgid(0, 0, 0))
	}
	if mapped(s.Linux.UIDMappings, 0) {
		b.Do("user 0 of the namespace", plan.Setresuid(0, 0, 0))
	}
}

// outside is who an id inside is outside, if it is anyone.
func outside(maps []specs.LinuxIDMapping, id uint32) (host uint32, mapped bool) {
	for _, m := range maps {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return m.HostID + id - m.ContainerID, true
		}
	}
	return 0, false
}

func mapped(maps []specs.LinuxIDMapping, id uint32) bool {
	_, ok := outside(maps, id)
	return ok || len(maps) == 0
}

// Delegatee is the user on the host who is to own the container's version 2
// cgroup, config-linux.md "Cgroup ownership": that of the program, if it sees
// the cgroup as the root of all and in a mount that it can write to. It is
// not asked for where that user is root, who owns it anyway.
func Delegatee(s *specs.Spec) (uid uint32, asked bool) {
	if !IsNew(s, specs.CgroupNamespace) {
		return 0, false
	}
	for _, m := range s.Mounts {
		if (m.Type == "cgroup" || m.Type == "cgroup2") && optionsOf(m.Options).one.set&unix.MOUNT_ATTR_RDONLY == 0 {
			uid, asked = s.Process.User.UID, true
		}
	}
	if asked && IsNew(s, specs.UserNamespace) {
		uid, asked = outside(s.Linux.UIDMappings, uid)
	}
	return uid, asked && uid != 0
}

func planMap(b *plan.Builder, pointer, file string, maps []specs.LinuxIDMapping) {
	planProc(b, pointer, "ids inside, ids outside, how many", file, mapText(maps))
}

func mapText(maps []specs.LinuxIDMapping) string {
	lines := make([]string, len(maps))
	for i, m := range maps {
		lines[i] = fmt.Sprintf("%d %d %d\n", m.ContainerID, m.HostID, m.Size)
	}
	return strings.Join(lines, "")
}

// planProc has the parent write to a file of the child's in proc(5).
func planProc(b *plan.Builder, pointer, why, file, text string) {
	b.At(pointer)
	b.Act(why, fmt.Sprintf("write(\"/proc/$pid/%s\", %q)", file, text), func(r *plan.Run) error { return writeProc(r.PID, file, text) })
}

func writeProc(pid int, file, text string) error {
	name := fmt.Sprintf("/proc/%d/%s", pid, file)
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(text)); err != nil { // one write, or the kernel refuses it
		return fmt.Errorf("write of %q to %s: %w", text, name, err)
	}
	return nil
}
