package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/spec"
)

// outside is a command that is no minictr.
func (host) outside(args ...string) *exec.Cmd {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	return cmd
}

// A leak is a command that tells whether a brick is there.
type leak struct {
	brick, command string
	leaks          func(t *testing.T, said string) bool
}

func leaks() []leak {
	all := []leak{
		{"pid", "ls -d /proc/" + fmt.Sprint(os.Getpid()), func(_ *testing.T, said string) bool { return strings.HasSuffix(said, "status 0") }},
		{"net", "readlink /proc/self/ns/net", isHosts("net")},
		{"ipc", "readlink /proc/self/ns/ipc", isHosts("ipc")},
		{"uts", "readlink /proc/self/ns/uts", isHosts("uts")},
		{"uts", "hostname", func(t *testing.T, said string) bool {
			return said == hostFile(t, "/proc/sys/kernel/hostname")+"\nstatus 0"
		}},
		{"user", "readlink /proc/self/ns/user", func(t *testing.T, said string) bool {
			if !isHosts("user")(t, said) {
				t.Error("root's containers have no user namespace yet: this test must learn of them")
			}
			return false
		}},
		{"cgroup", "readlink /proc/self/ns/cgroup", isHosts("cgroup")},
		{"cgroup", "ls /sys/fs/cgroup", func(_ *testing.T, said string) bool { return said == "status 0" }},
		{"seccomp", "grep Seccomp: /proc/self/status", func(_ *testing.T, said string) bool { return strings.HasPrefix(said, "Seccomp:\t0") }},
		{"caps", "grep CapBnd /proc/self/status", func(_ *testing.T, said string) bool { return !strings.Contains(said, "00000000800405fb") }},
		{"masks", "cat /proc/timer_list", func(_ *testing.T, said string) bool { return said != "status 0" }},
		{"masks", "grep -c ' /proc/sys ' /proc/self/mountinfo", func(_ *testing.T, said string) bool { return strings.HasPrefix(said, "0") }},
		{"root", "ls -d " + scratch, func(_ *testing.T, said string) bool { return strings.HasSuffix(said, "status 0") }},
		{"nnp", "grep NoNewPrivs /proc/self/status", func(_ *testing.T, said string) bool { return strings.HasPrefix(said, "NoNewPrivs:\t0") }},
	}
	// The root of all cgroups looks the same from inside a cgroup namespace.
	if own, err := os.ReadFile("/proc/self/cgroup"); err == nil && strings.Count(string(own), "\n") != strings.Count(string(own), ":/\n") {
		all = append(all, leak{"cgroup", "cat /proc/self/cgroup", func(_ *testing.T, said string) bool { return strings.HasPrefix(said, string(own)) }})
	}
	return all
}

func isHosts(ns string) func(*testing.T, string) bool {
	return func(t *testing.T, said string) bool { return said == link(t, "/proc/self/ns/"+ns)+"\nstatus 0" }
}

// TestWithout leaves out each brick in turn: what it held leaks, as is said
// loudly, all the other bricks stand, and the host is as before.
func TestWithout(t *testing.T) {
	h := newHost(t)
	var commands []string
	for _, l := range leaks() {
		commands = append(commands, l.command)
	}
	check := func(t *testing.T, without string, said map[string]string) {
		t.Helper()
		for _, l := range leaks() {
			if got, want := l.leaks(t, said[l.command]), l.brick == without && without != "user"; got != want {
				t.Errorf("%s: leaks is %v\n%s", l.command, got, said[l.command])
			}
		}
	}
	check(t, "", h.inside(t, nil, commands...))
	for _, b := range spec.Bricks() {
		t.Run(b.Name, func(t *testing.T) {
			unchanged(t, h)
			check(t, b.Name, h.inside(t, []string{"--without", b.Name}, commands...))
			r := h.minictr(t, "run", "--without", b.Name, "tiny", "true")
			if want := "minictr: WITHOUT the brick " + b.Name + ": " + b.Leaks + "\n"; r.stderr != want || r.status != 0 {
				t.Errorf("%v\nwant %q", r, want)
			}
		})
	}
	t.Run("all", func(t *testing.T) {
		unchanged(t, h)
		for _, stays := range []string{"pid", "cgroup"} { // see below
			var flags []string
			for _, b := range spec.Bricks() {
				if b.Name != stays {
					flags = append(flags, "--without", b.Name)
				}
			}
			for _, l := range leaks() {
				said := h.inside(t, flags, l.command)[l.command]
				if leaks := l.leaks(t, said); leaks == (l.brick == stays) && l.brick != "user" && l.brick != "masks" {
					t.Errorf("%s: leaks is %v\n%s", l.command, leaks, said)
				}
			}
		}
		for _, command := range []string{"echo x > /etc/minictr-it", "mkdir /minictr-it", "rm /etc/hostname"} {
			if said := h.inside(t, []string{"--without", "root"}, command)[command]; strings.HasSuffix(said, "status 0") {
				t.Errorf("%s on the host: %s", command, said)
			}
		}
	})
	if r := h.minictr(t, "run", "--without", "mount", "tiny", "true"); r.status != 125 || !strings.Contains(r.stderr, "--without: no brick \"mount\"") {
		t.Error(r)
	}
	if r := h.minictr(t, "run", "--without", "pid", "--without", "cgroup", "tiny", "true"); r.status != 125 || !strings.Contains(r.stderr, "nothing can find its processes") {
		t.Error(r)
	}
}

// TestNobodyStays is that processes which a container leaves end with it, where
// the kernel does not end them: it does with a PID namespace's first process.
func TestNobodyStays(t *testing.T) {
	h := newHost(t)
	const leave = "pause & sleep 0.1; echo left" // the job needs a moment to be there
	if out := h.must(t, "run", "--without", "pid", "tiny", "sh", "-c", leave); out != "left\n" {
		t.Error(out)
	}
	s := newSpec("joined", "sh", "-c", leave)
	for i, n := range s.Linux.Namespaces {
		if n.Type == specs.PIDNamespace {
			s.Linux.Namespaces[i].Path = "/proc/self/ns/pid"
		}
	}
	if out := h.must(t, "run", "--bundle", newBundle(t, s, "joined"), "joined"); out != "left\n" {
		t.Error(out)
	}
}
