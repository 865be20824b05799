package wall

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/cgroup"
	"github.com/minictr/minictr/pkg/sys"
)

// A node is a device node in the process's /dev. What comes after the rules, a
// security module and most drivers' own conditions, is not looked at.
type node struct {
	Path  string `json:"path"`
	Type  string `json:"type"` // "c" or "b"
	Major uint32 `json:"major"`
	Minor uint32 `json:"minor"`
	Read  *bool  `json:"read"` // whether the rules let open(2) through; null if that can't be known
	Write *bool  `json:"write"`
}

type deviceFacts struct {
	Nodes []node `json:"nodes"`
	Mknod *bool  `json:"mknod"` // whether it may make another node like /dev/null's
}

func devices(p *process) (Brick, error) {
	b := Brick{Name: "devices", State: Missing, Host: "every device", Call: `bpf(BPF_PROG_ATTACH, BPF_CGROUP_DEVICE), write("devices.allow")`}
	v, err := p.nodes()
	if err != nil {
		return b, err
	}
	rules, err := cgroup.DeviceGuards(os.Getpid())
	own, host := v.guard, guard{rules, err}
	facts := deviceFacts{v.nodes, p.mknod(&v.who, own)}
	b.Facts = facts
	opened, perhaps := 0, 0
	for _, n := range facts.Nodes {
		switch {
		case is(n.Read, true) || is(n.Write, true):
			opened++
		case n.Read == nil || n.Write == nil:
			perhaps++
		}
	}
	making := map[bool]string{true: "makes others", false: "makes no others"}[!is(facts.Mknod, false)]
	if facts.Mknod == nil {
		making = "perhaps makes others"
	}
	b.Inside = fmt.Sprintf("opens %d of %d nodes in /dev; %s", opened, len(facts.Nodes), making)
	if perhaps > 0 {
		b.Inside = fmt.Sprintf("opens %d of %d nodes in /dev, perhaps %d more; %s", opened, len(facts.Nodes), perhaps, making)
	}
	if host.stands() {
		b.Host = "the devices that its cgroup allows"
	}
	switch {
	case own.err != nil:
		b.State, b.Means = Unknown, "what guards its devices can't be read: "+own.err.Error()
	case own.stands() && own.equal(host):
		b.State, b.Means = Shared, "its cgroup guards devices by the rules that hold for who looks"
	case own.stands():
		b.State, b.Means = Walled, "the kernel asks the cgroup's rules at each open, whoever has made the node"
	case own.Hidden:
		b.State, b.Means = Unknown, "no rule that can be seen guards devices: version 1 of cgroups shows none where all but some are allowed"
	case is(facts.Mknod, false) && v.different:
		b.State, b.Means = Walled, "no rule guards devices; but it has these nodes only, and may make none"
	default:
		b.Means = "no rule guards devices: with a node and its permission every device opens"
	}
	return b, nil
}

// is tells whether something is known and so.
func is(b *bool, value bool) bool { return b != nil && *b == value }

// mknod tells whether mknod(2) works: its capability is one over the machine.
func (p *process) mknod(who *identity, g guard) *bool {
	if !who.capable(unix.CAP_MKNOD) || p.seccompMode() == unix.SECCOMP_MODE_STRICT {
		return new(false)
	}
	allowed := g.allows(unix.S_IFCHR, unix.BPF_DEVCG_ACC_MKNOD, 1, 3)
	switch passes, err := p.passes("mknod", "mknodat"); {
	case err != nil && !is(allowed, false):
		return nil
	case err == nil && !passes:
		return new(false)
	}
	return allowed
}

// A guard is what the process's cgroups say about devices, or why that is not
// known.
type guard struct {
	cgroup.Guards
	err error
}

func (g guard) stands() bool { return len(g.Programs) > 0 || g.List != cgroup.AllDevices && g.Listed }

func (g guard) equal(o guard) bool {
	return g.List == o.List && slices.EqualFunc(g.Programs, o.Programs, bytes.Equal)
}

// allows asks all rules about one access, a BPF_DEVCG_ACC_*, to a device of
// type S_IFCHR or S_IFBLK: nil if the answer can't be known.
func (g guard) allows(format, access, major, minor uint32) *bool {
	if g.err != nil {
		return nil
	}
	if g.Listed && !listed(g.List, format, access, major, minor) {
		return new(false)
	}
	kind := uint32(unix.BPF_DEVCG_DEV_BLOCK)
	if format == unix.S_IFCHR {
		kind = unix.BPF_DEVCG_DEV_CHAR
	}
	answer := new(true)
	if g.Hidden {
		answer = nil
	}
	for _, code := range g.Programs {
		switch yes, known := deviceProgram(code).allows(kind, access, major, minor); {
		case !known:
			answer = nil
		case !yes:
			return new(false)
		}
	}
	return answer
}

