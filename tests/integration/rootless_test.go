package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/cgroup"
	"github.com/minictr/minictr/tests/alone"
)

// rootless is the user without privileges of these tests.
const rootless = 54321

// as has the user run a command.
func as(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: rootless, Gid: rootless}}
	return cmd
}

// owned gives a directory, with all in it, to the user.
func owned(t *testing.T, dir string) string {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err == nil {
			err = os.Lchown(path, rootless, rootless)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// newRootless is a host and a container of the user, who is root inside.
func newRootless(t *testing.T, args ...string) (host, *specs.Spec) {
	t.Helper()
	h := newHost(t)
	h.root, h.run = owned(t, temp(t)), filepath.Join(owned(t, temp(t)), "run")
	s := newSpec("rootless", args...)
	userNamespace(s)
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: rootless, Size: 1}}
	s.Linux.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: rootless, Size: 1}}
	s.Linux.Resources = nil
	for i, m := range s.Mounts {
		s.Mounts[i].Options = slices.DeleteFunc(m.Options, func(o string) bool { return strings.HasPrefix(o, "gid=") })
	}
	return h, s
}

// TestRootless runs a container, by each command, as a user without privileges
// and without any cgroup that he may write to.
func TestRootless(t *testing.T) {
	h, s := newRootless(t, "sh", "-c", "id; cat /proc/self/uid_map /shown/file /proc/self/oom_score_adj; exec pause")
	private := temp(t)
	if err := os.WriteFile(filepath.Join(private, "file"), []byte("shown\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(owned(t, private), 0o700); err != nil {
		t.Fatal(err)
	}
	s.Mounts = append(s.Mounts, specs.Mount{Type: "bind", Source: private, Destination: "/shown", Options: []string{"rbind"}})
	s.Process.OOMScoreAdj = ptr(-500) // which he may not have
	dir := owned(t, newBundle(t, s, "bundle"))
	call := func(want int, args ...string) result {
		t.Helper()
		r := finish(t, as(h.command(args...)))
		if r.status != want {
			t.Fatalf("minictr %q is to end with %d: %v", args, want, r)
		}
		return r
	}
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	create := as(h.command("create", "--bundle", dir, "--pid-file", filepath.Join(dir, "pid"), "box"))
	create.Stdout, create.Stderr = out, out
	t.Cleanup(func() { _ = as(h.command("delete", "--force", "box")).Run() })
	if err := create.Run(); err != nil {
		said, _ := os.ReadFile(out.Name())
		t.Fatalf("create: %v: %s", err, said)
	}
	if r := call(0, "state", "box"); !strings.Contains(r.stdout, `"status": "created"`) {
		t.Error(r)
	}
	call(0, "start", "box")
	said := ""
	eventually(t, "it tells of itself", func() bool {
		text, _ := os.ReadFile(out.Name())
		said = string(text)
		return strings.Count(said, "\n") >= 4
	})
	adj, _ := os.ReadFile("/proc/self/oom_score_adj")
	if want := fmt.Sprintf("uid=0(0) gid=0(0) groups=0(0)\n         0 %10d          1\nshown\n%s", rootless, adj); said != want {
		t.Errorf("%q, not %q", said, want)
	}
	if r := call(7, "exec", "box", "sh", "-c", "cat /proc/1/comm; exit 7"); r.stdout != "pause\n" {
		t.Error(r)
	}
	if r := call(0, "list"); !strings.Contains(r.stdout, "running") {
		t.Error(r)
	}
	call(1, "pause", "box") // without a cgroup there is nothing to pause
	call(0, "kill", "box", "KILL")
	eventually(t, "it has stopped", func() bool { return strings.Contains(call(0, "state", "box").stdout, `"stopped"`) })
	call(0, "delete", "box")

	pids := int64(100)
	for _, refused := range []struct {
		want string
		edit func(*specs.Spec)
	}{
		{"/linux/resources: permission denied: no cgroup can be made in ", func(s *specs.Spec) {
			s.Linux.Resources = &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &pids}}
		}},
		{"/linux/namespaces: operation not permitted: without root a container needs a user namespace", func(s *specs.Spec) {
			s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
			s.Linux.UIDMappings, s.Linux.GIDMappings = nil, nil
		}},
		{"/process/user/additionalGids: ", func(s *specs.Spec) { s.Process.User.AdditionalGids = []uint32{0} }},
	} {
		_, s := newRootless(t, "true")
		refused.edit(s)
		if r := call(1, "run", "--bundle", owned(t, newBundle(t, s, "bundle")), "box"); !strings.Contains(r.stderr, refused.want) {
			t.Errorf("no %q: %v", refused.want, r)
		}
	}
}

