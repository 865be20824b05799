package wall

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

// A mount is a line of mountinfo: proc_pid_mountinfo(5).
type mount struct {
	id     int
	device string // major:minor of what stat(2) says of its files
	at     string // its place, below the process's root
	fstype string
}

// mounts lists those that the process can reach.
func (p *process) mounts() (list []mount, err error) {
	text, err := p.read("mountinfo")
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(text) {
		left, right, _ := strings.Cut(line, " - ")
		front, back := strings.Fields(left), strings.Fields(right)
		const id, device, at = 0, 2, 4
		if len(front) <= at || len(back) == 0 {
			return nil, fmt.Errorf("mountinfo: %q", line)
		}
		n, err := strconv.Atoi(front[id])
		if err != nil {
			return nil, err
		}
		list = append(list, mount{n, front[device], unescape.Replace(front[at]), back[0]})
	}
	return list, err
}

// mountFacts are what programs are told of a process's mounts.
type mountFacts struct {
	Mounts   int    `json:"mounts"`
	Root     string `json:"root"` // the type of the file system
	ReadOnly bool   `json:"read_only"`

	atRoot bool // a mount of its own list is its root
}

func (p *process) mountFacts() (facts mountFacts, err error) {
	list, err := p.mounts()
	if err != nil {
		return facts, err
	}
	facts.Mounts = len(list)
	facts.atRoot = slices.ContainsFunc(list, func(m mount) bool { return m.at == "/" })
	var fs unix.Statfs_t
	if err := sys.Call("statfs", func() error { return unix.Statfs(p.path("root"), &fs) }); err != nil {
		return facts, err
	}
	facts.ReadOnly = fs.Flags&unix.ST_RDONLY != 0
	var st unix.Statx_t
	if err := sys.Call("statx", func() error { return unix.Statx(unix.AT_FDCWD, p.path("root"), 0, unix.STATX_MNT_ID, &st) }); err != nil {
		return facts, err
	}
	host, err := p.looker().mounts() // a root that chroot(2) made is no mount of its own list
	list = append(list, host...)
	i := slices.IndexFunc(list, func(m mount) bool { return uint64(m.id) == st.Mnt_id })
	if i < 0 { // nor one of the host's, in another mount namespace
		device := fmt.Sprintf("%d:%d", st.Dev_major, st.Dev_minor)
		i = slices.IndexFunc(list, func(m mount) bool { return m.device == device })
	}
	if i >= 0 {
		facts.Root = list[i].fstype
	}
	return facts, err
}

func mnt(p *process) (b Brick, err error) {
	b = Brick{Name: "mnt", Call: "clone3(CLONE_NEWNS)"}
	if b.State, err = p.namespace("mnt"); err != nil {
		return b, err
	}
	b.Means = strength(b.State, "what it mounts shows here alone; files that are mounted on both sides are the same files",
		"it has the host's mounts, and what it mounts the host has too")
	own, err := p.mountFacts()
	host, e := p.looker().mounts()
	b.Facts, b.Inside, b.Host = own, fmt.Sprintf("%d mounts", own.Mounts), fmt.Sprintf("%d mounts", len(host))
	return b, errors.Join(err, e)
}

func root(p *process) (b Brick, err error) {
	b = Brick{Name: "root", State: Walled, Call: `mount("overlay"), pivot_root(".", ".")`}
	own, err := p.mountFacts()
	if err != nil {
		return b, err
	}
	host, err := p.looker().mountFacts()
	if err != nil {
		return b, err
	}
	b.Facts, b.Inside, b.Host = own, own.String(), host.String()
	mounts, err := p.namespace("mnt")
	same, e := p.sharesRoot()
	switch {
	case same:
		b.State, b.Means = Shared, "it has a path to every file of the host"
	case mounts == Shared, !own.atRoot:
		b.State, b.Means = Missing, "this is chroot(2) alone: root in it climbs out again"
	default:
		b.Means = "no path leads to the host's files, but through what is mounted here, or a descriptor that was left open"
	}
	return b, errors.Join(err, e)
}

func (f mountFacts) String() string {
	if f.ReadOnly {
		return f.Root + ", read-only"
	}
	return f.Root + ", writable"
}

// sharesRoot says whether the process's root is the directory that the host's
// is, be it by another mount.
func (p *process) sharesRoot() (bool, error) {
	var own, host unix.Stat_t
	for name, st := range map[string]*unix.Stat_t{p.path("root"): &own, "/proc/self/root": &host} {
		if err := sys.Call("stat", func() error { return unix.Stat(name, st) }); err != nil {
			return false, err
		}
	}
	return own.Dev == host.Dev && own.Ino == host.Ino, nil
}
