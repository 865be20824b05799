package wall

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// ErrNotFound says that no process is in a cgroup of that name.
var ErrNotFound = errors.New("no such container")

// minPrefix is the least that is taken for the beginning of an ID.
const minPrefix = 4

// Find returns the first process of a container of whoever made it, by the
// container's ID or its beginning: Docker, Podman, containerd, CRI-O and the
// kubelet name cgroups by it.
func Find(id string) (pid int, err error) {
	found := make(map[string][]*process)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		p, err := look(pid)
		if err != nil {
			continue // it has ended
		}
		paths, err := p.hierarchies()
		if err != nil {
			continue
		}
		for _, full := range containers(paths, id) {
			found[full] = append(found[full], p)
		}
	}
	switch len(found) {
	case 0:
		return 0, fmt.Errorf("%w: %s", ErrNotFound, id)
	case 1:
	default:
		var ids []string
		for full := range found {
			ids = append(ids, full)
		}
		slices.Sort(ids)
		return 0, fmt.Errorf("%s begins more than one ID: %s", id, strings.Join(ids, ", "))
	}
	for _, processes := range found {
		pid = first(processes).pid
	}
	return pid, nil
}

// first is the one that began the container: the lowest number in the outermost
// of the container's PID namespaces.
func first(list []*process) *process {
	return slices.MinFunc(list, func(a, b *process) int {
		if d := len(a.inside) - len(b.inside); d != 0 {
			return d
		}
		return a.inside[len(a.inside)-1] - b.inside[len(b.inside)-1]
	})
}

// containers lists the IDs in a process's cgroup paths that id names, or begins:
// "docker-ID.scope", "libpod-ID", "cri-containerd-ID.scope", "ID"; or a name, of
// the process's own cgroup. The monitor of a container, "libpod-conmon-ID", is
// none of its processes, and what systemd makes for itself is no container.
func containers(paths []string, id string) (list []string) {
	for _, path := range paths {
		last := path[strings.LastIndexByte(path, '/')+1:]
		for name := range strings.SplitSeq(path, "/") {
			if strings.Contains(name, "conmon") || strings.HasSuffix(name, ".slice") || name == "init" || name == "init.scope" {
				continue
			}
			isLast := name == last
			name = strings.TrimSuffix(name, ".scope")
			full := name[strings.LastIndexByte(name, '-')+1:]
			whole := isLast && name == id && id != ""
			if whole {
				full = name
			}
			if (whole || isID(full) && len(id) >= minPrefix && strings.HasPrefix(full, id)) && !slices.Contains(list, full) {
				list = append(list, full)
			}
		}
	}
	return list
}

// isID says whether a name is one that container managers make.
func isID(name string) bool {
	const short = 12
	return len(name) >= short && strings.Trim(name, "0123456789abcdef") == ""
}
