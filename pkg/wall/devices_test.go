package wall_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/cgroup"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/wall"
)

// confine makes a cgroup with limits, in the hierarchies of one version or of
// all, and returns what a shell does to enter it.
func confine(t *testing.T, l cgroup.Layout, r *specs.LinuxResources) (enter string) {
	t.Helper()
	g, err := l.Group(fmt.Sprintf("/minictr-test-%d/%s", os.Getpid(), strings.NewReplacer("/", "-", " ", "-").Replace(t.Name())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(g.Kill(), g.Delete(), g.Prune()); err != nil {
			t.Error(err)
		}
	})
	b := plan.New()
	if err := g.Create(b, r); err != nil {
		t.Fatal(err)
	}
	run := &plan.Run{Fd: make(map[plan.Reg]int)}
	defer func() {
		for _, fd := range run.Fd {
			_ = unix.Close(fd)
		}
	}()
	for _, s := range b.Plan().Sections {
		for _, step := range s.Steps {
			if s.Where != plan.Parent {
				continue
			}
			if err := step.Act(run); err != nil {
				t.Fatalf("%s: %v", step.Call, err)
			}
		}
	}
	for _, p := range g.Places {
		enter += "echo $$ > " + p.Dir + "/cgroup.procs\n"
	}
	return enter
}

// versions are the host's hierarchies, and of a hybrid one each version alone.
func versions(t *testing.T) map[string]cgroup.Layout {
	t.Helper()
	needRoot(t)
	host, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]cgroup.Layout{host.Version().String(): host}
	if host.Version() == cgroup.Hybrid {
		for name, v2 := range map[string]bool{"v1 alone": false, "v2 alone": true} {
			all[name] = cgroup.Layout{Hierarchies: slices.DeleteFunc(slices.Clone(host.Hierarchies), func(h cgroup.Hierarchy) bool { return h.V2 != v2 })}
		}
	}
	return all
}

type deviceFacts struct {
	Nodes []struct {
		Path, Type   string
		Major, Minor int
		Read, Write  *bool
	}
	Mknod *bool
}

// rule allows some access to one device.
func rule(major, minor int64, access string) specs.LinuxDeviceCgroup {
	return specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &major, Minor: &minor, Access: access}
}

// tried lets a shell open nodes and make one, and tell what worked.
const tried = `for n in null zero full; do
(exec 3</dev/$n) 2>&- && echo read /dev/$n
(exec 3>/dev/$n) 2>&- && echo write /dev/$n
done
mknod node c 1 3 2>&- && rm node && echo mknod
`

// checkDevices holds the brick to what the shell has tried.
func checkDevices(t *testing.T, pid int, says []string) (b wall.Brick) {
	t.Helper()
	var facts deviceFacts
	b = brick(t, pid, "devices", &facts)
	rules, err := cgroup.DeviceGuards(pid)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, told *bool) {
		if told == nil && rules.Hidden { // the test itself is below the root
			return
		}
		if told == nil || *told != slices.Contains(says, what) {
			t.Errorf("%s: the shell did %q", what, says)
		}
	}
	found := 0
	for _, n := range facts.Nodes {
		if slices.Contains([]string{"/dev/null", "/dev/zero", "/dev/full"}, n.Path) {
			found++
			check("read "+n.Path, n.Read)
			check("write "+n.Path, n.Write)
		}
	}
	check("mknod", facts.Mknod)
	if found != 3 {
		t.Errorf("%d nodes of three were found", found)
	}
	return b
}

// TestDevices has a cgroup guard devices, for root and for a user.
func TestDevices(t *testing.T) {
	for name, l := range versions(t) {
		t.Run(name, func(t *testing.T) {
			for i, rules := range [][]specs.LinuxDeviceCgroup{
				{{Allow: false}, rule(1, 3, "rw"), rule(1, 5, "r"), rule(1, 7, "wm")},
				{{Allow: false}, rule(1, -1, "rwm"), rule(5, -1, "r")},
				{{Allow: false}},
			} {
				t.Run(strconv.Itoa(i), func(t *testing.T) {
					enter := confine(t, l, &specs.LinuxResources{Devices: rules})
					pid, says := child(t, "cd "+t.TempDir()+"\n"+enter+tried, nil)
					if b := checkDevices(t, pid, says); b.State != wall.Walled || b.Means != "the kernel asks the cgroup's rules at each open, whoever has made the node" {
						t.Errorf("%s: %s", b.State, b.Means)
					}
				})
			}
		})
	}
}

// TestDevicesUnguarded asks about permissions and mounts alone: the nodes lie on
// a tmpfs of the child's own, one of them mounted over a file.
func TestDevicesUnguarded(t *testing.T) {
	needRoot(t)
	setpriv, err := exec.LookPath("setpriv") // by its path: some shells have another of that name
	if err != nil {
		t.Fatal(err)
	}
	const own = `set -e
mount --make-rprivate /
mount -t tmpfs dev /dev; mkdir /dev/a
mknod -m 666 /dev/null c 1 3; mknod -m 604 /dev/zero c 1 5; : > /dev/full
mknod -m 640 /dev/a/full c 1 7; chgrp 7 /dev/a/full; mount --bind /dev/a/full /dev/full
set +e
`
	for name, as := range map[string]string{
		"root": "", "nobody": "setpriv --reuid 65534 --regid 65534 --clear-groups", "group": "setpriv --reuid 65534 --regid 65534 --groups 7",
		"shut": "chmod 700 /dev; setpriv --reuid 65534 --regid 65534 --clear-groups", "nodev": "mount -o remount,nodev,bind /dev;",
		"no mknod": "setpriv --bounding-set -mknod", "no override": "chown 1 /dev/zero; setpriv --bounding-set -dac_override",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			prefix, program := "", strings.Replace(as, "setpriv", setpriv, 1)
			if before, after, two := strings.Cut(program, ";"); two {
				prefix, program = before, after
			}
			script := "cd " + dir + "\n" + own + prefix + "\nexec " + program + " /bin/sh -c '" + tried + "echo ready\nread line'"
			pid, says := child(t, script, &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS})
			checkDevices(t, pid, says)
		})
	}
}

// TestDevicesUnread looks as a user, who may not ask bpf(2): what a node's
// permission doesn't refuse is not known then.
func TestDevicesUnread(t *testing.T) {
	if asNobody(t) {
		return
	}
	l, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	if l.Version() == cgroup.V1 {
		t.Skip("there is no cgroup of version 2, and no bpf(2) to ask")
	}
	pid, _ := child(t, "", nil)
	var facts deviceFacts
	if b := brick(t, pid, "devices", &facts); b.State != wall.Unknown || !strings.Contains(b.Means, "bpf(") {
		t.Errorf("%s: %s", b.State, b.Means)
	}
	known := 0
	for _, n := range facts.Nodes {
		if n.Path == "/dev/kmsg" { // its driver refuses users
			continue
		}
		if may := unix.Access(n.Path, unix.R_OK) == nil; may == (n.Read != nil) || n.Read != nil && *n.Read {
			t.Errorf("%s: %v, and access(2) says %v", n.Path, n.Read, may)
		} else if !may {
			known++
		}
	}
	if known == 0 || known == len(facts.Nodes) {
		t.Errorf("%d of %d nodes are known to be out of reach", known, len(facts.Nodes))
	}
}
