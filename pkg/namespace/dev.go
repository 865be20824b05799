package namespace

import (
	"fmt"
	"path"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// A device is a device node, mknod(2).
type device struct {
	path         string
	mode         uint32 // type and permissions
	major, minor uint32
	uid, gid     uint32
	why          string
}

// defaults are the devices that every container has, config-linux.md.
var defaults = [...]device{
	{path: "/dev/null", mode: unix.S_IFCHR | 0o666, major: 1, minor: 3, why: "takes all and gives nothing"},
	{path: "/dev/zero", mode: unix.S_IFCHR | 0o666, major: 1, minor: 5, why: "gives zeroes"},
	{path: "/dev/full", mode: unix.S_IFCHR | 0o666, major: 1, minor: 7, why: "is always full"},
	{path: "/dev/random", mode: unix.S_IFCHR | 0o666, major: 1, minor: 8, why: "gives random bytes: the kernel's, shared with all"},
	{path: "/dev/urandom", mode: unix.S_IFCHR | 0o666, major: 1, minor: 9, why: "gives random bytes: the kernel's, shared with all"},
	{path: "/dev/tty", mode: unix.S_IFCHR | 0o666, major: 5, minor: 0, why: "is the terminal of whoever opens it"},
}

// devices fills /dev: the default devices and links, and those of the spec.
func (m *maker) devices(s *specs.Spec, h Host) {
	for _, mount := range s.Mounts {
		if path.Clean("/"+mount.Destination) == "/dev" && IsBind(mount) {
			return // the host's own: not ours to fill
		}
	}
	m.Section(plan.Child, "devices", "a few harmless devices, and no others")
	m.At("/mounts")
	for _, d := range defaults {
		m.device(s, h, d)
	}
	for i, d := range s.Linux.Devices {
		m.At(fmt.Sprintf("/linux/devices/%d", i))
		if node, extra := deviceOf(d); extra {
			m.device(s, h, node)
		}
	}
	m.At("/mounts")
	for _, l := range [...]struct{ target, path, why string }{
		{"/proc/self/fd", "/dev/fd", "the descriptors of whoever looks"},
		{"/proc/self/fd/0", "/dev/stdin", "its standard input"},
		{"/proc/self/fd/1", "/dev/stdout", "its standard output"},
		{"/proc/self/fd/2", "/dev/stderr", "its standard error"},
		{"pts/ptmx", "/dev/ptmx", "new terminals come from this container's own devpts"},
	} {
		dir, name := m.parent(l.path)
		m.Do(l.why, plan.Symlinkat(l.target, dir, name)).Allow(plan.Next, unix.EEXIST)
	}
}

// deviceOf is the node that linux.devices asks for, unless it is one that
// every container has.
func deviceOf(d specs.LinuxDevice) (node device, extra bool) {
	node = device{path: path.Clean("/" + d.Path), mode: unix.S_IFCHR, major: uint32(d.Major), minor: uint32(d.Minor), why: "asked for"}
	switch d.Type {
	case "b":
		node.mode = unix.S_IFBLK
	case "p":
		node.mode = unix.S_IFIFO
	}
	permissions := uint32(0o666)
	if d.FileMode != nil {
		permissions = uint32(d.FileMode.Perm())
	}
	node.mode |= permissions
	if d.UID != nil {
		node.uid = *d.UID
	}
	if d.GID != nil {
		node.gid = *d.GID
	}
	for _, known := range defaults {
		if known.path == node.path {
			return node, false
		}
	}
	return node, node.path != "/dev/ptmx"
}

// device makes a node, or, in a user namespace, where the kernel lets nobody
// make one, binds the host's.
func (m *maker) device(s *specs.Spec, h Host, d device) {
	dir, name := m.parent(d.path)
	if _, _, ours := m.within(d.path); !ours {
		m.Do("whatever the image has at "+d.path+" is not this device", plan.Unlinkat(dir, name)).Allow(plan.Next, unix.ENOENT)
	}
	if (h.Nested || Has(s, specs.UserNamespace)) && d.mode&unix.S_IFMT != unix.S_IFIFO {
		m.Do("a place for the host's "+d.path, plan.Mknodat(dir, name, unix.S_IFREG|0o666, 0, 0)).Allow(plan.Next, unix.EEXIST)
		m.Get("mount", "the host's own node: a user namespace may make none", plan.OpenTree(plan.AtFdcwd, d.path, 0))
		m.Do(d.why, plan.MoveMountAt("mount", dir, name))
		return
	}
	m.Do(d.path+" "+d.why, plan.Mknodat(dir, name, d.mode, d.major, d.minor)).Allow(plan.Next, unix.EEXIST)
	if d.uid != 0 || d.gid != 0 {
		m.Do("its owner", plan.Fchownat(dir, name, d.uid, d.gid))
	}
}
