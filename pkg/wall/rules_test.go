package wall

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/cgroup"
	"github.com/minictr/minictr/pkg/seccomp"
	"github.com/minictr/minictr/pkg/sys"
)

// refusing is a filter that refuses each call whose number lacks a bit.
func refusing(bit uint32) seccomp.Filter {
	return seccomp.Filter{Program: []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_ABS},
		{Code: unix.BPF_JMP | unix.BPF_JSET, K: bit, Jf: 1},
		{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW},
		{Code: unix.BPF_RET, K: uint32(seccomp.Errno(unix.EPERM))},
	}}
}

func permitting() seccomp.Filter {
	return seccomp.Filter{Program: []unix.SockFilter{{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW}}}
}

// under is this process, as if it were under a filter, and had what else a
// status says.
func under(t *testing.T, f seccomp.Filter, fields map[string]string) *process {
	t.Helper()
	p, err := look(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(p.status, map[string]string{"Seccomp": "2", "Seccomp_filters": "1"})
	maps.Copy(p.host, map[string]string{"Seccomp": "0", "Seccomp_filters": "0"})
	maps.Copy(p.status, fields)
	p.filters = func() ([]seccomp.Filter, error) { return []seccomp.Filter{f}, nil }
	return p
}

// TestTables has a call pass in the table of x32 alone.
func TestTables(t *testing.T) {
	const x32 = 1 << 30
	for bit, want := range map[uint32]bool{0: false, x32: seccomp.Native() == seccomp.X86_64} {
		if passes, err := under(t, refusing(bit), nil).passes("acct", "syslog"); passes != want || err != nil {
			t.Errorf("calls with %#x pass: %v, %v", bit, passes, err)
		}
	}
	if passes, err := under(t, permitting(), map[string]string{"Seccomp": "1"}).passes("syslog"); passes || err != nil {
		t.Errorf("in strict mode: %v, %v", passes, err)
	}
}

// TestSameAsHost compares filters and no_new_privs with those of who looks.
func TestSameAsHost(t *testing.T) {
	for _, c := range []struct {
		filter seccomp.Filter
		host   string
		want   State
	}{{permitting(), "0", Missing}, {permitting(), "2", Missing}, {refusing(0), "0", Walled}, {refusing(0), "2", Shared}} {
		p := under(t, c.filter, nil)
		p.host["Seccomp"], p.host["Seccomp_filters"] = c.host, map[string]string{"0": "0", "2": "1"}[c.host]
		if b, err := calls(p); b.State != c.want || err != nil {
			t.Errorf("host %s: %s, want %s: %s, %v", c.host, b.State, c.want, b.Means, err)
		}
	}
	for host, want := range map[string]State{"0": Walled, "1": Shared} {
		p := under(t, permitting(), map[string]string{"NoNewPrivs": "1"})
		p.host["NoNewPrivs"] = host
		if b, _ := nnp(p); b.State != want {
			t.Errorf("no_new_privs is %s, want %s", b.State, want)
		}
	}
}

// TestClockFilters has a filter keep the clock from a process with CAP_SYS_TIME.
func TestClockFilters(t *testing.T) {
	first, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	for sets, f := range map[bool]seccomp.Filter{true: permitting(), false: refusing(0)} {
		g, err := clockGap(under(t, f, map[string]string{"CapEff": "1ffffffffff"}))
		if err != nil || strings.Contains(g.Means, "may set it") != (sets && first == firstUser) {
			t.Errorf("%s, %v", g.Means, err)
		}
	}
}

// TestLogNodes has a process whose filters refuse syslog(2) find nodes in /dev.
func TestLogNodes(t *testing.T) {
	const ids = "65534 65534 65534 65534" // so that it can't read /proc/kmsg
	restrict, err := sys.ReadFile("/proc/sys/kernel/dmesg_restrict")
	first, e := os.Readlink("/proc/self/ns/user")
	if err := errors.Join(err, e); err != nil {
		t.Fatal(err)
	}
	kmsg := func(may *bool) node { return node{Path: "/dev/kmsg", Type: "c", Major: 1, Minor: 11, Read: may} }
	for _, c := range []struct {
		node node
		want State
	}{
		{node{Path: "/dev/kmsg", Type: "c", Major: 1, Minor: 3, Read: new(true)}, Walled}, // a mask
		{kmsg(new(false)), Walled}, {kmsg(nil), Unknown}, {kmsg(new(true)), Shared},
	} {
		p := under(t, refusing(0), map[string]string{"Uid": ids, "Gid": ids, "Groups": "", "CapEff": "400000000"}) // CAP_SYSLOG
		p.nodes = func() (*visit, error) { return &visit{nodes: []node{c.node}}, nil }
		if string(restrict) != "0\n" && first != firstUser { // then the capability is worth nothing
			c.want = Walled
		}
		if g, err := logGap(p); g.State != c.want || err != nil {
			t.Errorf("%+v: %s, want %s: %s, %v", c.node, g.State, c.want, g.Means, err)
		}
	}
}

// TestHiddenRules asks version 1's list of all devices, with and without
// exceptions that it may have.
func TestHiddenRules(t *testing.T) {
	for _, hidden := range []bool{false, true} {
		g := guard{Guards: cgroup.Guards{Listed: true, List: cgroup.AllDevices, Hidden: hidden}}
		if may := g.allows(unix.S_IFCHR, unix.BPF_DEVCG_ACC_READ, 1, 3); (may == nil) != hidden || !hidden && !*may || g.stands() {
			t.Errorf("hidden %v: %v", hidden, may)
		}
	}
}

// TestACLInRoot has a node's directory be a link, which leads elsewhere from
// outside of the root.
func TestACLInRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	root := t.TempDir()
	file := filepath.Join(root, "nodes", "some")
	// Version 2; the owner, user 7, the group, the mask and others, each with
	// read, as struct posix_acl_xattr_entry.
	acl := "\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\x07\x00\x00\x00" +
		"\x04\x00\x04\x00\xff\xff\xff\xff" + "\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x04\x00\xff\xff\xff\xff"
	for _, err := range []error{
		os.Mkdir(filepath.Dir(file), 0o755), os.Symlink("/nodes", filepath.Join(root, "dev")), os.WriteFile(file, nil, 0o644),
		unix.Setxattr(file, "system.posix_acl_access", []byte(acl), 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	v := visit{fd: fd, who: identity{fsuid: nobody}}
	if !v.acl("/dev/some", &unix.Stat_t{}) || v.acl("/dev/none", &unix.Stat_t{}) {
		t.Error("the acl is not found in the root")
	}
}
