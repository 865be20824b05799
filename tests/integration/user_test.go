package integration_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/cgroup"
	"github.com/minictr/minictr/tests/alone"
)

// A user is somebody without privileges, with everyday commands and places of his
// own.
type user struct{ host }

// newUser has subordinate ids, or none. When the test ends nobody is in his user
// namespace, and nothing is left.
func newUser(t *testing.T, ids string) user {
	t.Helper()
	h := newHost(t)
	alone.Cover(t, "/etc/passwd", fmt.Sprintf("root:x:0:0:root:/root:/bin/sh\nsomebody:x:%d:%[1]d::/:/bin/sh\n", rootless))
	alone.Cover(t, "/etc/subuid", ids)
	alone.Cover(t, "/etc/subgid", ids)
	dir := temp(t)
	if _, err := unix.Lgetxattr(dir, "user.any", nil); errors.Is(err, unix.ENOTSUP) { // tmpfs has those since Linux 6.6
		dir = h.disk(t, 128<<20)
	}
	owned(t, dir)
	h.root, h.run = filepath.Join(dir, "root"), filepath.Join(dir, "run")
	unchanged(t, h)
	t.Cleanup(func() {
		file := filepath.Join(h.run, "user:namespace")
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		lock := unix.Flock_t{Type: unix.F_WRLCK}
		eventually(t, "nobody is in the user namespace", func() bool {
			lock.Type = unix.F_WRLCK
			return unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock) == nil && lock.Type == unix.F_UNLCK
		})
		if err := os.Remove(file); err != nil {
			t.Error(err)
		}
	})
	return user{h}
}

// disk is where a file system on a disk of that many bytes is mounted.
func (h host) disk(t *testing.T, size int64) (at string) {
	t.Helper()
	dir := temp(t)
	disk, at := filepath.Join(dir, "disk"), filepath.Join(dir, "at")
	err := errors.Join(os.WriteFile(disk, nil, 0o600), os.Truncate(disk, size), os.Mkdir(at, 0o755))
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"busybox", "mke2fs", "-F", disk}, {"mount", "-t", "ext4", "-o", "loop", disk, at}} {
		if r := finish(t, h.outside(args...)); r.status != 0 {
			t.Fatalf("%q: %v", args, r)
		}
	}
	t.Cleanup(func() {
		if r := finish(t, h.outside("umount", at)); r.status != 0 {
			t.Error(r)
		}
	})
	return at
}

const subordinate = "somebody:300000:65536\n"

func (u user) command(args ...string) *exec.Cmd {
	cmd := as(u.host.command(args...))
	cmd.Env = append(cmd.Env, "HOME="+filepath.Dir(u.root))
	return cmd
}

func (u user) minictr(t *testing.T, args ...string) result {
	t.Helper()
	return finish(t, u.command(args...))
}

func (u user) must(t *testing.T, args ...string) string {
	t.Helper()
	r := u.minictr(t, args...)
	if r.status != 0 {
		t.Fatalf("minictr %q: %v", args, r)
	}
	return r.stdout
}

