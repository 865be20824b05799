package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Opened tells what open(2) gives, for reading and for writing: "", or an
// error. Nothing is read or written.
type Opened struct {
	Read   string `json:"r"`
	Write  string `json:"w"`
	System int64  `json:"fs"` // the type of the file system, as statfs(2) has it
}

// A Device is a node.
type Device struct {
	Opened
	Type  string `json:"type"`
	Major uint32 `json:"major"`
	Minor uint32 `json:"minor"`
}

func open(name string) (o Opened) {
	for mode, says := range map[int]*string{unix.O_RDONLY: &o.Read, unix.O_WRONLY: &o.Write} {
		*says = say(closed(unix.Open(name, mode|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)))
	}
	var system unix.Statfs_t
	if unix.Statfs(name, &system) == nil {
		o.System = system.Type
	}
	return o
}

// files opens those of /proc and /sys, but the processes'; of the cgroups only
// the first in each hierarchy.
func files() map[string]Opened {
	all := make(map[string]Opened)
	for _, top := range []string{"/proc", "/sys"} {
		_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			switch below, isCgroup := strings.CutPrefix(path, "/sys/fs/cgroup/"); {
			case err != nil: // it may not be read, or has just gone
			case filepath.Dir(path) == "/proc" && strings.Trim(d.Name(), "0123456789") == "":
				return fs.SkipDir
			case path == "/sys/kernel/debug", path == "/sys/kernel/tracing": // opening some of theirs does something
				all[path] = open(path)
				return fs.SkipDir
			case isCgroup && d.IsDir() && strings.Contains(below, "/"):
				return fs.SkipDir
			case d.Type()&fs.ModeSymlink == 0:
				all[path] = open(path)
			}
			return nil
		})
	}
	for _, path := range []string{"/sys/kernel/debug/sched/debug", "/sys/kernel/tracing/trace"} { // the wall tells of these
		all[path] = open(path)
	}
	return all
}

// untouched is said in place of an error of devices whose opening does
// something: a serial line is picked up, a tape rewinds, a watchdog begins, a
// machine makes ready for hibernation.
const untouched = "untouched"

// devices opens the nodes in /dev.
func devices() map[string]Device {
	all := make(map[string]Device)
	_ = filepath.WalkDir("/dev", func(path string, _ fs.DirEntry, err error) error {
		var stat unix.Stat_t // the directory has what a mount lies over
		if err != nil || unix.Lstat(path, &stat) != nil {
			return nil
		}
		kind, isDevice := map[uint32]string{unix.S_IFCHR: "c", unix.S_IFBLK: "b"}[stat.Mode&unix.S_IFMT]
		if !isDevice {
			return nil
		}
		d := Device{Opened{Read: untouched, Write: untouched}, kind, unix.Major(stat.Rdev), unix.Minor(stat.Rdev)}
		if name := filepath.Base(path); !slices.ContainsFunc([]string{"ttyS", "ttyUSB", "ttyACM", "st", "nst", "watchdog", "snapshot"}, func(s string) bool {
			return strings.Trim(strings.TrimPrefix(name, s), "0123456789") == ""
		}) {
			d.Opened = open(path)
		}
		all[path] = d
		return nil
	})
	return all
}

// nodes makes some, takes them away again, and tells how that went.
func nodes() map[string]string {
	made := make(map[string]string)
	dir, ok := scratch()
	if !ok {
		return made
	}
	for _, n := range []struct {
		kind         uint32
		major, minor uint32
	}{{unix.S_IFCHR, 1, 3}, {unix.S_IFCHR, 1, 1}, {unix.S_IFCHR, 10, 200}, {unix.S_IFBLK, 7, 0}, {unix.S_IFBLK, 254, 0}} {
		kind, file := "c", filepath.Join(dir, "probe-node")
		if n.kind == unix.S_IFBLK {
			kind = "b"
		}
		made[fmt.Sprintf("%s %d:%d", kind, n.major, n.minor)] = say(unix.Mknod(file, n.kind|0o600, int(unix.Mkdev(n.major, n.minor))))
		_ = os.Remove(file)
	}
	return made
}

// root tells what "/" is.
func (s *Seen) root() error {
	s.Mounts = strings.Count(text("/proc/self/mountinfo")+"\n", "\n")
	var system unix.Statfs_t
	if err := unix.Statfs("/", &system); err != nil {
		return err
	}
	var stat unix.Stat_t
	if err := unix.Stat("/", &stat); err != nil {
		return err
	}
	s.Root, s.RootFile = system.Type, [2]uint64{stat.Dev, stat.Ino}
	s.ReadOnly = system.Flags&unix.ST_RDONLY != 0 || errors.Is(unix.Access("/", unix.W_OK), unix.EROFS)
	return nil
}

// limits reads what the container sees of its cgroups, of version 1.
func limits() map[string]string {
	found := make(map[string]string)
	for _, pattern := range []string{
		"memory.limit_in_bytes", "cpu.cfs_quota_us", "pids.max",
	} {
		names, _ := filepath.Glob("/sys/fs/cgroup/*/" + pattern)
		for _, name := range names {
			found[pattern] = text(name)
		}
	}
	return found
}

// values are of what is not walled.
func values() map[string]string {
	all := make(map[string]string)
	for _, name := range []string{
		"/proc/sys/kernel/osrelease", "/proc/sys/kernel/random/boot_id", "/proc/meminfo", "/proc/cpuinfo", "/proc/loadavg", "/proc/uptime",
		"/proc/sys/vm/swappiness", "/proc/sys/kernel/random/entropy_avail", "/proc/keys",
	} {
		all[name] = text(name)
	}
	var u unix.Utsname
	var i unix.Sysinfo_t
	var t unix.Timespec
	if unix.Uname(&u) == nil && unix.Sysinfo(&i) == nil && unix.ClockGettime(unix.CLOCK_REALTIME, &t) == nil {
		all["hostname"], all["release"] = unix.ByteSliceToString(u.Nodename[:]), unix.ByteSliceToString(u.Release[:])
		all["ram"], all["up"], all["clock"] = fmt.Sprint(uint64(i.Totalram)*uint64(i.Unit)), fmt.Sprint(i.Uptime), fmt.Sprint(t.Sec)
	}
	return all
}
