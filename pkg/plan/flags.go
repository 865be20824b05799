package plan

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A bit is one flag of a set, in the order in which strace(1) prints them.
type bit struct {
	value uint64
	name  string
}

// flags is a set of bits as a constant argument; zero is how none is written.
func flags[T ~int | ~uint | ~int64 | ~uint64 | ~uint32](value T, table []bit, zero string) Num {
	return Num{uint64(value), zero, table}
}

func setString(v uint64, table []bit, zero string) string {
	if v == 0 {
		return zero
	}
	var names []string
	for _, f := range table {
		if v&f.value == f.value {
			names = append(names, f.name)
			v &^= f.value
		}
	}
	if v != 0 {
		names = append(names, "0x"+strconv.FormatUint(v, 16))
	}
	return strings.Join(names, "|")
}

// openString is the flags of open(2), of which O_RDONLY is no bit.
func openString(flag uint64) string {
	if flag&unix.O_ACCMODE == unix.O_RDONLY {
		return "O_RDONLY|" + setString(flag, openFlags, "0")
	}
	return setString(flag, openFlags, "0")
}

// hex is a number as strace writes it: 0 has no prefix.
func hex(v uint32) string {
	if v == 0 {
		return "0"
	}
	return "0x" + strconv.FormatUint(uint64(v), 16)
}

// octal is a file mode as strace writes it: at least three digits.
func octal(mode uint32) string {
	s := strconv.FormatUint(uint64(mode), 8)
	if len(s) < 3 {
		return strings.Repeat("0", 3-len(s)) + s
	}
	return "0" + s
}

var cloneFlags = []bit{
	{unix.CLONE_NEWTIME, "CLONE_NEWTIME"},
	{unix.CLONE_PIDFD, "CLONE_PIDFD"},
	{unix.CLONE_PARENT, "CLONE_PARENT"},
	{unix.CLONE_NEWNS, "CLONE_NEWNS"},
	{unix.CLONE_PARENT_SETTID, "CLONE_PARENT_SETTID"},
	{unix.CLONE_NEWCGROUP, "CLONE_NEWCGROUP"},
	{unix.CLONE_NEWUTS, "CLONE_NEWUTS"},
	{unix.CLONE_NEWIPC, "CLONE_NEWIPC"},
	{unix.CLONE_NEWUSER, "CLONE_NEWUSER"},
	{unix.CLONE_NEWPID, "CLONE_NEWPID"},
	{unix.CLONE_NEWNET, "CLONE_NEWNET"},
	{unix.CLONE_CLEAR_SIGHAND, "CLONE_CLEAR_SIGHAND"},
	{unix.CLONE_INTO_CGROUP, "CLONE_INTO_CGROUP"},
}

var openFlags = []bit{
	{unix.O_RDWR, "O_RDWR"},
	{unix.O_WRONLY, "O_WRONLY"},
	{unix.O_NOCTTY, "O_NOCTTY"},
	{unix.O_CREAT, "O_CREAT"},
	{unix.O_NOFOLLOW, "O_NOFOLLOW"},
	{unix.O_CLOEXEC, "O_CLOEXEC"},
	{unix.O_PATH, "O_PATH"},
	{unix.O_DIRECTORY, "O_DIRECTORY"},
}

var resolveFlags = []bit{
	{unix.RESOLVE_NO_XDEV, "RESOLVE_NO_XDEV"},
	{unix.RESOLVE_NO_MAGICLINKS, "RESOLVE_NO_MAGICLINKS"},
	{unix.RESOLVE_NO_SYMLINKS, "RESOLVE_NO_SYMLINKS"},
	{unix.RESOLVE_BENEATH, "RESOLVE_BENEATH"},
	{unix.RESOLVE_IN_ROOT, "RESOLVE_IN_ROOT"},
}

