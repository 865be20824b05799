package integration_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/tests/alone"
)

// TestUserHostNetwork has a user's container on the host's own network.
func TestUserHostNetwork(t *testing.T) {
	u := newUser(t, subordinate)
	host, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if out := u.must(t, "run", "--network", "host", "tiny", "readlink", "/proc/self/ns/net"); out != fmt.Sprintln(host) {
		t.Errorf("the host's is %q, not %s", out, host)
	}
	if id := u.stays(t, "--network", "host", "--add-host", "other:10.0.0.1", "tiny", "sleep", "1000"); !strings.Contains(u.must(t, "exec", id, "cat", "/etc/hosts"), "other") {
		t.Error("/etc/hosts has no other")
	}
}

// beyond gives the host an address and a way out, and a server there that says
// "beyond", for one test.
func beyond(t *testing.T) (address string) {
	t.Helper()
	ip := func(args string) {
		t.Helper()
		if r := finish(t, host{}.outside(append([]string{"busybox", "ip"}, strings.Fields(args)...)...)); r.status != 0 {
			t.Fatalf("ip %s: %v", args, r)
		}
	}
	// As udev leaves it.
	const tun = "/dev/net/tun"
	mode, err := os.Stat(tun)
	if err == nil {
		err = os.Chmod(tun, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Chmod(tun, mode.Mode().Perm()); err != nil {
			t.Error(err)
		}
	})
	ip("link add beyond type bridge")
	t.Cleanup(func() { ip("link del beyond") })
	ip("addr add 192.0.2.1/24 dev beyond")
	ip("link set beyond up")
	ip("route add default via 192.0.2.2")
	l, err := net.Listen("tcp", "192.0.2.1:7000")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, "beyond")
			c.Close()
		}
	}()
	return l.Addr().String()
}

// newNetworkedUser may ask for the default network, which stays.
func newNetworkedUser(t *testing.T) user {
	t.Helper()
	u := newUser(t, subordinate)
	t.Cleanup(func() {
		if err := os.RemoveAll(filepath.Join(u.root, "networks", "bridge")); err != nil {
			t.Error(err)
		}
	})
	return u
}

// router is the process that has a lock of the user's, which others have not.
func (u user) router(t *testing.T) int {
	t.Helper()
	f, err := os.Open(u.run + "/user:namespace")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const routing = 4
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: routing, Len: 1}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil || lock.Type == unix.F_UNLCK {
		t.Fatalf("there is no router: %v", err)
	}
	return int(lock.Pid)
}

