package namespace

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// maxOption is the longest value that fsconfig(2) takes, in bytes.
const maxOption = 255

// Mounts gives the container its root and everything mounted below it.
func Mounts(b *plan.Builder, s *specs.Spec, h Host) error {
	m := &maker{Builder: b, fresh: make(map[string]plan.Reg), label: s.Linux.MountLabel}
	b.Section(plan.Child, "root", "another root file system")
	b.At("/root/path")
	b.Do("no mount made from here on shows on the host", plan.Propagation("/", unix.MS_REC|unix.MS_SLAVE))
	first := 0
	if Layered(s) {
		m.empty(s, h)
		m.keepCopies(s, h)
		m.layers(s.Mounts[0], h)
		first = 1
	} else {
		b.At("/root/path")
		b.Get(root, "a copy of the root file system's mount", plan.OpenTree(plan.AtFdcwd, h.Rootfs, unix.AT_RECURSIVE))
		m.empty(s, h)
		m.keepCopies(s, h)
		b.At("/root/path")
		b.Do("attached, since only then other mounts can go below it", plan.MoveMountAt(root, plan.AtFdcwd, h.Rootfs))
		if h.Rootfs == "/" {
			b.Do("the host's own files: none of them, on whatever disk, can be written to",
				plan.MountSetattr(root, true, unix.MOUNT_ATTR_RDONLY, 0, 0))
		}
	}
	b.Section(plan.Child, "mounts", "file systems of its own: /proc, /dev, /sys")
	for i, mount := range s.Mounts[first:] {
		pointer := fmt.Sprintf("/mounts/%d", first+i)
		b.At(pointer)
		if err := m.mount(s, h, mount, first+i); err != nil {
			return fmt.Errorf("%s/%w", pointer, err)
		}
	}
	return m.devices(s, h)
}

// empty makes an empty directory to hide others with. A mount that is attached
// nowhere costs a wait for all processors when it is closed, so this one is
// kept where the root is about to cover it.
func (m *maker) empty(s *specs.Spec, h Host) {
	if len(s.Linux.MaskedPaths) == 0 {
		return
	}
	m.At("/linux/maskedPaths")
	m.fs(empty, "tmpfs", "tmpfs", options{one: attrs{set: unix.MOUNT_ATTR_RDONLY}, data: []string{"nr_blocks=1", "nr_inodes=1"}})
	m.Do("an empty directory to hide others with, kept where the root will cover it", plan.MoveMountAt(empty, plan.AtFdcwd, h.Rootfs))
}

// Layered says whether the root is made by the first mount: the layers of an
// image, stacked by overlayfs.
func Layered(s *specs.Spec) bool {
	return len(s.Mounts) > 0 && path.Clean(s.Mounts[0].Destination) == "/"
}

// layers mounts the layers of an image, one over the other, as the root. The
// list of layers is relative to the bundle, to be short: mount(2) takes one
// page of options, and fsconfig(2) 255 bytes of each.
func (m *maker) layers(mount specs.Mount, h Host) {
	m.At("/mounts/0")
	m.Do("the layers are named relative to the bundle", plan.Chdir(h.Bundle))
	o := optionsOf(mount.Options)
	m.Do("the layers of the image, read-only, and one on top to write to",
		plan.Mount(mount.Source, h.Rootfs, mount.Type, strings.Join(o.data, ",")))
	m.Get(root, "from here on the root goes by this descriptor", plan.Openat(plan.AtFdcwd, h.Rootfs, unix.O_PATH|unix.O_DIRECTORY))
	m.setattr(root, "as the options say", false, o.one)
}

func (m *maker) mount(s *specs.Spec, h Host, mount specs.Mount, i int) error {
	dest := path.Clean("/" + mount.Destination)
	o := optionsOf(mount.Options)
	for _, d := range o.data {
		if len(d) > maxOption {
			return fmt.Errorf("options: the kernel takes no option longer than %d bytes: %.20s…", maxOption, d)
		}
	}
	switch {
	case o.remount:
		return m.remount(dest, o)
	case IsCopy(mount):
		m.showCopy(i, dest, o)
		return nil
	case mount.Type == "cgroup" || mount.Type == "cgroup2":
		m.cgroups(s, h, dest, o)
		return nil
	case IsBind(mount):
		reg := plan.Reg("mount")
		if copies(s, h) {
			reg = sourceOf(i)
		} else {
			m.copy(reg, Source(mount, h.Bundle), o)
			if mapsIDs(mount) {
				m.Do("owners on the disk are others here, by the maps", plan.MountIDs(reg, o.ridmap, idsOf(s, i)))
			}
		}
		m.bind(reg, o)
		m.attach(reg, dest, h.Files[Source(mount, h.Bundle)], inRoot)
		m.propagate(reg, o)
		return nil
	}
	reg, resolve := plan.Reg(dest), uint64(inRoot)
	if mount.Type == "proc" || mount.Type == "sysfs" {
		resolve |= unix.RESOLVE_NO_SYMLINKS // or an image could have another directory take their place
	}
	if o.copyUp {
		reg = sourceOf(i)
	} else {
		m.fs(reg, mount.Type, mount.Source, o)
	}
	m.attach(reg, dest, false, resolve)
	m.propagate(reg, o)
	switch {
	case o.copyUp:
		m.setattr(reg, "as the options say", false, attrs{set: o.one.set & unix.MOUNT_ATTR_RDONLY})
	case mount.Type == "tmpfs":
		m.fresh[dest] = reg
	}
	return nil
}

// IsBind says whether a mount shows files that are there already.
func IsBind(mount specs.Mount) bool {
	o := optionsOf(mount.Options)
	return !o.remount && (mount.Type == "bind" || o.bind)
}

