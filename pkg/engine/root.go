package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/image"
	"github.com/minictr/minictr/pkg/spec"
	"github.com/minictr/minictr/pkg/sys"
)

// inRoot does something in the root of a container: of one that runs as its
// processes see it, and of one that has ended with its volumes.
func (e *Engine) inRoot(ref string, do func(tree) error) error {
	c, err := e.Find(ref)
	if err != nil {
		return err
	}
	s, err := c.State()
	if err == nil {
		var status specs.ContainerState
		if status, err = s.Status(); err == nil && status != specs.StateStopped {
			return inLive(s, do)
		}
	}
	if err != nil && !errors.Is(err, container.ErrNotExist) {
		return err
	}
	return c.inStopped(s, do)
}

// inLive does something in the root of a container that runs. Its first process
// is looked at before and after the root is opened: so it is its own, and not
// that of another who got its PID.
func inLive(s *container.State, do func(tree) error) (err error) {
	proc := "/proc/" + strconv.Itoa(s.PID)
	root, err := openPath(proc + "/root")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	users, groups, err := mapsOf(proc)
	if err != nil {
		return err
	}
	if status, err := s.Status(); err != nil || status == specs.StateStopped || status == specs.StateCreating {
		return errors.Join(err, container.ErrStopped)
	}
	return do(mapped(root, users, groups))
}

// inStopped does something in the root of a container that does not run. Its
// layers and volumes are mounted in a mount namespace of a thread, and nowhere
// else, so that nothing is left of them whatever ends this process. The lock
// keeps a monitor from starting it meanwhile.
func (c *Container) inStopped(s *container.State, do func(tree) error) (err error) {
	if c.lone == nil {
		fd, err := sys.LockDir(c.dir, unix.LOCK_SH|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("container %s is just starting or ending: try again", c.Title())
		}
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, unix.Close(fd)) }()
	}
	var config *specs.Spec
	if s != nil {
		config, err = c.engine.Runtime.Config(s)
	} else {
		config, err = spec.Load(c.dir)
	}
	if err != nil {
		return err
	}
	// Two mounts of one overlay at a time are undefined: the other command waits.
	turn, err := sys.LockDir(rootDir(c.dir, config), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(turn)) }()
	return sys.OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("unshare of the mount namespace: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("mount / as private: %w", err)
		}
		root, err := mountRoot(c.dir, config)
		if err != nil {
			return err
		}
		t := mapped(root, rowsOf(config.Linux.UIDMappings), rowsOf(config.Linux.GIDMappings))
		return errors.Join(do(t), root.Close(), unix.Unmount(rootDir(c.dir, config), unix.MNT_DETACH))
	})
}

func rootDir(bundle string, config *specs.Spec) string {
	if filepath.IsAbs(config.Root.Path) {
		return config.Root.Path
	}
	return filepath.Join(bundle, config.Root.Path)
}

// mountRoot mounts a container's root, and what it shares with the host below
// it. The layers are named relative to the bundle, see overlay.
func mountRoot(bundle string, config *specs.Spec) (root *os.File, err error) {
	at, flags := rootDir(bundle, config), uintptr(0)
	if config.Root.Readonly {
		flags = unix.MS_RDONLY
	}
	mounts := config.Mounts
	if len(mounts) > 0 && mounts[0].Type == "overlay" {
		if err := unix.Chdir(bundle); err != nil { // of this thread alone, unshare(2)
			return nil, fmt.Errorf("chdir %s: %w", bundle, err)
		}
		err = unix.Mount("overlay", at, "overlay", flags, strings.Join(mounts[0].Options, ","))
		mounts = mounts[1:]
	} else {
		err = unix.Mount(at, at, "", unix.MS_BIND|unix.MS_REC, "")
	}
	if err != nil {
		return nil, fmt.Errorf("mount the root of the container at %s: %w", at, err)
	}
	if root, err = openPath(at); err != nil {
		return nil, err
	}
	for _, m := range mounts {
		if m.Type != "bind" {
			continue
		}
		if err := bindVolume(root, bundle, m); err != nil {
			return nil, errors.Join(fmt.Errorf("mount %s at %s: %w", m.Source, m.Destination, err), root.Close())
		}
	}
	return root, nil
}

