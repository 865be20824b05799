// Package systemd makes a bundle in which systemd is process 1, with minictr
// and a second bundle in it, so that what systemd does for containers is tested
// wherever there is a kernel.
package systemd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/seccomp"
	"github.com/minictr/minictr/pkg/spec"
)

// systemd is where Debian has it.
const systemd = "/lib/systemd/systemd"

// Bundle makes both bundles below dir; minictr is the program's file.
func Bundle(dir, minictr string) error {
	root := filepath.Join(dir, "rootfs")
	inner := filepath.Join(root, "bundle/rootfs")
	for _, d := range []string{
		"bin", "dev", "etc/systemd/system", "etc/systemd/user", "lib", "proc", "root", "run", "sys", "tmp", "var", "user",
		"bundle/rootfs/bin", "bundle/rootfs/dev", "bundle/rootfs/etc", "bundle/rootfs/proc", "bundle/rootfs/sys", "bundle/rootfs/tmp",
	} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	if err := programs(root, minictr); err != nil {
		return err
	}
	if err := shell(inner); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"etc/systemd/system/default.target": "[Unit]\nDefaultDependencies=no\n",
		"etc/machine-id":                    "", "etc/os-release": "ID=test\n",
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n", "etc/group": "root:x:0:\nuser:x:1000:\n",
		"etc/systemd/system/user.service": userService,
		"etc/systemd/user/default.target": "[Unit]\nDefaultDependencies=no\n",
		"etc/systemd/user/check.service":  "[Service]\nExecStart=/bin/sh /usercheck\n",
		"check":                           check, "usercheck": userCheck,
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	for link, to := range map[string]string{
		"etc/systemd/system/default.target.wants/user.service": "../user.service",
		"etc/systemd/user/default.target.wants/check.service":  "../check.service",
	} {
		name := filepath.Join(root, link)
		if err := errors.Join(os.Mkdir(filepath.Dir(name), 0o755), os.Symlink(to, name)); err != nil {
			return err
		}
	}
	if err := spec.Write(filepath.Dir(inner), container()); err != nil {
		return err
	}
	if err := spec.Write(filepath.Join(root, "user"), rootless()); err != nil {
		return err
	}
	return spec.Write(dir, system())
}

// system is a container that systemd takes for a machine: it has a cgroup of
// its own to divide, and nearly everything is allowed.
func system() *specs.Spec {
	s := spec.Default()
	s.Process.Args = []string{systemd, "--log-target=console"}
	s.Process.Env = []string{"PATH=/bin", "container=minictr"}
	s.Process.NoNewPrivileges = false
	s.Process.Rlimits = nil
	all := strings.Fields("CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP " +
		"CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_ADMIN CAP_SYS_NICE CAP_MKNOD CAP_AUDIT_WRITE CAP_SETFCAP CAP_NET_BIND_SERVICE")
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all, Inheritable: all}
	s.Root.Readonly = false
	s.Linux.Seccomp, s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil, nil
	s.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}}
	for i, m := range s.Mounts {
		if m.Type == "cgroup" || m.Type == "sysfs" {
			s.Mounts[i].Options = slices.DeleteFunc(m.Options, func(o string) bool { return o == "ro" })
		}
	}
	for _, dir := range []string{"/run", "/tmp"} {
		s.Mounts = append(s.Mounts, specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: dir})
	}
	return s
}

// container is what minictr has systemd make a cgroup for.
func container() *specs.Spec {
	s := spec.Default()
	s.Process.Args = []string{"sleep", "1000"}
	s.Process.Rlimits = nil
	nodes := []string{"CAP_MKNOD"}
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: nodes, Effective: nodes, Permitted: nodes}
	s.Linux.Seccomp = seccomp.Default(nodes, seccomp.Native())
	s.Linux.CgroupsPath = "test-pod.slice:m:one"
	limit, pids, shares, quota, period := int64(64<<20), int64(33), uint64(512), int64(20_000), uint64(100_000)
	s.Linux.Resources = &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: &limit}, Pids: &specs.LinuxPids{Limit: &pids},
		CPU: &specs.LinuxCPU{Shares: &shares, Quota: &quota, Period: &period},
	}
	s.Annotations = map[string]string{"org.systemd.property.TimeoutStopSec": "7", "org.systemd.property.Description": "'in other words'"}
	return s
}

// rootless is the same for a user, who is root inside.
func rootless() *specs.Spec {
	s := container()
	limits := s.Linux.Resources
	spec.Rootless(s, 1000, 1000)
	s.Root.Path, s.Linux.CgroupsPath, s.Linux.Resources = "/bundle/rootfs", ":m:two", limits
	s.Process.Capabilities, s.Linux.Seccomp = nil, nil
	return s
}

// userService is a user's systemd, without the session that would start it.
const userService = `[Service]
Type=notify
User=1000
Delegate=cpu memory pids
Environment=XDG_RUNTIME_DIR=/run/user/1000
ExecStartPre=+/bin/sh -c "mkdir -p /run/user/1000; chown 1000 /run/user/1000"
ExecStart=/lib/systemd/systemd --user --log-target=console
`

