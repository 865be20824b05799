package rootless

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/sys"
)

// Programs that write maps of more ids than the user's own, newuidmap(1).
const (
	newuidmap = "/usr/bin/newuidmap"
	newgidmap = "/usr/bin/newgidmap"
)

// IDs says who the users and groups of a user's namespace are outside,
// user_namespaces(7): root is the user himself, and from 1 on come his
// subordinate ids.
type IDs struct{ Users, Groups []specs.LinuxIDMapping }

// Find finds out which ids a user may map, subuid(5). If nothing but his own, the
// second result says why.
func Find(uid, gid int) (ids IDs, alone string, err error) {
	own := func(id int) []specs.LinuxIDMapping { return []specs.LinuxIDMapping{{HostID: uint32(id), Size: 1}} }
	name, err := nameOf(uid)
	if err != nil {
		return IDs{}, "", err
	}
	ids = IDs{own(uid), own(gid)}
	for _, m := range [...]struct {
		maps          *[]specs.LinuxIDMapping
		file, program string
	}{{&ids.Users, "/etc/subuid", newuidmap}, {&ids.Groups, "/etc/subgid", newgidmap}} {
		text, err := sys.ReadFile(m.file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return IDs{}, "", err
		}
		*m.maps = append(*m.maps, subordinate(string(text), name, strconv.Itoa(uid))...)
		if len(*m.maps) == 1 {
			alone = fmt.Sprintf("%s has no line of %s", m.file, name)
		} else if _, err := os.Stat(m.program); err != nil {
			alone = m.program + " is not there"
		}
	}
	if alone != "" {
		ids = IDs{own(uid), own(gid)}
	}
	return ids, alone, nil
}

// subordinate maps the ranges of a user from 1 on. A line is NAME:FIRST:COUNT, or
// has the user's number for a name.
func subordinate(text, name, number string) (maps []specs.LinuxIDMapping) {
	next := uint32(1)
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) != 3 || fields[0] != name && fields[0] != number {
			continue
		}
		first, err := strconv.ParseUint(fields[1], 10, 32)
		count, e := strconv.ParseUint(fields[2], 10, 32)
		if err != nil || e != nil || count == 0 || first+count > 1<<32-1 || uint64(next)+count > 1<<32-1 {
			continue // newuidmap(1) reads no such line either
		}
		maps = append(maps, specs.LinuxIDMapping{ContainerID: next, HostID: uint32(first), Size: uint32(count)})
		next += uint32(count)
	}
	return maps
}

// nameOf is the name of a user, passwd(5). Where that is kept elsewhere, the
// environment says it; who lies there is refused by newuidmap(1).
func nameOf(uid int) (string, error) {
	text, err := sys.ReadFile("/etc/passwd")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Split(line, ":"); len(f) > 2 && f[2] == strconv.Itoa(uid) {
			return f[0], nil
		}
	}
	if name := os.Getenv("USER"); name != "" {
		return name, nil
	}
	return strconv.Itoa(uid), nil
}

// Size is how many users, and as many groups, there are from 0 on in the user
// namespace of this process, or, if it is not root, in the one that Enter makes.
func Size() (uint32, error) {
	if uid := os.Geteuid(); uid != 0 {
		ids, _, err := Find(uid, os.Getegid())
		return ids.Count(), err
	}
	users, err := sys.ReadFile("/proc/self/uid_map")
	groups, e := sys.ReadFile("/proc/self/gid_map")
	return IDs{parse(string(users)), parse(string(groups))}.Count(), errors.Join(err, e)
}

// Count is how many users, and as many groups, there are from 0 on.
func (ids IDs) Count() uint32 { return min(size(ids.Users), size(ids.Groups)) }

// parse reads a map as the kernel shows it.
func parse(text string) (maps []specs.LinuxIDMapping) {
	for line := range strings.Lines(text) {
		var m specs.LinuxIDMapping
		if _, err := fmt.Sscan(line, &m.ContainerID, &m.HostID, &m.Size); err == nil {
			maps = append(maps, m)
		}
	}
	return maps
}

func size(maps []specs.LinuxIDMapping) (n uint32) {
	for _, m := range maps {
		if m.ContainerID == n {
			n += m.Size
		}
	}
	return n
}
