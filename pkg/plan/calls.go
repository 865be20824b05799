package plan

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The vocabulary of the wall: one constructor for each system call that a
// plan can hold, with its arguments printed as strace(1) prints them.

// AtFdcwd is AT_FDCWD: names are relative to the working directory.
var AtFdcwd Arg = named(atFdcwd, "AT_FDCWD")

const atFdcwd = 1<<64 - 100

var (
	null Arg = Num{Text: "NULL"}
	zero Arg = Num{Text: "0"}
)

// named is a constant that has a name.
func named(value uint64, text string) Num { return Num{Value: value, Text: text} }

func n[T ~int | ~int64 | ~uint32 | ~uint64](v T) Num { return Num{Value: uint64(v)} }

func call(name string, number uintptr, args ...Arg) Call {
	return Call{Name: name, Number: number, Args: args}
}

// Clone3 makes the child, clone3(2). The kernel stores the pidfd in the
// memory that the second field of clone_args points to. A cgroup, if not "",
// is the register of the directory that the child is born in.
func Clone3(flags uint64, cgroup Reg) Call {
	flags |= unix.CLONE_PIDFD | unix.CLONE_CLEAR_SIGHAND
	text := "pidfd=&$pidfd, exit_signal=SIGCHLD, stack=NULL, stack_size=0"
	refs := []Ref{{Offset: 8, Size: 8, To: Mem{Data: make([]byte, 8)}}}
	if cgroup != "" {
		flags |= unix.CLONE_INTO_CGROUP
		text += ", cgroup=" + cgroup.String()
		refs = append(refs, Ref{Offset: 80, Size: 8, To: cgroup})
	}
	args := make([]byte, 88) // struct clone_args
	binary.NativeEndian.PutUint64(args, flags)
	binary.NativeEndian.PutUint64(args[32:], uint64(unix.SIGCHLD))
	text = "{flags=" + setString(flags, cloneFlags, "0") + ", " + text + "}"
	return call("clone3", unix.SYS_CLONE3, Mem{Data: args, Refs: refs, Text: text}, n(len(args)))
}

// Write writes text to a descriptor, write(2).
func Write(fd Reg, text string) Call {
	return call("write", unix.SYS_WRITE, fd, Str(text), n(len(text)))
}

// WriteTo writes text to a descriptor whose number is fixed.
func WriteTo(fd int, text string) Call {
	return call("write", unix.SYS_WRITE, n(fd), Str(text), n(len(text)))
}

// ReadByte reads one byte and drops it, read(2): how the child waits.
func ReadByte(fd Reg) Call {
	return call("read", unix.SYS_READ, fd, Mem{Data: make([]byte, 8), Text: "buf"}, n(1))
}

// Close is close(2).
func Close(fd Reg) Call { return call("close", unix.SYS_CLOSE, fd) }

// Unshare is unshare(2).
func Unshare(ns int) Call { return call("unshare", unix.SYS_UNSHARE, flags(ns, cloneFlags, "0")) }

// Setns joins the namespaces of a descriptor, setns(2).
func Setns(fd Reg, ns int) Call {
	return call("setns", unix.SYS_SETNS, fd, flags(ns, cloneFlags, "0"))
}

// SocketInet makes a socket that reaches the network devices, netdevice(7).
func SocketInet() Call {
	return call("socket", unix.SYS_SOCKET, named(unix.AF_INET, "AF_INET"),
		named(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, "SOCK_DGRAM|SOCK_CLOEXEC"), named(0, "IPPROTO_IP"))
}

// InterfaceUp sets a network device up, SIOCSIFFLAGS of netdevice(7).
func InterfaceUp(fd Reg, name string) Call {
	req := make([]byte, 40) // struct ifreq
	copy(req[:15], name)
	binary.NativeEndian.PutUint16(req[16:], unix.IFF_UP)
	return ioctl(fd, unix.SIOCSIFFLAGS, "SIOCSIFFLAGS", Mem{Data: req, Text: "{ifr_name=" + quote(name) + ", ifr_flags=IFF_UP}"})
}

