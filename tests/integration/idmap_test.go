package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// mappable mounts a file system whose kernel can map ids, and another below
// it. What is in them belongs to user 1000, and anybody may write there.
func mappable(t *testing.T) (dir string) {
	t.Helper()
	if !mapsTmpfs(t) {
		t.Skip("in the virtual machine the kernel is older than Linux 6.3, whose tmpfs is the first to map ids")
	}
	dir = temp(t)
	for _, d := range []string{dir, filepath.Join(dir, "below")} {
		err := os.MkdirAll(d, 0o755)
		if err == nil {
			err = unix.Mount("none", d, "tmpfs", 0, "mode=777,uid=1000,gid=1000")
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(d, 0); err != nil {
				t.Error(err)
			}
		})
		if err := os.WriteFile(filepath.Join(d, "old"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Lchown(filepath.Join(d, "old"), 1000, 1000); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func mapsTmpfs(t *testing.T) bool {
	t.Helper()
	var u unix.Utsname
	var major, minor int
	err := unix.Uname(&u)
	if err == nil {
		_, err = fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	}
	if err != nil {
		t.Fatal(err)
	}
	return major > 6 || major == 6 && minor >= 3
}

// ids are a thousand.
func ids(first, as uint32) []specs.LinuxIDMapping {
	return []specs.LinuxIDMapping{{ContainerID: first, HostID: as, Size: 1000}}
}

// shows is a container's bind mount at /tmp, with maps.
func shows(source, options string, users, groups []specs.LinuxIDMapping) specs.Mount {
	return specs.Mount{
		Type: "bind", Source: source, Destination: "/tmp", Options: strings.Split(options, ","), UIDMappings: users, GIDMappings: groups,
	}
}

// owners are those that the container has printed, and those outside of the
// files that it made.
func owners(t *testing.T, printed, shown string) (list string) {
	t.Helper()
	for _, m := range regexp.MustCompile(`Uid: \((\d+)/.*Gid: \((\d+)/`).FindAllStringSubmatch(printed, -1) {
		list += m[1] + ":" + m[2] + " "
	}
	for _, name := range []string{"new", "below/new"} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(shown, name), &st); err != nil {
			t.Fatal(err)
		}
		list += fmt.Sprintf("%d:%d ", st.Uid, st.Gid)
	}
	return strings.TrimSpace(list)
}

const newAndOld = "echo >/tmp/new && echo >/tmp/below/new && stat /tmp/old /tmp/below/old"

// TestMappedMounts is who owns the files of a mount that maps ids, and of the
// mount below it: inside, the old ones, and outside those that the container's
// root makes.
func TestMappedMounts(t *testing.T) {
	h := newHost(t)
	for _, c := range []struct {
		name          string
		user          bool // a user namespace, whose ids are those from 100000 on
		users, groups []specs.LinuxIDMapping
		options       string
		want          string
	}{
		{"not at all", true, nil, nil, "rbind", "65534:65534 65534:65534 100000:100000 100000:100000"},
		{"as the container", true, nil, nil, "rbind,idmap", "1000:1000 65534:65534 0:0 100000:100000"},
		{"as the container, and below", true, nil, nil, "rbind,ridmap", "1000:1000 1000:1000 0:0 0:0"},
		{"without an option", true, ids(900, 100000), ids(895, 100000), "rbind", "100:105 65534:65534 900:895 100000:100000"},
		{"in a user namespace", true, ids(900, 100000), ids(895, 100000), "rbind,idmap", "100:105 65534:65534 900:895 100000:100000"},
		{"in a user namespace, and below", true, ids(900, 100000), ids(895, 100000), "ridmap,rbind", "100:105 100:105 900:895 900:895"},
		{"in the host's", false, ids(900, 0), ids(895, 0), "rbind,idmap", "100:105 1000:1000 900:895 0:0"},
		{"in the host's, and below", false, ids(900, 0), ids(895, 0), "rbind,ridmap", "100:105 100:105 900:895 900:895"},
		{"the last option counts", false, ids(900, 0), ids(895, 0), "rbind,ridmap,idmap", "100:105 1000:1000 900:895 0:0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			shown := mappable(t)
			s := newSpec("mapped", "sh", "-c", newAndOld)
			if c.user {
				userNamespace(s)
			}
			s.Mounts = append(s.Mounts, shows(shown, c.options, c.users, c.groups))
			out := h.must(t, "run", "--bundle", newBundle(t, s, "mapped"), "mapped")
			if got := owners(t, out, shown); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestMappedAsPod has a container share another's user namespace, and take its
// maps for a mount. Its program is none: the plan that names the failing step
// is compiled once more, from what the state keeps.
func TestMappedAsPod(t *testing.T) {
	s := newSpec("pod", "pause")
	userNamespace(s)
	pod, dir := newOCI(t, "pod", s)
	pod.create(dir)
	shown := mappable(t)
	s = newSpec("member", "sh", "-c", newAndOld)
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: fmt.Sprintf("/proc/%d/ns/user", pod.pid)})
	s.Linux.Sysctl = nil
	s.Mounts = append(s.Mounts, shows(shown, "rbind,ridmap", nil, nil))
	member, dir := newOCI(t, "member", s)
	out := member.call("run", "--bundle", dir, member.id)
	if got, want := owners(t, out.stdout, shown), "1000:1000 1000:1000 0:0 0:0"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}

	s.Process.Args = []string{"/etc/none"}
	s.Mounts[len(s.Mounts)-1].UIDMappings, s.Mounts[len(s.Mounts)-1].GIDMappings = ids(0, 100000), ids(0, 100000)
	none, dir := newOCI(t, "none", s)
	if err := os.WriteFile(filepath.Join(dir, "rootfs/etc/none"), []byte("none"), 0o755); err != nil {
		t.Fatal(err)
	}
	none.create(dir)
	none.fails(1, `exec: "/etc/none": exec format error`, "start", none.id)
}

// TestUnmappable is that what can't map ids is an error that says why.
func TestUnmappable(t *testing.T) {
	h := newHost(t)
	type unmappable struct {
		source, want string
		groups       []specs.LinuxIDMapping
	}
	cases := []unmappable{
		{"/proc/sys", "a file system here can't map ids", ids(0, 500)},
		{"/proc/sys", `gid_map: invalid argument: the kernel refuses the maps: do ranges of ids overlap?`, append(ids(0, 0), ids(500, 2000)...)},
	}
	if mapsTmpfs(t) {
		cases = append(cases, unmappable{mappedMount(t, mappable(t)), "the mount maps ids already", ids(0, 500)})
	}
	for _, c := range cases {
		for _, user := range []bool{false, true} {
			s := newSpec("unmappable", "true")
			if user {
				userNamespace(s)
			}
			s.Mounts = append(s.Mounts, shows(c.source, "rbind,idmap", ids(0, 500), c.groups))
			r := h.minictr(t, "run", "--bundle", newBundle(t, s, "unmappable"), "unmappable")
			if last := fmt.Sprintf("/mounts/%d", len(s.Mounts)-1); r.status != statusFailed || !strings.Contains(r.stderr, last) || !strings.Contains(r.stderr, c.want) {
				t.Errorf("%s, user namespace %v: %v", c.want, user, r)
			}
		}
	}
}

// mappedMount mounts a directory in another place, where it maps ids already.
func mappedMount(t *testing.T, source string) (dir string) {
	t.Helper()
	one := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 700, Size: 1}}
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: one, GidMappings: one, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	user, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()
	dir = temp(t)
	mount, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err == nil {
		defer unix.Close(mount)
		err = unix.MountSetattr(mount, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(user.Fd())})
	}
	if err == nil {
		err = unix.MoveMount(mount, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}
