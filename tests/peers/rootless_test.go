package peers_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minictr/minictr/tests/alone"
)

// TestRootlessPodman has Podman run by a user without privileges. Podman makes a
// user namespace with the user's ids first, and calls the runtime as its root.
// On this machine, and with version 2 of cgroups in a virtual one.
func TestRootlessPodman(t *testing.T) {
	peer := "runc"
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	version2 := err == nil
	if version2 {
		peer = "crun" // which Podman takes there, and which takes no other
	}
	needs(t, "podman", peer, "conmon", "tar", "newuidmap", "setpriv", "unshare")
	const user = 54321
	dir, err := os.MkdirTemp(scratch, "rootless-") //nolint:usetesting // others may not pass through what t.TempDir makes
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "containers.conf")
	err = errors.Join(
		os.Chmod(dir, 0o755),
		os.WriteFile(conf, fmt.Appendf(nil, podmanConf, dir+"/home", scratch), 0o644),
		os.Mkdir(filepath.Join(dir, "home"), 0o700), os.Lchown(filepath.Join(dir, "home"), user, user),
		os.Mkdir(short(dir), 0o700), os.Lchown(short(dir), user, user))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"/etc/passwd": fmt.Sprintf("root:x:0:0:root:/root:/bin/sh\nrootless:x:%d:%[1]d::%s/home:/bin/sh\n", user, dir),
		"/etc/group":  fmt.Sprintf("root:x:0:\nrootless:x:%d:\n", user),
		"/etc/subuid": "rootless:300000:65536\n", "/etc/subgid": "rootless:300000:65536\n",
	} {
		alone.Cover(t, name, text)
	}
	env := []string{
		"CONTAINERS_CONF=" + conf, "ROOTFS=" + rootfs(t), "HOME=" + dir + "/home", "XDG_RUNTIME_DIR=" + short(dir), "TMPDIR=" + dir + "/home", "PATH=/usr/bin:/bin:/usr/sbin:/sbin",
	}
	// What Podman leaves to process 1 is waited for, and ends with it. Mounts are
	// shared, as on most hosts. A busybox would take its own unshare.
	as := strings.Fields(fmt.Sprintf("/usr/bin/unshare --pid --fork --kill-child --mount-proc --propagation shared setpriv --reuid %d --regid %[1]d --clear-groups", user))
	smoke{title: "import", commands: []command{
		{text: "tar -C $ROOTFS -c . | podman import -q - localhost/busybox | wc -l", want: []string{"1"}},
	}}.run(t, "", env, as...)
	cases, name := readCases(t, "podman-rootless.txt"), "minictr-"+filepath.Base(dir)
	if version2 { // there limits can be a user's
		cases = append(cases, readCases(t, "podman-limits.txt")...)
		t.Cleanup(func() { removeCgroups(t, name) })
		_, own := alone.Delegate(t, user, name)
		as = append([]string{"sh", "-c", `echo $$ >"$0/cgroup.procs" && exec "$@"`, own}, as...)
	}
	for _, runtime := range []string{"minictr", peer} {
		t.Run(runtime, func(t *testing.T) {
			for _, c := range cases {
				t.Run(c.title, func(t *testing.T) {
					c.run(t, `R='--cgroup-parent /`+name+`'; B=localhost/busybox; podman() { command podman --runtime `+runtime+` "$@"; }; run="podman run --rm --network none"`, env, as...)
				})
			}
		})
	}
}
