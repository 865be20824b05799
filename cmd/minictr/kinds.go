package main

import (
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/forkexec"
	"github.com/minictr/minictr/pkg/image"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/registry"
	"github.com/minictr/minictr/pkg/spec"
	"github.com/minictr/minictr/pkg/vm"
	"github.com/minictr/minictr/pkg/volume"
	"github.com/minictr/minictr/pkg/wall"
	"github.com/minictr/minictr/rootfs"
)

// codeOf is the code of a step's failure: the brick, and the errno.
func codeOf(step *forkexec.StepError) string {
	name := noErrno
	if errno, ok := errors.AsType[unix.Errno](step.Err); ok {
		name = strings.ReplaceAll(plan.ErrnoName(errno), " ", "")
	}
	return wallCode(step.Section.Brick, name)
}

func wallCode(brick, errno string) string { return "WALL-" + strings.ToUpper(brick) + "-" + errno }

// noErrno stands in a code for an error that is no system call's.
const noErrno = "FAILED"

// A kind is a kind of errors that are no step's. A code may have several, with
// different hints.
type kind struct {
	code  string
	about string // what has happened; "" is that of the same code before
	hint  string // what to do; HOST stands for the registry's
	is    bool
}

// kindOf is the kind of an error; it has no code if it is about the command
// line, and its message says all.
func kindOf(err error) kind {
	list := kinds(err)
	i := slices.IndexFunc(list, func(k kind) bool { return k.is })
	if i < 0 || errors.Is(err, context.Canceled) { // by who waited for it
		return kind{}
	}
	if asked, ok := errors.AsType[*registry.Error](err); ok {
		list[i].hint = strings.ReplaceAll(list[i].hint, "HOST", asked.Reference.Domain)
	}
	return list[i]
}

