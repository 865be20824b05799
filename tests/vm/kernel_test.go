package vm_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/spec"
)

// TestArm64 is that minictr, built for arm64, builds its wall there: the
// machine's first process is that program, and so is the image. An init
// there takes an orphan away, and passes signals on.
func TestArm64(t *testing.T) {
	kernel := os.Getenv("MINICTR_VM_ARM64")
	if kernel == "" {
		t.Skip("there is no kernel for arm64: go run ./tests/run vm brings one, and names it in MINICTR_VM_ARM64")
	}
	dir := t.TempDir()
	program, archive := filepath.Join(dir, "minictr"), filepath.Join(dir, "image.tar")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", program, "github.com/minictr/minictr/cmd/minictr")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=arm64")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "bin/", Mode: 0o755, Typeflag: tar.TypeDir},
		{Name: "bin/minictr", Mode: 0o755, Size: int64(len(text))},
		{Name: "bin/sh", Typeflag: tar.TypeSymlink, Linkname: "minictr"},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write(text); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(archive, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := finish(t, command(t, "import", archive, "arm64")); r.status != 0 {
		t.Fatal(r)
	}
	r := finish(t, command(t, booted("--kernel", kernel, "--init", program, "-m", "1g", "arm64", "sh", "-c",
		`/bin/minictr run tiny sh -c 'uname -m; echo $$; id -u; grep Seccomp: /proc/self/status'
		/bin/minictr run --init tiny sh -c 'trap "echo caught; on=1" USR1; echo $$; orphan; while ps | grep -q "orphan]*$"; do sleep 0.1; done; echo reaped
			kill -USR1 1; until test $on; do sleep 0.1; done; kill -TERM 1; while true; do sleep 1; done'
		echo $?`)...))
	if r.status != 0 || strings.Join(strings.Fields(r.stdout), " ") != "aarch64 1 0 Seccomp: 2 2 reaped caught 143" {
		t.Error(r)
	}
}

// TestNoUserNamespaces is a kernel that forbids user namespaces: whoever asks
// for one is told so, and containers without one run.
func TestNoUserNamespaces(t *testing.T) {
	bundle := t.TempDir()
	s := spec.Default()
	s.Process.Args = []string{"/bin/sh"}
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	ids := []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, spec.ConfigFile), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(bundle, "rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := finish(t, command(t, booted("--append", "sysctl.user.max_user_namespaces=0", "-m", "1g",
		"-v", machine.args[0]+":/minictr", "-v", bundle+":/bundle", "tiny", "sh", "-c",
		`/minictr run --bundle /bundle refused; echo $?; /minictr run tiny echo fine; /minictr doctor`)...))
	if !strings.Contains(r.stdout, "1\nfine\n") || !strings.Contains(r.stderr, "clone3(") ||
		!strings.Contains(r.stderr, "no space left") || !strings.Contains(r.stderr, "/proc/sys/user") {
		t.Errorf("%v", r)
	}
	if !strings.Contains(r.stdout, "user.max_user_namespaces") {
		t.Errorf("doctor does not tell: %s", r.stdout)
	}
}
