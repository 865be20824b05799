package wall

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

// A view is what a process finds at a path.
type view struct {
	kernels  bool   // it is the kernel's own file
	writable bool   // its mount is not read-only
	device   uint64 // of a node
	text     string // what is in another file, which covers it: that of lxcfs, or a mask
}

// most bytes are read of a file that a container may have made.
const most = 1 << 20

// view looks at a path, without its first slash, from the root of the process,
// below which all links stay. What lies there is the container's to choose: it may be a pipe,
// at which nobody writes, or a link out of the root.
func (p *process) view(name string) (v view, err error) {
	root, err := sys.Number("open", func() (int, error) {
		return unix.Open(fmt.Sprintf("/proc/%d/root", p.pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, sys.Close(root)) }()
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := sys.Number("openat2", func() (int, error) { return unix.Openat2(root, name, &how) })
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return v, nil // it finds no file
	}
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, sys.Close(fd)) }()
	var fs unix.Statfs_t
	var st unix.Stat_t
	err = errors.Join(
		sys.Call("fstatfs", func() error { return unix.Fstatfs(fd, &fs) }),
		sys.Call("fstat", func() error { return unix.Fstat(fd, &st) }))
	v.writable = fs.Flags&unix.ST_RDONLY == 0
	v.kernels = fs.Type == unix.PROC_SUPER_MAGIC
	v.device = st.Rdev
	if err != nil || v.kernels || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > most {
		return v, err
	}
	text, err := sys.ReadFile(fmt.Sprintf("/proc/self/fd/%d", fd))
	v.text = string(text)
	return v, err
}

// file completes a gap that a file of /proc shows. Its value is taken from the
// text. A process that finds the kernel's own file there has the host's value.
// Where another covers it, and nothing else tells (a system call, or ""), a
// wall is there.
func (p *process) file(g Gap, name, tells string, value func(string) string) (Gap, error) {
	text, err := sys.ReadFile("/proc/" + name)
	if err != nil {
		return g, err
	}
	g.State, g.Host = Shared, value(string(text))
	v, err := p.view("proc/" + name)
	switch {
	case v.kernels:
		g.Inside = g.Host
		return g, err
	case v.text == "":
		g.Inside = "nothing"
	default:
		g.Inside = value(v.text)
	}
	if g.Means = "/proc/" + name + " is covered, and nothing else tells it."; tells == "" {
		g.State = Walled
		return g, err
	}
	g.Means = "/proc/" + name + " is covered or not there, but the kernel still tells the process by " + tells + "."
	return g, err
}
