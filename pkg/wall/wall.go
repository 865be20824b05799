// Package wall looks at the wall around a process, from outside: any process,
// whoever built its wall.
//
// A wall is a list of bricks, in the order in which they are laid. Each is read
// from the kernel (proc(5), cgroups(7), ptrace(2)), never from what a container
// manager says. Behind the bricks come the gaps: what no brick covers.
package wall

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// A State is what a brick does for the process.
type State string

// The states of a brick.
const (
	Walled  State = "walled"  // the process has its own, or less than the host
	Shared  State = "shared"  // it has the host's
	Missing State = "missing" // nothing stands there
	Unknown State = "unknown" // it can't be seen from where we look
)

// A Brick is one part of the wall.
type Brick struct {
	Name   string `json:"name"` // as in a plan: "pid", "caps", "seccomp"
	State  State  `json:"state"`
	Inside string `json:"inside"` // what the process has or sees
	Host   string `json:"host"`   // what the host has or sees of it
	Call   string `json:"call"`   // the system call, or the write, that lays such a brick
	Steps  []int  `json:"steps,omitempty"`
	Means  string `json:"means"` // how strong it is, in one sentence
	Facts  any    `json:"facts,omitempty"`
}

// A Gap is something that no brick covers: the kernel has one for all.
type Gap struct {
	Name   string `json:"name"`
	Inside string `json:"inside"` // its value as the process sees it
	Host   string `json:"host"`
	State  State  `json:"state"` // Shared, but where a wall covers it all the same
	Means  string `json:"means"`
}

// A Wall is what stands around one process.
type Wall struct {
	PID     int     `json:"pid"`    // in the namespace of who looks
	Inside  []int   `json:"inside"` // the same process, namespace by namespace, the innermost last
	Command string  `json:"command"`
	Kernel  string  `json:"kernel"`  // the release of the one kernel, uname(2)
	Boot    string  `json:"boot_id"` // a fingerprint of one boot of it, random(4)
	Bricks  []Brick `json:"bricks"`
	Gaps    []Gap   `json:"gaps"`
}

// ErrNoProcess says that there is no process of that PID, or that it has ended
// while it was looked at.
var ErrNoProcess = errors.New("no such process")

// Around looks at the wall around a process. The host is what the calling
// process has itself. Most of it wants root: ptrace(2)'s
// PTRACE_MODE_READ_FSCREDS, and CAP_SYS_ADMIN for the filters of seccomp(2).
// What can't be read is Unknown, and its Means is the error.
func Around(pid int) (*Wall, error) {
	w, err := around(pid)
	if err == nil {
		return w, nil
	}
	if gone(pid) {
		return nil, fmt.Errorf("%w: %d", ErrNoProcess, pid)
	}
	return nil, fmt.Errorf("look at process %d: %w", pid, err)
}

func around(pid int) (*Wall, error) {
	p, err := look(pid)
	if err != nil {
		return nil, err
	}
	w := &Wall{PID: pid, Inside: p.inside, Command: p.command}
	if w.Kernel, w.Boot, err = kernel(); err != nil {
		return nil, err
	}
	for _, brick := range bricks {
		b, err := brick(p)
		switch {
		case err != nil && gone(pid):
			return nil, err
		case err != nil:
			b.State, b.Means = Unknown, err.Error()
		}
		w.Bricks = append(w.Bricks, b)
	}
	for _, gap := range gaps {
		g, err := gap(p)
		switch {
		case err != nil && gone(pid):
			return nil, err
		case err != nil:
			g.State, g.Means = Unknown, err.Error()
		}
		w.Gaps = append(w.Gaps, g)
	}
	return w, nil
}

// gone says whether a process has ended: a dead one that is not waited for yet
// has a status, but neither memory nor namespaces.
func gone(pid int) bool {
	fields, err := status(fmt.Sprint(pid))
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || err == nil && (fields["State"] + " ")[:1] == "Z"
}

// bricks lists them in the order in which they are laid. Each returns its name
// with an error, too.
var bricks = [...]func(*process) (Brick, error){
	user,
	pid,
	mnt,
	root,
	masks,
	net,
	uts,
	ipc,
	clocks,
	cgroups,
	memory,
	cpu,
	pids,
	disks,
	devices,
	caps,
	nnp,
	lsm,
	calls,
}

// gaps lists what is not walled.
var gaps = [...]func(*process) (Gap, error){
	kernelGap, bootGap, clockGap, memoryGap, cpusGap, loadGap, uptimeGap, logGap, keysGap, sysctlsGap, entropyGap, cacheGap,
}
