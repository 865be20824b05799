package integration_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMountsBelowMounts is that a directory of the host which a container may
// write to can't lead the runtime out of the root: a link in it, on the way to
// another mount, is followed inside the root.
func TestMountsBelowMounts(t *testing.T) {
	h := newHost(t)
	dir := temp(t)
	for _, d := range []string{"data", "other"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const victim = "/home" // which is on both sides
	if err := os.Symlink(victim, filepath.Join(dir, "data/y")); err != nil {
		t.Fatal(err)
	}
	before := tree(t, dir)
	for _, top := range []string{"/dev/shm/x", "/tmp/x", "/x"} {
		out := h.must(t, "run", "-v", dir+"/data:"+top, "-v", dir+"/other:"+top+"/y/minictr-it", "tiny", "sh", "-c", "grep minictr-it /proc/self/mountinfo")
		if !strings.Contains(out, " "+victim+"/minictr-it ") { // where the link leads inside
			t.Errorf("%s: %q", top, out)
		}
		if _, err := os.Lstat(victim + "/minictr-it"); err == nil || tree(t, dir) != before {
			t.Errorf("%s: the host has changed", top)
		}
	}
}

// TestOtherRunRoot is that an engine with the same images and another place for
// states leaves alone what it does not know.
func TestOtherRunRoot(t *testing.T) {
	h := newHost(t)
	other := host{root: h.root, run: filepath.Join(temp(t), "other")}
	cmd := h.command("run", "--name", "first", "-v", upFile(t)+":/up", "tiny", "/up")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	bundles := func() []string {
		list, _ := filepath.Glob(filepath.Join(h.root, "containers/*/upper"))
		return list
	}
	eventually(t, "the container runs", func() bool { return len(bundles()) == 1 && strings.Contains(h.must(t, "ps"), "first") })
	if out := other.must(t, "ps", "-a", "-q"); out != "" {
		t.Errorf("it knows %q", out)
	}
	other.must(t, "run", "tiny", "true")
	if n := len(bundles()); n != 1 {
		t.Errorf("%d bundles are left", n)
	}
	h.must(t, "rm", "-f", "first")
	if err := cmd.Wait(); err == nil {
		t.Error("it was not killed")
	}
}

// TestDeepTree is that a container can't make directories too deep to remove.
func TestDeepTree(t *testing.T) {
	h := newHost(t)
	script := `i=0; while [ $i -lt 300 ]; do mkdir a; cd a; i=$((i+1)); done; echo x > file`
	cmd := h.command("run", "tiny", "sh", "-c", script)
	cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `ulimit -n 150; exec "$@"`, "sh"}, cmd.Args...)
	if r := finish(t, cmd); r.status != 0 || r.stderr != "" {
		t.Error(r)
	}
	if left, err := os.ReadDir(filepath.Join(h.root, "containers")); len(left) > 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left: %v, %v", left, err)
	}
}
