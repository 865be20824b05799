package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// adoptOrphans makes this process the parent of each descendant whose parent
// ends before it, PR_SET_CHILD_SUBREAPER, so that none can hide; and like
// process 1 it reaps them.
func (s *suite) adoptOrphans() error {
	const setChildSubreaper = 36
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0); errno != 0 {
		return os.NewSyscallError("prctl", errno)
	}
	go func() {
		for range time.Tick(20 * time.Millisecond) {
			s.mu.Lock()
			for _, pid := range children() {
				if !slices.Contains(s.commands, pid) {
					_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil) // it may still run
				}
			}
			s.mu.Unlock()
		}
	}()
	return nil
}

// wait runs a command whose end is not the reaper's business.
func (s *suite) wait(cmd *exec.Cmd) error {
	s.mu.Lock()
	err := cmd.Start()
	if err == nil {
		s.commands = append(s.commands, cmd.Process.Pid)
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	err = cmd.Wait()
	s.mu.Lock()
	s.commands = slices.DeleteFunc(s.commands, func(pid int) bool { return pid == cmd.Process.Pid })
	s.mu.Unlock()
	return err
}

// children lists the processes whose parent is this one.
func children() (pids []int) {
	threads, _ := filepath.Glob("/proc/self/task/*/children")
	for _, file := range threads {
		list, _ := os.ReadFile(file)
		for field := range strings.FieldsSeq(string(list)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// leaks lists what came to the machine and what went, once the processes that
// are just ending have had a moment.
func (s *suite) leaks(before []string) (list []string) {
	for range 20 {
		now := s.machine()
		gone := slices.DeleteFunc(without(before, now, "gone: "), func(thing string) bool {
			return strings.Contains(thing, "/sys/fs/cgroup/") // it was empty: its owner took it away
		})
		list = slices.Concat(without(now, before, "new:  "), gone)
		if len(list) == 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return list
}

func without(all, known []string, prefix string) (list []string) {
	for _, thing := range all {
		if _, found := slices.BinarySearch(known, thing); !found {
			list = append(list, prefix+thing)
		}
	}
	return list
}

// machine is what tests could leave changed, sorted.
func (s *suite) machine() (things []string) {
	_ = os.RemoveAll(s.tmp + "/nobody") // of nobody.sh
	for _, pattern := range []string{
		s.tmp + "/*", "/tmp/*minictr*", "/run/*minictr*", "/run/minictr/*", "/var/lib/*minictr*",
		"/var/lib/minictr/*/*", "/dev/shm/*", "/run/netns/*", "/sys/class/net/*",
	} {
		names, _ := filepath.Glob(pattern)
		things = append(things, names...)
	}
	things = slices.Concat(things, mounts("1"), mounts("self"), orphans(), tree("."), cgroups())
	slices.Sort(things)
	return things
}

func mounts(pid string) (list []string) {
	info, _ := os.ReadFile("/proc/" + pid + "/mountinfo")
	for line := range strings.Lines(string(info)) {
		list = append(list, "mount of process "+pid+": "+strings.TrimSpace(line))
	}
	return list
}

// orphans lists the processes that tests have left to this one.
func orphans() (list []string) {
	for _, pid := range children() {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		list = append(list, fmt.Sprintf("process %d %s", pid, bytes.TrimSpace(name)))
	}
	return list
}

// cgroups lists those without processes: others come and go by themselves, as
// do the units of systemd.
func cgroups() []string {
	units := []string{".service", ".scope", ".slice", ".mount", ".socket"}
	return slices.DeleteFunc(tree("/sys/fs/cgroup"), func(path string) bool {
		processes, err := os.ReadFile(path + "/cgroup.procs")
		return err != nil || len(processes) > 0 || slices.Contains(units, filepath.Ext(path))
	})
}

// tree lists the files below a directory, without git's.
func tree(top string) (list []string) {
	_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil: // it is just being removed
		case d.Name() == ".git":
			return fs.SkipDir
		default:
			list = append(list, path)
		}
		return nil
	})
	return list
}
