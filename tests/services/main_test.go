// Package services_test has the servers that containers are used for, as Debian
// packs them, live as people have them live: detached, on a network, with
// their data in a volume.
package services_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/tests/alone"
)

// patience bounds everything that is waited for: a database that recovers on a
// busy machine takes seconds.
const patience = time.Minute

// program is minictr; dataRoot and stateRoot are where it keeps all it has.
var program, dataRoot, stateRoot = filepath.Join(alone.Dir, "minictr"), filepath.Join(alone.Dir, "data"), filepath.Join(alone.Dir, "run")

// TestMain has the tests play on a machine of their own: nothing is mounted and
// no port is taken on it.
func TestMain(m *testing.M) {
	var before alone.Fingerprint
	alone.Main(m, "services", unix.CLONE_NEWNS|unix.CLONE_NEWNET, func() error {
		defer func() { before = alone.Machine() }()
		return errors.Join(unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""), alone.LoopbackUp())
	}, func() error {
		if left := before.Differences(); len(left) > 0 {
			return fmt.Errorf("the machine is changed:\n%s", strings.Join(left, "\n"))
		}
		return nil
	})
}

// minictr runs minictr to its end, and returns what it printed. Its errors are
// what it wrote on stderr.
func minictr(args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.Command(program, append([]string{"--data-root", dataRoot, "--root", stateRoot}, args...)...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &errs, time.Second
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "MINICTR_NETWORK=none"}
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("minictr %q: %w\n%s%s", args, err, &out, &errs)
	}
	return strings.TrimSpace(out.String()), nil
}

// must runs minictr, which has to succeed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := minictr(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// eventually waits until something works.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s: %v", patience, what, err)
		}
	}
}

// newMachine has the images ready, and a network. In the end, all that a test
// has made must be gone from the machine.
func newMachine(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	if err := images(); err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for _, name := range []string{"containers", "names", "networks", "tmp", "volumes"} {
		dirs = append(dirs, filepath.Join(dataRoot, name))
	}
	dirs = append(dirs, stateRoot)
	before, network := alone.Machine(dirs...), alone.Network(t)
	t.Cleanup(func() {
		if t.Failed() {
			alone.KillChildren(t)
			return
		}
		if left := before.Differences(dirs...); len(left) > 0 {
			t.Errorf("the machine is changed:\n%s", strings.Join(left, "\n"))
		}
		if now := alone.Network(t); now != network {
			t.Errorf("the network was\n%s\nand is now\n%s", network, now)
		}
	})
	must(t, "network", "create", "shop")
	t.Cleanup(func() { minictr("network", "rm", "shop") })
}

// images makes them, the first time.
var images = sync.OnceValue(func() error {
	dir := filepath.Join(alone.Dir, "packages")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := download(dir); err != nil {
		return err
	}
	archive, err := os.Create(filepath.Join(alone.Dir, "image.tar"))
	if err != nil {
		return err
	}
	programs, err := writeImage(archive, dir)
	if err := errors.Join(err, archive.Close(), os.RemoveAll(dir)); err != nil {
		return err
	}
	_, err = minictr("import", "--change", "ENV PATH="+programs+":/usr/sbin:/usr/bin:/sbin:/bin", archive.Name(), "services")
	if err := errors.Join(err, os.Remove(archive.Name())); err != nil {
		return err
	}
	id, err := minictr("create", "services", "true")
	if err != nil {
		return err
	}
	for name, changes := range changes {
		args := []string{"commit"}
		for _, c := range changes {
			args = append(args, "--change", c)
		}
		if _, err := minictr(append(args, id, name)...); err != nil {
			return err
		}
	}
	_, err = minictr("rm", id)
	return err
})

// changes make an image of a service of the image of them all.
var changes = map[string][]string{
	"nginx": {`CMD ["nginx", "-g", "daemon off;"]`, "EXPOSE 80", "VOLUME /var/www/html"},
	"redis": {
		`CMD ["redis-server", "--bind", "*", "--protected-mode", "no", "--dir", "/var/lib/redis", "--appendonly", "yes", "--appendfsync", "always"]`,
		"USER redis", "EXPOSE 6379", "VOLUME /var/lib/redis",
	},
	"postgres": {`CMD ["postgres", "-D", "/var/lib/postgresql/data", "-k", "/tmp", "-h", "*"]`, "USER postgres", "EXPOSE 5432", "VOLUME /var/lib/postgresql/data"},
}
