package namespace

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// empty is the register of an empty, read-only directory.
const empty plan.Reg = "empty"

// Sysctl writes kernel parameters that are the container's own, sysctl(8):
// those of its network, IPC and UTS namespaces. They are written through the
// procfs that was mounted for it, which no image can put another in place of.
func Sysctl(b *plan.Builder, s *specs.Spec) {
	if len(s.Linux.Sysctl) == 0 {
		return
	}
	b.Section(plan.Child, "sysctl", "kernel parameters of its namespaces")
	for _, key := range slices.Sorted(maps.Keys(s.Linux.Sysctl)) {
		b.At("/linux/sysctl/" + escape(key))
		fd := b.Get("file", "a parameter of its own namespaces", plan.Openat(plan.Reg("/proc"), "sys/"+sysctlPath(key), unix.O_WRONLY))
		b.Do("is set for this container alone", plan.Write(fd, s.Linux.Sysctl[key]))
		b.Do("one open file less", plan.Close(fd))
	}
}

// sysctlPath is the file of a parameter: dots and slashes change places, so
// that a name such as eth0.1 can be written.
func sysctlPath(key string) string {
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '/' {
		return key
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, key)
}

// escape is a key as a part of a JSON pointer, RFC 6901.
func escape(key string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}

// Masks hides paths of the container and makes others read-only: what the
// kernel shows and namespaces don't divide.
func Masks(b *plan.Builder, s *specs.Spec) {
	if len(s.Linux.ReadonlyPaths)+len(s.Linux.MaskedPaths) == 0 {
		return
	}
	b.Section(plan.Child, "masks", "hide what the kernel shows to all")
	for i, name := range s.Linux.ReadonlyPaths {
		b.At(fmt.Sprintf("/linux/readonlyPaths/%d", i))
		done := b.Label()
		b.Do("find "+name, inside(name, unix.O_PATH)).Out("at").Allow(done, unix.ENOENT)
		b.Get("mount", "the same, once more", plan.OpenTree(plan.Reg("at"), "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE))
		b.Do("but read-only", plan.MountSetattr("mount", true, unix.MOUNT_ATTR_RDONLY, 0, 0))
		b.Do("over it", plan.MoveMount("mount", "at"))
		b.Place(done)
	}
	for i, name := range s.Linux.MaskedPaths {
		b.At(fmt.Sprintf("/linux/maskedPaths/%d", i))
		mask(b, name)
	}
}

// mask covers a directory with an empty one, and a file with the host's
// /dev/null, which is what it seems.
func mask(b *plan.Builder, name string) {
	file, done := b.Label(), b.Label()
	b.Do("if "+name+" is a directory", inside(name, unix.O_PATH|unix.O_DIRECTORY)).Out("at").
		Allow(file, unix.ENOTDIR).Allow(done, unix.ENOENT)
	b.Get("mount", "an empty one", plan.OpenTree(empty, "", unix.AT_EMPTY_PATH))
	b.Do("hides it", plan.MoveMount("mount", "at")).Then(done)
	b.Place(file)
	b.Get("at", "if it is a file", inside(name, unix.O_PATH))
	b.Get("mount", "the device that is always empty", plan.OpenTree(plan.AtFdcwd, "/dev/null", 0))
	b.Do("it is the host's own: nobody inside may change its mode or owner", plan.MountSetattr("mount", false, unix.MOUNT_ATTR_RDONLY, 0, unix.MS_PRIVATE))
	b.Do("hides it", plan.MoveMount("mount", "at"))
	b.Place(done)
}

func inside(name string, flags uint64) plan.Call {
	return plan.Openat2(root, orDot(strings.TrimPrefix(path.Clean("/"+name), "/")), flags, inRoot)
}

// Enter makes the container's root the only one: what is not below it can't
// be named any more. The working directory is opened here, inside the root,
// and is made if it is missing.
func Enter(b *plan.Builder, s *specs.Spec) {
	m := &maker{Builder: b}
	b.Section(plan.Child, "pivot", "the new root becomes the only one")
	cwd := path.Clean("/" + s.Process.Cwd)
	if cwd != "/" {
		b.At("/process/cwd")
		m.open("cwd", cwd, false, inRoot)
	}
	if s.Root.Readonly {
		b.At("/root/readonly")
		b.Do("the root can't be written to", plan.MountSetattr(root, false, unix.MOUNT_ATTR_RDONLY, 0, 0))
	}
	b.At("/root/path")
	b.Do("stand in the new root", plan.Fchdir(root))
	b.Do("it is / now, and the old root lies on top of it", plan.PivotRoot(".", "."))
	b.Do("let the old root go, and with it all paths to the host's files", plan.Unmount("."))
	if p := s.Linux.RootfsPropagation; p != "" {
		bare, all := strings.CutPrefix(p, "r")
		b.At("/linux/rootfsPropagation")
		b.Do("who else sees the mounts made in it", plan.MountSetattr(root, all, 0, 0, propagation(bare)))
	}
	b.At("/process/cwd")
	if cwd == "/" {
		b.Do("where the program begins", plan.Chdir("/"))
	} else {
		b.Do("where the program begins: inside, since it was found from the root", plan.Fchdir("cwd"))
	}
}
