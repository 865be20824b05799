package peers_test

import (
	"fmt"
	"net"
	"os"
	"testing"
	"time"
)

// startRegistry starts Debian's docker-registry, and returns its host.
func startRegistry(t *testing.T) string {
	t.Helper()
	const host = "127.0.0.1:5000" // nothing else is in this network namespace
	dir := t.TempDir()
	config := fmt.Sprintf("version: 0.1\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\n", dir+"/data", host)
	if err := os.WriteFile(dir+"/config.yml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon(t, dir, "docker-registry", "serve", dir+"/config.yml")
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		c, err := net.Dial("tcp", host)
		if err == nil {
			_ = c.Close()
			return host
		}
		if time.Now().After(end) {
			t.Fatalf("docker-registry does not listen: %v", err)
		}
	}
}

// TestImages has Docker, Podman and skopeo load what minictr saves, and pull what
// it pushes, and the other way round: an image keeps its ID, and a container of it has the same
// tree and prints the same.
func TestImages(t *testing.T) {
	needs(t, "dockerd", "docker", "podman", "skopeo", "runc", "conmon", "docker-registry", "tar", "ip")
	address := dockerd(t)
	registry := startRegistry(t)
	flags, env, cgroup := podman(t)
	dir := t.TempDir()
	prologue := `
podman() { command podman ` + flags + ` --tmpdir /run/libpod --runtime runc "$@"; }
minictr() { ` + scratch + `/minictr --data-root $DIR/root --root $DIR/run "$@"; }
other() { rm -rf $DIR/other; ` + scratch + `/minictr --data-root $DIR/other --root $DIR/run load -q "$1" >/dev/null
	` + scratch + `/minictr --data-root $DIR/other --root $DIR/run images -q --no-trunc; }
elsewhere() { ` + scratch + `/minictr --data-root $DIR/other --root $DIR/run "$@"; }
id() { minictr images -q --no-trunc $1; }
made=$(id made:1) committed=$(id committed:1)
R="--rm --network none" P="--cgroup-parent /` + cgroup + `"
# Runtimes mount files in directories, which have other times then; and Podman has
# a root of its own making.
list='find / -mindepth 1 -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /here -o -path /.dockerenv -o -path /etc/hosts -o -path /etc/hostname -o -path /etc/resolv.conf -o -path /etc/mtab \) -prune -o ! -type d -exec stat -c "%n %A %u:%g %s %Y %h %N" {} + -o -exec stat -c "%n %A %u:%g" {} + | sort; find /etc /root -type f -exec md5sum {} + | grep -v "/etc/host\|/etc/resolv\|/etc/mtab" | sort'
`
	for _, c := range readCases(t, "images.txt") {
		t.Run(c.title, func(t *testing.T) {
			c.run(t, prologue, append(env, "DOCKER_HOST="+address, "DIR="+dir, "REGISTRY="+registry))
		})
	}
}
