package peers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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

const smallFlags = "-m 64m --cpus 0.5 --pids-limit 60"

// small are the same limits in the units of the wall's facts.
var small = map[string]string{"memory.limit": "67108864", "cpu.quota": "50000", "cpu.period": "100000", "pids.limit": "60"}

// bundle writes one with a user namespace, and a filter that does with some
// calls all that a filter can do.
func bundle(t *testing.T) string {
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
	s.Root.Path, s.Process.Args, s.Process.Terminal = rootfs(t), []string{"/bin/probe", "NAME"}, false
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
	smoke{title: "import", commands: []command{
		{text: "tar -C $ROOTFS -c . | podman " + flags + " --tmpdir /run/libpod import -q - localhost/busybox | wc -l", want: []string{"1"}},
	}}.run(t, "", env)
	prologue := fmt.Sprintf(`
minictr() { exec %s/minictr --data-root $DIR/root --root $DIR/run "$@"; }
podman() { exec podman %s --tmpdir /run/libpod --runtime runc "$@"; }
`, scratch, flags)
	env = append(env, "DOCKER_HOST="+address, "CGROUP=/"+cgroup, "DIR="+t.TempDir(), "PROBE="+probe, "IN=-v "+probe+":/bin/probe:ro",
		"SMALL="+smallFlags, "ALL="+everything(t), "BUNDLE="+bundle(t))
	for i, c := range readCases(t, "wall.txt") {
		for _, runtime := range []string{"minictr", "runc"} {
			script, title := c.commands[0].text, c.title
			if strings.Contains(script, "$RUNTIME") {
				title += ", " + runtime
			} else if runtime == "runc" {
				continue
			}
			t.Run(title, func(t *testing.T) {
				if !strings.Contains(script, "$PROBE") { // it counts the mounts of this process
					t.Parallel()
				}
				name := fmt.Sprintf("%s-%d-%s", filepath.Base(scratch), i, runtime)
				wallAgrees(t, name, prologue, script, append(slices.Clone(env), "NAME="+name, "RUNTIME="+runtime))
			})
		}
	}
}

// wallAgrees has a script run a probe, behind a prologue, and compares.
func wallAgrees(t *testing.T, name, prologue, script string, env []string) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", prologue+script)
	cmd.Env = append(os.Environ(), env...)
	manager, _, _ := strings.Cut(script, " run --rm --name $NAME ")
	if manager == script {
		manager = ""
	}
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
	defer func() {
		if pid > 0 {
			_ = unix.Kill(pid, unix.SIGKILL)
		} else if manager != "" { // a container that is not to be found is its manager's to end
			forget := exec.Command("sh", "-c", prologue+manager+" rm --force $NAME")
			forget.Env = cmd.Env
			if out, err := forget.CombinedOutput(); err != nil {
				t.Logf("%s rm: %v\n%s", manager, err, out) // it was never there
			}
		}
		_ = cmd.Wait() // it tells that the probe was killed
	}()
	if err != nil || pid == 0 {
		t.Fatalf("the probe: process %d, %v\n%s", pid, err, says.String())
	}
	var limits map[string]string
	if strings.Contains(script, "$SMALL") {
		limits = small
	}
	around := look(t, pid)
	list, rows := compare(around, inside, limits)
	for _, line := range list {
		t.Error(line)
	}
	t.Logf("%d rows", rows)
	if limits != nil && strings.Contains(script, "minictr run $SMALL") && len(list) == 0 {
		lies(t, around, inside)
	}
}

// lies changes single facts of a wall that agrees, and each must be found out.
func lies(t *testing.T, around looked, inside seen) {
	for _, lie := range [...]struct{ row, old, new, want string }{
		{"net", `"State":"walled"`, `"State":"shared"`, "net: wall says shared, the probe saw walled"},
		{"user", `[0,0,4294967295]`, `[0,100000,65536]`, "user: uid_map: wall says [[0 100000 65536]], the probe saw [[0 0 4294967295]]"},
		{"root", `"read_only":false`, `"read_only":true`, "root: read_only: wall says true, the probe saw false"},
		{"masks", `"/proc/keys","read":false`, `"/proc/keys","read":true`, "masks: /proc/keys read: wall says true, the probe saw false"},
		{"masks", `core_pattern","read":true,"write":false`, `core_pattern","read":true,"write":true`, "masks: /proc/sys/kernel/core_pattern write: wall says true, the probe saw false"},
		{"devices", `"minor":3,"read":true`, `"minor":3,"read":false`, "devices: /dev/null 0: wall says false, the probe saw true"},
		{"devices", `"/dev/zero"`, `"/dev/mem"`, "devices: /dev/zero: wall says false, the probe saw true"},
		{"devices", `"mknod":false`, `"mknod":true`, "devices: mknod: wall says true, the probe saw false"},
		{"memory", `67108864`, `67108865`, "memory: limit: wall says 67108865, the probe saw 67108864"},
		{"pids", `"limit":60`, `"limit":61`, "pids: limit: wall says 61, the probe saw 60"},
		{"caps", `"effective":["CAP_CHOWN",`, `"effective":[`, "caps: CAP_CHOWN by lchown: wall says false, the probe saw true"},
		{"nnp", `true`, `false`, "nnp: wall says false, the probe saw true"},
		{"seccomp", `"pass":[`, `"pass":["mount",`, "seccomp: mount: wall says passrefused, the probe saw refused"},
		{"seccomp", `"mount",`, ``, "seccomp: mount: wall says , the probe saw refused"},
		{"seccomp", `"clone",`, ``, "seccomp: clone: wall says , the probe saw depends"},
		{"seccomp", `"x32":false`, `"x32":true`, "seccomp: foreign x32: wall says true, the probe saw false"},
		{"root", `"State":"walled"`, `"State":"shared"`, "root: shared: wall says true, the probe saw false"},
		{"masks", `"State":"walled"`, `"State":"shared"`, "masks: shared: wall says true, the probe saw false"},
		{"memory", `"State":"walled"`, `"State":"missing"`, "memory: state: wall says missing, the probe saw walled"},
		{"sysctls", `"vm.swappiness = `, `"`, "sysctls: wall says " + inside.Values["/proc/sys/vm/swappiness"] + ", the probe saw vm.swappiness = " + inside.Values["/proc/sys/vm/swappiness"]},
		{"boot", inside.Values["/proc/sys/kernel/random/boot_id"], "another", "boot: wall says another, the probe saw " + inside.Values["/proc/sys/kernel/random/boot_id"]},
	} {
		w := around
		w.Bricks, w.Gaps = slices.Clone(w.Bricks), slices.Clone(w.Gaps)
		told := false
		for _, rows := range [][]row{w.Bricks, w.Gaps} {
			for i, r := range rows {
				text, err := json.Marshal(r)
				changed := strings.Replace(string(text), lie.old, lie.new, 1)
				if r.Name == lie.row && changed != string(text) {
					rows[i], told = row{}, true
					err = errors.Join(err, json.Unmarshal([]byte(changed), &rows[i]))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		if list, _ := compare(w, inside, small); !told || !slices.Contains(list, lie.want) {
			t.Errorf("%s in place of %s in %s gives %q, without %q", lie.new, lie.old, lie.row, list, lie.want)
		}
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
