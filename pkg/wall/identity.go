package wall

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// An identity is what the kernel asks of a process that opens a file:
// credentials(7). Ids are as the host has them.
type identity struct {
	euid, egid, fsuid, fsgid int
	groups                   []int
	effective                uint64 // capabilities(7)
	uids, gids               []idMap
	initial                  bool // it is in the first user namespace, the kernel's own
}

// firstUser is the inode of the first user namespace: PROC_USER_INIT_INO.
const firstUser = "user:[4026531837]"

func (p *process) credentials() (who identity, err error) {
	uids, err := numbers(p.status["Uid"])
	if err != nil {
		return who, err
	}
	gids, err := numbers(p.status["Gid"])
	if err != nil {
		return who, err
	}
	const effective, file, all = 1, 3, 4 // real, effective, saved, file system
	if len(uids) != all || len(gids) != all {
		return who, fmt.Errorf("status: Uid %q, Gid %q", p.status["Uid"], p.status["Gid"])
	}
	who.euid, who.fsuid, who.egid, who.fsgid = uids[effective], uids[file], gids[effective], gids[file]
	if who.groups, err = numbers(p.status["Groups"]); err != nil {
		return who, err
	}
	if who.effective, err = strconv.ParseUint(p.status["CapEff"], 16, 64); err != nil {
		return who, err
	}
	if who.uids, err = p.idMaps("uid_map"); err != nil {
		return who, err
	}
	if who.gids, err = p.idMaps("gid_map"); err != nil {
		return who, err
	}
	namespace, err := os.Readlink(p.path("ns/user"))
	who.initial = namespace == firstUser
	return who, err
}

// has says whether the process has a capability in its own user namespace.
func (who *identity) has(capability int) bool { return who.effective>>capability&1 == 1 }

// capable says whether it has one in the first user namespace, which is what
// the kernel asks where the whole machine is meant.
func (who *identity) capable(capability int) bool { return who.initial && who.has(capability) }

// over says whether a capability counts for a file: its owner and its group
// must have ids in the process's user namespace.
func (who *identity) over(st *unix.Stat_t, capability int) bool {
	_, uid := inside(who.uids, int(st.Uid))
	_, gid := inside(who.gids, int(st.Gid))
	return uid && gid && who.has(capability)
}

func (who *identity) member(gid, own int) bool { return gid == own || slices.Contains(who.groups, gid) }

// The bits of a file's mode, and of what is asked for.
const (
	search = 1
	write  = 2
	read   = 4
)

// may says whether the process may do what it wants with a file:
// path_resolution(7).
func (who *identity) may(st *unix.Stat_t, want uint32) bool {
	mode := st.Mode
	switch {
	case int(st.Uid) == who.fsuid:
		mode >>= 6
	case who.member(int(st.Gid), who.fsgid):
		mode >>= 3
	}
	directory := st.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case mode&want == want:
		return true
	case want&write == 0 && (directory || want == read) && who.over(st, unix.CAP_DAC_READ_SEARCH):
		return true
	}
	return who.over(st, unix.CAP_DAC_OVERRIDE)
}

// mayParameter is may for /proc/sys. There no capability helps: its files
// belong to user 0 and group 0 of the first user namespace.
func (who *identity) mayParameter(st *unix.Stat_t, want uint32) bool {
	mode := st.Mode
	if who.euid == 0 {
		mode >>= 6
	} else if who.member(0, who.egid) {
		mode >>= 3
	}
	return mode&want == want
}
