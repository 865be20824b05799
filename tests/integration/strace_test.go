package integration_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/seccomp"
	"github.com/minictr/minictr/pkg/spec"
	"github.com/minictr/minictr/tests/agent"
)

// strace runs minictr under strace(1) and returns what each thread did.
// Everything is printed in full: -v and a string limit above every string.
func (h host) strace(t *testing.T, args ...string) trace {
	t.Helper()
	tr, r := h.straceAny(t, args...)
	if r.status != 0 {
		t.Fatalf("strace minictr %q: %v", args, r)
	}
	return tr
}

// straceAny is strace for a run that may fail.
func (h host) straceAny(t *testing.T, args ...string) (trace, result) {
	t.Helper()
	prefix := filepath.Join(temp(t), "trace")
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("strace is not installed (Debian: strace)")
	}
	cmd := h.command(args...)
	cmd.Args = append([]string{strace, "-ff", "-v", "-s", "65536", "-qq", "--signal=none", "-o", prefix, "--", program}, cmd.Args[1:]...)
	cmd.Path = strace
	r := finish(t, cmd)
	return readTrace(t, prefix), r
}

// printedPlan is what minictr plan prints.
func (h host) printedPlan(t *testing.T, args ...string) (p printed) {
	t.Helper()
	text := h.must(t, append([]string{"plan", "--format", "json"}, args...)...)
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

func ptr[T any](v T) *T { return new(v) }

// walls are bundles that together have every kind of step.
var walls = []struct {
	name string
	edit func(t *testing.T, s *specs.Spec)
}{
	{"default", func(*testing.T, *specs.Spec) {}},
	{"user namespace", func(_ *testing.T, s *specs.Spec) { userNamespace(s) }},
	{"user namespace, another user", func(_ *testing.T, s *specs.Spec) {
		userNamespace(s)
		s.Process.User = specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{5, 7}}
	}},
	{"terminal", func(_ *testing.T, s *specs.Spec) {
		s.Process.Terminal = true
		s.Process.ConsoleSize = &specs.Box{Height: 24, Width: 80}
		s.Process.User = specs.User{UID: 1000, GID: 1000}
	}},
	{"terminal in a user namespace", func(_ *testing.T, s *specs.Spec) {
		userNamespace(s)
		s.Process.Terminal = true
	}},
	{"mounts in a user namespace", func(t *testing.T, s *specs.Spec) {
		userNamespace(s)
		dir := temp(t)
		for _, option := range []string{"bind", "rbind"} {
			s.Mounts = append(s.Mounts, specs.Mount{Source: dir, Destination: "/tmp", Type: "bind", Options: []string{option, "ro"}})
		}
	}},
	{"mounts that map ids", func(t *testing.T, s *specs.Spec) {
		s.Mounts = append(s.Mounts, shows(mappable(t), "rbind,ridmap", ids(0, 500), ids(0, 500)))
	}},
	{"mounts that map ids, in a user namespace", func(t *testing.T, s *specs.Spec) {
		userNamespace(s)
		dir := mappable(t)
		s.Mounts = append(s.Mounts, shows(dir, "rbind,idmap", nil, nil), shows(dir, "rbind,ridmap", ids(0, 500), ids(0, 500)))
	}},
	{"setuid programs may give privileges", func(_ *testing.T, s *specs.Spec) { s.Process.NoNewPrivileges = false }},
	{"no filter", func(_ *testing.T, s *specs.Spec) { s.Linux.Seccomp = nil }},
	{"ambient capabilities", func(_ *testing.T, s *specs.Spec) {
		all := []string{"CAP_NET_RAW", "CAP_CHOWN"}
		s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all, Inheritable: all, Ambient: all}
		s.Process.User = specs.User{UID: 1000, GID: 1000, Umask: new(uint32(0o27)), AdditionalGids: []uint32{5}}
	}},
	{"no capabilities", func(_ *testing.T, s *specs.Spec) { s.Process.Capabilities = nil }},
	{"limits", func(_ *testing.T, s *specs.Spec) {
		s.Process.Rlimits = []specs.POSIXRlimit{
			{Type: "RLIMIT_CORE", Hard: 1 << 63}, {Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 4096}, {Type: "RLIMIT_STACK", Soft: 8<<20 + 1, Hard: 1<<64 - 1},
		}
		s.Process.OOMScoreAdj = new(100)
		s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: new(int64(64 << 20)), Swap: new(int64(64 << 20))}
		s.Linux.Resources.CPU = &specs.LinuxCPU{Quota: new(int64(50000)), Period: new(uint64(100000)), Shares: new(uint64(512)), Cpus: "0"}
	}},
	{"mounts", func(t *testing.T, s *specs.Spec) {
		dir := temp(t)
		if err := os.WriteFile(dir+"/file", nil, 0o644); err != nil {
			t.Fatal(err)
		}
		bind := func(source, destination string, options ...string) specs.Mount {
			return specs.Mount{Source: source, Destination: destination, Type: "bind", Options: append(options, "rbind")}
		}
		s.Mounts = append(
			s.Mounts, bind(dir, "/new/place", "ro", "rprivate"), bind(dir+"/file", "/etc/new\tname\x01"+"1", "nosuid", "noatime"), bind(dir, "/tmp", "rro", "nosymfollow", "shared"),
			bind(dir+"/file", "/dev/shm/file", "rslave"), specs.Mount{Destination: "/run/a", Type: "tmpfs", Source: "über", Options: []string{"ro", "size=4k", "nodiratime"}},
		)
		s.Linux.RootfsPropagation = "rslave"
		s.Process.Cwd = "/not/there"
	}},
	{"devices", func(_ *testing.T, s *specs.Spec) {
		s.Linux.Devices = []specs.LinuxDevice{
			{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229, UID: new(uint32(1)), GID: new(uint32(2)), FileMode: ptr(os.FileMode(0o640))},
			{Path: "/dev/loop0", Type: "b", Major: 7},
			{Path: "/dev/a/pipe", Type: "p"},
			{Path: "/pipe", Type: "p"},
		}
	}},
	{"names and parameters", func(_ *testing.T, s *specs.Spec) {
		s.Hostname, s.Domainname = `a"b\c`, "domain"
		s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "kernel.shmmax": "65536"}
		s.Process.Env = append(s.Process.Env, "TEXT=\x7f\n\r\t\v\f\a\"\\é0")
	}},
	{"turns", func(_ *testing.T, s *specs.Spec) {
		s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 5, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}}
		s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 4}
		s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
	}},
	{"clocks", func(_ *testing.T, s *specs.Spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
		s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {Secs: 7}, "boottime": {Secs: -1, Nanosecs: 5}}
	}},
	{"clocks in a user namespace", func(_ *testing.T, s *specs.Spec) {
		userNamespace(s)
		s.Process.OOMScoreAdj = ptr(100)
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
		s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 5}}
	}},
	{"shared namespaces", func(_ *testing.T, s *specs.Spec) {
		own := map[specs.LinuxNamespaceType]string{specs.PIDNamespace: "pid", specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc"}
		for i, n := range s.Linux.Namespaces {
			if name := own[n.Type]; name != "" {
				s.Linux.Namespaces[i].Path = "/proc/self/ns/" + name
			}
		}
		s.Linux.Namespaces = s.Linux.Namespaces[:len(s.Linux.Namespaces)-1] // no cgroup namespace
	}},
	{"init", func(_ *testing.T, s *specs.Spec) { spec.SetInit(s) }},
	{"init on a terminal in a user namespace", func(_ *testing.T, s *specs.Spec) {
		userNamespace(s)
		spec.SetInit(s)
		s.Process.Terminal, s.Process.NoNewPrivileges = true, false
	}},
	{"init without a PID namespace", func(_ *testing.T, s *specs.Spec) {
		spec.SetInit(s)
		s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
	}},
	{"listener", func(t *testing.T, s *specs.Spec) { asks(s, newAgent(t, agent.Pass), few...) }},
	{"listener, before the privileges go", func(t *testing.T, s *specs.Spec) {
		s.Process.NoNewPrivileges = false
		asks(s, newAgent(t, agent.Pass), few...)
	}},
	{"read-only root, program in the last place", func(_ *testing.T, s *specs.Spec) {
		s.Root.Readonly = true
		s.Process.Env = []string{"PATH=/not/there:/etc/:/bin/true/no:/bin"}
	}},
}

