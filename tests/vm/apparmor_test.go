package vm_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minictr/minictr/pkg/spec"
)

// profile is one of AppArmor's, that hides a file.
const profile = `abi <abi/3.0>,
profile walled flags=(attach_disconnected, mediate_deleted) {
	capability,
	network,
	file,
	signal,
	deny /etc/secret rwklx,
}
`

// TestAppArmor confines a container, and a process that enters it, by a
// profile, on a kernel that has AppArmor.
func TestAppArmor(t *testing.T) {
	dir := bundle(t)
	s := spec.Default()
	s.Process.Args = []string{"busybox", "sh", "-c", "busybox cat /proc/self/attr/current /etc/secret; echo ready; exec busybox sleep 100"}
	s.Process.ApparmorProfile = "walled"
	if err := spec.Write(dir, s); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"rootfs/etc/secret": "told\n", "profile": profile} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// Compiled here, since it takes the compiler's libraries.
	binary, err := exec.Command("apparmor_parser", "--skip-kernel-load", "--skip-cache", "--stdout", filepath.Join(dir, "profile")).Output()
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "binary"), binary, 0o600)
	}
	if err != nil {
		t.Fatalf("apparmor_parser (Debian: apparmor): %v", err)
	}
	r := finish(t, command(t, booted("-m", "1g", "-v", machine.args[0]+":/minictr", "-v", dir+":/bundle", "tiny", "sh", "-c",
		`mount -t securityfs s /sys/kernel/security; cat /bundle/binary > /sys/kernel/security/apparmor/.load || exit
		/minictr run -d --bundle /bundle box > /out 2>&1 < /dev/null; until grep -q ready /out; do sleep 0.1; done; cat /out
		/minictr exec box busybox cat /proc/self/attr/current /etc/secret; /minictr exec --apparmor nosuch box busybox true; /minictr delete -f box`)...))
	if strings.Count(r.stdout, "walled (enforce)") != 2 || strings.Contains(r.stdout, "told") || strings.Count(r.stdout+r.stderr, "Permission denied") != 2 {
		t.Errorf("it is not confined: %v", r)
	}
	if !strings.Contains(r.stderr, `/process/apparmorProfile: `) || !strings.Contains(r.stderr, "there is no such profile") {
		t.Errorf("a profile that is not loaded: %v", r)
	}
}

// bundle is the directory of one whose root has busybox.
func bundle(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"bin", "etc", "proc", "dev", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, "rootfs", d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "rootfs/bin/busybox"), busybox, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
