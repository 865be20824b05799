package main

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/forkexec"
	"github.com/minictr/minictr/pkg/image"
	"github.com/minictr/minictr/pkg/registry"
	"github.com/minictr/minictr/pkg/vm"
	"github.com/minictr/minictr/pkg/wall"
	"github.com/minictr/minictr/rootfs"
)

// Exit statuses of the engine's commands, as those of docker run: 125 for an
// error of ours, 126 and 127 for a program that can't be run or isn't there.
const (
	statusError    = 125
	statusNoExec   = 126
	statusNotFound = 127
)

// Those of the commands that container managers call: of exec, which has its
// program's status otherwise, it is another.
const (
	statusOCI  = 1
	statusExec = 255
)

// explain makes a message of an error: what happened, in the library's words,
// and the likely cause and the next command, where this table knows them.
func explain(err error) (message, hint string, status int) {
	var step *forkexec.StepError
	if errors.As(err, &step) {
		if message, hint, status := program(step); status != 0 {
			return message, hint, status
		}
		return step.Step.Spec + ": " + shortened(err, step), cause(step), statusError
	}
	if program, ok := errors.AsType[*vm.ProgramError](err); ok {
		return err.Error(), "", program.Status
	}
	return err.Error(), hintOf(err), statusError
}

// shortened is the message of a step that failed, without the end of a call
// with many arguments for the program.
func shortened(err error, step *forkexec.StepError) string {
	const most = 300
	if call := step.Step.Call.String(); len(call) > most {
		return strings.Replace(err.Error(), call, call[:most]+"...)", 1)
	}
	return err.Error()
}

func because(hint string) string {
	if hint == "" {
		return ""
	}
	return ": " + hint
}

// program says why the container's program can't be run, in the words that
// callers of runtimes look for; the status is 0 if the step is about something
// else.
func program(step *forkexec.StepError) (message, hint string, status int) {
	call := step.Step.Call
	if step.Step.Spec != "/process/args" || call.Name != "faccessat2" && call.Name != "execve" {
		return "", "", 0
	}
	path := call.Args[1].String()
	if call.Name == "execve" {
		path = call.Args[0].String()
	}
	path = strings.Trim(path, `"`)
	name := path[strings.LastIndexByte(path, '/')+1:]
	switch {
	case strings.HasPrefix(step.Step.Why, "it is nowhere") && !errors.Is(step.Err, unix.EACCES):
		return `exec: "` + name + `": executable file not found in $PATH`, "is it in the image? try: minictr run IMAGE ls /bin", statusNotFound
	case errors.Is(step.Err, unix.ENOENT):
		return `exec: "` + path + `": no such file or directory`, "the file, or the interpreter or loader that it names, is not in the container", statusNotFound
	case errors.Is(step.Err, unix.ENOTDIR):
		return `exec: "` + path + `": not a directory`, "", statusNotFound
	case errors.Is(step.Err, unix.EACCES):
		return `exec: "` + path + `": permission denied`, "it is a directory, or the container's user may not execute it", statusNoExec
	case errors.Is(step.Err, unix.ENOEXEC):
		return `exec: "` + path + `": exec format error`, "it is made for another machine, or is a script without #!", statusNoExec
	}
	return "", "", 0
}

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
	{"mkdir", unix.EACCES, "", "making a cgroup needs root: try sudo"},
	{"mkdir", unix.EPERM, "", "making a cgroup needs root: try sudo"},
	{"mkdir", unix.EROFS, "", "the cgroup file system is read-only here: is this a container itself?"},
	{"$ns/", unix.ENOENT, "", "there is no such namespace: has its last process ended?"},
	{`setns("/proc/$pid/ns/mnt")`, unix.EINVAL, "/mounts", "a file system here can't map ids, or mounts below it can't be left out: try rbind"},
	{`setns("/proc/$pid/ns/mnt")`, unix.EPERM, "/mounts", "the mount maps ids already"},
	{"setns", unix.EINVAL, "", "the file is no namespace of that type"},
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

// hintOf is what to do about an error that is no step's.
func hintOf(err error) string {
	var asked *registry.Error
	var missing *image.NotFoundError
	var bare *image.NotImageError
	switch {
	case errors.As(err, &asked) && asked.Offline() && asked.Op == "pull":
		return "no registry can be reached; the built-in image needs none: minictr run " + rootfs.Short
	case errors.As(err, &asked) && hintOfRegistry(asked) != "":
		return hintOfRegistry(asked)
	case errors.As(err, &missing):
		return "minictr images lists what is here; minictr pull fetches more"
	case errors.As(err, &bare) && bare.Entry != "":
		return "if it is a root file system, minictr import FILE NAME makes an image of it"
	case errors.Is(err, vm.ErrNoQEMU):
		return "Debian's package for it is qemu-system-x86, or qemu-system-arm"
	case errors.Is(err, vm.ErrNoKernel):
		return "--kernel names one; on Debian: apt-get download linux-image-cloud-amd64, and dpkg-deb -x"
	case errors.As(err, new(*vm.PanicError)):
		return "the host's kernel is another one, and goes on"
	case errors.As(err, new(*vm.BootError)):
		return "--console prints what its kernel says"
	case errors.As(err, new(*image.DamagedError)):
		return "minictr rmi removes it by its name, minictr pull or load brings it again"
	case errors.Is(err, container.ErrExist):
		return "minictr ps -a lists them"
	case errors.Is(err, fs.ErrExist):
		return "it is never replaced"
	case errors.Is(err, container.ErrNotExist):
		return "minictr ps lists them"
	case errors.Is(err, wall.ErrNotFound):
		return "minictr ps lists ours, docker ps or podman ps those of others; --pid takes any process"
	case errors.Is(err, wall.ErrNoProcess):
		return "it may have ended meanwhile; ps -e lists those that run"
	case errors.Is(err, container.ErrRunning):
		return "minictr rm -f kills it first"
	case errors.Is(err, forkexec.ErrKilled):
		return "out of memory? the limit may be too low for the wall itself: see --memory, or /linux/resources/memory"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return "this needs root: try sudo"
	case errors.Is(err, unix.ENOSPC):
		return "the disk is full: minictr rmi removes images"
	case errors.Is(err, unix.EROFS):
		return "the file system is read-only: --data-root and --root choose other directories"
	}
	return ""
}

// hintOfRegistry is what to do about a registry that answers.
func hintOfRegistry(err *registry.Error) string {
	var status *registry.StatusError
	host := err.Reference.Domain
	switch {
	case err.Offline():
		return "is the host's name right? is there a network?"
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return "if that is right, \"certificates\" in /etc/minictr/registries.json names what to trust, and --insecure-registry " + host + " asks for no proof"
	case errors.As(err, &status) && status.Denied() && err.Op == "login":
		return "are the name and the password right?"
	case status != nil && status.Denied() && err.Op == "push" && strings.HasPrefix(err.Reference.Repository(), "docker.io/library/"):
		return "docker.io/library is Docker's own: minictr tag gives the image a name with yours in it"
	case status != nil && status.Denied():
		return "is the name right? minictr login " + host + " signs in"
	case status != nil && err.Op == "pull":
		return "is the name right? minictr images lists what is here"
	}
	return ""
}
