package peers_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/tests/alone"
)

// TestEverydayOfUser gives the commands of TestEveryday to a user's minictr: they
// do what they do for root, but for a list. It holds where the user has cgroups
// of version 2.
func TestEverydayOfUser(t *testing.T) {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil {
		t.Skip("the tier vm brings version 2 of cgroups, and nothing else")
	}
	needs(t, "tar", "busybox", "newuidmap", "setpriv", "slirp4netns")
	const user = 54321
	dir, err := os.MkdirTemp(scratch, "everyday-") //nolint:usetesting // others may not pass through what t.TempDir makes
	home := filepath.Join(dir, "home")
	const tun = "/dev/net/tun"
	node, e := os.Stat(tun)
	if err = errors.Join(err, e); err == nil {
		t.Cleanup(func() {
			if err := os.Chmod(tun, node.Mode().Perm()); err != nil {
				t.Error(err)
			}
		})
		// As udev leaves it.
		err = errors.Join(os.Chmod(dir, 0o755), os.Mkdir(home, 0o755), os.Lchown(home, user, user), os.Chmod(tun, 0o666))
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"/etc/passwd": fmt.Sprintf("root:x:0:0:root:/root:/bin/sh\nrootless:x:%d:%[1]d::%s:/bin/sh\n", user, home),
		"/etc/subuid": "rootless:300000:65536\n", "/etc/subgid": "rootless:300000:65536\n",
	} {
		alone.Cover(t, name, text)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0); err != nil { // as in TestEveryday
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })
	out, err := exec.Command("sh", "-c", fmt.Sprintf("tar -C %s -cf %s/rootfs.tar .", rootfs(t), home)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	name := "minictr-" + filepath.Base(dir)
	t.Cleanup(func() { removeCgroups(t, name) })
	_, own := alone.Delegate(t, user, name)
	as := []string{"sh", "-c", `echo $$ >"$0/cgroup.procs" && exec "$@"`, own, "/usr/bin/setpriv", "--reuid", strconv.Itoa(user), "--regid", strconv.Itoa(user), "--clear-groups"}
	env := []string{"D=minictr", "HOME=" + home, "XDG_RUNTIME_DIR=" + home + "/run", "LC_ALL=C", "PATH=" + scratch + ":/usr/sbin:/usr/bin:/sbin:/bin"}
	t.Cleanup(func() { // in case of a failure
		rm := exec.Command(as[0], append(as[1:len(as):len(as)], "sh", "-c", "$D ps -aq | xargs -r $D rm -f")...)
		rm.Env = env
		if out, err := rm.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	listed, root := differencesOf(t, "testdata/everyday-user.txt"), resultsOfRoot(t)
	for _, by := range root {
		got, said := outcome(t, by.Command, home, env, as)
		_, differs := listed[by.Command]
		delete(listed, by.Command)
		if (got == by.Result) == differs {
			t.Errorf("%s\nroot:\n%suser:\n%s%s", by.Command, by.Result, got, said)
		}
	}
	for line := range listed {
		t.Errorf("listed is what no test does: %s", line)
	}
}
