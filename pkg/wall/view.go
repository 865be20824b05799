package wall

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

// shown completes a gap that a file of /proc shows; its value is taken from the
// text. A process that may read the kernel's own file there has the host's
// value. Where another covers it, as lxcfs does, a wall is there, unless
// something else tells: a system call, or "".
func (p *process) shown(g Gap, name, tells string, value func(text string) string) (Gap, error) {
	text, err := sys.ReadFile(name)
	if err != nil {
		return g, err
	}
	g.State, g.Host = Shared, value(string(text))
	f, err := p.file(name)
	switch {
	case err != nil:
		return g, err
	case f.Read:
		g.Inside = g.Host
		return g, nil
	}
	g.Inside = "nothing"
	if f.Masked {
		var cover string
		if cover, err = p.cover(name); cover != "" {
			g.Inside = value(cover)
		}
	}
	if tells == "" {
		g.State, g.Means = Walled, "another file covers "+name+", or none is there, and nothing else tells"
	} else {
		g.Means = "another file covers " + name + ", or none is there, but the kernel still tells it by " + tells
	}
	return g, err
}

// file says what the process can do with one file.
func (p *process) file(path string) (file, error) {
	list, err := p.files([]string{path})
	return append(list, file{})[0], err
}

// most bytes are read of a file that a container may have made.
const most = 1 << 20

// cover reads what the process finds at a path, "" if there is nothing to read.
// What lies there is the container's to choose: it may be a pipe at which
// nobody writes, or a link out of the root.
func (p *process) cover(path string) (text string, err error) {
	root, err := sys.Number("open", func() (int, error) { return unix.Open(p.path("root"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, sys.Close(root)) }()
	st, _, err := stat(root, path)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > most {
		return "", absent(err)
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := sys.Number("openat2", func() (int, error) { return unix.Openat2(root, path, &how) })
	if err != nil {
		return "", absent(err)
	}
	defer func() { err = errors.Join(err, sys.Close(fd)) }()
	read, err := sys.ReadFile(fmt.Sprintf("/proc/self/fd/%d", fd))
	return string(read), err
}
