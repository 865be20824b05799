package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minictr/minictr/pkg/spec"
)

// bundle makes a bundle whose root file system has one program, /bin/true, and
// whose config.json is the text, or the default one with a patch.
func bundle(t *testing.T, dir, text, patch string) {
	t.Helper()
	program, err := printer("")
	if err != nil {
		t.Fatal(err)
	}
	if text == "" {
		text = config(t, patch)
	}
	for _, d := range []string{"bin", "a", "dev", "proc", "sys"} {
		if err := os.MkdirAll(filepath.Join(dir, "rootfs", d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string][]byte{"rootfs/bin/true": program, "rootfs/etc": nil, "config.json": []byte(text)} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// config is the default config.json with a JSON merge patch, RFC 7396: what
// the patch names is replaced, and taken out if that is null.
func config(t *testing.T, patch string) string {
	t.Helper()
	s := spec.Default()
	s.Process.Args = []string{"/bin/true"}
	s.Linux.Sysctl = nil // it needs a /proc
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var target, change any
	if err := json.Unmarshal(text, &target); err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(strings.NewReader(patch))
	decoder.UseNumber() // 2^64-1 is no float64
	if err := decoder.Decode(&change); err != nil {
		t.Fatalf("%s: %v", patch, err)
	}
	text, err = json.Marshal(merge(target, change))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func merge(target, patch any) any {
	change, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	out := make(map[string]any)
	if have, ok := target.(map[string]any); ok {
		maps.Copy(out, have)
	}
	for key, value := range change {
		if value == nil {
			delete(out, key)
		} else {
			out[key] = merge(out[key], value)
		}
	}
	return out
}

// TestRefusesText gives minictr files that are no config.json at all.
func TestRefusesText(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing", " ", "line 1: unexpected EOF"},
		{"words", "hello", "line 1: invalid character 'h' at start of value"},
		{"cut off", "{\n\"ociVersion\": \"1.0.0\",\n\"process\": {", "line 3: /process: unexpected EOF"},
		{"a comma too many", "{\n  \"ociVersion\": \"1.0.0\",\n}\n", "line 2: invalid character ',' at start of value"},
		{"twice", `{"ociVersion": "1.0.0", "ociVersion": "1.0.1"}`, "line 1: /ociVersion: duplicate object member name"},
		{"two documents", "{}\n{}", "line 2: more than one value"},
		{"an array", "[]", "must be an object, not an array"},
		{"a number for text", `{"hostname": 5}`, "/hostname: must be a string, not a number"},
		{"text for a number", `{"process": {"user": {"uid": "root"}}}`, "/process/user/uid: must be a number from 0 to 4294967295, not a string"},
		{"text for an array", `{"process": {"args": "sh"}}`, "/process/args: must be an array, not a string"},
		{"text for a boolean", `{"root": {"readonly": "yes"}}`, "/root/readonly: must be a boolean, not a string"},
		{"an array for an object", `{"linux": []}`, "/linux: must be an object, not an array"},
		{"an object in an array", `{"mounts": [{"destination": "/a"}, {"destination": {}}]}`, "/mounts/1/destination: must be a string, not an object"},
		{"a number below 0", `{"process": {"user": {"uid": -1}}}`, "/process/user/uid: must be a number from 0 to 4294967295, not a number -1"},
		{"a number that is too large", `{"process": {"user": {"uid": 4294967296}}}`, "/process/user/uid: must be a number from 0 to 4294967295, not a number 4294967296"},
		{"half a number", `{"linux": {"resources": {"pids": {"limit": 1.5}}}}`, "/linux/resources/pids/limit: must be a whole number, not a number 1.5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			bundle(t, filepath.Join(h.dir, "b"), c.text, "")
			h.refuses(t, nil, c.want, "plan", "b/")
		})
	}
}

// TestRefusesConfigs gives minictr config.json files that are wrong in one
// field. That is found before anything is done, so plan finds it too.
func TestRefusesConfigs(t *testing.T) {
	long := strings.Repeat("x", 65)
	for _, c := range []struct{ patch, want string }{
		{`{"ociVersion": null}`, `/ociVersion: this runtime knows versions 1.x, not ""`},
		{`{"ociVersion": "2.0.0"}`, `/ociVersion: this runtime knows versions 1.x, not "2.0.0"`},
		{`{"linux": null}`, "/linux: missing; this runtime makes Linux containers"},
		{`{"process": null}`, "/process: missing"},
		{`{"process": {"args": []}}`, "/process/args: must name a program"},
		{`{"process": {"args": [""]}}`, "/process/args: must name a program"},
		{`{"process": {"cwd": null}}`, `/process/cwd: Cwd must be an absolute path, not ""`},
		{`{"process": {"cwd": "here"}}`, `/process/cwd: Cwd must be an absolute path, not "here"`},
		{`{"process": {"env": ["A=1", "B"]}}`, `/process/env/1: "B" is not NAME=VALUE`},
		{`{"process": {"oomScoreAdj": 1001}}`, "/process/oomScoreAdj: 1001 is not from -1000 to 1000"},
		{`{"process": {"consoleSize": {"height": 70000, "width": 1}}}`, "/process/consoleSize: a terminal has at most 65535 rows and columns"},
		{`{"process": {"user": {"uid": 4294967295}}}`, "/process/user/uid: 4294967295 is above 2147483647"},
		{`{"process": {"user": {"gid": 2147483648}}}`, "/process/user/gid: 2147483648 is above 2147483647"},
		{`{"process": {"user": {"additionalGids": [1, 4294967295]}}}`, "/process/user/additionalGids/1: 4294967295 is above 2147483647"},
		{`{"process": {"user": {"umask": 4096}}}`, "/process/user/umask: 010000 is above 0777"},
		{`{"process": {"rlimits": [{"type": "RLIMIT_WINGS", "soft": 1, "hard": 1}]}}`, `/process/rlimits/0/type: unknown resource limit "RLIMIT_WINGS"`},
		{`{"process": {"rlimits": [{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]}}`, "/process/rlimits/0/soft: wrong rlimit value: RLIMIT_CORE: 2 is above the hard limit 1"},
		{`{"process": {"rlimits": [{"type": "RLIMIT_CORE"}, {"type": "RLIMIT_CORE"}]}}`, "/process/rlimits/1/type: a second RLIMIT_CORE"},
		{`{"process": {"apparmorProfile": "x"}}`, "/process/apparmorProfile: AppArmor is not enabled on this host"},
		{`{"process": {"selinuxLabel": "x"}}`, "/process/selinuxLabel: SELinux is not enabled on this host"},
		{`{"process": {"selinuxLabel": "x", "apparmorProfile": "y"}}`, "/process/selinuxLabel: unable to apply both a label of SELinux and a profile of AppArmor"},
		{`{"process": {"args": ["/bin/true", "a\u0000b"]}}`, "/process/args/1: a NUL byte ends every string of the kernel"},
		{`{"hostname": "a\u0000b"}`, "/hostname: a NUL byte ends every string of the kernel"},
		{`{"annotations": {"a": "\u0000"}}`, "/annotations/a: a NUL byte ends every string of the kernel"},
		{`{"hostname": "` + long + `"}`, `/hostname: "` + long + `" is longer than 64 bytes`},
		{`{"domainname": "` + long + `"}`, `/domainname: "` + long + `" is longer than 64 bytes`},
		{`{"hostname": "x", "linux": {"namespaces": [{"type": "mount"}]}}`, "/hostname: without a uts namespace it would be the host's"},
		{`{"root": null}`, "/root/path: missing"},
		{`{"root": {"path": ""}}`, "/root/path: missing"},
		{`{"root": {"path": "nosuch"}}`, "/root/path: lstat DIR/b/nosuch: no such file or directory"},
		{`{"root": {"path": "rootfs/etc"}}`, "/root/path: DIR/b/rootfs/etc is not a directory"},
		{`{"hooks": {"prestart": [{"path": "bin/true"}]}}`, `/hooks/prestart/0/path: "bin/true" is not absolute`},
		{`{"hooks": {"poststop": [{"path": "/bin/true", "timeout": -1}]}}`, "/hooks/poststop/0/timeout: -1 is not above zero"},
		{`{"mounts": [{"type": "tmpfs"}]}`, "/mounts/0/destination: missing"},
		{`{"mounts": [{"destination": "/a"}]}`, "/mounts/0/type: missing"},
		{`{"mounts": [{"destination": "/a", "type": "bind"}]}`, "/mounts/0/source: missing for a bind mount"},
		{`{"mounts": [{"destination": "/", "type": "tmpfs"}]}`, "/mounts/0/destination: only the first mount can be the root, and only an overlay"},
		{`{"mounts": [{"destination": "/a", "type": "bind", "source": "/nosuch"}]}`, "/mounts/0/source: /nosuch: no such file or directory"},
		{`{"mounts": [{"destination": "/a", "type": "bind", "source": "/", "options": ["idmap"]}]}`, "/mounts/0/options: idmap without uidMappings takes the container's, which has no user namespace"},
		{`{"linux": {"rootfsPropagation": "loud"}}`, `/linux/rootfsPropagation: unknown propagation "loud"`},
		{`{"linux": {"namespaces": [{"type": "mount"}, {"type": "moon"}]}}`, `/linux/namespaces/1/type: unknown namespace "moon"`},
		{`{"linux": {"namespaces": [{"type": "mount"}, {"type": "mount"}]}}`, `/linux/namespaces/1/type: a second namespace "mount"`},
		{`{"linux": {"namespaces": [{"type": "pid"}]}}`, "/linux/namespaces: no mount namespace: the container's mounts would be the host's"},
		{`{"linux": {"namespaces": [{"type": "mount"}, {"type": "network", "path": "ns"}]}}`, `/linux/namespaces/1/path: "ns" is not absolute`},
		{`{"linux": {"namespaces": [{"type": "mount", "path": "/proc/1/ns/mnt"}]}}`, "/linux/namespaces/0/path: a container needs a mount namespace of its own; to enter another's is exec"},
		{`{"linux": {"timeOffsets": {"monotonic": {"secs": 1}}}}`, "/linux/timeOffsets: without a time namespace there is no clock to shift"},
		{`{"linux": {"namespaces": [{"type": "mount"}, {"type": "time"}], "timeOffsets": {"realtime": {"secs": 1}}}}`, "/linux/timeOffsets/realtime: only the clocks monotonic and boottime can be shifted"},
		{`{"linux": {"uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}]}}`, "/linux/uidMappings: without a user namespace nothing is mapped"},
		{`{"linux": {"namespaces": [{"type": "mount"}, {"type": "user"}]}}`, "/linux/uidMappings: a user namespace without it has nobody in it"},
		{`{"linux": {"namespaces": [{"type": "mount"}, {"type": "user"}], "uidMappings": [{"containerID": 0, "hostID": 0, "size": 0}]}}`, "/linux/uidMappings/0: 0 ids from 0 on, as 0 on the host, is no range of ids"},
		{`{"linux": {"devices": [{"path": "dev/x", "type": "c", "major": 1, "minor": 3}]}}`, `/linux/devices/0/path: "dev/x" is not the absolute path of a device`},
		{`{"linux": {"devices": [{"path": "/dev/x", "type": "q", "major": 1, "minor": 3}]}}`, `/linux/devices/0/type: "q" is none of c, u, b and p`},
		{`{"linux": {"devices": [{"path": "/dev/x", "type": "c", "major": 5000, "minor": 3}]}}`, "/linux/devices/0: no device has the numbers 5000:3"},
		{`{"linux": {"maskedPaths": ["/proc/acpi", "proc/keys"]}}`, `/linux/maskedPaths/1: "proc/keys" is not absolute`},
		{`{"linux": {"readonlyPaths": ["proc/sys"]}}`, `/linux/readonlyPaths/0: "proc/sys" is not absolute`},
		{`{"linux": {"sysctl": {"vm.swappiness": "1"}}}`, `/linux/sysctl: "vm.swappiness" belongs to no namespace: it would change the host`},
		{`{"linux": {"sysctl": {"net.ipv4/../../vm/swappiness": "1"}}}`, `/linux/sysctl: "net.ipv4/../../vm/swappiness" is no parameter`},
		{`{"linux": {"namespaces": [{"type": "mount"}], "sysctl": {"net.ipv4.ip_forward": "1"}}}`, `/linux/sysctl: "net.ipv4.ip_forward" belongs to the network namespace, which is the host's here`},
		{`{"linux": {"cgroupsPath": "/a/../b"}}`, `/linux/cgroupsPath: cgroup: invalid path "/a/../b": element ".."`},
		{`{"linux": {"cgroupsPath": "../b"}}`, `/linux/cgroupsPath: cgroup: invalid path "../b": element ".."`},
		{`{"linux": {"resources": {"devices": [{"allow": true, "type": "c", "access": "x"}]}}}`, `/linux/resources/devices/0/access: "x" has other letters than r, w, m`},
		{`{"linux": {"seccomp": {"defaultAction": "SCMP_ACT_SING"}}}`, `/linux/seccomp/defaultAction: unknown action "SCMP_ACT_SING"`},
		{`{"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_PDP11"]}}}`, `/linux/seccomp/architectures/0: unknown architecture "SCMP_ARCH_PDP11"`},
		{`{"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 7, "value": 1, "op": "SCMP_CMP_EQ"}]}]}}}`, "/linux/seccomp/syscalls/0/args/0/index: 7: a system call has 6 arguments"},
		{`{"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_XX"}]}]}}}`, `/linux/seccomp/syscalls/0/args/0/op: unknown operator "SCMP_CMP_XX"`},
		{`{"linux": {"seccomp": {"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/x"}}}`, "/linux/seccomp/defaultAction: SCMP_ACT_NOTIFY would stop the calls that hand the listener over, too"},
		{`{"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x", "syscalls": [{"names": ["write"], "action": "SCMP_ACT_NOTIFY"}]}}}`, "/linux/seccomp/syscalls/0/names/0: SCMP_ACT_NOTIFY cannot be used for the write syscall, by which a process tells of its listener"},
		{`{"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}}}`, "/linux/seccomp/listenerPath: is missing, and an action is SCMP_ACT_NOTIFY"},
		{`{"linux": {"intelRdt": {"closID": "x"}}}`, "/linux/intelRdt: not supported yet"},
		{`{"linux": {"intelRdt": {}}}`, "/linux/intelRdt: not supported yet"},
		{`{"linux": {"intelRdt": {"schemata": ["L3:0=f"]}}}`, "/linux/intelRdt: not supported yet"},
		{`{"linux": {"intelRdt": {"enableMonitoring": true}}}`, "/linux/intelRdt: not supported yet"},
		{`{"linux": {"intelRdt": {"schemata": "L3:0=f"}}}`, "/linux/intelRdt/schemata: must be an array, not a string"},
		{`{"linux": {"personality": {"domain": "LINUX16"}}}`, `/linux/personality/domain: unknown domain "LINUX16"`},
		{`{"linux": {"personality": {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}}}`, `/linux/personality/flags: "ADDR_NO_RANDOMIZE": no flag is supported`},
		{`{"linux": {"memoryPolicy": {"mode": "MPOL_FAR", "nodes": "0"}}}`, `/linux/memoryPolicy/mode: invalid memory policy mode "MPOL_FAR"`},
		{`{"linux": {"memoryPolicy": {"mode": "MPOL_BIND", "nodes": "3-1"}}}`, `/linux/memoryPolicy/nodes: invalid memory policy nodes: "3-1" is no list of numbers up to 8192, such as 0-3,7`},
		{`{"linux": {"memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_FAR"]}}}`, `/linux/memoryPolicy/flags/0: invalid memory policy flag "MPOL_F_FAR"`},
		{`{"process": {"scheduler": {"policy": "SCHED_LATER"}}}`, `/process/scheduler/policy: unknown policy "SCHED_LATER"`},
		{`{"process": {"scheduler": {"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_NONE"]}}}`, `/process/scheduler/flags/0: unknown flag "SCHED_FLAG_NONE"`},
		{`{"process": {"ioPriority": {"class": "IOPRIO_CLASS_BEST", "priority": 4}}}`, `/process/ioPriority/class: unknown class "IOPRIO_CLASS_BEST"`},
		{`{"process": {"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}}}`, "/process/ioPriority/priority: 8 is not from 0 to 7"},
		{`{"linux": {"mountLabel": "x"}}`, "/linux/mountLabel: SELinux is not enabled on this host"},
	} {
		t.Run(c.patch, func(t *testing.T) {
			h := newHost(t)
			bundle(t, filepath.Join(h.dir, "b"), "", c.patch)
			h.refuses(t, nil, c.want, "plan", "b/")
		})
	}
}

// TestRefusesSteps gives minictr configurations that only the kernel can
// refuse, at one step of the plan. Whatever was made until then is gone.
func TestRefusesSteps(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	const (
		notDirectory = "{flags=O_RDONLY|O_CLOEXEC|O_PATH|O_DIRECTORY, resolve=RESOLVE_NO_MAGICLINKS|RESOLVE_IN_ROOT}, 24) → ENOTDIR: not a directory: a part of the path is a file"
		onFile       = ": a directory can't be mounted on a file, nor a file on a directory"
		below        = ", where a directory must be"
		invalid      = " → EINVAL: invalid argument: "
	)
	long := strings.Repeat("x", 1<<17)
	for _, c := range []struct{ patch, want string }{
		{
			`{"mounts": [{"destination": "/a", "type": "nosuchfs"}]}`,
			`/mounts/0: step N, mounts: fsopen("nosuchfs", FSOPEN_CLOEXEC) → ENODEV: no such device: this kernel has no such file system: see /proc/filesystems`,
		},
		{
			`{"mounts": [{"destination": "/a", "type": "tmpfs", "options": ["nosuchoption"]}]}`,
			`/mounts/0: step N, mounts: fsconfig($fs, FSCONFIG_SET_FLAG, "nosuchoption", NULL, 0)` + invalid + "the file system does not take this option, or not this value of it",
		},
		{
			`{"mounts": [{"destination": "/a", "type": "tmpfs", "options": ["size=much"]}]}`,
			`/mounts/0: step N, mounts: fsconfig($fs, FSCONFIG_SET_STRING, "size", "much", 0)` + invalid + "the file system does not take this option, or not this value of it",
		},
		{
			`{"mounts": [{"destination": "/a", "type": "ext4", "source": "/nosuch"}]}`,
			`/mounts/0: step N, mounts: fsconfig($fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) → ENOENT: no such file or directory: the source is not there`,
		},
		{`{"mounts": [{"destination": "/etc/a", "type": "tmpfs"}]}`, `/mounts/0: step N, mounts: openat2($root, "etc/a", ` + notDirectory + onFile},
		{`{"mounts": [{"destination": "/etc", "type": "tmpfs"}]}`, `/mounts/0: step N, mounts: openat2($root, "etc", ` + notDirectory + onFile},
		{
			`{"mounts": [{"destination": "/bin", "type": "bind", "source": "/etc/passwd"}]}`,
			`/mounts/0: step N, mounts: move_mount($mount, "", $at, "", MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH)` + invalid + "a file can't be mounted on a directory, nor a directory on a file",
		},
		{`{"process": {"cwd": "/etc"}}`, `/process/cwd: step N, pivot: openat2($root, "etc", ` + notDirectory + below},
		{`{"process": {"cwd": "/etc/below"}}`, `/process/cwd: step N, pivot: openat2($root, "etc/below", ` + notDirectory + below},
		{
			`{"process": {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 18446744073709551615}]}}`,
			`/process/rlimits/0: step N, rlimits: prlimit64(0, RLIMIT_NOFILE, {rlim_cur=1, rlim_max=RLIM64_INFINITY}, NULL) → EPERM: operation not permitted: the hard limit can't be raised without CAP_SYS_RESOURCE: ask for less`,
		},
		{
			`{"process": {"args": ["/bin/true", "` + long + `"]}}`,
			`/process/args: step N, exec: execveat($stub, "", ["/bin/true", "/bin/true", "xxx...xxx...) → E2BIG: argument list too long: arguments and environment are more than the kernel takes: see execve(2)`,
		},
		{
			`{"process": {"user": {"uid": 5}}, "mounts": [{"destination": "/dev", "type": "tmpfs"}], "linux": {"namespaces": [{"type": "mount"}, {"type": "user"}], ` +
				`"uidMappings": [{"containerID": 0, "hostID": 0, "size": 5}], "gidMappings": [{"containerID": 0, "hostID": 0, "size": 5}]}}`,
			"/process/user/uid: step N, ids: setresuid(5, -1, -1)" + invalid + "the user namespace's map lacks this user: see /linux/uidMappings",
		},
		{
			`{"linux": {"sysctl": {"net.nosuch": "1"}}}`,
			`/linux/sysctl/net.nosuch: step N, sysctl: openat($/proc, "sys/net/nosuch", O_WRONLY|O_CLOEXEC) → ENOENT: no such file or directory: this kernel has no such parameter`,
		},
		{
			`{"linux": {"sysctl": {"net.ipv4.ip_forward": "maybe"}}}`,
			`/linux/sysctl/net.ipv4.ip_forward: step N, sysctl: write($file, "maybe", 5)` + invalid + "the kernel refuses this value of the parameter",
		},
		{
			`{"linux": {"namespaces": [{"type": "mount"}, {"type": "network", "path": "/nosuch"}]}}`,
			`/linux/namespaces/1/path: step N, join: $ns/network = open("/nosuch", O_RDONLY|O_CLOEXEC): open /nosuch: no such file or directory: there is no such namespace: has its last process ended?`,
		},
		{
			`{"linux": {"namespaces": [{"type": "mount"}, {"type": "network", "path": "/dev/null"}]}}`,
			`/linux/namespaces/1: step N, join: setns($ns/network, CLONE_NEWNET)` + invalid + "the file is no namespace of that type",
		},
		{
			`{"linux": {"namespaces": [{"type": "mount"}, {"type": "network", "path": "/proc/self/ns/uts"}]}}`,
			`/linux/namespaces/1: step N, join: setns($ns/network, CLONE_NEWNET)` + invalid + "the file is no namespace of that type",
		},
		{
			`{"linux": {"resources": {"memory": {"limit": 4096}}}}`,
			"forkexec: the child was killed before it became the program: out of memory? the limit may be too low for the wall itself: see --memory, or /linux/resources/memory",
		},
		{
			`{"linux": {"resources": {"cpu": {"cpus": "4095"}}}}`,
			`/linux/resources/cpu/cpus: step N, cgroup: write(...cpuset.cpus", "4095"): numerical result out of range: the kernel refuses this value for the limit`,
		},
		{
			`{"linux": {"resources": {"cpu": {"cpus": "a-b"}}}}`,
			`/linux/resources/cpu/cpus: step N, cgroup: write(...cpuset.cpus", "a-b"): invalid argument: the kernel refuses this value for the limit`,
		},
		{
			`{"linux": {"resources": {"cpu": {"quota": 1, "period": 1}}}}`,
			"/linux/resources/cpu/period: step N, cgroup: write(...): invalid argument: the kernel refuses this value for the limit",
		},
		{
			`{"linux": {"resources": {"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}}}`,
			"/linux/resources/hugepageLimits/0: step N, cgroup: write(...): no such file or directory: this kernel has no such limit",
		},
		{`{"linux": {"devices": [{"path": "/etc/null", "type": "c", "major": 1, "minor": 3}]}}`, `/linux/devices/0: step N, devices: openat2($root, "etc", ` + notDirectory + below},
		{`{"linux": {"maskedPaths": ["/etc/below"]}}`, `/linux/maskedPaths/0: step N, masks: openat2($root, "etc/below", ...: not a directory: a part of the path is a file` + below},
	} {
		t.Run(fmt.Sprintf("%.100s", c.patch), func(t *testing.T) {
			h := newHost(t)
			bundle(t, filepath.Join(h.dir, "b"), "", c.patch)
			h.refuses(t, nil, c.want, "run", "--bundle", "b", "bad")
		})
	}
}
