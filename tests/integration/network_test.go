package integration_test

import (
	"io"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minictr/minictr/tests/alone"
)

// Tests of networks have the network namespace of these tests for the host's:
// bridges, addresses and rules of theirs are nobody else's.

// newNetworked is an engine on a host that nothing of a network is left on.
func newNetworked(t *testing.T) host {
	t.Helper()
	h := newEngine(t)
	before := alone.Network(t)
	t.Cleanup(func() {
		eventually(t, "nothing of a network is left", func() bool { return alone.Network(t) == before || t.Failed() })
	})
	return h
}

// serves is the arguments of a container that says a word to who connects to
// port 80, on all addresses of both families.
func serves(word string) []string { return []string{"tiny", "listen", "[::]:80", word} }

// fetch is what a server at an address says, or why it does not.
func fetch(address string) string {
	c, err := net.DialTimeout("tcp", address, 3*time.Second)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(3 * time.Second))
	text, err := io.ReadAll(c)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text))
}

// gets is what a container gets from a server.
func (h host) gets(t *testing.T, from, where string) result {
	t.Helper()
	r := h.minictr(t, "exec", from, "connect", where)
	r.stdout = strings.TrimSpace(r.stdout)
	return r
}

// TestNetworks has two containers on a network, and a third on another one.
func TestNetworks(t *testing.T) {
	h := newNetworked(t)
	h.must(t, "network", "create", "one")
	h.must(t, "network", "create", "two")
	h.detached(t, append([]string{"--name", "web", "--network", "one", "--network-alias", "shop", "-p", "8080:80"}, serves("hello")...)...)
	h.detached(t, "--name", "near", "--network", "one", "tiny", "sleep", "1000")
	h.detached(t, "--name", "far", "--network", "two", "tiny", "sleep", "1000")
	eventually(t, "the server answers", func() bool { return fetch("127.0.0.1:8080") == "hello" })

	(host{root: h.root, run: filepath.Join(temp(t), "run")}).must(t, "run", "tiny", "true") // to whom they are strangers, and no corpses
	for _, name := range []string{"web", "shop"} {
		if r := h.gets(t, "near", name+":80"); r.stdout != "hello" {
			t.Errorf("a neighbour asks %s: %v", name, r)
		}
	}
	v4, v6 := h.address(t, "web", "IPAddress"), h.address(t, "web", "GlobalIPv6Address")
	gateway := h.address(t, "web", "Gateway")
	for _, at := range []string{"127.0.0.1:8080", "[::1]:8080", gateway + ":8080", v4 + ":80", "[" + v6 + "]:80"} {
		if got := fetch(at); got != "hello" {
			t.Errorf("the host asks %s: %q", at, got)
		}
	}
	if r := h.gets(t, "near", "["+v6+"]:80"); r.stdout != "hello" {
		t.Errorf("a neighbour asks over IPv6: %v", r)
	}
	for _, where := range []string{"web:80", v4 + ":80", "[" + v6 + "]:80"} {
		if r := h.gets(t, "far", where); r.status == 0 {
			t.Errorf("a container of another network asks %s: %v", where, r)
		}
	}
	if out := h.must(t, "port", "web"); out != "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n" {
		t.Errorf("port printed %q", out)
	}
	if r := h.minictr(t, "run", "-d", "-p", "8080:80", "tiny", "true"); r.status != statusRun || !strings.Contains(r.stderr, "8080") {
		t.Errorf("a port that is taken: %v", r)
	}
	if r := h.minictr(t, "network", "rm", "one"); r.status != statusFailed || !strings.Contains(r.stderr, "web") {
		t.Errorf("rm of a network in use: %v", r)
	}

	h.must(t, "rm", "-f", "near")
	h.detached(t, "--name", "later", "--network", "one", "tiny", "sleep", "1000")
	if hosts := h.must(t, "exec", "web", "cat", "/etc/hosts"); strings.Contains(hosts, "near") || !strings.Contains(hosts, "later") {
		t.Errorf("the server's hosts: %s", hosts)
	}
	h.must(t, "rename", "later", "latest")
	if hosts := h.must(t, "exec", "web", "cat", "/etc/hosts"); strings.Contains(hosts, "later") || !strings.Contains(hosts, "latest") {
		t.Errorf("the server's hosts, after a neighbour has another name: %s", hosts)
	}
	if out := h.must(t, "network", "inspect", "one"); !strings.Contains(out, `"latest"`) {
		t.Errorf("the network: %s", out)
	}
	h.must(t, "restart", "-t", "0", "web")
	eventually(t, "it answers again", func() bool { return fetch("127.0.0.1:8080") == "hello" })
	h.must(t, "rm", "-f", "web", "far", "latest")
	if got := fetch("127.0.0.1:8080"); !strings.Contains(got, "refused") {
		t.Errorf("the port of a container that is gone: %q", got)
	}
	h.must(t, "network", "rm", "one", "two")
}

// address is one of a container's, as inspect tells it.
func (h host) address(t *testing.T, name, which string) string {
	t.Helper()
	return strings.TrimSpace(h.must(t, "inspect", "--format", "{{range .NetworkSettings.Networks}}{{."+which+"}}{{end}}", name))
}

// TestPod is containers that share the namespaces of one.
func TestPod(t *testing.T) {
	h := newNetworked(t)
	h.detached(t, append([]string{"--name", "first", "--hostname", "pod", "--network", "bridge"}, serves("in the pod")...)...)
	h.detached(t, "--name", "second", "--network", "container:first", "--pid", "container:first", "--ipc", "container:first", "--uts", "container:first",
		"tiny", "sleep", "1000")
	eventually(t, "localhost is one", func() bool { return h.gets(t, "second", "127.0.0.1:80").stdout == "in the pod" })
	if out := h.must(t, "exec", "second", "sh", "-c", "hostname; ps"); !strings.HasPrefix(out, "pod\n") || !strings.Contains(out, "listen") {
		t.Errorf("the second sees %q", out)
	}
	if mine, other := h.must(t, "exec", "second", "cat", "/etc/hosts"), h.must(t, "exec", "first", "cat", "/etc/hosts"); mine != other {
		t.Errorf("hosts: %q, and %q", mine, other)
	}
}

// TestNetworkKilled kills monitors: of the network nothing is left after the
// next command.
func TestNetworkKilled(t *testing.T) {
	h := newNetworked(t)
	for range 4 {
		id := h.detached(t, append([]string{"-p", "8081:80"}, serves("brief")...)...)
		monitor := int(h.status(t, id)["Monitor"].(float64))
		if err := syscall.Kill(monitor, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		h.must(t, "rm", "-f", id)
	}
}