func ioctl(fd Arg, request uint64, text string, arg Arg) Call {
	return call("ioctl", unix.SYS_IOCTL, fd, named(request, text), arg)
}

// UnlockPty is TIOCSPTLCK with 0, ioctl_tty(2).
func UnlockPty(master Reg) Call {
	return ioctl(master, unix.TIOCSPTLCK, "TIOCSPTLCK", Mem{Data: make([]byte, 8), Text: "[0]"})
}

// PtyPeer opens the other end of a terminal, TIOCGPTPEER of ioctl_tty(2).
func PtyPeer(master Reg) Call {
	return ioctl(master, unix.TIOCGPTPEER, "TIOCGPTPEER", flags(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, openFlags, "0"))
}

// ControllingTerminal is TIOCSCTTY, ioctl_tty(2).
func ControllingTerminal(tty Reg) Call { return ioctl(tty, unix.TIOCSCTTY, "TIOCSCTTY", zero) }

// WindowSize is TIOCSWINSZ, ioctl_tty(2).
func WindowSize(tty Reg, rows, cols uint16) Call {
	ws := make([]byte, 8)
	binary.NativeEndian.PutUint16(ws, rows)
	binary.NativeEndian.PutUint16(ws[2:], cols)
	return ioctl(tty, unix.TIOCSWINSZ, "TIOCSWINSZ", Mem{
		Data: ws,
		Text: fmt.Sprintf("{ws_row=%d, ws_col=%d, ws_xpixel=0, ws_ypixel=0}", rows, cols),
	})
}

// Dup3 makes target another name of fd, dup3(2).
func Dup3(fd Reg, target int) Call { return call("dup3", unix.SYS_DUP3, fd, n(target), zero) }

// DupStdin makes target another name of standard input.
func DupStdin(target Reg) Call {
	return call("dup3", unix.SYS_DUP3, zero, target, named(unix.O_CLOEXEC, "O_CLOEXEC"))
}

// CloseStdin leaves number 0 to the next file that is opened.
func CloseStdin() Call { return call("close", unix.SYS_CLOSE, zero) }

// SetCloexec decides whether execve(2) closes fd, fcntl(2) F_SETFD.
func SetCloexec(fd Reg, on bool) Call {
	flag := zero
	if on {
		flag = named(unix.FD_CLOEXEC, "FD_CLOEXEC")
	}
	return call("fcntl", unix.SYS_FCNTL, fd, named(unix.F_SETFD, "F_SETFD"), flag)
}

// Umask is umask(2).
func Umask(mode uint32) Call {
	return call("umask", unix.SYS_UMASK, named(uint64(mode), octal(mode)))
}

// Setsid is setsid(2).
func Setsid() Call { return call("setsid", unix.SYS_SETSID) }

// JoinSessionKeyring makes a new anonymous session keyring, keyctl(2).
func JoinSessionKeyring() Call {
	return call("keyctl", unix.SYS_KEYCTL, named(unix.KEYCTL_JOIN_SESSION_KEYRING, "KEYCTL_JOIN_SESSION_KEYRING"), null)
}

// Sethostname is sethostname(2).
func Sethostname(name string) Call {
	return call("sethostname", unix.SYS_SETHOSTNAME, Str(name), n(len(name)))
}

// Setdomainname is setdomainname(2): the NIS domain name.
func Setdomainname(name string) Call {
	return call("setdomainname", unix.SYS_SETDOMAINNAME, Str(name), n(len(name)))
}

// Propagation changes how mounts at path are shared, mount(2).
func Propagation(path string, flag int) Call {
	return call("mount", unix.SYS_MOUNT, null, Str(path), null, flags(flag, mountFlags, "0"), null)
}

// Mount is mount(2) for a new file system: fsconfig(2) takes no string of
// 256 bytes or more, and an overlay's list of layers is longer.
func Mount(source, target, fstype, data string) Call {
	return call("mount", unix.SYS_MOUNT, Str(source), Str(target), Str(fstype), zero, Str(data))
}

// PivotRoot is pivot_root(2).
func PivotRoot(newRoot, putOld string) Call {
	return call("pivot_root", unix.SYS_PIVOT_ROOT, Str(newRoot), Str(putOld))
}

