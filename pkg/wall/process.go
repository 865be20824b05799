package wall

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/seccomp"
	"github.com/minictr/minictr/pkg/sys"
)

// A process is one that is looked at. It can end at any moment; then reading
// its files fails with ESRCH or ENOENT.
type process struct {
	pid     int
	inside  []int // its number in each PID namespace, the innermost last
	command string
	status  map[string]string // /proc/PID/status: proc_pid_status(5)
	host    map[string]string // that of who looks

	// What several bricks and gaps want is read once.
	identity func() (identity, error)
	filters  func() ([]seccomp.Filter, error) // it stops the process for a moment
	tables   func() ([]table, error)
	limits   func() (limits, error)
	nodes    func() (*visit, error)
}

func look(pid int) (*process, error) {
	p := &process{pid: pid, filters: sync.OnceValues(func() ([]seccomp.Filter, error) { return ReadFilters(pid) })}
	p.identity, p.tables = sync.OnceValues(p.credentials), sync.OnceValues(p.explore)
	p.limits, p.nodes = sync.OnceValues(p.around), sync.OnceValues(p.visit)
	var err error
	if p.status, err = status(strconv.Itoa(pid)); err != nil {
		return nil, err
	}
	if p.host, err = status("self"); err != nil {
		return nil, err
	}
	if p.inside, err = numbers(p.status["NSpid"]); err != nil {
		return nil, err
	}
	if len(p.inside) == 0 { // the kernel has no PID namespaces
		p.inside = []int{pid}
	}
	p.command, err = p.read("comm")
	return p, err
}

// looker is the process that looks, as one that is looked at.
func (p *process) looker() *process {
	who := &process{pid: os.Getpid(), status: p.host, host: p.host}
	who.identity = who.credentials
	return who
}

// status reads the fields of a process's status.
func status(who string) (map[string]string, error) {
	text, err := sys.ReadFile("/proc/" + who + "/status")
	if err != nil {
		return nil, err
	}
	fields := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			fields[name] = strings.TrimSpace(value)
		}
	}
	return fields, nil
}

// numbers reads a list of them, with blanks between.
func numbers(text string) (list []int, err error) {
	for word := range strings.FieldsSeq(text) {
		n, err := strconv.Atoi(word)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, nil
}

// path names one of the process's files in /proc.
func (p *process) path(name string) string { return fmt.Sprintf("/proc/%d/%s", p.pid, name) }

// read reads one of the process's files in /proc.
func (p *process) read(name string) (string, error) {
	text, err := sys.ReadFile(p.path(name))
	return strings.TrimSuffix(string(text), "\n"), err
}

// namespace says whether the process has the host's namespace of that kind, by
// the name that the kernel gives it: namespaces(7). It is Missing where the
// kernel has no such kind.
func (p *process) namespace(kind string) (State, error) {
	host, err := os.Readlink("/proc/self/ns/" + kind)
	if errors.Is(err, fs.ErrNotExist) {
		return Missing, nil
	}
	own, e := os.Readlink(p.path("ns/" + kind))
	switch err := errors.Join(err, e); {
	case err != nil:
		return "", err
	case own == host:
		return Shared, nil
	}
	return Walled, nil
}

// A member is a kind of namespace that has to be entered to see what is in it.
type member struct {
	kind string
	flag int
}

// within calls read in the process's namespaces of those kinds, setns(2), if
// they are not the host's: on a thread that ends with it.
func (p *process) within(read func() error, kinds ...member) error {
	flags := 0
	for _, k := range kinds {
		state, err := p.namespace(k.kind)
		if err != nil {
			return err
		}
		if state == Walled {
			flags |= k.flag
		}
	}
	if flags == 0 {
		return read()
	}
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	err = sys.OnThread(func() error {
		if err := unix.Setns(fd, flags); err != nil {
			return fmt.Errorf("setns: %w", err)
		}
		return read()
	})
	return errors.Join(err, unix.Close(fd))
}

// kernel is the release and the boot_id of the one kernel.
func kernel() (release, boot string, err error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", "", fmt.Errorf("uname: %w", err)
	}
	id, err := sys.ReadFile("/proc/sys/kernel/random/boot_id")
	return unix.ByteSliceToString(u.Release[:]), strings.TrimSpace(string(id)), err
}

// An idMap is a line of user_namespaces(7)'s uid_map: the first id inside, the
// first one outside, and how many.
type idMap [3]int

func (p *process) idMaps(name string) (list []idMap, err error) {
	text, err := p.read(name)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(text) {
		row, err := numbers(line)
		if err != nil || len(row) != len(idMap{}) {
			return nil, fmt.Errorf("%s: %q", name, line)
		}
		list = append(list, idMap(row))
	}
	return list, nil
}

// inside is the id inside of one outside.
func inside(maps []idMap, id int) (int, bool) {
	i := slices.IndexFunc(maps, func(m idMap) bool { return m[1] <= id && id < m[1]+m[2] })
	if i < 0 {
		return 0, false
	}
	return id - maps[i][1] + maps[i][0], true
}