// TestPrintedIsWhatRuns holds strace's record of a run against the plan that
// is printed of it: the plan predicts every call of the container's process,
// from its birth to its program, and none is left over.
func TestPrintedIsWhatRuns(t *testing.T) {
	for i, c := range walls {
		if testing.Short() && i%3 != 0 {
			continue // strace is slow on an emulated processor
		}
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			s := newSpec("traced", "true")
			c.edit(t, s)
			dir := newBundle(t, s, "traced")
			p, tr := h.printedPlan(t, dir), h.strace(t, "run", "--bundle", dir, "traced")
			walked(t, p, tr)
			sameFilter(t, s, tr)
		})
	}
}

// TestPrintedIsWhatRunsOfExec does the same for a process that enters a
// container.
func TestPrintedIsWhatRunsOfExec(t *testing.T) {
	for _, user := range []bool{false, true} {
		s := newSpec("traced", "pause")
		if user {
			userNamespace(s)
		}
		s.Process.OOMScoreAdj = ptr(7)
		c, dir := newOCI(t, "traced", s)
		c.create(dir)
		c.must("start", c.id)
		p := c.printedPlan(t, "--container", c.id, "true")
		tr := c.strace(t, "exec", c.id, "true")
		walked(t, p, tr)
		c.must("delete", "--force", c.id)
		c.reap()
	}
}

