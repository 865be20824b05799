package namespace

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

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

func (d device) kind() uint32 { return d.mode & unix.S_IFMT }

// defaults are the devices that every container has, config-linux.md.
var defaults = [...]device{
	{path: "/dev/null", mode: unix.S_IFCHR | 0o666, major: 1, minor: 3, why: "it takes all and gives nothing"},
	{path: "/dev/zero", mode: unix.S_IFCHR | 0o666, major: 1, minor: 5, why: "it gives zeroes"},
	{path: "/dev/full", mode: unix.S_IFCHR | 0o666, major: 1, minor: 7, why: "it is always full"},
	{path: "/dev/random", mode: unix.S_IFCHR | 0o666, major: 1, minor: 8, why: "it gives random bytes: the kernel's, shared with all"},
	{path: "/dev/urandom", mode: unix.S_IFCHR | 0o666, major: 1, minor: 9, why: "it gives random bytes: the kernel's, shared with all"},
	{path: "/dev/tty", mode: unix.S_IFCHR | 0o666, major: 5, minor: 0, why: "it is the terminal of whoever opens it"},
}

// devices fills /dev: the default devices and links, and those of the spec.
func (m *maker) devices(s *specs.Spec, h Host) error {
	for _, mount := range s.Mounts {
		if path.Clean("/"+mount.Destination) == "/dev" && IsBind(mount) {
			return nil // the host's own: not ours to fill
		}
	}
	m.Section(plan.Child, "devices", "a few harmless devices, and no others")
	m.At("/mounts")
	for _, d := range defaults {
		m.device(s, h, d, true)
	}
	if err := m.more(s, h); err != nil {
		return err
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
	return nil
}

// more makes the nodes that linux.devices asks for. Where another file is in the
// place of one it may be the host's, seen by a bind mount: it is left as it is,
// and the kernel refuses.
func (m *maker) more(s *specs.Spec, h Host) error {
	known := make(map[string]device)
	for _, d := range defaults {
		known[d.path] = d
	}
	for i, asked := range s.Linux.Devices {
		d := deviceOf(asked)
		if other, twice := known[d.path]; twice {
			if d.kind() != other.kind() || d.major != other.major || d.minor != other.minor {
				return fmt.Errorf("/linux/devices/%d/path: %s is another device already", i, d.path)
			}
			continue
		}
		if d.path != "/dev/ptmx" && !slices.Contains(h.Nodes, d.path) {
			known[d.path] = d
			m.At(fmt.Sprintf("/linux/devices/%d", i))
			m.device(s, h, d, false)
		}
	}
	return nil
}

// device makes a node, or binds the host's. Only one that every container has
// takes the place of what the image has there, or leaves it to a mount.
func (m *maker) device(s *specs.Spec, h Host, d device, always bool) {
	dir, name := m.parent(d.path)
	if _, _, ours := m.within(d.path); always && !ours {
		m.Do("whatever the image has at "+d.path+" is not this device", plan.Unlinkat(dir, name)).Allow(plan.Next, unix.ENOENT)
	}
	if bound(s, h, d) {
		m.Do("a place for the host's "+d.path, plan.Mknodat(dir, name, unix.S_IFREG|0o666, 0, 0)).Allow(plan.Next, unix.EEXIST)
		m.Get("mount", "the host's own node: a user namespace may make none", plan.OpenTree(plan.AtFdcwd, d.path, 0))
		m.Do(d.why, plan.MoveMountAt("mount", dir, name))
		return
	}
	made := m.Do(d.why, plan.Mknodat(dir, name, d.mode, d.major, d.minor))
	if always {
		made.Allow(plan.Next, unix.EEXIST)
	}
	if d.uid != 0 || d.gid != 0 {
		m.Do("its owner", plan.Fchownat(dir, name, d.uid, d.gid))
	}
}

// deviceOf is the node that is asked for.
func deviceOf(d specs.LinuxDevice) device {
	node := device{
		path: path.Clean("/" + d.Path), major: uint32(d.Major), minor: uint32(d.Minor), why: "config.json asks for it",
		uid: *cmp.Or(d.UID, new(uint32)), gid: *cmp.Or(d.GID, new(uint32)),
		mode: uint32(cmp.Or(d.FileMode, new(os.FileMode(0o666))).Perm()),
	}
	switch d.Type {
	case "b":
		node.mode |= unix.S_IFBLK
	case "p":
		node.mode |= unix.S_IFIFO
		node.major, node.minor = 0, 0
	default:
		node.mode |= unix.S_IFCHR
	}
	return node
}

// bound says whether the host's own node is bound in the place of one: in a
// user namespace the kernel lets nobody make any.
func bound(s *specs.Spec, h Host, d device) bool {
	return (h.Nested || Has(s, specs.UserNamespace)) && d.kind() != unix.S_IFIFO
}

// Under finds what of the host a container has at the place of a device, as far
// as mounts tell: the rest of its name below a directory; "" is a new file
// system. Who places mounts so that a link leads elsewhere is told by the
// kernel.
func Under(s *specs.Spec, h Host, asked specs.LinuxDevice) (top, rest string) {
	name := deviceOf(asked).path
	top, rest = h.Rootfs, name
	if Layered(s) {
		top = ""
	}
	for _, mount := range s.Mounts {
		below, holds := strings.CutPrefix(name, path.Clean("/"+mount.Destination))
		if !holds || below != "" && below[0] != '/' || optionsOf(mount.Options).remount {
			continue
		}
		top, rest = "", below
		if IsBind(mount) {
			top = Source(mount, h.Bundle)
		}
	}
	return top, rest
}

// IsNode says whether a file is the device that is asked for. If it is the
// place that was made once for the host's own node, it is nothing.
func IsNode(s *specs.Spec, h Host, asked specs.LinuxDevice, st *unix.Stat_t) (is, nothing bool) {
	d, kind := deviceOf(asked), st.Mode&unix.S_IFMT
	is = kind == d.kind() && (kind == unix.S_IFIFO || st.Rdev == unix.Mkdev(d.major, d.minor))
	return is, bound(s, h, d) && kind == unix.S_IFREG && st.Size == 0
}
