package integration_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// look is what a container tells of itself, in parts.
const look = `for f in mountinfo status limits cgroup oom_score_adj; do echo "== $f"; cat /proc/self/$f; done
echo "== dev"; ls -l /dev
echo "== env"; env
echo "== self"; id; pwd; hostname
for ns in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$ns; done`

// A difference is one between minictr and other runtimes that is meant to be.
type difference struct {
	peer, fact string // regular expressions for the whole
	ours       string // what it is here: a regular expression too
	reason     string
}

var differences = [...]difference{
	{
		"runc", "mount /proc/(interrupts|keys|timer_list)", `ro,relatime\[\] /null devtmpfs`,
		"a mask is the host's own null device, which nobody inside can have laid, and so it is read-only; runc's is the container's, or can be changed",
	},
	{"runc|crun", "mount /sys/fs/cgroup", `ro,nosuid,nodev,noexec,relatime\[\] / tmpfs`, "the directory of the hierarchies is read-only, as was asked for, and not only they"},
	{"crun", "mount /proc/(bus|fs|irq|sys)", `ro,nosuid,nodev,noexec,relatime\[\] .*`, "a read-only path keeps the other options of its file system"},
	{"runc|crun", "env HOME", "", "the environment is the bundle's, and nothing is added to it"},
	{"crun", "dev core", "", "there is no way to the kernel's memory, not even a masked one"},
	{"runc|crun", "dev mqueue", `drwxrwxrwt\[65534 65534 40\] \[\]`, "the IPC namespace is born with the user namespace, when nobody is root in that yet; all may use it"},
	{"crun", "mount /dev/(full|null|random|tty|urandom|zero)", `rw,relatime\[\] /\w+ devtmpfs`, "the host's nodes, in a user namespace: as in runc"},
}

// statusFields are the lines of proc_pid_status(5) that the runtime decides.
var statusFields = []string{
	"Umask", "Uid", "Gid", "Groups", "NSsid", "SigBlk", "SigIgn", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs",
	"Seccomp", "Seccomp_filters", "Speculation_Store_Bypass", "SpeculationIndirectBranch", "Cpus_allowed_list", "Mems_allowed_list", "THP_enabled",
}

// facts makes a map of what a container tells, without what is another each
// time: numbers of mounts, devices and namespaces, times, options of
// superblocks.
func facts(t *testing.T, text string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	part := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutPrefix(line, "== "); ok {
			part = name
			continue
		}
		words := strings.Fields(line)
		switch part {
		case "mountinfo":
			left, right, _ := strings.Cut(line, " - ")
			mount := strings.Fields(left)
			all["mount "+mount[4]] = fmt.Sprint(mount[5], mount[6:], " ", mount[3], " ", strings.Fields(right)[0])
		case "status":
			if name, value, _ := strings.Cut(line, ":\t"); slices.Contains(statusFields, name) {
				all["status "+name] = value
			}
		case "limits":
			name := line[:min(25, len(line))]
			all["limit "+strings.TrimSpace(name)] = strings.Join(strings.Fields(line[len(name):]), " ")
		case "cgroup":
			_, name, _ := strings.Cut(line, ":")
			controllers, path, _ := strings.Cut(name, ":")
			all["cgroup "+controllers] = path
		case "dev":
			if len(words) > 6 {
				all["dev "+words[7]] = fmt.Sprint(words[0], words[2:5], words[8:])
			}
		case "env":
			name, value, _ := strings.Cut(line, "=")
			all["env "+name] = value
		default:
			if strings.Contains(line, ":[") {
				line, _, _ = strings.Cut(line, "[")
			}
			all[part] += line + "\n"
		}
	}
	return all
}