// start has a container run until it is killed, and waits until it runs.
func (u user) start(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := u.command(append([]string{"run", "--name", name}, args...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, name+" runs", func() bool {
		if cmd.ProcessState != nil {
			t.Fatal(errs.String())
		}
		return u.minictr(t, "exec", name, "true").status == 0
	})
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// TestUser is a user's day: containers run, side by side, and the one command has
// power over what the other has made.
func TestUser(t *testing.T) {
	u := newUser(t, subordinate)
	if out := u.must(t, "run", "tiny", "id"); out != "uid=0(root) gid=0(root) groups=0(root)\n" {
		t.Error(out)
	}
	maps := fmt.Sprintf("         0 %10d          1\n         1     300000      65536\n", rootless)
	if out := u.must(t, "run", "tiny", "cat", "/proc/self/uid_map", "/proc/self/gid_map"); out != maps+maps {
		t.Error(out)
	}
	for args, want := range map[string]int{"true": 0, "sh -c 'exit 7'": 7, "nothing": 127, "/etc": 126} {
		words := strings.Fields(args)
		if first, script, ok := strings.Cut(args, " -c "); ok {
			words = []string{first, "-c", strings.Trim(script, "'")}
		}
		if r := u.minictr(t, append([]string{"run", "tiny"}, words...)...); r.status != want {
			t.Errorf("%s: %v", args, r)
		}
	}
	one, two := u.start(t, "one", "tiny", "sleep", "1000"), u.start(t, "two", "--network", "host", "tiny", "sleep", "1000")
	if a, b := u.must(t, "exec", "one", "readlink", "/proc/self/ns/user"), u.must(t, "exec", "two", "readlink", "/proc/self/ns/user"); a != b {
		t.Errorf("they are in two: %s, %s", a, b)
	}
	if r := u.minictr(t, "exec", "one", "sh", "-c", "echo hello >/root/file; exit 5"); r.status != 5 {
		t.Error(r)
	}
	if out := u.must(t, "ps"); strings.Count(out, "sleep") != 2 {
		t.Error(out)
	}
	u.must(t, "exec", "one", "rm", "/bin/wc")
	u.must(t, "commit", "one", "changed")
	if r := u.minictr(t, "run", "changed", "sh", "-c", "cat /root/file; test -e /bin/wc"); r.stdout != "hello\n" || r.status != 1 {
		t.Error(r)
	}
	u.must(t, "rm", "-f", "one")
	if err := two.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = one.Wait()
	_ = two.Process.Signal(unix.SIGKILL)
	if _ = two.Wait(); one.ProcessState.ExitCode() != 137 {
		t.Errorf("rm -f: %v", one.ProcessState)
	}
	if r := u.minictr(t, "run", "--memory", "100m", "tiny", "true"); !strings.Contains(r.stderr, "/linux/resources: permission denied") {
		t.Errorf("a limit that can't be set: %v", r)
	}
}

// TestUserDelegated limits containers in a cgroup that is handed over to the user.
func TestUserDelegated(t *testing.T) {
	layout, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	if layout.Version() != cgroup.V2 {
		t.Skip("the tier vm brings version 2 of cgroups, and nothing else")
	}
	u := newUser(t, subordinate)
	dir, own := alone.Delegate(t, rootless, alone.Cgroup("user"))
	t.Cleanup(func() {
		for _, d := range []string{own, dir} {
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
	for _, test := range []struct{ flags, want string }{
		{"", "2048\nmax\n"}, {"--pids-limit 54 --memory 64m", "54\n67108864\n"},
	} {
		args := append(append([]string{"run"}, strings.Fields(test.flags)...), "tiny", "cat", "/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/memory.max")
		cmd := u.command(args...)
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, fd
		if r := finish(t, cmd); r.stdout != test.want {
			t.Errorf("%q: %v", test.flags, r)
		}
	}
}

// ownersImage is the tar of an image with files of several owners, capabilities and a
// device.
func ownersImage(t *testing.T) []byte {
	t.Helper()
	binary, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range []tar.Header{
		{Name: "bin/tiny", Mode: 0o755, Size: int64(len(binary))},
		{Name: "bin/ls", Typeflag: tar.TypeSymlink, Linkname: "tiny"},
		{Name: "bin/cat", Typeflag: tar.TypeSymlink, Linkname: "tiny"},
		{Name: "bin/sh", Typeflag: tar.TypeSymlink, Linkname: "tiny"},
		{Name: "bin/id", Typeflag: tar.TypeSymlink, Linkname: "tiny"},
		{Name: "bin/stat", Typeflag: tar.TypeSymlink, Linkname: "tiny"},
		{Name: "dev/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0o666},
		{Name: "etc/group", Mode: 0o644, Size: 20},
		{Name: "home/me/", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 1000, Gid: 1000},
		{Name: "home/me/file", Mode: 0o600, Uid: 1000, Gid: 1000, Size: 4},
		{Name: "bin/ping", Mode: 0o4755, Uid: 0, Gid: 42, Size: 4, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}},
	} {
		if err := w.WriteHeader(&f); err != nil {
			t.Fatal(err)
		}
		content := map[string][]byte{"bin/tiny": binary, "etc/group": []byte("root:x:0:\nmine:x:8:r")}[f.Name]
		if content == nil {
			content = []byte("text")
		}
		if _, err := w.Write(content[:f.Size]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// modes finds the mode and the owner of a file in what stat prints.
var modes = regexp.MustCompile(`\(\d{4}/.*`)

// importOwners makes that image.
func (u user) importOwners(t *testing.T) {
	t.Helper()
	cmd := u.command("import", "-", "owners")
	cmd.Stdin = bytes.NewReader(ownersImage(t))
	if r := finish(t, cmd); r.status != 0 {
		t.Fatal(r)
	}
}

// TestUserOwners has an image keep the owners of its files, who are subordinate ids
// outside.
func TestUserOwners(t *testing.T) {
	u := newUser(t, subordinate)
	u.importOwners(t)
	out := u.must(t, "run", "owners", "stat", "/home/me/file", "/bin/ping")
	if got := modes.FindAllString(out, -1); !slices.Equal(got, []string{"(0600/-rw-------)\tUid: (1000/1000)\tGid: (1000/1000)", "(4755/-rwsr-xr-x)\tUid: (0/0)\tGid: (42/42)"}) {
		t.Errorf("%q", got)
	}
	if out := u.must(t, "run", "--user", "1000:1000", "owners", "sh", "-c", "id; cat /home/me/file"); out != "uid=1000(1000) gid=1000(1000) groups=1000(1000)\ntext" {
		t.Errorf("%q", out)
	}
	found, err := filepath.Glob(filepath.Join(u.root, "layers/*/*/home/me/file"))
	var st unix.Stat_t
	if err != nil || len(found) != 1 || unix.Lstat(found[0], &st) != nil || st.Uid != 300999 || st.Gid != 300999 {
		t.Errorf("%q is of %d:%d outside, %v", found, st.Uid, st.Gid, err)
	}
	if r := u.minictr(t, "run", "--user", "70000", "owners", "id"); !strings.Contains(r.stderr, "your user namespace has ids up to 65536") {
		t.Error(r)
	}
	u.must(t, "rmi", "owners")
	u.must(t, "image", "prune", "-a", "--force")
}

// TestUserAlone has no subordinate ids: all is root's, and nobody else is there.
func TestUserAlone(t *testing.T) {
	u := newUser(t, "")
	u.importOwners(t)
	out := u.must(t, "run", "owners", "sh", "-c", "stat /home/me/file /bin/ping; id; cat /proc/self/setgroups")
	if !strings.HasSuffix(out, "uid=0(0) gid=0(root) groups=0(root)\ndeny\n") || strings.Count(out, "Uid: (0/0)\tGid: (0/root)") != 2 {
		t.Errorf("%q", out)
	}
	if r := u.minictr(t, "run", "--user", "1000", "owners", "id"); !strings.Contains(r.stderr, "your user namespace has ids up to 0") {
		t.Error(r)
	}
	if r := u.minictr(t, "doctor"); !strings.Contains(r.stdout, "/etc/subgid has no line of somebody") {
		t.Error(r)
	}
}

// TestUserRace has many first commands at once: they make one namespace.
func TestUserRace(t *testing.T) {
	u := newUser(t, subordinate)
	u.must(t, "run", "tiny", "true") // the image is there
	const many = 8
	var all sync.WaitGroup
	said := make([]result, many)
	gate := filepath.Join(u.root, "gate")
	for i := range said {
		all.Go(func() {
			said[i] = finish(t, u.command("run", "-v", u.root+":/shown", "tiny", "sh", "-c",
				fmt.Sprintf("echo >/shown/ready-%d; until [ -e /shown/gate ]; do sleep 0.01; done; readlink /proc/self/ns/user", i)))
		})
	}
	eventually(t, "all run", func() bool {
		ready, _ := filepath.Glob(filepath.Join(u.root, "ready-*"))
		return len(ready) == many
	})
	if err := os.WriteFile(gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	for _, r := range said {
		if r.status != 0 || r.stdout != said[0].stdout {
			t.Errorf("%v, not %q", r, said[0].stdout)
		}
	}
}

// TestUserTerminal has a person interrupt a program.
func TestUserTerminal(t *testing.T) {
	u := newUser(t, subordinate)
	cmd := u.command("run", "tiny", "sh", "-c", "trap 'echo caught; exit 3' INT; tty; id -u; while :; do sleep 1; done")
	s := newScreen(t, cmd, 24, 80)
	s.see(t, "/dev/pts/0")
	s.enter(t, "\x03")
	s.see(t, "caught")
	if status := s.status(t); status != 3 {
		t.Errorf("exit status %d", status)
	}
}

// TestUserSignals has minictr pass its signals on, as it is still the process that
// was started.
func TestUserSignals(t *testing.T) {
	u := newUser(t, subordinate)
	cmd := u.command("run", "tiny", "sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 9 {
		t.Error(cmd.ProcessState)
	}
}

// TestUserKilled kills all that a user runs at once: the next command finds nobody
// in a namespace, and takes away what is left.
func TestUserKilled(t *testing.T) {
	u := newUser(t, subordinate)
	one, two := u.start(t, "one", "tiny", "sleep", "1000"), u.start(t, "two", "tiny", "sleep", "1000")
	for _, cmd := range []*exec.Cmd{one, two} {
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = one.Process.Wait()
	_, _ = two.Process.Wait()
	if r := u.minictr(t, "ps"); strings.Count(r.stderr, "removed what was left of container") != 2 || strings.Contains(r.stdout, "sleep") {
		t.Error(r)
	}
}
