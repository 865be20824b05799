package peers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A box is a command that has the probe run in a container, and the limits
// that it gives, in the units of the wall's facts.
type box struct {
	name, command string
	limits        map[string]string
}

// small are limits that all managers can give.
var small = map[string]string{"memory.limit": "67108864", "cpu.quota": "50000", "cpu.period": "100000", "pids.limit": "60"}

const (
	flagsOfSmall = "-m 64m --cpus 0.5 --pids-limit 60"
	most         = "100" // forks: more than a small limit
)

// boxes are what people start containers by. This kind of machine lacks a
// capability, which --privileged wants.
func boxes(t *testing.T, name string) []box {
	all := []box{
		{"nothing", "exec PROBE NAME", nil},
		{"another user", "exec setpriv --reuid 1000 --regid 1000 --clear-groups --no-new-privs PROBE NAME", nil},
		{"chroot", "mount -t proc proc ROOTFS/proc && mount --rbind /sys ROOTFS/sys && exec chroot ROOTFS probe NAME", nil},
	}
	for name, flags := range map[string]string{"": "", " without seccomp": "--without seccomp", " without pid, net": "--without pid --without net"} {
		all = append(all, box{"minictr" + name, "minictr run " + flags + " -v PROBE:/bin/probe:ro tiny probe NAME", nil})
	}
	all = append(all,
		box{"minictr with limits", "minictr run " + flagsOfSmall + " -v PROBE:/bin/probe:ro tiny probe NAME " + most, small},
		box{"minictr's bundle", "minictr run --bundle " + bundle(t, name) + " wall", nil})
	for _, runtime := range []string{"minictr", "runc"} {
		for name, flags := range map[string]string{
			"": "", " with limits": flagsOfSmall,
			" as a user": "-u 1000 --read-only --security-opt no-new-privileges --cap-drop ALL",
			" with all":  "EVERYTHING --security-opt seccomp=unconfined --security-opt systempaths=unconfined --device-cgroup-rule 'a *:* rwm' --pid host",
		} {
			b := box{"docker, " + runtime + name, "docker run --rm --network none --runtime " + runtime + " " + flags + " -v PROBE:/bin/probe:ro busybox probe NAME", nil}
			if flags == flagsOfSmall {
				b.command, b.limits = b.command+" "+most, small
			}
			all = append(all, b)
		}
	}
	return append(all,
		box{"podman", "podman run --rm --network none -v PROBE:/bin/probe:ro localhost/busybox probe NAME", nil},
		box{"podman with limits", "podman run --rm --network none " + flagsOfSmall + " -v PROBE:/bin/probe:ro localhost/busybox probe NAME " + most, small},
		box{"bwrap", "exec bwrap --unshare-all --bind ROOTFS / --proc /proc --dev /dev probe NAME", nil},
		box{"bwrap of the root", "exec bwrap EVERYTHING --dev-bind / / --unshare-pid --proc /proc PROBE NAME", nil},
		box{"bwrap of a user", "exec setpriv --reuid 1000 --regid 1000 --clear-groups bwrap --unshare-user --unshare-pid --uid 0 --gid 0 --ro-bind ROOTFS / --proc /proc --dev /dev --tmpfs /tmp probe NAME", nil})
}