// Unmount is umount2(2) with MNT_DETACH.
func Unmount(path string) Call {
	return call("umount2", unix.SYS_UMOUNT2, Str(path), named(unix.MNT_DETACH, "MNT_DETACH"))
}

// Chdir is chdir(2).
func Chdir(path string) Call { return call("chdir", unix.SYS_CHDIR, Str(path)) }

// Fchdir is fchdir(2).
func Fchdir(fd Reg) Call { return call("fchdir", unix.SYS_FCHDIR, fd) }

// Openat opens a name below a directory that is known to be what it seems.
func Openat(dir Arg, name string, flag int) Call {
	how := uint64(flag) | unix.O_CLOEXEC
	return call("openat", unix.SYS_OPENAT, dir, Str(name), named(how, openString(how)))
}

// Openat2 opens a name below a directory as the resolve flags allow,
// openat2(2). Where a name has "..", and something is renamed or mounted
// anywhere meanwhile, it is opened once more: EAGAIN.
func Openat2(dir Arg, path string, flag, resolve uint64) Call {
	how := make([]byte, unix.SizeofOpenHow)
	flag |= unix.O_CLOEXEC
	binary.NativeEndian.PutUint64(how, flag)
	binary.NativeEndian.PutUint64(how[16:], resolve)
	return call("openat2", unix.SYS_OPENAT2, dir, Str(path), Mem{Data: how, decode: openHow}, n(len(how)))
}

func openHow(how []byte) string {
	return "{flags=" + openString(binary.NativeEndian.Uint64(how)) +
		", resolve=" + setString(binary.NativeEndian.Uint64(how[16:]), resolveFlags, "0") + "}"
}

// Mkdirat is mkdirat(2).
func Mkdirat(dir Reg, name string, mode uint32) Call {
	return call("mkdirat", unix.SYS_MKDIRAT, dir, Str(name), named(uint64(mode), octal(mode)))
}

// Mknodat is mknodat(2); major and minor count for devices only.
func Mknodat(dir Reg, name string, mode, major, minor uint32) Call {
	kind, dev := "S_IFREG", ""
	switch mode & unix.S_IFMT {
	case unix.S_IFCHR:
		kind, dev = "S_IFCHR", "makedev("+hex(major)+", "+hex(minor)+")"
	case unix.S_IFBLK:
		kind, dev = "S_IFBLK", "makedev("+hex(major)+", "+hex(minor)+")"
	case unix.S_IFIFO:
		kind = "S_IFIFO"
	}
	args := []Arg{dir, Str(name), named(uint64(mode), kind+"|"+octal(mode&^unix.S_IFMT))}
	if dev != "" {
		args = append(args, named(unix.Mkdev(major, minor), dev))
	}
	return call("mknodat", unix.SYS_MKNODAT, args...)
}

// Symlinkat is symlinkat(2).
func Symlinkat(target string, dir Reg, name string) Call {
	return call("symlinkat", unix.SYS_SYMLINKAT, Str(target), dir, Str(name))
}

// Unlinkat is unlinkat(2), of a file.
func Unlinkat(dir Reg, name string) Call {
	return call("unlinkat", unix.SYS_UNLINKAT, dir, Str(name), zero)
}

// Fchownat is fchownat(2), of the entry itself, never of what it points to.
func Fchownat(dir Reg, name string, uid, gid uint32) Call {
	return call("fchownat", unix.SYS_FCHOWNAT, dir, Str(name), n(uid), n(gid),
		flags(unix.AT_SYMLINK_NOFOLLOW, atFlags, "0"))
}

// Fchown is fchown(2); -1 leaves an id as it is.
func Fchown(fd Reg, uid, gid int64) Call {
	return call("fchown", unix.SYS_FCHOWN, fd, n(uid), n(gid))
}

// FchownStdio gives standard input, output or error to a user, fchown(2).
func FchownStdio(fd int, uid int64) Call {
	return call("fchown", unix.SYS_FCHOWN, n(fd), n(uid), n(-1))
}

