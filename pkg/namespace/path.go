package namespace

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// root is the register of the container's root while the wall is built.
const root plan.Reg = "root"

// inRoot is how names inside the container are resolved: as if it had
// changed its root already, whatever symbolic links it has laid, and through
// none of the magic ones of proc(5).
const inRoot = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS

// A maker adds the places that mounts and devices need.
type maker struct {
	*plan.Builder
	// fresh are file systems that we made, by where they are: empty but for
	// what we put there. Where something else is mounted, it holds "".
	fresh map[string]plan.Reg
	label string // of SELinux, for file systems that nobody else can see
}

// within finds the file system of ours that holds name, and the rest of the
// name below it.
func (m *maker) within(name string) (fs plan.Reg, rest string, ok bool) {
	for dir := name; dir != "/"; {
		dir = path.Dir(dir)
		if fs, ok := m.fresh[dir]; ok {
			return fs, strings.TrimPrefix(name, dir+"/"), fs != ""
		}
	}
	return "", "", false
}

// covered forgets the file systems that a new mount hides. What it shows
// instead may be anybody's, with links in it.
func (m *maker) covered(name string) {
	for dir := range m.fresh {
		if dir == name || strings.HasPrefix(dir, name+"/") {
			delete(m.fresh, dir)
		}
	}
	m.fresh[name] = ""
}

// open finds a name inside the container, wherever its links lead, and makes
// it if it is missing: an empty file, or a directory and those above it. The
// name is resolved once; all that follows goes through the descriptor.
func (m *maker) open(reg plan.Reg, name string, file bool, resolve uint64) plan.Reg {
	name = strings.TrimPrefix(name, "/")
	flags := uint64(unix.O_PATH)
	if !file {
		flags |= unix.O_DIRECTORY
	}
	found := m.Label()
	m.Do("find /"+name+" inside the root", plan.Openat2(root, orDot(name), flags, resolve)).Out(reg).Then(found).Allow(plan.Next, unix.ENOENT)
	m.make(reg, root, name, file, resolve)
	m.Place(found)
	return reg
}

// make makes what is missing of a name below a directory and opens the end.
func (m *maker) make(reg, dir plan.Reg, name string, file bool, resolve uint64) {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		last := i == len(parts)-1
		if last && file {
			m.Do("it is not there: make a place for it", plan.Mknodat(dir, part, unix.S_IFREG|0o644, 0, 0)).Allow(plan.Next, unix.EEXIST)
			m.Get(reg, "and open it", plan.Openat2(dir, part, unix.O_PATH, resolve))
			return
		}
		m.Do("it is not there: make the directory", plan.Mkdirat(dir, part, 0o755)).Allow(plan.Next, unix.EEXIST)
		// From the root again: a link on the way may lead elsewhere inside it.
		m.Get(reg, "and open it", plan.Openat2(root, strings.Join(parts[:i+1], "/"), unix.O_PATH|unix.O_DIRECTORY, resolve))
		dir = reg
	}
}

// parent opens the directory that holds name, and makes it if it is missing.
// In a file system of ours nothing needs to be looked up.
func (m *maker) parent(name string) (dir plan.Reg, base string) {
	if fs, rest, ok := m.within(name); ok {
		m.directories(fs, rest)
		return fs, rest
	}
	return m.open("dir", path.Dir(name), false, inRoot), path.Base(name)
}

// directories makes the directories on the way to name, in a file system of
// ours.
func (m *maker) directories(fs plan.Reg, name string) {
	for i, c := range name {
		if c == '/' {
			m.Do("a directory for it", plan.Mkdirat(fs, name[:i], 0o755)).Allow(plan.Next, unix.EEXIST)
		}
	}
}

func orDot(name string) string {
	if name == "" {
		return "."
	}
	return name
}