// wraps says whether one of a type is among an error and what it wraps.
func wraps[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

// kinds are all kinds, and which of them an error is: the first counts.
func kinds(err error) []kind {
	asked, ok := errors.AsType[*registry.Error](err)
	if !ok {
		asked = new(registry.Error)
	}
	status, answered := errors.AsType[*registry.StatusError](err)
	answered = answered && ok
	denied, offline := answered && status.Denied(), ok && asked.Offline()
	bare, _ := errors.AsType[*image.NotImageError](err)
	return []kind{
		{"REGISTRY-OFFLINE", "no registry could be reached", "no registry can be reached; the built-in image needs none: minictr run " + rootfs.Short, offline && asked.Op == "pull"},
		{"REGISTRY-OFFLINE", "", "is the host's name right? is there a network?", offline},
		{"REGISTRY-CERTIFICATE", "the registry's certificate is signed by nobody whom this host trusts", `if that is right, "certificates" in /etc/minictr/registries.json names what to trust, and --insecure-registry HOST asks for no proof`, ok && wraps[x509.UnknownAuthorityError](err)},
		{"REGISTRY-DENIED", "the registry wants to know who asks, or does not let him", "are the name and the password right?", denied && asked.Op == "login"},
		{"REGISTRY-DENIED", "", "docker.io/library is Docker's own: minictr tag gives the image a name with yours in it", denied && asked.Op == "push" && strings.HasPrefix(asked.Reference.Repository(), "docker.io/library/")},
		{"REGISTRY-DENIED", "", "is the name right? minictr login HOST signs in", denied},
		{"REGISTRY-STATUS", "the registry has answered with an error", "is the name right? minictr images lists what is here", answered && asked.Op == "pull"},
		{"IMAGE-MISSING", "no image of this name is in the store", "minictr images lists what is here; minictr pull fetches more", wraps[*image.NotFoundError](err)},
		{"IMAGE-NONE", "the archive holds no image", "if it is a root file system, minictr import FILE NAME makes an image of it", bare != nil && bare.Entry != ""},
		{"IMAGE-NONE", "", "", bare != nil},
		{"IMAGE-DAMAGED", "a file of the image in the store is missing, or is not what its digest says", "minictr rmi removes it by its name, minictr pull or load brings it again", wraps[*image.DamagedError](err)},
		{"IMAGE-MISMATCH", "what came is not what its digest or size says", "", wraps[*image.MismatchError](err)},
		{"IMAGE-PLATFORM", "the image is made for other processors", "", wraps[*image.PlatformError](err)},
		{"IMAGE-LIMIT", `the image is larger than "limits" in registries.json allows`, "", wraps[*image.LimitError](err)},
		{"IMAGE-ENTRY", "an entry of a layer can't be unpacked, or would lead out of the image", "", wraps[*image.EntryError](err)},
		{"VM-QEMU", "the program that makes virtual machines is not installed", "Debian's package for it is qemu-system-x86, or qemu-system-arm", errors.Is(err, vm.ErrNoQEMU)},
		{"VM-KERNEL", "a virtual machine needs a kernel of its own, and none was found", "--kernel names one; on Debian: apt-get download linux-image-cloud-amd64, and dpkg-deb -x", errors.Is(err, vm.ErrNoKernel)},
		{"VM-PANIC", "the guest's kernel panicked", "the host's kernel is another one, and goes on", wraps[*vm.PanicError](err)},
		{"VM-BOOT", "the virtual machine did not boot, or ended before its program", "--console prints what its kernel says", wraps[*vm.BootError](err)},
		{"VM-PROGRAM", "the program can't be run in the virtual machine", "", wraps[*vm.ProgramError](err)},
		{"CONTAINER-EXISTS", "there is a container of this ID or name", "minictr ps -a lists them", errors.Is(err, container.ErrExist)},
		{"CONFIG-MISSING", "the directory is no bundle: it has no config.json", "", wraps[*spec.LoadError](err) && errors.Is(err, fs.ErrNotExist)},
		{"CONFIG-INVALID", "config.json asks for something that can't be, or the host lacks", "", wraps[*spec.LoadError](err) || err != nil && isPointer(err.Error())},
		{"FILE-EXISTS", "the file is there already", "it is never replaced", errors.Is(err, fs.ErrExist)},
		{"CONTAINER-MISSING", "there is no container of this ID or name", "minictr ps lists them", errors.Is(err, container.ErrNotExist)},
		{"CONTAINER-MISSING", "", "minictr ps lists ours, docker ps or podman ps those of others; --pid takes any process", errors.Is(err, wall.ErrNotFound)},
		{"VOLUME-MISSING", "there is no volume of this name", "minictr volume ls lists them", errors.Is(err, volume.ErrNotExist)},
		{"VOLUME-USED", "a container uses the volume", "minictr rm removes the container first", errors.Is(err, volume.ErrInUse)},
		{"PROCESS-MISSING", "there is no process of this PID, or it ended while it was looked at", "ps -e lists those that run", errors.Is(err, wall.ErrNoProcess)},
		{"CONTAINER-RUNNING", "the container runs, and what was asked for needs it to have ended", "minictr rm -f kills it first", errors.Is(err, container.ErrRunning)},
		{"CONTAINER-STOPPED", "the container has ended, and what was asked for needs it to run", "", errors.Is(err, container.ErrStopped)},
		{"CONTAINER-KILLED", "something has killed the process before it was the program", "out of memory? the limit may be too low for the wall itself: see --memory, or /linux/resources/memory", errors.Is(err, forkexec.ErrKilled)},
		{"CONTAINER-DEADLINE", "the process took too long to become the program: a file system that does not answer?", "", errors.Is(err, forkexec.ErrDeadline)},
		{"STORE-EACCES", "the kernel refuses it to this user", "this needs root: try sudo", errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)},
		{"STORE-ENOSPC", "no room is left where images and containers are kept", "the disk is full: minictr rmi removes images", errors.Is(err, unix.ENOSPC)},
		{"STORE-EROFS", "images and the state of containers can't be written", "the file system is read-only: --data-root and --root choose other directories", errors.Is(err, unix.EROFS)},
		{"REGISTRY-STATUS", "", "", answered},
		{"REGISTRY-FAILED", "what the registry sent broke off, or can't be understood", "", ok},
	}
}

// isPointer says whether a message begins with a place in config.json.
func isPointer(message string) bool {
	for _, field := range [...]string{"process", "root", "mounts", "linux", "hooks", "hostname", "domainname", "annotations", "ociVersion"} {
		if rest, ok := strings.CutPrefix(message, "/"+field); ok && (strings.HasPrefix(rest, "/") || strings.HasPrefix(rest, ":")) {
			return true
		}
	}
	return false
}
