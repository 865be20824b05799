package alone

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Cgroup names a cgroup of these tests, and of no other run of them. The
// engine's containers lie below one with the program's own name.
func Cgroup(name string) string { return filepath.Base(Dir) + "-" + name }

// A Fingerprint is all that a container could leave on the machine.
type Fingerprint []string

// Differences lists what is new on the machine and what is gone. Other tests
// of this repository run at the same time in cgroups of their own, so what is
// different must stay so for a while, and one that is gone was theirs; a network
// device that is gone was lent to a container, and ended with it.
func (before Fingerprint) Differences(dirs ...string) (list []string) {
	for first, end := true, time.Now().Add(5*time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		now, known := Machine(dirs...), list
		list = slices.Concat(without(now, before, "new:  "), without(before, now, "gone: "))
		list = slices.DeleteFunc(list, func(thing string) bool {
			return strings.HasPrefix(thing, "gone: cgroup ") || strings.HasPrefix(thing, "gone: network device ") || !first && !slices.Contains(known, thing)
		})
		if first = false; len(list) == 0 {
			return nil
		}
	}
	return list
}

func without(all, known []string, prefix string) (list []string) {
	for _, thing := range all {
		if !slices.Contains(known, thing) {
			list = append(list, prefix+thing)
		}
	}
	return list
}

// Nodes are the host's device nodes that containers have to do with.
func Nodes() (list []string) {
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty", "console"} {
		var st unix.Stat_t
		if err := unix.Stat("/dev/"+name, &st); err == nil {
			list = append(list, fmt.Sprintf("/dev/%s of %d:%d, mode %o", name, st.Uid, st.Gid, st.Mode))
		}
	}
	return list
}

// Machine takes the fingerprint: mounts, network devices, the host name,
// cgroups, our child processes, and the files below directories.
func Machine(dirs ...string) Fingerprint {
	var f Fingerprint
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		// A directory that another test mounts on, and removes, takes the mount
		// with it in all mount namespaces.
		at := strings.Fields(line)[4]
		if foreign := strings.HasPrefix(at, "/tmp/") || strings.HasPrefix(at, filepath.Dir(Dir)); !foreign || strings.HasPrefix(at, Dir) {
			f = append(f, "mount "+strings.TrimSpace(line))
		}
	}
	devices, _ := net.Interfaces()
	for _, d := range devices {
		f = append(f, "network device "+d.Name)
	}
	name, _ := os.Hostname()
	f = append(f, Nodes()...)
	f = append(f, "host name "+name)
	f = append(f, cgroups()...)
	for _, p := range Children() {
		f = append(f, p.String())
	}
	for _, dir := range dirs {
		_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err == nil && path != dir && filepath.Base(path) != "last" { // a network's last address, which the next one is not
				f = append(f, "file "+path)
			}
			return nil
		})
	}
	return f
}

// cgroups lists the containers' cgroups, in all hierarchies. One with
// processes or other cgroups in it may be another test's; a leaked one is
// found by its processes then, which are children of ours.
func cgroups() (list []string) {
	own := Cgroup("")
	for _, pattern := range []string{"/*/minictr", "/*/minictr/*", "/minictr", "/minictr/*", "/*/" + own + "*", "/" + own + "*"} {
		dirs, _ := filepath.Glob("/sys/fs/cgroup" + pattern)
		for _, dir := range dirs {
			procs, err := os.ReadFile(dir + "/cgroup.procs")
			below, _ := filepath.Glob(dir + "/*/cgroup.procs")
			if err == nil && len(procs)+len(below) == 0 || strings.Contains(dir, own) {
				list = append(list, "cgroup "+dir)
			}
		}
	}
	return list
}

// A Child is a process whose parent we are, by birth or because its own has
// ended.
type Child struct {
	PID    int
	Name   string
	zombie bool
}

func (c Child) String() string { return fmt.Sprintf("process %d %s", c.PID, c.Name) }

// Children lists the processes that are our children, and reaps those that
// have ended: no command of a test is still to be waited for when it is
// called.
func Children() (list []Child) { return ChildrenBut(0) }

// ChildrenBut leaves out a command that is waited for.
func ChildrenBut(command int) (list []Child) {
	threads, _ := filepath.Glob("/proc/self/task/*/children")
	for _, file := range threads {
		text, _ := os.ReadFile(file)
		for word := range strings.FieldsSeq(string(text)) {
			pid, _ := strconv.Atoi(word)
			if pid == command {
				continue
			}
			c := Child{PID: pid}
			stat, _ := os.ReadFile("/proc/" + word + "/stat")
			if _, rest, ok := strings.Cut(string(stat), "("); ok {
				end := strings.LastIndexByte(rest, ')')
				c.Name, c.zombie = rest[:end], strings.HasPrefix(rest[end:], ") Z")
			}
			if c.zombie {
				_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) // ECHILD: it was just reaped
				continue
			}
			list = append(list, c)
		}
	}
	return list
}

// KillChildren ends the children that a failed test has left.
func KillChildren(t *testing.T) {
	t.Helper()
	for _, c := range Children() {
		if err := unix.Kill(c.PID, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Error(err)
		}
	}
}