// Source is the absolute path of a bind mount's source.
func Source(mount specs.Mount, bundle string) string {
	if filepath.IsAbs(mount.Source) {
		return filepath.Clean(mount.Source)
	}
	return filepath.Join(bundle, mount.Source)
}

// attach puts a mount where it belongs.
func (m *maker) attach(mount plan.Reg, dest string, file bool, resolve uint64) {
	if fs, rest, ok := m.within(dest); ok && !file {
		m.directories(fs, rest+"/")
		m.Do("mount it at "+dest, plan.MoveMountAt(mount, fs, rest))
	} else {
		m.Do("mount it at "+dest, plan.MoveMount(mount, m.open("at", dest, file, resolve)))
	}
	m.covered(dest)
}

// fs makes a file system instance and a mount of it, attached nowhere yet.
func (m *maker) fs(reg plan.Reg, fstype, source string, o options) {
	fs := m.Get("fs", "a new "+fstype, plan.Fsopen(fstype))
	if source == "" {
		source = fstype
	}
	m.Do("its name in the list of mounts", plan.FsconfigString(fs, "source", source))
	for _, d := range o.data {
		if key, value, ok := strings.Cut(d, "="); ok {
			m.Do("with "+d, plan.FsconfigString(fs, key, value))
		} else {
			m.Do("with "+d, plan.FsconfigFlag(fs, d))
		}
	}
	if m.label != "" && (fstype == "tmpfs" || fstype == "devpts") { // mqueue is there with its namespace, and the kernel lets no mount label it
		m.Do("SELinux knows all files of it by this label", plan.FsconfigString(fs, "context", m.label)).At("/linux/mountLabel")
	}
	m.Do("make it", plan.FsconfigCreate(fs))
	m.Get(reg, "a mount of it", plan.Fsmount(fs, o.one.set|o.all.set))
}

// copy copies the mount, or the part of it, that source is in.
func (m *maker) copy(reg plan.Reg, source string, o options) {
	var flag uint
	if o.rbind {
		flag = unix.AT_RECURSIVE
	}
	m.Get(reg, "the same files that the host has at "+source, plan.OpenTree(plan.AtFdcwd, source, flag))
}

// bind gives the copy of a mount its attributes.
func (m *maker) bind(reg plan.Reg, o options) {
	m.setattr(reg, "as the options say", false, o.one)
	m.setattr(reg, "and all mounts below it", true, o.all)
}

// remount changes a mount that is there; the kernel refuses if there is none.
func (m *maker) remount(dest string, o options) error {
	if len(o.data) > 0 {
		return fmt.Errorf("options: remount is for the mount, and %q for its file system", o.data[0])
	}
	m.Get("mount", "the mount that is there", plan.Openat2(root, dest[1:], unix.O_PATH, inRoot))
	m.bind("mount", o)
	m.propagate("mount", o)
	return nil
}

func (m *maker) setattr(reg plan.Reg, why string, recursive bool, a attrs) {
	if k := a.kernel(); k != (attrs{}) {
		m.Do(why, plan.MountSetattr(reg, recursive, k.set, k.clear, 0))
	}
}

func (m *maker) propagate(reg plan.Reg, o options) {
	if o.propagation != 0 {
		m.Do("who else sees the mounts made below it", plan.MountSetattr(reg, o.propagationAll, 0, 0, o.propagation))
	}
}

// cgroups shows the container its own cgroup, in each hierarchy of the host.
func (m *maker) cgroups(s *specs.Spec, h Host, dest string, o options) {
	if len(h.Cgroups) == 1 && h.Cgroups[0].V2 {
		m.cgroup(plan.Reg(dest), s, h.Cgroups[0], o)
		m.attach(plan.Reg(dest), dest, false, inRoot)
		return
	}
	dir := plan.Reg(dest)
	m.fs(dir, "tmpfs", "cgroup", options{one: attrs{set: o.one.set &^ unix.MOUNT_ATTR_RDONLY}, data: []string{"mode=755"}})
	m.attach(dir, dest, false, inRoot)
	for _, c := range h.Cgroups {
		m.Do("a place for the hierarchy "+c.Name, plan.Mkdirat(dir, c.Name, 0o755))
		m.cgroup("mount", s, c, o)
		m.Do("mount it there", plan.MoveMountAt("mount", dir, c.Name))
		m.links(dir, c.Name)
	}
	m.setattr(dir, "as the options say", false, attrs{set: o.one.set & unix.MOUNT_ATTR_RDONLY})
}

// cgroup makes a mount of one hierarchy: a new one where the container has a
// cgroup namespace, whose root the kernel takes from there, and else a bind
// mount of its own directory.
func (m *maker) cgroup(reg plan.Reg, s *specs.Spec, c Cgroup, o options) {
	if !Has(s, specs.CgroupNamespace) {
		m.copy(reg, c.Source, o)
		m.bind(reg, o)
		return
	}
	o.data = nil
	switch {
	case c.V2:
		m.fs(reg, "cgroup2", "cgroup", o)
		return
	case c.Name == "systemd":
		o.data = []string{"none", "name=systemd"}
	default:
		o.data = strings.Split(c.Name, ",")
	}
	m.fs(reg, "cgroup", "cgroup", o)
}

// links gives hierarchies of several controllers the names that programs look
// for: cpu and cpuacct for "cpu,cpuacct".
func (m *maker) links(dir plan.Reg, name string) {
	controllers := strings.Split(name, ",")
	for _, c := range controllers {
		if len(controllers) > 1 {
			m.Do("also known as "+c, plan.Symlinkat(name, dir, c))
		}
	}
}
