package main

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// names of capabilities, by their numbers: linux/capability.h.
var names = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW",
	"CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
	"CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD",
	"CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
	"CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// capabilities asks capget(2) for three sets, and prctl(2) for two.
func capabilities() (map[string][]string, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return nil, fmt.Errorf("capget: %w", err)
	}
	sets := map[string][]string{"effective": {}, "permitted": {}, "inheritable": {}, "bounding": {}, "ambient": {}}
	for n, name := range names {
		half, bit := data[n/32], uint32(1)<<(n%32)
		bounding, _ := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0)
		ambient, _ := unix.PrctlRetInt(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_IS_SET, uintptr(n), 0, 0)
		for set, has := range map[string]bool{
			"effective": half.Effective&bit != 0, "permitted": half.Permitted&bit != 0, "inheritable": half.Inheritable&bit != 0,
			"bounding": bounding == 1, "ambient": ambient == 1,
		} {
			if has {
				sets[set] = append(sets[set], name)
			}
		}
	}
	return sets, nil
}

// tries does what some capabilities are for, in a process that ends after it,
// and in an order in which nothing spoils what follows.
func tries() map[string]string {
	result := make(map[string]string)
	try := func(name string, do func() error) { result[name] = say(do()) }
	if dir, ok := scratch(); ok {
		file := filepath.Join(dir, "probe-file")
		try("CAP_DAC_OVERRIDE", func() error {
			f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0) // its owner may do nothing with it
			if err != nil {
				return err
			}
			_ = f.Close()
			return closed(unix.Open(file, unix.O_WRONLY, 0))
		})
		try("CAP_CHOWN", func() error { return unix.Lchown(file, 1, 1) })
		_ = os.Remove(file)
	}
	try("CAP_NET_RAW", func() error { return closed(unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)) })
	try("CAP_NET_ADMIN", func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4096)
	})
	try("CAP_SYS_ADMIN", func() error {
		name, err := os.Hostname()
		if err != nil {
			return err
		}
		return unix.Sethostname([]byte(name))
	})
	try("CAP_SYSLOG", func() error {
		_, err := unix.Klogctl(unix.SYSLOG_ACTION_SIZE_UNREAD, nil)
		return err
	})
	try("CAP_SETPCAP", func() error { return unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_LAST_CAP, 0, 0, 0) })
	try("CAP_SYS_CHROOT", func() error { return unix.Chroot("/") })
	try("CAP_SETGID", func() error { return unix.Setgroups([]int{1}) })
	try("CAP_SETUID", func() error { return unix.Setresuid(-1, 1, -1) })
	return result
}

// closed closes what an attempt has opened.
func closed(fd int, err error) error {
	if err == nil {
		err = unix.Close(fd)
	}
	return err
}

// scratch is a directory where files can be made.
func scratch() (string, bool) {
	for _, dir := range []string{"/dev/shm", "/tmp", "/dev", "/"} {
		file := filepath.Join(dir, "probe-scratch")
		if os.WriteFile(file, nil, 0o600) == nil {
			return dir, os.Remove(file) == nil
		}
	}
	return "", false
}

// forks is how often this process can fork, at most so often. The children
// wait and are killed.
func forks(most int) int {
	var pids []int
	for len(pids) < most {
		pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 {
			break
		}
		for pid == 0 {
			_, _, _ = unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
		}
		pids = append(pids, int(pid))
	}
	for _, pid := range pids {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, 0, nil)
	}
	return len(pids)
}
