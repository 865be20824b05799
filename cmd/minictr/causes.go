package main

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/forkexec"
)

// causes are the likely causes of a call's failure, and what to do next. The
// first that fits is taken.
var causes = [...]struct {
	call  string // or the beginning of an action
	errno unix.Errno
	field string // the beginning of the step's JSON pointer
	hint  string
}{
	{"clone3", unix.EPERM, "", "making namespaces needs root: try sudo"},
	{"clone3", unix.EACCES, "", "the cgroup lies outside of what is delegated to this user: try systemd-run --user --scope minictr ..."},
	{"clone3", unix.ENOSPC, "", "the limit of namespaces is reached: see /proc/sys/user, and minictr doctor"},
	{"clone3", unix.EINVAL, "", "this kernel lacks a namespace: minictr doctor says which"},
	{"clone3", unix.EAGAIN, "", "the limit of processes is reached: see ulimit -u and the pids cgroup"},
	{"sendto(", unix.EOPNOTSUPP, "", "this kernel has no bridge, or no veth: modprobe bridge veth, or take --network none or host"},
	{"sendto(", unix.EPERM, "", "root alone changes the host's network: try sudo, or take --network none or host"},
	{`write("/proc/sys/net`, unix.EROFS, "", "/proc/sys is read-only: is this a container itself? take --network none or host"},
	{"clone", unix.EAGAIN, "", "the limit of processes is reached: see ulimit -u and the pids cgroup"},
	{"mkdir", unix.EACCES, "", "making a cgroup needs root: try sudo"},
	{"mkdir", unix.EPERM, "", "making a cgroup needs root: try sudo"},
	{"mkdir", unix.EROFS, "", "the cgroup file system is read-only here: is this a container itself?"},
	{"$ns/", unix.ENOENT, "", "there is no such namespace: has its last process ended?"},
	{`setns("/proc/$pid/ns/mnt")`, unix.EINVAL, "/mounts", "a file system here can't map ids, or mounts below it can't be left out: try rbind"},
	{`setns("/proc/$pid/ns/mnt")`, unix.EPERM, "/mounts", "the mount maps ids already"},
	{"setns", unix.EINVAL, "", "the file is no namespace of that type"},
	{"sendfile(", unix.ENOENT, "/mounts", "the file of --secret or --config is not there: it is read when the container starts"},
	{"$ids/", unix.EINVAL, "", "the kernel refuses the maps: do ranges of ids overlap? or it has no user namespaces"},
	{"$ids/", unix.ENOSPC, "", "the limit of namespaces is reached: see /proc/sys/user, and minictr doctor"},
	{"$ids/", unix.EPERM, "", "making namespaces needs root: try sudo"},
	{"mount_setattr", unix.EINVAL, "/mounts", "a file system here can't map ids, or this kernel does not know the attribute"},
	{"mount_setattr", unix.EPERM, "/mounts", "the mount maps ids already, or a user namespace may not take back what the host forbids"},
	{"mount", unix.EINVAL, "", "overlayfs refused the layers: minictr doctor tests it"},
	{"mount", unix.ENODEV, "", "this kernel has no overlayfs: minictr doctor"},
	{"fsopen", unix.ENODEV, "", "this kernel has no such file system: see /proc/filesystems"},
	{"fsconfig", unix.EINVAL, "/mounts", "the file system does not take this option, or not this value of it"},
	{"fsconfig", unix.ENOENT, "/mounts", "the source is not there"},
	{"openat2", unix.ELOOP, "/mounts", "there is a symbolic link where an ordinary directory must be: must be mounted on ordinary directory"},
	{"openat2", unix.ENOTDIR, "/mounts", "a part of the path is a file: a directory can't be mounted on a file, nor a file on a directory"},
	{"openat2", unix.ENOTDIR, "", "a part of the path is a file, where a directory must be"},
	{"move_mount", unix.EINVAL, "", "a file can't be mounted on a directory, nor a directory on a file"},
	{"open_tree", unix.ENOENT, "", "the source is not there"},
	{"mkdirat", unix.EROFS, "", "the place for it is missing, and the file system is read-only: make the directory in the image"},
	{"openat", unix.ENOENT, "/linux/sysctl", "this kernel has no such parameter"},
	{"write", unix.ENOENT, "/process/apparmorProfile", "there is no such profile: apparmor_parser loads one"},
	{"write", unix.EINVAL, "/linux/sysctl", "the kernel refuses this value of the parameter"},
	{"capset", unix.EPERM, "", "the runtime itself lacks a capability that was asked for: see CapBnd in /proc/self/status"},
	{"setresuid", unix.EINVAL, "", "the user namespace's map lacks this user: see /linux/uidMappings"},
	{"setresgid", unix.EINVAL, "", "the user namespace's map lacks this group: see /linux/gidMappings"},
	{"setgroups", unix.EINVAL, "", "the user namespace's map lacks such a group: see /linux/gidMappings"},
	{"prlimit64", unix.EPERM, "", "the hard limit can't be raised without CAP_SYS_RESOURCE: ask for less"},
	{"write", unix.EACCES, "", "the kernel refuses this value: lowering oom_score_adj needs CAP_SYS_RESOURCE"},
	{"write(\"/sys/fs/cgroup", unix.EINVAL, "", "the kernel refuses this value for the limit"},
	{"write(\"/sys/fs/cgroup", unix.ERANGE, "", "the kernel refuses this value for the limit"},
	{"write(\"/sys/fs/cgroup", unix.EBUSY, "", "the limit is below what is used already"},
	{"write(\"/sys/fs/cgroup", unix.ENOENT, "", "this kernel has no such limit"},
	{"seccomp", unix.EINVAL, "", "this kernel refuses the filter: is CONFIG_SECCOMP_FILTER set? minictr doctor"},
	{"execveat", unix.E2BIG, "", "arguments and environment are more than the kernel takes: see execve(2)"},
}

func cause(step *forkexec.StepError) string {
	call := step.Step.Call
	for _, c := range causes {
		same := call.Name == c.call || call.Name == "" && strings.HasPrefix(call.String(), c.call)
		if same && errors.Is(step.Err, c.errno) && strings.HasPrefix(step.Step.Spec, c.field) {
			return c.hint
		}
	}
	return "minictr plan -vv says what this step is for"
}