// listed tells whether devices.list of version 1 has a line that allows the
// access: "c 1:* rwm".
func listed(list string, format, access, major, minor uint32) bool {
	kind := map[bool]string{true: "c", false: "b"}[format == unix.S_IFCHR]
	letter := map[uint32]string{unix.BPF_DEVCG_ACC_MKNOD: "m", unix.BPF_DEVCG_ACC_READ: "r", unix.BPF_DEVCG_ACC_WRITE: "w"}[access]
	for line := range strings.Lines(list) {
		words := strings.Fields(line)
		if len(words) != 3 || words[0] != "a" && words[0] != kind || !strings.Contains(words[2], letter) {
			continue
		}
		first, second, _ := strings.Cut(words[1], ":")
		if (first == "*" || first == fmt.Sprint(major)) && (second == "*" || second == fmt.Sprint(minor)) {
			return true
		}
	}
	return false
}

// A visit goes through a process's /dev.
type visit struct {
	who       identity
	guard     guard
	fd        int  // its root, open
	different bool // its /dev is not that of who looks
	nodes     []node
}

// deep is how far below /dev nodes are looked for: /dev/bus/usb/001/001.
const deep = 4

func (p *process) visit() (*visit, error) {
	who, err := p.identity()
	if err != nil {
		return nil, err
	}
	v := visit{who: who, nodes: []node{}}
	v.guard.Guards, v.guard.err = cgroup.DeviceGuards(p.pid)
	err = v.dev(p.path("root"))
	slices.SortFunc(v.nodes, func(a, b node) int { return strings.Compare(a.Path, b.Path) })
	return &v, err
}

func (v *visit) dev(root string) (err error) {
	v.fd, err = sys.Number("open", func() (int, error) { return unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return fmt.Errorf("%s: %w", root, err)
	}
	defer func() { _ = unix.Close(v.fd) }() // nothing was written
	top, _, err := stat(v.fd, "/")
	if err != nil {
		return err
	}
	own, _, err := stat(v.fd, "/dev")
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		v.different = true
		return nil
	}
	var host unix.Stat_t
	if err := errors.Join(err, unix.Stat("/dev", &host)); err != nil {
		return err
	}
	v.different = own.Dev != host.Dev || own.Ino != host.Ino
	return v.directory("/dev", v.who.may(&top, search), deep)
}

// directory looks at the nodes in one; reached tells whether the process gets
// to it.
func (v *visit) directory(path string, reached bool, depth int) error {
	how := unix.OpenHow{Flags: unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := sys.Number("openat2", func() (int, error) { return unix.Openat2(v.fd, path, &how) })
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close()
	var own unix.Stat_t
	if err := unix.Fstat(fd, &own); err != nil {
		return err
	}
	reached = reached && v.who.may(&own, search)
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path + "/" + e.Name()
		switch {
		case e.IsDir() && depth > 0:
			err = v.directory(name, reached, depth-1)
		case e.Type()&(fs.ModeDir|fs.ModeSymlink) == 0: // a node can be mounted on a file
			err = v.node(name, reached)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EACCES) { // it has just gone, or is not for us
			return err
		}
	}
	return nil
}

func (v *visit) node(path string, reached bool) error {
	st, mount, err := stat(v.fd, path)
	if err != nil {
		return err
	}
	n := node{Path: path, Type: "b", Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev)}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		n.Type = "c"
	case unix.S_IFBLK:
	default:
		return nil
	}
	for _, a := range [...]struct {
		want, access uint32
		answer       **bool
	}{{read, unix.BPF_DEVCG_ACC_READ, &n.Read}, {write, unix.BPF_DEVCG_ACC_WRITE, &n.Write}} {
		switch {
		case !reached, mount.Flags&unix.ST_NODEV != 0, !v.driver(&n, a.want):
			*a.answer = new(false)
		case v.acl(path, &st): // its bits don't tell
		case !v.who.may(&st, a.want):
			*a.answer = new(false)
		default:
			*a.answer = v.guard.allows(st.Mode&unix.S_IFMT, a.access, n.Major, n.Minor)
		}
	}
	v.nodes = append(v.nodes, n)
	return nil
}

// acl tells whether acl(5) decides about a node, which is not looked into.
func (v *visit) acl(path string, st *unix.Stat_t) bool {
	if int(st.Uid) == v.who.fsuid || v.who.over(st, unix.CAP_DAC_OVERRIDE) {
		return false
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := sys.Number("openat2", func() (int, error) { return unix.Openat2(v.fd, path, &how) })
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written
	_, err = unix.Getxattr(fmt.Sprintf("/proc/self/fd/%d", fd), "system.posix_acl_access", nil)
	return err == nil
}

// log tells whether a node that the process may read is the kernel's log.
func (v *visit) log() *bool {
	answer := new(false)
	for _, n := range v.nodes {
		if n.Type == "c" && n.Major == 1 && n.Minor == 11 && !is(n.Read, false) && !is(answer, true) {
			answer = n.Read
		}
	}
	return answer
}

// driver is what a few drivers ask for when they are opened, which others do
// later: mem(4), msr(4), and the kernel's log.
func (v *visit) driver(n *node, want uint32) bool {
	if n.Type != "c" {
		return true
	}
	switch {
	case n.Major == 1 && (n.Minor == 1 || n.Minor == 4), n.Major == 202:
		return v.who.capable(unix.CAP_SYS_RAWIO)
	case n.Major == 1 && n.Minor == 11 && want == read:
		restricted, err := sys.ReadFile("/proc/sys/kernel/dmesg_restrict")
		return err == nil && string(restricted) == "0\n" || v.who.capable(unix.CAP_SYSLOG)
	}
	return true
}