// bindVolume shows in the root what a mount shows in the container. One whose
// source is gone is left out.
func bindVolume(root *os.File, bundle string, m specs.Mount) (err error) {
	source := m.Source
	if !filepath.IsAbs(source) {
		source = filepath.Join(bundle, source)
	}
	from, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("open_tree", err)
	}
	defer unix.Close(from) // once it is attached, the place keeps it
	if slices.Contains(m.Options, "ro") {
		if err := unix.MountSetattr(from, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return os.NewSyscallError("mount_setattr", err)
		}
	}
	var stat unix.Stat_t
	if err := sys.Call("fstat", func() error { return unix.Fstat(from, &stat) }); err != nil {
		return err
	}
	f, err := makePlace(root, m.Destination, stat.Mode&unix.S_IFMT)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Dir.Close()) }()
	to, err := sys.Number("openat", func() (int, error) {
		return unix.Openat(int(f.Dir.Fd()), f.Base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return err
	}
	defer unix.Close(to) // O_PATH: nothing to lose
	return os.NewSyscallError("move_mount", unix.MoveMount(from, "", to, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
}

// makePlace finds what a mount covers. A container that was never started may
// lack it: then it is made, as its start would.
func makePlace(root *os.File, dest string, kind uint32) (*image.File, error) {
	f, err := image.Find(root, dest, true)
	if errors.Is(err, unix.ENOENT) {
		parent, e := makePlace(root, filepath.Dir(dest), unix.S_IFDIR)
		if e != nil {
			return nil, e
		}
		if err = parent.Dir.Close(); err == nil {
			f, err = image.Find(root, dest, true)
		}
	}
	if err != nil || f.Exists {
		return f, err
	}
	if kind == unix.S_IFDIR {
		err = sys.Call("mkdirat", func() error { return unix.Mkdirat(int(f.Dir.Fd()), f.Base, 0o755) })
	} else {
		err = sys.Call("mknodat", func() error { return unix.Mknodat(int(f.Dir.Fd()), f.Base, unix.S_IFREG|0o644, 0) })
	}
	if err != nil {
		return nil, errors.Join(err, f.Dir.Close())
	}
	return f, nil
}

// An idRow is a line of a map of ids, user_namespaces(7).
type idRow struct{ inside, outside, size int }

func rowsOf(maps []specs.LinuxIDMapping) (rows []idRow) {
	for _, m := range maps {
		rows = append(rows, idRow{int(m.ContainerID), int(m.HostID), int(m.Size)})
	}
	return rows
}

// mapsOf are the maps of a process's user namespace; none if that is ours, whose
// maps tell of the one around it.
func mapsOf(proc string) (users, groups []idRow, err error) {
	own, err := os.Readlink("/proc/self/ns/user")
	theirs, e := os.Readlink(proc + "/ns/user")
	if err = errors.Join(err, e); err != nil || own == theirs {
		return nil, nil, err
	}
	if users, err = readMap(proc + "/uid_map"); err == nil {
		groups, err = readMap(proc + "/gid_map")
	}
	return users, groups, err
}

// readMap reads a process's map of ids, as this one sees them.
func readMap(name string) (rows []idRow, err error) {
	text, err := sys.ReadFile(name)
	for line := range strings.Lines(string(text)) {
		var r idRow
		if _, err := fmt.Sscan(line, &r.inside, &r.outside, &r.size); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		rows = append(rows, r)
	}
	return rows, err
}

// overflowID is whose a file is that is nobody's in a user namespace.
const overflowID = 65534

// outside is the host's id for one in a container; without a map it is the same.
func outside(rows []idRow, id int) (int, error) {
	for _, r := range rows {
		if id >= r.inside && id-r.inside < r.size {
			return r.outside + id - r.inside, nil
		}
	}
	if rows == nil {
		return id, nil
	}
	return 0, fmt.Errorf("id %d is nobody's in the container's user namespace", id)
}

func inside(rows []idRow, id int) int {
	for _, r := range rows {
		if id >= r.outside && id-r.outside < r.size {
			return r.inside + id - r.outside
		}
	}
	if rows == nil {
		return id
	}
	return overflowID
}

// mapped is a root whose files' owners are those of a user namespace.
func mapped(root *os.File, users, groups []idRow) tree {
	return tree{
		root:  root,
		outof: func(uid, gid int) (int, int, error) { return inside(users, uid), inside(groups, gid), nil },
		into: func(uid, gid int) (int, int, error) {
			u, err := outside(users, uid)
			g, e := outside(groups, gid)
			return u, g, errors.Join(err, e)
		},
	}
}
