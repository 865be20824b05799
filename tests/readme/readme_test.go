// Package readme_test runs the README's commands, word for word.
package readme_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// blocks are the README's code blocks that are shell commands, in order.
func blocks(t *testing.T) (list []string) {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(string(text), "\n```sh\n")[1:] {
		block, _, ok := strings.Cut(part, "\n```\n")
		if !ok {
			t.Fatalf("a code block has no end: %.60s", part)
		}
		list = append(list, block)
	}
	return list
}

// clone copies what git knows of this repository, as a newcomer's clone has it.
func clone(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "-c", `cd ../.. && git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$0"`, dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}

// sandbox is a shell in a network namespace that has no interface but lo, and with
// its own /var/lib and /run/minictr, in which it runs a script.
func sandbox(t *testing.T, dir, script string) (string, error) {
	t.Helper()
	var made []string // and to be taken away
	for _, dir := range []string{"/var/lib/minictr", "/run/minictr"} {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			made = append(made, dir)
		}
	}
	cmd := exec.Command("unshare", "--net", "--mount", "bash", "-euo", "pipefail", "-c", `
		ip link set lo up
		mount -t tmpfs tmpfs /mnt
		mkdir -p /var/lib/minictr /run/minictr
		mkdir /mnt/lib /mnt/run
		mount --bind /mnt/lib /var/lib/minictr
		mount --bind /mnt/run /run/minictr
		`+script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=readonly", "GOTOOLCHAIN=local", "LC_ALL=C", "XDG_STATE_HOME=/mnt/state")
	out, err := cmd.CombinedOutput()
	for _, dir := range made {
		if err := unix.Rmdir(dir); err != nil {
			t.Error(err)
		}
	}
	return string(out), err
}

const hello = "hello from inside: my PID is 1, on Linux "

// Once the module cache is filled, the first command needs no network, and no
// privilege but sudo's.
func TestFirstCommand(t *testing.T) {
	needRoot(t)
	first := blocks(t)[0]
	release := kernelRelease(t)
	t.Run("root", func(t *testing.T) {
		out, err := sandbox(t, clone(t), first)
		if err != nil || !strings.Contains(out, hello+release) {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("sudo", func(t *testing.T) {
		if _, err := exec.LookPath("sudo"); err != nil {
			t.Fatal("sudo is missing: the README's second command installs it")
		}
		dir := clone(t)
		// A user who may use sudo, in a copy of /etc that nobody else sees.
		out, err := sandbox(t, dir, fmt.Sprintf(`
			cp -a /etc /mnt/etc
			echo 'newcomer:x:4242:4242::/mnt/home:/bin/bash' >> /mnt/etc/passwd
			echo 'newcomer:x:4242:' >> /mnt/etc/group
			echo 'newcomer:*:20000:0:99999:7:::' >> /mnt/etc/shadow
			echo 'newcomer ALL=(ALL) NOPASSWD: ALL' > /mnt/etc/sudoers.d/newcomer
			mount --bind /mnt/etc /etc
			mkdir -m 0777 /mnt/home /mnt/home/cache
			chown -R newcomer %[1]s /mnt/home
			cat > /mnt/first <<-'END'
			%[2]s
			END
			mkdir /mnt/modules
			mount --bind "$(go env GOMODCACHE)" /mnt/modules # which may be where only root can go
			env=(HOME=/mnt/home GOCACHE=/mnt/home/cache GOMODCACHE=/mnt/modules "PATH=$PATH" GOPROXY=off GOFLAGS=-mod=readonly)
			setpriv --reuid newcomer --regid newcomer --clear-groups env "${env[@]}" bash -c 'id -un; . /mnt/first'`, dir, first))
		if err != nil || !strings.HasPrefix(out, "newcomer\n") || !strings.Contains(out, hello+release) {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

func kernelRelease(t *testing.T) string {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	return unix.ByteSliceToString(u.Release[:])
}

// The tour says what one will see; here is where it is checked.
func TestTour(t *testing.T) {
	needRoot(t)
	all := blocks(t)
	dir := clone(t)
	script := `export PATH="$PATH:."; exec 2>&1
CGO_ENABLED=0 go build ./cmd/minictr
`
	for i, block := range all[2:] { // the first two are the set-up
		script += fmt.Sprintf("echo '=== %d'\n(%s\n)\n", i, block)
	}
	out, err := sandbox(t, dir, script)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	parts := strings.Split("\n"+out, "\n=== ")[1:]
	if len(parts) != len(all)-2 {
		t.Fatalf("%d of %d blocks ran\n%s", len(parts), len(all)-2, out)
	}
	for i, want := range []string{
		"uid=0(root)",           // looking around inside
		"",                      // two times the same boot_id, below
		"pivot",                 // the plan
		"of overlay",            // the plan, step by step
		"EINVAL",                // the page of an error
		"WITHOUT the brick pid", // leaving one out
		"What no wall covers",   // the wall that stands
		"exit status 137",       // a limit of memory
		"bomb",                  // a limit of processes
		"That is not it.",       // a lesson
		"\nhello\nlistening on", // a container on a network, asked at its published port
		"s3cret",                // a secret
		"made by hand",          // an image of a container
	} {
		if i < len(parts) && !strings.Contains(parts[i], want) {
			t.Errorf("block %d does not say %q:\n%s", i, want, parts[i])
		}
	}
	ids := strings.Fields(parts[1])
	if len(ids) != 3 || ids[1] != ids[2] {
		t.Errorf("boot_id inside and outside: %q", ids)
	}
}