var mountFlags = []bit{
	{unix.MS_RDONLY, "MS_RDONLY"},
	{unix.MS_NOSUID, "MS_NOSUID"},
	{unix.MS_NODEV, "MS_NODEV"},
	{unix.MS_NOEXEC, "MS_NOEXEC"},
	{unix.MS_REMOUNT, "MS_REMOUNT"},
	{unix.MS_BIND, "MS_BIND"},
	{unix.MS_REC, "MS_REC"},
	{unix.MS_UNBINDABLE, "MS_UNBINDABLE"},
	{unix.MS_PRIVATE, "MS_PRIVATE"},
	{unix.MS_SLAVE, "MS_SLAVE"},
	{unix.MS_SHARED, "MS_SHARED"},
}

var atFlags = []bit{
	{unix.AT_SYMLINK_NOFOLLOW, "AT_SYMLINK_NOFOLLOW"},
	{unix.AT_EMPTY_PATH, "AT_EMPTY_PATH"},
	{unix.AT_RECURSIVE, "AT_RECURSIVE"},
}

var openTreeFlags = []bit{
	{unix.OPEN_TREE_CLONE, "OPEN_TREE_CLONE"},
	{unix.OPEN_TREE_CLOEXEC, "OPEN_TREE_CLOEXEC"},
	{unix.AT_EMPTY_PATH, "AT_EMPTY_PATH"},
	{unix.AT_RECURSIVE, "AT_RECURSIVE"},
}

var moveMountFlags = []bit{
	{unix.MOVE_MOUNT_F_EMPTY_PATH, "MOVE_MOUNT_F_EMPTY_PATH"},
	{unix.MOVE_MOUNT_T_EMPTY_PATH, "MOVE_MOUNT_T_EMPTY_PATH"},
}

// attrFlags are the mount attributes of fsmount(2) and mount_setattr(2).
var attrFlags = []bit{
	{unix.MOUNT_ATTR_RDONLY, "MOUNT_ATTR_RDONLY"},
	{unix.MOUNT_ATTR_NOSUID, "MOUNT_ATTR_NOSUID"},
	{unix.MOUNT_ATTR_NODEV, "MOUNT_ATTR_NODEV"},
	{unix.MOUNT_ATTR_NOEXEC, "MOUNT_ATTR_NOEXEC"},
	{unix.MOUNT_ATTR__ATIME, "MOUNT_ATTR__ATIME"},
	{unix.MOUNT_ATTR_NOATIME, "MOUNT_ATTR_NOATIME"},
	{unix.MOUNT_ATTR_STRICTATIME, "MOUNT_ATTR_STRICTATIME"},
	{unix.MOUNT_ATTR_NODIRATIME, "MOUNT_ATTR_NODIRATIME"},
	{unix.MOUNT_ATTR_NOSYMFOLLOW, "MOUNT_ATTR_NOSYMFOLLOW"},
	{unix.MOUNT_ATTR_IDMAP, "MOUNT_ATTR_IDMAP"},
}

// RlimitNames are the resources of setrlimit(2), by number.
var RlimitNames = [...]string{
	"RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_RSS", "RLIMIT_NPROC",
	"RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS", "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE",
	"RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME",
}

// CapNames are the capabilities of capabilities(7), by number.
var CapNames = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST",
	"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO",
	"CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE",
	"CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// capName is a capability as strace prints it; a kernel can be younger than
// the list.
func capName(capability int) string {
	if capability < len(CapNames) {
		return CapNames[capability]
	}
	return "0x" + strconv.FormatUint(uint64(capability), 16) + " /* CAP_??? */"
}

// capString is a capability set as strace prints it.
func capString(set uint64) string {
	if set == 0 {
		return "0"
	}
	var names []string
	for c, name := range CapNames {
		if set&(1<<c) != 0 {
			names = append(names, "1<<"+name)
			set &^= 1 << c
		}
	}
	if set != 0 {
		names = append(names, "0x"+strconv.FormatUint(set, 16))
	}
	return strings.Join(names, "|")
}
