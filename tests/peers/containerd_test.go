package peers_test

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// containerdConf is a config.toml: both runtimes, for Kubernetes' kubelet and
// for ctr. This kind of machine may not lower oom_score_adj.
const containerdConf = `version = 2
root = "%[1]s/root"
state = "%[3]s"
[grpc]
  address = "%[3]s.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/busybox:pause"
  restrict_oom_score_adj = true
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "%[1]s/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.minictr]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.minictr.options]
      BinaryName = "%[2]s/minictr"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
`

// network is that of pods: a bridge in this test's network namespace.
const network = `{"cniVersion": "0.4.0", "name": "smoke", "plugins": [{"type": "bridge", "bridge": "smoke0", "isGateway": true,
	"ipam": {"type": "host-local", "dataDir": "%s/leases", "subnet": "10.99.0.0/24"}}]}`

// containerd starts the daemon, with an image in it for ctr and one for
// kubelets, and returns its directory.
func containerd(t *testing.T) (dir string) {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "ctd-") //nolint:usetesting // others may not pass through what t.TempDir makes
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"config.toml": fmt.Sprintf(containerdConf, dir, scratch, short(dir)), "cni/smoke.conflist": fmt.Sprintf(network, dir),
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	daemon(t, dir, "containerd", "--config", dir+"/config.toml")
	archive := busyboxArchive(t, dir)
	for _, namespace := range []string{"default", "k8s.io"} {
		for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
			out, err := exec.Command("ctr", "--address", short(dir)+".sock", "--namespace", namespace, "images", "import", archive).CombinedOutput()
			if err == nil {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("ctr images import: %v\n%s", err, out)
			}
		}
	}
	return dir
}

// busyboxArchive writes an image under two names, as docker save does: one
// whose command does nothing, for pods.
func busyboxArchive(t *testing.T, dir string) string {
	t.Helper()
	layer := filepath.Join(dir, "layer.tar")
	if out, err := exec.Command("tar", "-C", rootfs(t), "-cf", layer, ".").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v %s", err, out)
	}
	content, err := os.ReadFile(layer)
	if err != nil {
		t.Fatal(err)
	}
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	files, manifest := fstest.MapFS{"layer.tar": {Data: content}}, []entry{}
	for tag, command := range map[string][]string{"latest": {"sh"}, "pause": {"sleep", "1000000"}} {
		config, err := json.Marshal(map[string]any{
			"architecture": "amd64", "os": "linux", "config": map[string]any{"Cmd": command, "Env": []string{"PATH=/bin"}},
			"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(content))}},
		})
		if err != nil {
			t.Fatal(err)
		}
		files[tag+".json"] = &fstest.MapFile{Data: config}
		manifest = append(manifest, entry{tag + ".json", []string{"localhost/busybox:" + tag}, []string{"layer.tar"}})
	}
	text, err := json.Marshal(manifest)
	if err != nil {
		t.Fatal(err)
	}
	files["manifest.json"] = &fstest.MapFile{Data: text}
	f, err := os.Create(filepath.Join(dir, "image.tar"))
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	if err := errors.Join(w.AddFS(files), w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// TestContainerd has containerd do the same with minictr and with runc: by its
// own client, and as Kubernetes' kubelet asks it to.
func TestContainerd(t *testing.T) {
	needs(t, "containerd", "ctr", "runc", "tar", "ip", "iptables")
	client := filepath.Join(scratch, "cri")
	build := exec.Command("go", "build", "-C", "../cri", "-o", client, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	dir := containerd(t)
	cgroup := "minictr-" + filepath.Base(dir)
	t.Cleanup(func() { removeCgroups(t, cgroup) })
	for _, runtime := range []string{"minictr", "runc"} {
		t.Run(runtime, func(t *testing.T) {
			for _, c := range readCases(t, "containerd.txt") {
				t.Run(c.title, func(t *testing.T) {
					program := "runc"
					if runtime == "minictr" {
						program = scratch + "/minictr"
					}
					prologue := strings.NewReplacer("SOCK", short(dir)+".sock", "CRI", client, "PROGRAM", program, "CGROUP", cgroup).Replace(
						`ctr() { command ctr --address SOCK "$@"; }; cri() { CRI SOCK "$@"; }; B=localhost/busybox:latest
						R="--runc-binary PROGRAM --cgroup /CGROUP/ctr"; run="ctr run --rm $R"`)
					c.run(t, prologue, []string{"RUNTIME=" + runtime, "LOGS=" + t.TempDir(), "CGROUP=/" + cgroup})
				})
			}
		})
	}
}
