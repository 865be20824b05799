package cgroup

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Procs lists the processes of the cgroup and of all cgroups below it, in
// ascending order, by their ids in the caller's PID namespace. A cgroup that
// is gone has none.
func (g Group) Procs() ([]int, error) {
	if len(g.Places) == 0 {
		return nil, nil
	}
	var all []int
	err := walk(g.listed().Dir, func(dir string) error {
		pids, err := Place{Dir: dir}.procs()
		all = append(all, pids...)
		return err
	})
	slices.Sort(all)
	return slices.Compact(all), err
}

// listed is the place whose processes are those of the group.
func (g Group) listed() Place {
	if p := g.unifiedPlace(); p != nil {
		return *p
	}
	return g.Places[0]
}

// procs reads cgroup.procs. A process outside the caller's PID namespace
// stands there as 0 and is left out. Those of a threaded cgroup are listed by
// the one above that its threads belong to.
func (p Place) procs() ([]int, error) {
	text, err := read(p.Dir + "/cgroup.procs")
	switch {
	case gone(err), errors.Is(err, unix.EOPNOTSUPP):
		return nil, nil
	case err != nil:
		return nil, err
	}
	var pids []int
	for line := range strings.Lines(text) {
		if pid, err := strconv.Atoi(strings.TrimSuffix(line, "\n")); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// Kill ends every process of the cgroup and of those below it by SIGKILL,
// frozen or not, and returns when none is left; zombies do not count. The
// error wraps ErrTimeout if some process does not die. Version 2 does it in
// one write to cgroup.kill, so that no fork escapes; in version 1 the
// processes are frozen first. The kernel passes over a process whose leader is
// about to die already, as it does while another of its threads executes a
// program, and the process lives on: so it is told again until none is left.
func (g Group) Kill() error {
	round := g.killRound
	if p := g.unifiedPlace(); p != nil {
		round = func() (bool, error) {
			if err := write(p.Dir+"/cgroup.kill", "1"); err != nil {
				if gone(err) {
					err = nil
				}
				return true, err
			}
			pids, err := g.Procs()
			return len(pids) == 0, err
		}
	}
	return wait(g.Path+" still has processes", round)
}

// killRound sends SIGKILL to all that are there, and tells whether there was
// nobody. Frozen processes cannot fork, nor end and leave their ids to others;
// they die when they are thawed. Where nobody is there is nobody to freeze: who
// forks is listed until its child is.
func (g Group) killRound() (bool, error) {
	if len(g.Places) == 0 || g.listed().checkEmpty() == nil {
		return true, nil
	}
	f, _ := g.freezer() // without one, the rounds alone must do
	if f != nil {
		if err := write(f.control, f.freeze); gone(err) {
			return true, nil
		} else if err != nil {
			return false, err
		}
	}
	pids, err := g.Procs()
	for _, pid := range pids {
		if e := unix.Kill(pid, unix.SIGKILL); e != nil && !errors.Is(e, unix.ESRCH) {
			err = errors.Join(err, e)
		}
	}
	if f != nil {
		if e := write(f.control, f.thaw); !gone(e) { // whoever runs the container may take its cgroup away already
			err = errors.Join(err, e)
		}
	}
	return len(pids) == 0, err
}