// TestPeers runs the same bundle with minictr and with other runtimes: from
// inside, one is as the other, but for the differences that are listed.
func TestPeers(t *testing.T) {
	for _, wall := range []struct {
		name string
		edit func(*specs.Spec)
	}{
		{"default", func(*specs.Spec) {}},
		{"user", func(s *specs.Spec) {
			all := []string{"CAP_NET_RAW", "CAP_CHOWN"}
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all, Inheritable: all, Ambient: all}
			s.Process.User = specs.User{UID: 1000, GID: 1000, Umask: new(uint32(0o27)), AdditionalGids: []uint32{5, 7}}
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}, {Type: "RLIMIT_NPROC", Soft: 500, Hard: 500}}
			s.Process.OOMScoreAdj = new(100)
			s.Process.NoNewPrivileges = false
			s.Process.Cwd = "/tmp"
		}},
		{"user namespace", userNamespace},
		{"mounts", func(s *specs.Spec) {
			s.Root.Readonly = true
			s.Mounts = append(
				s.Mounts, specs.Mount{Destination: "/tmp/a", Type: "bind", Source: "/etc", Options: []string{"rbind", "ro", "nosuid", "nodev", "noexec"}},
				specs.Mount{Destination: "/tmp/b", Type: "bind", Source: "/etc/hostname", Options: []string{"bind", "rprivate"}},
				specs.Mount{Destination: "/tmp/c", Type: "tmpfs", Source: "c", Options: []string{"noatime", "size=4k", "mode=700"}},
			)
			s.Linux.Devices = []specs.LinuxDevice{
				{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229, UID: new(uint32(1)), GID: new(uint32(2)), FileMode: ptr(os.FileMode(0o640))},
			}
			s.Linux.Resources.CPU = &specs.LinuxCPU{Cpus: "0"}
		}},
	} {
		t.Run(wall.name, func(t *testing.T) {
			h := newHost(t)
			if os.Getenv("MINICTR") != "" {
				t.Skip("in the virtual machine there are no other runtimes")
			}
			s := newSpec("peer", "sh", "-c", look)
			s.Version = "1.0.2" // what Debian's crun knows
			wall.edit(s)
			dir := newBundle(t, s, "peer")
			ours := inMounts(t, append(h.command().Args, "run", "--bundle", dir, "peer"))
			for _, peer := range []string{"runc", "crun"} {
				theirs := inMounts(t, []string{peer, "--root", filepath.Join(temp(t), peer), "run", "--bundle", dir, "peer"})
				compareFacts(t, peer, ours, theirs)
			}
		})
	}
}

func compareFacts(t *testing.T, peer string, ours, theirs map[string]string) {
	t.Helper()
	all := slices.Sorted(maps.Keys(ours))
	for fact := range theirs {
		if _, both := ours[fact]; !both {
			all = append(all, fact)
		}
	}
	for _, fact := range all {
		known := slices.ContainsFunc(differences[:], func(d difference) bool {
			return whole(d.peer, peer) && whole(d.fact, fact) && whole(d.ours, ours[fact])
		})
		if ours[fact] != theirs[fact] && !known {
			t.Errorf("%s\nminictr: %s\n   %s: %s", fact, ours[fact], peer, theirs[fact])
		}
	}
}

func whole(pattern, text string) bool {
	return regexp.MustCompile("^(?:" + pattern + ")$").MatchString(text)
}

// inMounts runs a runtime in a mount namespace where Debian's crun can work:
// it does not know version 2 beside version 1.
func inMounts(t *testing.T, runtime []string) map[string]string {
	t.Helper()
	if _, err := exec.LookPath(runtime[0]); err != nil {
		t.Fatalf("%s is not installed (Debian: the package of that name)", runtime[0])
	}
	const cover = `if [ -d /sys/fs/cgroup/unified ]; then mount -t tmpfs none /sys/fs/cgroup/unified; fi; exec "$@"`
	cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c", cover, "sh"}, runtime...)...)
	cmd.Stdin = strings.NewReader("") // a pipe: crun gives it to the container's user, and it must not be /dev/null
	r := finish(t, cmd)
	if r.status != 0 || strings.TrimSpace(r.stderr) != "" {
		t.Fatalf("%s: %v", runtime[0], r)
	}
	return facts(t, r.stdout)
}
