package conformance_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// kinds are all namespaces: as the specification names them, as proc(5) does,
// and as clone(2) does.
var kinds = []struct {
	name specs.LinuxNamespaceType
	file string
	flag uintptr
}{
	{specs.PIDNamespace, "pid", syscall.CLONE_NEWPID},
	{specs.NetworkNamespace, "net", syscall.CLONE_NEWNET},
	{specs.IPCNamespace, "ipc", syscall.CLONE_NEWIPC},
	{specs.UTSNamespace, "uts", syscall.CLONE_NEWUTS},
	{specs.MountNamespace, "mnt", syscall.CLONE_NEWNS},
	{specs.CgroupNamespace, "cgroup", syscall.CLONE_NEWCGROUP},
	{specs.UserNamespace, "user", syscall.CLONE_NEWUSER},
	{specs.TimeNamespace, "time", syscall.CLONE_NEWTIME},
}

// other starts a process of these tests in new namespaces.
func other(namespaces uintptr) (pid int, stop func(), err error) {
	cmd := exec.Command("sh", "-c", "echo up; exec sleep 1000")
	if namespaces == syscall.CLONE_NEWTIME { // clone(2) has no room for its flag
		cmd = exec.Command("unshare", "--time", "--fork", "--kill-child", "sh", "-c", "echo $$; exec sleep 1000")
		namespaces = 0
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, Pdeathsig: syscall.SIGKILL}
	if namespaces&syscall.CLONE_NEWUSER != 0 {
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 1000}}
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings, cmd.SysProcAttr.GidMappingsEnableSetgroups = ids, ids, true
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return 0, nil, err
	}
	stop = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	var said string
	if _, err := fmt.Fscan(out, &said); err != nil {
		stop()
		return 0, nil, err
	}
	if pid, err = strconv.Atoi(said); err != nil {
		pid = cmd.Process.Pid // it can't know
	}
	return pid, stop, nil
}

// isIn checks that a process of the container is in the namespace of another.
func isIn(b *box, file string, pid int, want bool) error {
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, file))
	its, e := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", b.pid, file))
	if (its == theirs) != want {
		return fmt.Errorf("%s is %s there, and %s in the container", file, theirs, its)
	}
	return errors.Join(err, e)
}

// joins are the sentences of config-linux.md about namespaces.
var joins = namespaces()

func namespaces() (list []must) {
	const section = "config-linux.md, Namespaces"
	for i, k := range kinds {
		edit := func(s *specs.Spec) {
			without(k.name)(s)
			with(specs.LinuxNamespace{Type: k.name})(s)
			if k.name == specs.UserNamespace {
				ids := []specs.LinuxIDMapping{{HostID: 100000, Size: 1000}}
				s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
			}
		}
		list = append(list,
			must{section: section, text: "a new " + string(k.name) + " namespace", edit: edit, check: func(b *box) error {
				return all(b.create(), isIn(b, k.file, os.Getpid(), false))
			}},
			must{section: section, text: "a path of another type than " + string(k.name) + " is an error", check: func(b *box) error {
				s := base(b)
				without(k.name)(s)
				with(specs.LinuxNamespace{Type: k.name, Path: "/proc/self/ns/" + kinds[(i+1)%len(kinds)].file})(s)
				b.write(s)
				return notCreated(b)
			}},
			must{section: section, text: "a second " + string(k.name) + " namespace is an error", edit: func(s *specs.Spec) {
				edit(s)
				with(specs.LinuxNamespace{Type: k.name})(s)
			}, check: notCreated})
		if k.name == specs.MountNamespace {
			continue // without one of its own, a container's mounts would be those of these tests
		}
		list = append(list,
			must{section: section, text: "the " + string(k.name) + " namespace is inherited unless listed", edit: without(k.name), check: func(b *box) error {
				return all(b.create(), isIn(b, k.file, os.Getpid(), true))
			}},
			must{section: section, text: "a " + string(k.name) + " namespace is joined by its path", check: func(b *box) error {
				pid, stop, err := other(k.flag)
				if err != nil {
					return err
				}
				defer stop()
				s := base(b)
				without(k.name)(s)
				with(specs.LinuxNamespace{Type: k.name, Path: fmt.Sprintf("/proc/%d/ns/%s", pid, k.file)})(s)
				b.write(s)
				err = all(b.create(), isIn(b, k.file, pid, true))
				err = all(err, b.run("delete", "--force", b.id())) // while the namespace is there
				if b.pid != 0 {                                    // the first process of a PID namespace ends when all others have been reaped
					_, e := b.ended()
					err = all(err, e)
				}
				return err
			}})
	}
	return append(list,
		must{section: section, text: "a path that is not absolute is an error", edit: func(s *specs.Spec) {
			without(specs.NetworkNamespace)(s)
			with(specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: "proc/self/ns/net"})(s)
		}, check: notCreated},
		must{section: section, text: "a path of no namespace is an error", edit: func(s *specs.Spec) {
			without(specs.NetworkNamespace)(s)
			with(specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: "/proc/self/status"})(s)
		}, check: notCreated})
}