// Fsopen begins a new file system instance, fsopen(2).
func Fsopen(fstype string) Call {
	return call("fsopen", unix.SYS_FSOPEN, Str(fstype), named(unix.FSOPEN_CLOEXEC, "FSOPEN_CLOEXEC"))
}

// FsconfigString sets a parameter with a value, fsconfig(2). The kernel takes
// at most 255 bytes.
func FsconfigString(fs Reg, key, value string) Call {
	return fsconfig(fs, named(unix.FSCONFIG_SET_STRING, "FSCONFIG_SET_STRING"), Str(key), Str(value))
}

// FsconfigFlag sets a parameter without a value, fsconfig(2).
func FsconfigFlag(fs Reg, key string) Call {
	return fsconfig(fs, named(unix.FSCONFIG_SET_FLAG, "FSCONFIG_SET_FLAG"), Str(key), null)
}

// FsconfigCreate makes the superblock, fsconfig(2).
func FsconfigCreate(fs Reg) Call {
	return fsconfig(fs, named(unix.FSCONFIG_CMD_CREATE, "FSCONFIG_CMD_CREATE"), null, null)
}

func fsconfig(fs Reg, command Num, key, value Arg) Call {
	return call("fsconfig", unix.SYS_FSCONFIG, fs, command, key, value, zero)
}

// Fsmount makes a mount, attached nowhere yet, fsmount(2).
func Fsmount(fs Reg, attr uint64) Call {
	return call("fsmount", unix.SYS_FSMOUNT, fs, named(unix.FSMOUNT_CLOEXEC, "FSMOUNT_CLOEXEC"), flags(attr, attrFlags, "0"))
}

// OpenTree copies a mount, open_tree(2) with OPEN_TREE_CLONE; flag adds
// AT_RECURSIVE and AT_EMPTY_PATH.
func OpenTree(dir Arg, name string, flag uint) Call {
	return call("open_tree", unix.SYS_OPEN_TREE, dir, Str(name),
		flags(flag|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC, openTreeFlags, "0"))
}

// MoveMount attaches the mount to the directory or file that at is open on,
// move_mount(2).
func MoveMount(mount, at Reg) Call {
	return call("move_mount", unix.SYS_MOVE_MOUNT, mount, Str(""), at, Str(""),
		flags(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH, moveMountFlags, "0"))
}

// MoveMountAt attaches the mount to a name below a directory, move_mount(2).
// A symbolic link at the end of the name is not followed.
func MoveMountAt(mount Reg, dir Arg, name string) Call {
	return call("move_mount", unix.SYS_MOVE_MOUNT, mount, Str(""), dir, Str(name),
		flags(unix.MOVE_MOUNT_F_EMPTY_PATH, moveMountFlags, "0"))
}

// MountSetattr changes attributes of the mount that fd is the root of,
// mount_setattr(2). Propagation is an MS_ constant or 0.
func MountSetattr(fd Reg, recursive bool, set, clear, propagation uint64) Call {
	attr := make([]byte, unix.MOUNT_ATTR_SIZE_VER0)
	for i, v := range []uint64{set, clear, propagation, 0} {
		binary.NativeEndian.PutUint64(attr[8*i:], v)
	}
	return mountSetattr(fd, recursive, Mem{Data: attr, decode: mountAttr})
}

// MountIDs has the mount that fd is the root of show ids through the maps of a
// user namespace, MOUNT_ATTR_IDMAP of mount_setattr(2).
func MountIDs(fd Reg, recursive bool, userns Reg) Call {
	attr := make([]byte, unix.MOUNT_ATTR_SIZE_VER0)
	binary.NativeEndian.PutUint64(attr, unix.MOUNT_ATTR_IDMAP)
	return mountSetattr(fd, recursive, Mem{
		Data: attr, Refs: []Ref{{Offset: 24, Size: 8, To: userns}},
		Text: "{attr_set=MOUNT_ATTR_IDMAP, attr_clr=0, propagation=0, userns_fd=" + userns.String() + "}",
	})
}

func mountSetattr(fd Reg, recursive bool, attr Mem) Call {
	flag := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flag |= unix.AT_RECURSIVE
	}
	return call("mount_setattr", unix.SYS_MOUNT_SETATTR, fd, Str(""), flags(flag, atFlags, "0"), attr, n(len(attr.Data)))
}

