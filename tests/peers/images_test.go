package peers_test

import "testing"

// TestImages has Docker, Podman and skopeo load what minictr saves, and the
// other way round: an image keeps its ID, and a container of it has the same
// tree and prints the same.
func TestImages(t *testing.T) {
	needs(t, "dockerd", "docker", "podman", "skopeo", "runc", "conmon", "tar", "ip")
	address := dockerd(t)
	flags, env, cgroup := podman(t)
	dir := t.TempDir()
	prologue := `
podman() { command podman ` + flags + ` --tmpdir /run/libpod --runtime runc "$@"; }
minictr() { ` + scratch + `/minictr --data-root $DIR/root --root $DIR/run "$@"; }
other() { rm -rf $DIR/other; ` + scratch + `/minictr --data-root $DIR/other --root $DIR/run load -q "$1" >/dev/null
	` + scratch + `/minictr --data-root $DIR/other --root $DIR/run images -q --no-trunc; }
id() { minictr images -q --no-trunc $1; }
made=$(id made:1) committed=$(id committed:1)
R="--rm --network none" P="--cgroup-parent /` + cgroup + `"
# Runtimes mount files in directories, which have other times then; and Podman has
# a root of its own making.
list='find / -mindepth 1 -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /here -o -path /.dockerenv -o -path /etc/hosts -o -path /etc/hostname -o -path /etc/resolv.conf -o -path /etc/mtab \) -prune -o ! -type d -exec stat -c "%n %A %u:%g %s %Y %h %N" {} + -o -exec stat -c "%n %A %u:%g" {} + | sort; find /etc /root -type f -exec md5sum {} + | grep -v "/etc/host\|/etc/resolv\|/etc/mtab" | sort'
`
	for _, c := range readCases(t, "images.txt") {
		t.Run(c.title, func(t *testing.T) {
			c.run(t, prologue, append(env, "DOCKER_HOST="+address, "DIR="+dir))
		})
	}
}