// TestRootlessDelegated limits containers of the user in a cgroup that is
// handed over to him, which version 2 allows: beside the runtime's own cgroup,
// and at a path from the top. Where the runtime is not below what he may divide,
// the kernel would let no process in.
func TestRootlessDelegated(t *testing.T) {
	layout, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	h, s := newRootless(t, "cat", "/sys/fs/cgroup/pids.max")
	limit := int64(54)
	s.Linux.Resources = &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &limit}}
	command := func(path string) *exec.Cmd {
		s.Linux.CgroupsPath = path
		return as(h.command("run", "--bundle", owned(t, newBundle(t, s, "bundle")), "box"))
	}
	const refused = "/linux/resources: permission denied"
	name := alone.Cgroup("user")
	if layout.Version() != cgroup.V2 {
		if r := finish(t, command(name)); !strings.Contains(r.stderr, refused) {
			t.Errorf("a limit that can't be set: %v", r)
		}
		return
	}
	dir, own := alone.Delegate(t, rootless, name)
	t.Cleanup(func() {
		for _, d := range []string{dir + "/parent", own, dir} {
			if err := unix.Rmdir(d); err != nil {
				t.Errorf("rmdir %s: %v", d, err)
			}
		}
	})
	fd, err := unix.Open(own, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, path := range []string{alone.Cgroup("rootless"), "/" + name + "/box", "/" + name + "/parent/box"} {
		cmd := command(path)
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, fd
		if r := finish(t, cmd); r.stdout != "54\n" {
			t.Errorf("its limit in %s: %v", path, r)
		}
	}
	if r := finish(t, command("/"+name+"/box")); !strings.Contains(r.stderr, refused) {
		t.Errorf("from elsewhere: %v", r)
	}
}

// TestRootlessHelpers maps other ids than the user's own, by those programs that
// know whose they are.
func TestRootlessHelpers(t *testing.T) {
	h, s := newRootless(t, "sh", "-c", "id; cat /proc/self/uid_map; echo >/tmp/file")
	alone.Cover(t, "/etc/passwd", fmt.Sprintf("root:x:0:0:root:/root:/bin/sh\nrootless:x:%d:%[1]d::/:/bin/sh\n", rootless))
	alone.Cover(t, "/etc/subuid", "rootless:300000:65536\n")
	alone.Cover(t, "/etc/subgid", "rootless:300000:65536\n")
	maps := []specs.LinuxIDMapping{{ContainerID: 0, HostID: rootless, Size: 1}, {ContainerID: 1, HostID: 300000, Size: 65535}}
	s.Linux.UIDMappings, s.Linux.GIDMappings = maps, maps
	s.Process.User = specs.User{UID: 7, GID: 8, AdditionalGids: []uint32{9}}
	dir := owned(t, newBundle(t, s, "bundle"))
	if err := os.Chmod(filepath.Join(dir, "rootfs/tmp"), 0o777); err != nil {
		t.Fatal(err)
	}
	r := finish(t, as(h.command("run", "--bundle", dir, "box")))
	if want := fmt.Sprintf("uid=7(7) gid=8(8) groups=8(8),9(9)\n         0 %10d          1\n         1     300000      65535\n", rootless); r.stdout != want || r.status != 0 {
		t.Errorf("%v, not %q", r, want)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "rootfs/tmp/file"), &st); err != nil || st.Uid != 300006 || st.Gid != 300007 {
		t.Errorf("what user 7 inside writes is of %d:%d outside, %v", st.Uid, st.Gid, err)
	}
	_, s = newRootless(t, "true")
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: rootless, Size: 2}}
	r = finish(t, as(h.command("run", "--bundle", owned(t, newBundle(t, s, "bundle")), "box")))
	if r.status != 1 || !strings.Contains(r.stderr, "newuidmap") || !strings.Contains(r.stderr, "not allowed") {
		t.Errorf("ids that are not his: %v", r)
	}
}

// TestNestedWithoutGroups runs a container, with a user namespace and without,
// in one that denies setgroups(2), as unshare -Ur makes it.
func TestNestedWithoutGroups(t *testing.T) {
	h := newHost(t)
	_, s := newRootless(t, "id")
	dir := newBundle(t, s, "nested")
	call := func() result {
		t.Helper()
		rewriteSpec(t, dir, s)
		cmd := h.command("run", "--bundle", dir, "nested")
		one := []syscall.SysProcIDMap{{HostID: 0, Size: 1}}
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: one, GidMappings: one}
		return finish(t, cmd)
	}
	s.Linux.UIDMappings[0].HostID, s.Linux.GIDMappings[0].HostID = 0, 0
	for range 2 {
		if r := call(); r.status != 0 || !strings.HasPrefix(r.stdout, "uid=0") {
			t.Errorf("namespaces %v: %v", s.Linux.Namespaces, r)
		}
		s.Linux.UIDMappings, s.Linux.GIDMappings = nil, nil
		s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
	}
	s.Process.User.AdditionalGids = []uint32{0}
	if r := call(); r.status != 1 || !strings.Contains(r.stderr, "/process/user/additionalGids: there are no other groups") {
		t.Errorf("with more groups: %v", r)
	}
}