// bundle writes one with a user namespace, and a filter that does with some
// calls all that a filter can do.
func bundle(t *testing.T, name string) string {
	dir := t.TempDir()
	if out, err := exec.Command(scratch+"/minictr", "spec", "--bundle", dir).CombinedOutput(); err != nil {
		t.Fatalf("minictr spec: %v\n%s", err, out)
	}
	var s specs.Spec
	text, err := os.ReadFile(dir + "/config.json")
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Root.Path, s.Process.Args, s.Process.Terminal = rootfs(t), []string{"/bin/probe", name}, false
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	s.Linux.Sysctl = nil // it names groups that are nobody here
	s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"acct"}, Action: specs.ActTrap},
		{Names: []string{"add_key"}, Action: specs.ActKillProcess},
		{Names: []string{"bpf"}, Action: specs.ActKillThread},
		{Names: []string{"mount"}, Action: specs.ActErrno},
		{Names: []string{"umount2"}, Action: specs.ActLog},
		{Names: []string{"unshare"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 0, Value: unix.CLONE_NEWUSER, ValueTwo: unix.CLONE_NEWUSER, Op: specs.OpMaskedEqual}}},
		{Names: []string{"setns"}, Action: specs.ActKillProcess, Args: []specs.LinuxSeccompArg{{Index: 1, Value: 0, Op: specs.OpEqualTo}}},
		{Names: []string{"ioctl"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 1, Value: unix.TIOCSTI, Op: specs.OpEqualTo}}},
	}}
	if text, err = json.Marshal(&s); err == nil {
		err = os.WriteFile(dir+"/config.json", text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestWallOfOthers has a probe run in containers of several managers, which
// asks the kernel for everything from inside, and compares that with the wall
// around it as minictr sees it from outside.
func TestWallOfOthers(t *testing.T) {
	needs(t, "dockerd", "docker", "podman", "runc", "conmon", "bwrap", "setpriv", "tar", "ip")
	probe := filepath.Join(rootfs(t), "bin/probe")
	build := exec.Command("go", "build", "-C", "../probe", "-buildvcs=false", "-o", probe, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	address := dockerd(t)
	flags, env, cgroup := podman(t)
	dir := t.TempDir()
	prologue := fmt.Sprintf(`
minictr() { exec %s/minictr --data-root %s/root --root %[2]s/run "$@"; }
docker() { exec docker --host %s "$@"; }
podman() { exec podman %s --tmpdir /run/libpod --runtime runc "$@" ; }
`, scratch, dir, address, flags)
	smoke{title: "import", commands: []command{
		{text: "tar -C $ROOTFS -c . | podman " + flags + " --tmpdir /run/libpod import -q - localhost/busybox | wc -l", want: []string{"1"}},
	}}.run(t, "", env)
	name := filepath.Base(filepath.Dir(dir)) // no other probe's
	names := strings.NewReplacer("PROBE", probe, "ROOTFS", rootfs(t), "podman run", "podman run --cgroup-parent /"+cgroup, "EVERYTHING", everything(t), "NAME", name)
	for _, b := range boxes(t, name) {
		t.Run(b.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, "sh", "-c", prologue+names.Replace(b.command))
			cmd.Env = append(os.Environ(), env...)
			var says bytes.Buffer
			cmd.Stderr = &says
			out, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			var inside seen
			err = json.NewDecoder(out).Decode(&inside)
			pid := find(name)
			if err != nil || pid == 0 {
				t.Fatalf("the probe: process %d, %v\n%s", pid, err, says.String())
			}
			defer func() {
				_ = unix.Kill(pid, unix.SIGKILL)
				_ = cmd.Wait() // it tells that the probe was killed
			}()
			list, rows := compare(look(t, pid), inside, b.limits)
			for _, line := range list {
				t.Error(line)
			}
			t.Logf("%d rows", rows)
		})
	}
}

// look has minictr look at a process.
func look(t *testing.T, pid int) (w looked) {
	t.Helper()
	cmd := exec.Command(scratch+"/minictr", "wall", "--pid", strconv.Itoa(pid), "--format", "json")
	var says bytes.Buffer
	cmd.Stderr = &says
	text, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(text, &w)
	}
	if err != nil {
		t.Fatalf("minictr wall: %v\n%s", err, says.String())
	}
	return w
}

// find is the process of a probe that was given a name.
func find(name string) int {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range all {
		text, _ := os.ReadFile(file) // it may have ended
		words := strings.Split(string(text), "\x00")
		if len(words) > 1 && filepath.Base(words[0]) == "probe" && words[1] == name {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			return pid
		}
	}
	return 0
}

// everything adds the capabilities that this machine has and Debian's Docker
// knows.
func everything(t *testing.T) (flags string) {
	t.Helper()
	out, err := exec.Command("setpriv", "--dump").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(out), "bounding set: ")
	list, _, _ = strings.Cut(list, "\n")
	for name := range strings.SplitSeq(list, ",") {
		if !slices.Contains([]string{"perfmon", "bpf", "checkpoint_restore"}, name) {
			flags += " --cap-add CAP_" + strings.ToUpper(name)
		}
	}
	return flags
}
