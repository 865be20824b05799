package peers_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// dockerd starts Docker's daemon, with minictr as one of its runtimes, and
// returns the address it listens on.
func dockerd(t *testing.T, flags ...string) (address string) {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "docker-") //nolint:usetesting // others may not pass through what t.TempDir makes
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{scratch, dir} { // the root of a user namespace is a stranger here
		if err := os.Chmod(d, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	address = "unix://" + short(dir) + ".sock"
	cgroup := "minictr-" + filepath.Base(dir)
	t.Cleanup(func() { removeCgroups(t, cgroup) })
	if err := os.WriteFile(dir+"/daemon.json", []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon(t, dir, "dockerd", append([]string{
		"--data-root", dir + "/data", "--exec-root", short(dir), "--pidfile", dir + "/pid", "--host", address,
		"--config-file", dir + "/daemon.json",
		"--cgroup-parent", "/" + cgroup, "--oom-score-adjust", "0", "--storage-driver", "overlay2",
		"--add-runtime", "minictr=" + scratch + "/minictr",
	}, flags...)...)
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		if exec.Command("docker", "--host", address, "info").Run() == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("dockerd does not answer")
		}
	}
	tar := exec.Command("tar", "-C", rootfs(t), "-c", ".")
	load := exec.Command("docker", "--host", address, "import", "-", "busybox")
	if load.Stdin, err = tar.StdoutPipe(); err == nil {
		err = tar.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("docker import: %v\n%s", err, out)
	}
	if err := tar.Wait(); err != nil {
		t.Fatal(err)
	}
	return address
}

// TestDocker has Docker's daemon do the same with minictr and with runc.
func TestDocker(t *testing.T) {
	needs(t, "dockerd", "docker", "runc", "tar", "ip")
	smokeTest(t, dockerd(t), "docker.txt")
}

// TestDockerUserNamespace is the same for a daemon whose containers all have a
// user namespace.
func TestDockerUserNamespace(t *testing.T) {
	needs(t, "dockerd", "docker", "runc", "tar", "ip")
	for file, line := range map[string]string{"/etc/subuid": "nobody:100000:65536\n", "/etc/subgid": "nobody:100000:65536\n"} {
		own := filepath.Join(scratch, filepath.Base(file))
		if err := os.WriteFile(own, []byte(line), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("mount", "--bind", own, file).CombinedOutput(); err != nil { // in this mount namespace
			t.Fatalf("%v: %s", err, out)
		}
	}
	smokeTest(t, dockerd(t, "--userns-remap", "nobody:nogroup"), "docker-userns.txt")
}

func smokeTest(t *testing.T, address, cases string) {
	for _, runtime := range []string{"minictr", "runc"} {
		t.Run(runtime, func(t *testing.T) {
			for _, c := range readCases(t, cases) {
				t.Run(c.title, func(t *testing.T) {
					dir := t.TempDir()
					c.run(t, `R="--runtime `+runtime+`"; run="docker run --rm $R"`, []string{"DOCKER_HOST=" + address, "DIR=" + dir, "MINICTR=" + scratch + "/minictr"})
					left, _ := exec.Command("docker", "--host", address, "ps", "-aq").Output()
					if len(left) > 0 {
						t.Errorf("containers are left: %s", left)
						_ = exec.Command("sh", "-c", "docker --host "+address+" ps -aq | xargs docker --host "+address+" rm -f").Run()
					}
				})
			}
		})
	}
}
