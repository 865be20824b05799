package integration_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The first thread never ends, so no test may have it.
func init() { runtime.LockOSThread() }

// ownNetwork takes this test, and what it starts, into a network of its own.
// The test's thread ends with it.
func ownNetwork(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

// ip changes the network of this test.
func ip(t *testing.T, script string) {
	t.Helper()
	for line := range strings.Lines(script) {
		if out, err := exec.Command("busybox", append([]string{"ip"}, strings.Fields(line)...)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", line, err, out)
		}
	}
}

// inNetworkOf looks into the network of a process, on another thread.
func inNetworkOf(t *testing.T, pid int, look func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		ns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = errors.Join(unix.Setns(ns, unix.CLONE_NEWNET), unix.Close(ns))
		}
		if err == nil {
			err = look()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// is says how an interface of this thread's network differs from what it shall
// be. Of the addresses of one link there may be more.
func is(name string, mtu int, hardware string, addresses ...string) error {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	all, err := i.Addrs()
	var have []string
	for _, a := range all {
		if !strings.HasPrefix(a.String(), "fe80:") {
			have = append(have, a.String())
		}
	}
	if i.MTU != mtu || i.HardwareAddr.String() != hardware || i.Flags&net.FlagUp == 0 || !slices.Equal(have, addresses) {
		return fmt.Errorf("%s: mtu %d, %s, %v, %v", name, i.MTU, i.HardwareAddr, i.Flags, have)
	}
	return err
}

func names() (list []string) {
	all, _ := net.Interfaces()
	for _, i := range all {
		list = append(list, i.Name)
	}
	slices.Sort(list)
	return list
}

const lent = `link add lent0 type veth
	link set lent0 mtu 1400 address 02:00:00:00:00:07
	addr add 10.1.2.3/24 dev lent0
	addr add 10.1.2.4/24 label lent0:more dev lent0
	addr add 192.168.7.1/32 dev lent0 scope link
	addr add fd00::7/64 dev lent0
	link set lent0 up
	link add lent1 type veth
	link set lent1 address 02:00:00:00:00:08`

// TestInterfaces has containers take interfaces of the host, each kind of
// container in its own way.
func TestInterfaces(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(t *testing.T, s *specs.Spec)
	}{
		{"plain", func(*testing.T, *specs.Spec) {}},
		{"user namespace", func(_ *testing.T, s *specs.Spec) { userNamespace(s) }},
		{"user namespace, with a mount of the host", func(_ *testing.T, s *specs.Spec) {
			userNamespace(s)
			s.Mounts = append(s.Mounts, specs.Mount{Type: "bind", Source: "/tmp", Destination: "/tmp", Options: []string{"rbind"}})
		}},
		{"hooks", func(_ *testing.T, s *specs.Spec) {
			s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/bin/busybox", Args: []string{"busybox", "ip", "link", "show", "dev", "eth7"}}}}
		}},
		{"another's network", func(t *testing.T, s *specs.Spec) {
			t.Helper()
			owner, dir := newOCI(t, "owner", newSpec("owner", "pause"))
			owner.create(dir)
			i := slices.IndexFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
			s.Linux.Namespaces[i].Path = fmt.Sprintf("/proc/%d/ns/net", owner.pid)
			s.Linux.Sysctl = nil
		}},
		{"another's user namespace", func(t *testing.T, s *specs.Spec) {
			t.Helper()
			o := newSpec("owner", "pause")
			userNamespace(o)
			owner, dir := newOCI(t, "owner", o)
			owner.create(dir)
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: fmt.Sprintf("/proc/%d/ns/user", owner.pid)})
			s.Linux.Sysctl = nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ownNetwork(t)
			ip(t, lent)
			s := newSpec("lent", "pause")
			s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"lent0": {Name: "eth7"}, "lent1": {Name: "eth%d"}}
			c.edit(t, s)
			box, dir := newOCI(t, "lent", s)
			box.create(dir)
			box.must("start", box.id)
			inNetworkOf(t, box.pid, func() error {
				return errors.Join(is("eth7", 1400, "02:00:00:00:00:07", "10.1.2.3/24", "10.1.2.4/24", "fd00::7/64"), is("eth0", 1500, "02:00:00:00:00:08"))
			})
			if have := names(); slices.Contains(have, "lent0") || slices.Contains(have, "lent1") {
				t.Errorf("the host still has %v", have)
			}
			if r := box.call("exec", box.id, "cat", "/proc/net/fib_trie"); !strings.Contains(r.stdout, "10.1.2.4") {
				t.Errorf("the address is not local: %v", r)
			}
		})
	}
}

// TestInterfacesStay has a container take what it can't, which moves none.
func TestInterfacesStay(t *testing.T) {
	ownNetwork(t)
	ip(t, lent)
	before := names()
	for _, c := range []struct {
		at, why string
		devices map[string]specs.LinuxNetDevice
	}{
		{"/linux/netDevices/nosuch: ", "the host's interface nosuch: no such device", map[string]specs.LinuxNetDevice{"lent0": {}, "nosuch": {}}},
		{"/linux/netDevices/lent1: ", "the container has an interface lo: file exists", map[string]specs.LinuxNetDevice{"lent0": {}, "lent1": {Name: "lo"}}},
	} {
		s := newSpec("stay", "pause")
		s.Linux.NetDevices = c.devices
		box, dir := newOCI(t, "stay", s)
		r := box.call("create", "--bundle", dir, box.id)
		if r.status != 1 || !strings.HasPrefix(r.stdout, "minictr: "+c.at) || !strings.Contains(r.stdout, c.why) {
			t.Errorf("%s: %v", c.at, r)
		}
		if have := names(); !slices.Equal(have, before) {
			t.Errorf("the host has %v, and not %v", have, before)
		}
	}
	s := newSpec("stay", "pause")
	s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"lent0": {Name: "eth7"}}
	i := slices.IndexFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
	s.Linux.Namespaces[i].Path = fmt.Sprintf("/proc/%d/task/%d/ns/net", unix.Getpid(), unix.Gettid())
	s.Linux.Sysctl = nil
	box, dir := newOCI(t, "stay", s)
	box.fails(1, "the container's network namespace is the runtime's own", "create", "--bundle", dir, box.id)
}