// TestPrintedIsWhatRunsOfImage does the same for run IMAGE and its flags.
func TestPrintedIsWhatRunsOfImage(t *testing.T) {
	flags := []string{
		"", "--tty", "--init --tty", "--user student --workdir /new", "--user 7:8 --read-only --hostname h --env A=b", "--memory 64m --cpus 0.5 --pids-limit 99",
		"--secret id=s,src=/etc/hostname --tmpfs /t:size=1m --group-add 77 --device /dev/full --ulimit nofile=99 --ipc host",
		"--volume /etc/hostname:/new/file:ro --volume /etc:/etc/host", "--cap-drop ALL --cap-add net_raw --network host", "--new-privileges --entrypoint /bin/id",
	}
	for _, b := range spec.Bricks() {
		flags = append(flags, "--without "+b.Name)
	}
	for _, f := range flags {
		t.Run(f, func(t *testing.T) {
			h := newHost(t)
			args := append(strings.Fields(f), "tiny", "id")
			p, tr := h.printedPlan(t, args...), h.strace(t, append([]string{"run"}, args...)...)
			tr.rename(h, "ID")
			walked(t, p, tr)
		})
	}
}

// rename gives the container of run IMAGE, whose ID is a random one, another
// in the trace, as if it had been chosen.
func (tr trace) rename(h host, id string) {
	random := ""
	for _, calls := range tr {
		for _, c := range calls {
			if dir, ok := strings.CutPrefix(c.text, `mkdirat(AT_FDCWD, "`+h.run+"/"); ok {
				random, _, _ = strings.Cut(dir, `"`)
			}
		}
	}
	old, short := `"`+random+`", 12`, `"`+id+`", 2` // the length of the host name
	for tid, calls := range tr {
		for i := range calls {
			tr[tid][i].text = strings.ReplaceAll(strings.ReplaceAll(calls[i].text, old, short), random, id)
		}
	}
}

// sameFilter holds the instructions that the container's process gave the
// kernel as its filter against those that the profile compiles to.
func sameFilter(t *testing.T, s *specs.Spec, tr trace) {
	t.Helper()
	var want seccomp.Filter
	if s.Linux.Seccomp != nil {
		var err error
		if want, err = seccomp.Compile(s.Linux.Seccomp, seccomp.Native()); err != nil {
			t.Fatal(err)
		}
	}
	_, pid := tr.born(t)
	var got []byte
	for _, c := range tr[pid] {
		if strings.HasPrefix(c.text, "seccomp(") {
			got = append(got, instructions(t, c.text)...)
		}
	}
	if string(got) != string(want.Bytes()) {
		t.Errorf("the filter has %d bytes, and the profile's has %d, or they differ", len(got), len(want.Bytes()))
	}
}
