package peers_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// podmanConf is a containers.conf. This kind of machine may not raise limits,
// so none is asked for.
const podmanConf = `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime_supports_json = ["runc", "crun", "minictr"]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
network_backend = "cni"
network_cmd_path = "/nowhere"
[network]
network_config_dir = "%[1]s/cni"
[engine.runtimes]
minictr = ["%[2]s/minictr"]
`

// podman configures a Podman of its own, and returns the flags and the
// environment for it, and the cgroup for its containers.
func podman(t *testing.T) (flags string, env []string, cgroup string) {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "podman-") //nolint:usetesting // others may not pass through what t.TempDir makes
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "containers.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, podmanConf, dir, scratch), 0o600); err != nil {
		t.Fatal(err)
	}
	cgroup = "minictr-" + filepath.Base(dir)
	t.Cleanup(func() { removeCgroups(t, cgroup) })
	flags = fmt.Sprintf("--root %s/root --runroot /run/containers --storage-driver overlay", dir)
	return flags, []string{"CONTAINERS_CONF=" + conf, "ROOTFS=" + rootfs(t), "TMPDIR=" + dir}, cgroup
}

// TestPodman has Podman do the same with minictr and with runc, and Buildah
// build an image.
func TestPodman(t *testing.T) {
	needs(t, "podman", "buildah", "runc", "conmon", "tar", "ip")
	flags, env, cgroup := podman(t)
	prologue := `podman() { command podman ` + flags + ` --tmpdir /run/libpod "$@"; }; buildah() { command buildah ` + flags + ` "$@"; }`
	smoke{title: "import", commands: []command{
		{text: "tar -C $ROOTFS -c . | podman import -q - localhost/busybox | wc -l", want: []string{"1"}},
	}}.run(t, prologue, env)
	for _, runtime := range []string{"minictr", "runc"} {
		t.Run(runtime, func(t *testing.T) {
			for _, c := range append(readCases(t, "podman.txt"), readCases(t, "podman-limits.txt")...) {
				t.Run(c.title, func(t *testing.T) {
					program := runtime
					if runtime == "minictr" {
						program = scratch + "/minictr"
					}
					c.run(t, prologue+"; R='--cgroup-parent /"+cgroup+"'; B=localhost/busybox; podman() { command podman "+flags+" --tmpdir /run/libpod --runtime "+runtime+
						` "$@"; }; run="podman run --rm $R"`, append(env, "DIR="+t.TempDir(), "RUNTIME="+program, "MINICTR="+scratch+"/minictr"))
				})
			}
		})
	}
}
