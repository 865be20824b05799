package wall

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

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
			g.Inside = short(value(cover))
		}
	}
	if tells == "" {
		g.State, g.Means = Walled, "another file covers "+name+", or none is there, and only another mount of procfs would tell"
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

// most bytes are read of a file that a container may have made, and longest of
// them are shown.
const (
	most    = 64 << 10
	longest = 100
)

// cover reads what the process finds at a path, "" if there is nothing to read.
// What lies there is the container's to choose, and to change at any moment: it
// may be a pipe at which nobody writes, a device, or a file that never ends. So
// what is asked about is what is opened.
func (p *process) cover(path string) (text string, err error) {
	root, err := sys.Number("open", func() (int, error) { return unix.Open(p.path("root"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, sys.Close(root)) }()
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := sys.Number("openat2", func() (int, error) { return unix.Openat2(root, path, &how) })
	if err != nil {
		return "", absent(err)
	}
	defer func() { err = errors.Join(err, sys.Close(fd)) }()
	var st unix.Stat_t
	if err := sys.Call("fstat", func() error { return unix.Fstat(fd, &st) }); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return "", err
	}
	file, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0) // a lease would hold us up
	if err != nil {
		return "", err
	}
	read, err := io.ReadAll(io.LimitReader(file, most))
	return string(read), errors.Join(err, file.Close())
}

// short is the beginning of a value that a container may have chosen.
func short(value string) string {
	value, _, _ = strings.Cut(value, "\n")
	return strings.ToValidUTF8(value[:min(len(value), longest)], "")
}
