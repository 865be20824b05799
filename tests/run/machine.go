package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// adoptOrphans makes this process the parent of each descendant whose parent
// ends before it: PR_SET_CHILD_SUBREAPER. So none can hide.
func adoptOrphans() error {
	const setChildSubreaper = 36
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0); errno != 0 {
		return os.NewSyscallError("prctl", errno)
	}
	return nil
}

// leaks lists what came to the machine and what went, once the processes that
// are just ending have had a moment.
func (s *suite) leaks(before []string) (list []string) {
	for range 20 {
		now := s.machine()
		list = slices.Concat(without(now, before, "new:  "), without(before, now, "gone: "))
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
	threads, _ := filepath.Glob("/proc/self/task/*/children")
	for _, file := range threads {
		pids, _ := os.ReadFile(file)
		for pid := range strings.FieldsSeq(string(pids)) {
			name, _ := os.ReadFile("/proc/" + pid + "/comm")
			// A process without a program has ended.
			if _, err := os.Readlink("/proc/" + pid + "/exe"); err == nil {
				list = append(list, "process "+pid+" "+strings.TrimSpace(string(name)))
			}
		}
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