func mountAttr(attr []byte) string {
	word := func(i int) uint64 { return binary.NativeEndian.Uint64(attr[8*i:]) }
	return "{attr_set=" + setString(word(0), attrFlags, "0") + ", attr_clr=" + setString(word(1), attrFlags, "0") +
		", propagation=" + setString(word(2), mountFlags, "0") + ", userns_fd=0}"
}

// Prlimit sets a resource limit of the caller, prlimit(2).
func Prlimit(resource int, soft, hard uint64) Call {
	lim := make([]byte, 16)
	binary.NativeEndian.PutUint64(lim, soft)
	binary.NativeEndian.PutUint64(lim[8:], hard)
	return call("prlimit64", unix.SYS_PRLIMIT64, zero, named(uint64(resource), RlimitNames[resource]),
		Mem{Data: lim, Text: "{rlim_cur=" + rlim(soft) + ", rlim_max=" + rlim(hard) + "}"}, null)
}

func rlim(v uint64) string {
	switch {
	case v == unix.RLIM_INFINITY:
		return "RLIM64_INFINITY"
	case v > 1024 && v%1024 == 0:
		return strconv.FormatUint(v/1024, 10) + "*1024"
	}
	return strconv.FormatUint(v, 10)
}

// DropBounding takes a capability out of the bounding set for ever,
// PR_CAPBSET_DROP of prctl(2).
func DropBounding(capability int) Call {
	return prctl(named(unix.PR_CAPBSET_DROP, "PR_CAPBSET_DROP"), named(uint64(capability), capName(capability)))
}

// KeepCaps keeps the permitted set over the next change of user,
// PR_SET_KEEPCAPS of prctl(2).
func KeepCaps() Call { return prctl(named(unix.PR_SET_KEEPCAPS, "PR_SET_KEEPCAPS"), n(1)) }