// TestUserNetworks has two containers of a user on a network, and a third on
// another one.
func TestUserNetworks(t *testing.T) {
	u := newNetworkedUser(t)
	server := beyond(t)
	u.must(t, "network", "create", "one")
	u.must(t, "network", "create", "two")
	t.Cleanup(func() { u.must(t, "network", "rm", "one", "two") })
	u.stays(t, append([]string{"--name", "web", "--network", "one", "-p", "8080:80"}, serves("hello")...)...)
	u.stays(t, "--name", "near", "--network", "one", "tiny", "sleep", "1000")
	u.stays(t, "--name", "far", "--network", "two", "tiny", "sleep", "1000")
	eventually(t, "the server answers", func() bool { return fetch("127.0.0.1:8080") == "hello" })
	gets := func(from, where string) string {
		return strings.TrimSpace(u.minictr(t, "exec", from, "connect", where).stdout)
	}
	works := func() {
		t.Helper()
		for _, at := range []string{"127.0.0.1:8080", "[::1]:8080", "192.0.2.1:8080"} {
			if got := fetch(at); got != "hello" {
				t.Errorf("the host asks %s: %q", at, got)
			}
		}
		if got := gets("near", "web:80"); got != "hello" {
			t.Errorf("a neighbour asks web: %q", got)
		}
		for _, from := range []string{"near", "far"} {
			if got := gets(from, server); got != "beyond" {
				t.Errorf("%s asks what is beyond: %q", from, got)
			}
		}
		v4 := u.address(t, "web", "IPAddress")
		if got := gets("far", v4+":80"); got != "" {
			t.Errorf("a container of another network asks: %q", got)
		}
	}
	works()
	if out := u.must(t, "exec", "near", "cat", "/etc/resolv.conf"); !strings.Contains(out, "nameserver 10.0.2.3\n") {
		t.Errorf("resolv.conf: %q", out)
	}
	if out := u.must(t, "run", "--network", "bridge", "tiny", "connect", server); out != "beyond\n" {
		t.Errorf("a container in the foreground asks what is beyond: %q", out)
	}
	if out := u.must(t, "port", "web"); out != "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n" {
		t.Errorf("port printed %q", out)
	}
	if r := u.minictr(t, "run", "-d", "-p", "8080:80", "tiny", "true"); r.status != statusRun || !strings.Contains(r.stderr, "published by container") {
		t.Errorf("a port that is taken: %v", r)
	}
	if r := u.minictr(t, "run", "-d", "-p", "80:80", "tiny", "true"); r.status != statusRun || !strings.Contains(r.stderr, "ip_unprivileged_port_start") {
		t.Errorf("a port that is root's: %v", r)
	}

	router := u.router(t)
	var carriers []string
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", router))
	for _, file := range threads {
		list, _ := os.ReadFile(file) // a thread may just end
		carriers = append(carriers, strings.Fields(string(list))...)
	}
	if err := unix.Kill(router, unix.SIGKILL); err != nil || len(carriers) != 1 {
		t.Fatalf("carriers %q, %v", carriers, err)
	}
	eventually(t, "what carries its packets ends with it", func() bool {
		_, err := os.Stat("/proc/" + carriers[0] + "/fd/0") // of one that is dead there is none
		return err != nil
	})
	if got := gets("near", "web:80"); got != "hello" {
		t.Errorf("without a router a neighbour asks web: %q", got)
	}
	u.stays(t, "--network", "two", "tiny", "sleep", "1000") // has a new one
	eventually(t, "there is a way out again", func() bool { return gets("near", server) == "beyond" })
	works()

	u.must(t, "rm", "-f", "web")
	if got := fetch("127.0.0.1:8080"); !strings.Contains(got, "refused") {
		t.Errorf("the port of a container that is gone: %q", got)
	}
}

// TestUserNetworkKilled kills all who keep a user's network: the next command
// takes away what they have left.
func TestUserNetworkKilled(t *testing.T) {
	u := newNetworkedUser(t)
	beyond(t)
	id := u.stays(t, append([]string{"--name", "web", "-p", "8080:80"}, serves("hello")...)...)
	eventually(t, "the server answers", func() bool { return fetch("127.0.0.1:8080") == "hello" })
	end(t, u.router(t))
	u.killMonitor(t, id)
	if got := fetch("127.0.0.1:8080"); !strings.Contains(got, "refused") {
		t.Errorf("the port of one without a monitor: %q", got)
	}
	if r := u.minictr(t, "ps", "-a"); r.status != 0 || !strings.Contains(r.stderr, "has ended: its monitor") {
		t.Errorf("the next command: %v", r)
	}
	if out := u.must(t, "network", "inspect", "bridge"); strings.Contains(out, id) {
		t.Errorf("it is still joined: %s", out)
	}
	u.must(t, "start", "web")
	eventually(t, "it answers again", func() bool { return fetch("127.0.0.1:8080") == "hello" })
}

// TestUserCarriers has one program carry a user's packets, and the other, and none.
func TestUserCarriers(t *testing.T) {
	u := newNetworkedUser(t)
	server := beyond(t)
	const pasta, slirp = "/usr/bin/pasta", "/usr/bin/slirp4netns"
	for _, missing := range [][]string{{slirp}, {pasta}, {pasta, slirp}} {
		t.Run(fmt.Sprint(missing), func(t *testing.T) {
			for _, name := range missing {
				alone.Cover(t, name, "")
			}
			r := u.minictr(t, "run", "--network", "bridge", "tiny", "connect", server)
			switch {
			case len(missing) < 2 && (r.stdout != "beyond\n" || r.stderr != ""):
				t.Error(r)
			case len(missing) == 2 && (r.status != 1 || !strings.Contains(r.stderr, "slirp4netns: ") || !strings.Contains(r.stderr, "reach each other and nothing outside")):
				t.Error(r)
			}
		})
	}
}
