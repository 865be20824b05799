package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// TestJoinedUserNamespace has a container share the user namespace of another,
// as those of a pod do: its process is born twice, and everybody is told of the
// second one. What it shows of the host lies behind a directory where the
// namespace's root is a stranger.
func TestJoinedUserNamespace(t *testing.T) {
	s := newSpec("owner", "pause")
	userNamespace(s)
	owner, dir := newOCI(t, "owner", s)
	owner.create(dir)
	owner.must("start", owner.id)
	user := fmt.Sprintf("/proc/%d/ns/user", owner.pid)

	private := filepath.Join(temp(t), "private")
	if err := os.Mkdir(private, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(private, "file"), []byte("shown\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(private, 4242, 4242); err != nil {
		t.Fatal(err)
	}
	s = newSpec("guest", "sh", "-c", "cat /file /proc/self/uid_map; readlink /proc/self/ns/user; cat /proc/self/oom_score_adj; exec pause")
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: user}, specs.LinuxNamespace{Type: specs.TimeNamespace})
	s.Linux.Sysctl = nil
	s.Process.OOMScoreAdj = ptr(345)
	s.Mounts = append(s.Mounts, specs.Mount{Type: "bind", Source: filepath.Join(private, "file"), Destination: "/file", Options: []string{"rbind"}})
	guest, dir := newOCI(t, "guest", nil)
	if err := os.WriteFile(filepath.Join(dir, "rootfs/file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	note := filepath.Join(dir, "note")
	s.Hooks = &specs.Hooks{
		CreateRuntime: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "cat >" + note}}},
		Poststart:     []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "cat >>" + note}}},
	}
	again := func() {
		t.Helper()
		if err := os.RemoveAll(filepath.Join(dir, "config.json")); err != nil {
			t.Fatal(err)
		}
		writeSpec(t, dir, s)
	}
	again()
	guest.create(dir)
	guest.wants(specs.StateCreated)
	guest.must("start", guest.id)
	guest.wants(specs.StateRunning)
	want := "shown\n         0     100000      65536\n" + link(t, user) + "\n345\n"
	guest.prints(func(text string) bool { return text == want })
	if got := guest.status().Pid; got != guest.pid {
		t.Errorf("the state is of process %d, and the PID file of %d", got, guest.pid)
	}
	if text, _ := os.ReadFile(note); strings.Count(string(text), fmt.Sprintf(`"pid":%d,`, guest.pid)) != 2 {
		t.Errorf("hooks are told of process %d: %s", guest.pid, text)
	}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", guest.pid))
	if f := fields(string(status)); !strings.HasSuffix(f["NSpid"], "\t1") || !strings.HasPrefix(f["Uid"], "100000\t") {
		t.Errorf("NSpid %q, Uid %q", f["NSpid"], f["Uid"])
	}
	if parent := parentOf(t, guest.pid); parent != os.Getpid() {
		t.Errorf("its parent is %d, and who waits is %d", parent, os.Getpid())
	}
	if r := guest.call("exec", guest.id, "sh", "-c", "readlink /proc/self/ns/user; cat /proc/1/comm"); r.stdout != link(t, user)+"\npause\n" {
		t.Errorf("exec: %v", r)
	}
	guest.must("delete", "--force", guest.id)

	s.Process.Args, s.Hooks = []string{"sh", "-c", "exit 7"}, nil
	again()
	if r := guest.call("run", "--bundle", dir, guest.id); r.status != 7 {
		t.Errorf("in the foreground: %v", r)
	}
	s.Process.Args = []string{"nosuch"}
	again()
	guest.fails(1, "executable file not found in $PATH", "run", "--bundle", dir, guest.id)
	s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1}}
	again()
	guest.fails(1, "/linux/timeOffsets: ", "run", "--bundle", dir, guest.id)
}

func parentOf(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	parent, err := strconv.Atoi(strings.TrimSpace(fields(string(text))["PPid"]))
	if err != nil {
		t.Fatal(err)
	}
	return parent
}

// TestLockedSources is that root of a user namespace can't take back what a
// mount of the host forbids. Root of the host's namespace, with the same
// capability, can.
func TestLockedSources(t *testing.T) {
	h := newHost(t)
	source := temp(t)
	if err := unix.Mount("none", source, "tmpfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(source, 0); err != nil {
			t.Error(err)
		}
	})
	for _, user := range []bool{false, true} {
		s := newSpec("locked", "remount")
		s.Linux.Seccomp = nil
		admin := []string{"CAP_SYS_ADMIN"}
		s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: admin, Effective: admin, Permitted: admin}
		s.Mounts = append(s.Mounts, specs.Mount{Type: "bind", Source: source, Destination: "/shown", Options: []string{"rbind"}})
		want := 0
		if user {
			userNamespace(s)
			want = 127
		}
		dir := newBundle(t, s, "locked")
		remount := &plan.Step{Call: plan.Call{Name: "mount", Number: unix.SYS_MOUNT, Args: []plan.Arg{
			plan.Num{}, plan.Str("/shown"), plan.Num{}, plan.Num{Value: unix.MS_REMOUNT | unix.MS_BIND}, plan.Num{},
		}}}
		if err := os.Mkdir(filepath.Join(dir, "rootfs/shown"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "rootfs/bin/remount"), tinyProgram(t, remount), 0o755); err != nil {
			t.Fatal(err)
		}
		if r := h.minictr(t, "run", "--bundle", dir, "locked"); r.status != want {
			t.Errorf("user namespace: %v: %v", user, r)
		}
	}
}
