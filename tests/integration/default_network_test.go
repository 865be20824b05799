package integration_test

import (
	"strings"
	"testing"
)

// TestDefaultNetwork has containers that name no network: they are on the default
// one.
func TestDefaultNetwork(t *testing.T) {
	h := newNetworked(t)
	server := beyond(t)
	run := func(args ...string) result {
		t.Helper()
		cmd := h.command(args...)
		cmd.Env = append(cmd.Env, "MINICTR_NETWORK=")
		return finish(t, cmd)
	}
	if r := run("run", "tiny", "connect", server); r.stdout != "beyond\n" || r.stderr != "" {
		t.Errorf("it asks what is beyond: %v", r)
	}
	for _, flags := range []string{"--network none", "--without net --network host"} {
		if r := run(append(append([]string{"run"}, strings.Fields(flags)...), "tiny", "ls", "/sys/class/net")...); strings.Contains(r.stdout, "eth0") || r.status != 0 {
			t.Errorf("%s: %v", flags, r)
		}
	}
	if r := run("run", "-d", "--name", "stays", "tiny", "sleep", "1000"); r.status != 0 {
		t.Fatal(r)
	}
	for format, want := range map[string]string{"{{.HostConfig.NetworkMode}}": "default", `{{with index .NetworkSettings.Networks "bridge"}}{{.IPAddress}}{{end}}`: h.address(t, "stays", "IPAddress")} {
		if r := run("inspect", "-f", format, "stays"); r.stdout != want+"\n" {
			t.Errorf("%s: %v, not %q", format, r, want)
		}
	}
	h.must(t, "rm", "-f", "stays")
}

// TestNoNetworkToBeHad has a host that can't make a network: who asks for none gets
// none, and is told.
func TestNoNetworkToBeHad(t *testing.T) {
	h := newNetworked(t)
	run := func(args ...string) result {
		t.Helper()
		// As in a container that may not change parameters of the kernel.
		script := `mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys; exec "$@"`
		cmd := h.outside(append([]string{"unshare", "--mount", "sh", "-c", script, "sh"}, h.command(args...).Args...)...)
		cmd.Env = append(h.command().Env, "MINICTR_NETWORK=")
		return finish(t, cmd)
	}
	const told = "minictr: the container has no network: "
	file := temp(t) + "/id"
	if r := run("run", "--cidfile", file, "tiny", "sh", "-c", "ls /sys/class/net; exit 3"); r.status != 3 || r.stdout != "lo\n" || strings.Count(r.stderr, "\n") != 1 || !strings.HasPrefix(r.stderr, told) {
		t.Error(r)
	}
	r := run("run", "-d", "tiny", "sleep", "1000")
	if r.status != 0 || !strings.HasPrefix(r.stderr, told) {
		t.Fatal(r)
	}
	h.must(t, "rm", "-f", strings.TrimSpace(r.stdout))
	if r := run("run", "--network", "bridge", "tiny", "true"); r.status != statusRun || strings.HasPrefix(r.stderr, told) {
		t.Errorf("who asks for one: %v", r)
	}
	if r := run("run", "--network", "none", "tiny", "true"); r.status != 0 || r.stderr != "" {
		t.Errorf("who asks for none: %v", r)
	}
}