// NoNewPrivs is PR_SET_NO_NEW_PRIVS of prctl(2).
func NoNewPrivs() Call {
	return prctl(named(unix.PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS"), n(1), zero, zero, zero)
}

// NotDumpable keeps others from attaching to this process or opening its
// memory, PR_SET_DUMPABLE of prctl(2).
func NotDumpable() Call {
	return prctl(named(unix.PR_SET_DUMPABLE, "PR_SET_DUMPABLE"), named(0, "SUID_DUMP_DISABLE"))
}

// DieWithParent has the kernel send SIGKILL when the thread that made this
// process ends, PR_SET_PDEATHSIG of prctl(2).
func DieWithParent() Call {
	return prctl(named(unix.PR_SET_PDEATHSIG, "PR_SET_PDEATHSIG"), named(uint64(unix.SIGKILL), "SIGKILL"))
}

// RaiseAmbient adds a capability to the ambient set, PR_CAP_AMBIENT of
// prctl(2).
func RaiseAmbient(capability int) Call {
	return prctl(named(unix.PR_CAP_AMBIENT, "PR_CAP_AMBIENT"), named(unix.PR_CAP_AMBIENT_RAISE, "PR_CAP_AMBIENT_RAISE"),
		named(uint64(capability), capName(capability)), zero, zero)
}

func prctl(args ...Arg) Call { return call("prctl", unix.SYS_PRCTL, args...) }

// Capset sets the capabilities of the calling thread, capset(2).
func Capset(effective, permitted, inheritable uint64) Call {
	head, data := make([]byte, 8), make([]byte, 24)
	binary.NativeEndian.PutUint32(head, unix.LINUX_CAPABILITY_VERSION_3)
	for i, set := range []uint64{effective, permitted, inheritable} {
		binary.NativeEndian.PutUint32(data[4*i:], uint32(set))
		binary.NativeEndian.PutUint32(data[12+4*i:], uint32(set>>32))
	}
	return call("capset", unix.SYS_CAPSET, Mem{Data: head, Text: "{version=_LINUX_CAPABILITY_VERSION_3, pid=0}"},
		Mem{Data: data, Text: "{effective=" + capString(effective) + ", permitted=" + capString(permitted) +
			", inheritable=" + capString(inheritable) + "}"})
}

// Setgroups is setgroups(2).
func Setgroups(gids []uint32) Call {
	if len(gids) == 0 {
		return call("setgroups", unix.SYS_SETGROUPS, zero, null)
	}
	data, text := make([]byte, 4*len(gids)), make([]string, len(gids))
	for i, g := range gids {
		binary.NativeEndian.PutUint32(data[4*i:], g)
		text[i] = strconv.FormatUint(uint64(g), 10)
	}
	return call("setgroups", unix.SYS_SETGROUPS, n(len(gids)), Mem{Data: data, Text: "[" + strings.Join(text, ", ") + "]"})
}

// Setresgid is setresgid(2); -1 leaves an id as it is.
func Setresgid(real, effective, saved int64) Call {
	return call("setresgid", unix.SYS_SETRESGID, n(real), n(effective), n(saved))
}

// Setresuid is setresuid(2); -1 leaves an id as it is.
func Setresuid(real, effective, saved int64) Call {
	return call("setresuid", unix.SYS_SETRESUID, n(real), n(effective), n(saved))
}

// CloseOnExec marks every descriptor from first on, close_range(2).
func CloseOnExec(first int) Call {
	return call("close_range", unix.SYS_CLOSE_RANGE, n(first), n(uint32(1<<32-1)),
		named(unix.CLOSE_RANGE_CLOEXEC, "CLOSE_RANGE_CLOEXEC"))
}

// CloseAll closes every descriptor, close_range(2).
func CloseAll() Call {
	return call("close_range", unix.SYS_CLOSE_RANGE, zero, n(uint32(1<<32-1)), zero)
}

// UnblockSignals empties the signal mask, rt_sigprocmask(2).
func UnblockSignals() Call {
	return call("rt_sigprocmask", unix.SYS_RT_SIGPROCMASK, named(unix.SIG_SETMASK, "SIG_SETMASK"),
		Mem{Data: make([]byte, 8), Text: "[]"}, null, n(8))
}

// LoadFilter loads a BPF program as a system call filter, seccomp(2).
// Program is an array of struct sock_filter.
func LoadFilter(program []byte, flag uint32) Call {
	prog := make([]byte, 16) // struct sock_fprog
	count := len(program) / 8
	binary.NativeEndian.PutUint16(prog, uint16(count))
	return call("seccomp", unix.SYS_SECCOMP, named(unix.SECCOMP_SET_MODE_FILTER, "SECCOMP_SET_MODE_FILTER"),
		flags(flag, seccompFlags, "0"), Mem{
			Data: prog, Refs: []Ref{{Offset: 8, Size: 8, To: Mem{Data: program}}},
			Text: "{len=" + strconv.Itoa(count) + ", filter=...}",
		})
}

var seccompFlags = []bit{
	{unix.SECCOMP_FILTER_FLAG_TSYNC, "SECCOMP_FILTER_FLAG_TSYNC"},
	{unix.SECCOMP_FILTER_FLAG_LOG, "SECCOMP_FILTER_FLAG_LOG"},
	{unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"},
	{unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, "SECCOMP_FILTER_FLAG_NEW_LISTENER"},
	{unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH, "SECCOMP_FILTER_FLAG_TSYNC_ESRCH"},
	{unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"},
}

// MayExecute asks whether the real user may execute path, access(2).
func MayExecute(path string) Call {
	return call("faccessat2", unix.SYS_FACCESSAT2, AtFdcwd, Str(path), named(unix.X_OK, "X_OK"), zero)
}

// Execve is execve(2).
func Execve(path string, argv, env []string) Call {
	return call("execve", unix.SYS_EXECVE, Str(path), Strs(argv), Strs(env))
}

// Execveat executes the file that fd is open on, execveat(2).
func Execveat(fd Reg, argv, env []string) Call {
	return call("execveat", unix.SYS_EXECVEAT, fd, Str(""), Strs(argv), Strs(env),
		flags(unix.AT_EMPTY_PATH, atFlags, "0"))
}