// userCheck is check for the user, as a service of the user's systemd.
const userCheck = `exec >/tmp/user 2>&1
cd /tmp
limits() {
	dir=/sys/fs/cgroup$(grep ^0:: /proc/$(minictr ps -f json two | tr -d '[]')/cgroup | cut -d: -f3)
	echo $1: ${dir##*/user.service} memory $(cat $dir/memory.max), pids $(cat $dir/pids.max), cpu $(cat $dir/cpu.max), processes $(cat $dir/cgroup.procs | wc -l)
}
if minictr --systemd-cgroup create --bundle /user two >$XDG_RUNTIME_DIR/out </dev/null 2>&1; then
	limits created
	minictr start two
	minictr update --memory 32M --pids-limit 44 two
	kill -HUP $PPID
	sleep 2
	limits updated
	minictr exec two sh -c 'exec id -u'
	minictr delete --force two
	echo left: $(find /sys/fs/cgroup -name 'm-two*') $(ls $XDG_RUNTIME_DIR/systemd/transient)
else
	cat $XDG_RUNTIME_DIR/out
fi
echo end >/tmp/done
`

// check does inside what a container manager would, and says what there is. At
// each "reload" systemd writes the limits that it knows.
const check = `set -e
exec 2>&1
one=test.slice/test-pod.slice/m-one.scope
file() { if [ -e /sys/fs/cgroup/cgroup.controllers ]; then cat /sys/fs/cgroup/$one/$3; else cat /sys/fs/cgroup/$1/$one/$2; fi; }
reload() { kill -HUP 1; sleep 2; }
limits() {
	echo $1: memory $(file memory memory.limit_in_bytes memory.max), pids $(file pids pids.max pids.max), processes $(file pids cgroup.procs cgroup.procs | wc -l), \
		cpu $(file cpu cpu.cfs_quota_us cpu.max | cut -d' ' -f1)
	minictr exec one sh -c 'rm -f /tmp/log; mknod /tmp/log c 1 11; head -c 1 /tmp/log' || true
}
cd /tmp
until [ -S /run/systemd/private ]; do sleep 0.1; done
minictr --systemd-cgroup create --bundle /bundle one >/tmp/out </dev/null || cat /tmp/out
minictr state one | grep status
minictr start one
echo elsewhere: $(grep -v $one /proc/$(minictr ps -f json one | tr -d '[]')/cgroup)
limits first
reload
limits reloaded
minictr update --memory 32M --pids-limit 44 one
limits updated
reload
limits reloaded
minictr exec --detach one sleep 1000 >/tmp/out </dev/null || cat /tmp/out
echo entered: $(file pids cgroup.procs cgroup.procs | wc -l) processes
grep -e Stop -e words /run/systemd/transient/m-one.scope
minictr delete --force one
echo left: $(find /sys/fs/cgroup -name 'm-one*') $(ls /run/systemd/transient)
for i in 1 2 3 4 5; do
	minictr --systemd-cgroup run --bundle /bundle --detach one >/tmp/out </dev/null || cat /tmp/out
	minictr delete --force one
done
sed -i s/sleep/nosuch/ /bundle/config.json
minictr --systemd-cgroup create --bundle /bundle one || true
echo left: $(find /sys/fs/cgroup -name 'm-one*') $(ls /run/systemd/transient)
sed -i s/test-pod.slice:m:one/no-slice:m:one/ /bundle/config.json
minictr --systemd-cgroup run --bundle /bundle one || true
until [ -e /tmp/done ]; do sleep 0.1; done
cat /tmp/user
`

// Want is what check says.
const Want = `  "status": "created",
elsewhere:
first: memory 67108864, pids 33, processes 1, cpu 20000
head: /tmp/log: Operation not permitted
reloaded: memory 67108864, pids 33, processes 1, cpu 20000
head: /tmp/log: Operation not permitted
updated: memory 33554432, pids 44, processes 1, cpu 20000
head: /tmp/log: Operation not permitted
reloaded: memory 33554432, pids 44, processes 1, cpu 20000
head: /tmp/log: Operation not permitted
entered: 2 processes
Description=in other words
TimeoutStopSec=7s
left:
minictr: exec: "nosuch": executable file not found in $PATH: is it in the image? try: minictr run IMAGE ls /bin
left:
minictr: /linux/cgroupsPath: cgroup: invalid path: invalid slice name: "no-slice"
`

// What it says then of the user's container, where cgroups are of version 2, and
// where they are not.
const (
	WantUser = `created: /user.slice/m-two.scope memory 67108864, pids 33, cpu 20000 100000, processes 1
updated: /user.slice/m-two.scope memory 33554432, pids 44, cpu 20000 100000, processes 1
0
left:
`
	WantNone = `minictr: /linux/cgroupsPath: a user's systemd makes cgroups of version 2 alone, and this host has version 1
`
)

// programs copies systemd, with the libraries that it needs, and minictr.
func programs(root, minictr string) error {
	out, err := exec.Command("ldd", systemd, "/lib/systemd/systemd-executor").Output()
	if len(out) == 0 {
		return fmt.Errorf("ldd %s (Debian: systemd): %w", systemd, err)
	}
	files := map[string]string{systemd: systemd, minictr: "/bin/minictr"}
	for word := range strings.FieldsSeq(string(out)) {
		if file := strings.TrimSuffix(word, ":"); filepath.IsAbs(file) {
			files[file] = file
		}
	}
	for from, to := range files {
		content, err := os.ReadFile(from)
		if err != nil && from == "/lib/systemd/systemd-executor" {
			continue // a younger systemd has it
		}
		if err == nil {
			err = os.MkdirAll(filepath.Join(root, filepath.Dir(to)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(root, to), content, 0o755)
		}
		if err != nil {
			return err
		}
	}
	return shell(root)
}

// shell gives a root file system a shell and its commands.
func shell(root string) error {
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return fmt.Errorf("busybox-static (Debian): %w", err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), busybox, 0o755); err != nil {
		return err
	}
	for name := range strings.FieldsSeq("cat chown cut echo find grep head id kill ls mkdir mknod rm sed sh sleep tr wc") {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
			return err
		}
	}
	return nil
}
