package integration_test

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

// cgroupName names a cgroup of these tests, and of no other run of them. The
// engine's containers lie below one with the program's own name.
func cgroupName(name string) string { return filepath.Base(scratch) + "-" + name }

// A fingerprint is all that a container could leave on the machine.
type fingerprint []string

// unchanged has the test fail if, when it ends, the machine is not as it is
// now.
func unchanged(t *testing.T, h host) {
	t.Helper()
	before := machine(h)
	t.Cleanup(func() {
		if t.Failed() {
			kill(t) // and leave no trouble for the tests that follow
			_ = h.command("ps").Run()
		}
		before.compare(t, h, "after the test")
	})
}

// compare has the test fail if the machine is changed.
func (before fingerprint) compare(t *testing.T, h host, when string) {
	t.Helper()
	if list := before.differences(h); len(list) > 0 {
		t.Errorf("%s the machine is changed:\n%s", when, strings.Join(list, "\n"))
	}
}

// differences lists what is new on the machine and what is gone. Other tests
// of this repository run at the same time in cgroups of their own, so what is
// different must stay so for a while, and one that is gone was theirs.
func (before fingerprint) differences(h host) (list []string) {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		now := machine(h)
		list = slices.Concat(without(now, before, "new:  "), without(before, now, "gone: "))
		list = slices.DeleteFunc(list, func(thing string) bool { return strings.HasPrefix(thing, "gone: cgroup ") })
		if len(list) == 0 {
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

// nodes are the host's device nodes that containers have to do with.
func nodes() (list []string) {
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty", "console"} {
		var st unix.Stat_t
		if err := unix.Stat("/dev/"+name, &st); err == nil {
			list = append(list, fmt.Sprintf("/dev/%s of %d:%d, mode %o", name, st.Uid, st.Gid, st.Mode))
		}
	}
	return list
}

// machine takes the fingerprint: mounts, network devices, the host name,
// cgroups, our child processes, and the files of a host.
func machine(h host) fingerprint {
	var f fingerprint
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		// A directory that another test mounts on, and removes, takes the mount
		// with it in all mount namespaces.
		at := strings.Fields(line)[4]
		if foreign := strings.HasPrefix(at, "/tmp/") || strings.HasPrefix(at, filepath.Dir(scratch)); !foreign || strings.HasPrefix(at, scratch) {
			f = append(f, "mount "+strings.TrimSpace(line))
		}
	}
	devices, _ := net.Interfaces()
	for _, d := range devices {
		f = append(f, "network device "+d.Name)
	}
	name, _ := os.Hostname()
	f = append(f, nodes()...)
	f = append(f, "host name "+name)
	f = append(f, cgroups()...)
	for _, p := range children() {
		f = append(f, p.String())
	}
	for _, dir := range []string{h.run, h.root + "/containers", h.root + "/tmp", h.root + "/names", h.root + "/networks", h.root + "/volumes"} {
		if h == (host{}) {
			break
		}
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
	own := cgroupName("")
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

// A child is a process whose parent we are, by birth or because its own has
// ended.
type child struct {
	pid    int
	name   string
	zombie bool
}

func (c child) String() string { return fmt.Sprintf("process %d %s", c.pid, c.name) }

// children lists the processes that are our children, and reaps those that
// have ended: no command of a test is still to be waited for when it is
// called.
func children() (list []child) {
	threads, _ := filepath.Glob("/proc/self/task/*/children")
	for _, file := range threads {
		text, _ := os.ReadFile(file)
		for word := range strings.FieldsSeq(string(text)) {
			pid, _ := strconv.Atoi(word)
			c := child{pid: pid}
			stat, _ := os.ReadFile("/proc/" + word + "/stat")
			if _, rest, ok := strings.Cut(string(stat), "("); ok {
				end := strings.LastIndexByte(rest, ')')
				c.name, c.zombie = rest[:end], strings.HasPrefix(rest[end:], ") Z")
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

// kill ends the children that a failed test has left.
func kill(t *testing.T) {
	t.Helper()
	for _, c := range children() {
		if err := unix.Kill(c.pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Error(err)
		}
	}
}
