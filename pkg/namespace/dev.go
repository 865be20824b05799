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
func (m *maker) devices(s *specs.Spec) {
	for _, mount := range s.Mounts {
		if path.Clean("/"+mount.Destination) == "/dev" && IsBind(mount) {
			return // the host's own: not ours to fill
		}
	}
	m.Section(plan.Child, "devices", "a few harmless devices, and no others")
	m.At("/mounts")
	for _, d := range defaults {
		m.device(s, d)
	}
	for i, d := range s.Linux.Devices {
		m.At(fmt.Sprintf("/linux/devices/%d", i))
		if node, extra := deviceOf(d); extra {
			m.device(s, node)
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
func (m *maker) device(s *specs.Spec, d device) {
	dir, name := m.parent(d.path)
	if _, _, ours := m.within(d.path); !ours {
		m.Do("whatever the image has at "+d.path+" is not this device", plan.Unlinkat(dir, name)).Allow(plan.Next, unix.ENOENT)
	}
	if Has(s, specs.UserNamespace) && d.mode&unix.S_IFMT != unix.S_IFIFO {
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

// Console is the input on which the terminal's master is sent, and RelayEnd
// the other end of that socket, where the runtime itself has it.
const (
	Console  plan.Reg = "console"
	RelayEnd plan.Reg = "console/runtime"
)

// Terminal makes the container's terminal from its own devpts, pts(4), sends
// the master end to the runtime, and makes the other end standard input,
// output and error.
func Terminal(b *plan.Builder, s *specs.Spec, h Host) {
	if !s.Process.Terminal {
		return
	}
	m := &maker{Builder: b}
	b.Section(plan.Child, "terminal", "a terminal of its own")
	b.At("/process/terminal")
	master := b.Get("master", "a new terminal", plan.Openat2(root, "dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY, inRoot))
	b.Do("let its other end be opened", plan.UnlockPty(master))
	tty := b.Get("tty", "the other end, by descriptor: no name is looked up", plan.PtyPeer(master))
	if size := s.Process.ConsoleSize; size != nil {
		b.At("/process/consoleSize")
		b.Do("rows and columns", plan.WindowSize(tty, uint16(size.Height), uint16(size.Width)))
		b.At("/process/terminal")
	}
	if u := s.Process.User; u.UID != 0 {
		b.Do("it belongs to the container's user", plan.Fchown(tty, int64(u.UID), -1))
	}
	if h.Relay {
		b.Do("the runtime alone holds the other end: should it die, nobody waits for it", plan.Close(RelayEnd))
	}
	b.Do("the runtime keeps the master end", plan.SendFd(Console, master, "/dev/ptmx"))
	if h.Relay {
		b.Do("it has set its end up, so the program's first byte passes as it should", plan.ReadByte(Console))
	}
	b.Do("it controls this session", plan.ControllingTerminal(tty))
	at := m.open("at", "/dev/console", true, inRoot|unix.RESOLVE_NO_SYMLINKS)
	b.Get("mount", "the terminal's node", plan.OpenTree(tty, "", unix.AT_EMPTY_PATH))
	b.Do("is also /dev/console", plan.MoveMount("mount", at))
	for fd := range 3 {
		b.Do("standard input, output and error", plan.Dup3(tty, fd))
	}
}
