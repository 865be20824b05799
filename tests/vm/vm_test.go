// Package vm_test runs tests again in a virtual machine, with another kernel
// and with cgroup version 2 alone: QEMU without KVM, Debian's cloud kernel,
// and an initramfs that holds a small init and one test program.
package vm_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

const (
	qemu = "qemu-system-x86_64"
	// metapackage depends on the newest kernel that Debian has for clouds.
	metapackage = "linux-image-cloud-amd64"
	// patience bounds one boot and all tests in it, on an emulated processor.
	patience = 5 * time.Minute
)

func TestCgroupV2(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine")
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("the virtual machine is for amd64")
	}
	if _, err := exec.LookPath(qemu); err != nil {
		t.Skip(qemu + " is not installed (Debian: qemu-system-x86)")
	}
	image := kernel(t)
	dir := t.TempDir()
	build(t, "build", "-o", dir+"/init", "./init")
	build(t, "test", "-c", "-o", dir+"/test", "../../pkg/cgroup")

	var a initramfs
	for _, name := range []string{"proc", "sys", "dev", "tmp"} {
		a.dir(name)
	}
	for _, err := range []error{a.file("init", dir+"/init"), a.file("test", dir+"/test"), a.tree("testdata", "../../pkg/cgroup/testdata")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(dir+"/initramfs", a.end(), 0o600); err != nil {
		t.Fatal(err)
	}
	console := boot(t, image, dir+"/initramfs")
	report(t, console)
	if !strings.Contains(console, "minictr-vm: exit <nil>\n") || t.Failed() {
		t.Errorf("the tests in the virtual machine failed:\n%s", console)
	}
}

// result is a line of go test -v that tells how one test ended, without those
// of its subtests.
var result = regexp.MustCompile(`(?m)^--- (PASS|FAIL|SKIP): (\S+)`)

// report tells of each test in the machine as if it had run here.
func report(t *testing.T, console string) {
	t.Helper()
	results := result.FindAllStringSubmatch(console, -1)
	if len(results) == 0 {
		t.Error("no test ran in the virtual machine")
	}
	for _, r := range results {
		t.Run(r[2], func(t *testing.T) {
			switch r[1] {
			case "FAIL":
				t.Fail()
			case "SKIP":
				t.Skip("in the virtual machine")
			}
		})
	}
}

func build(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// boot runs the machine until it powers off, and returns what its serial
// console said.
func boot(t *testing.T, kernel, initramfs string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, qemu, "-accel", "tcg", "-M", "q35", "-cpu", "max", "-smp", "2", "-m", "512M",
		"-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-serial", "stdio",
		"-kernel", kernel, "-initrd", initramfs, "-append", "console=ttyS0 panic=-1 quiet")
	out, err := cmd.CombinedOutput()
	console := strings.ReplaceAll(string(out), "\r\n", "\n")
	if err != nil {
		t.Fatalf("%s: %v (%v)\n%s", qemu, err, ctx.Err(), console)
	}
	return console
}

// kernel returns the path of a kernel image, from the cache or from Debian's
// archive: it is unpacked there and never installed.
func kernel(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("MINICTR_VM_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(user, "minictr-vm")
	}
	if found, _ := filepath.Glob(cache + "/vmlinuz-*"); len(found) > 0 {
		return found[len(found)-1]
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skipf("no kernel in %s, and no apt-get to fetch Debian's %s", cache, metapackage)
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	image, err := fetch(t.TempDir(), cache)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func fetch(dir, cache string) (string, error) {
	depends, err := command(dir, "apt-cache", "depends", "--important", metapackage)
	if err != nil {
		return "", err
	}
	name := regexp.MustCompile(`linux-image-[0-9]\S*`).FindString(depends)
	if name == "" {
		return "", fmt.Errorf("apt-cache knows no kernel for %s; run apt-get update first", metapackage)
	}
	// As root, apt would warn that its own user cannot write here.
	if _, err := command(dir, "apt-get", "-o", "APT::Sandbox::User=root", "download", name); err != nil {
		return "", err
	}
	packages, _ := filepath.Glob(dir + "/*.deb")
	if len(packages) != 1 {
		return "", fmt.Errorf("apt-get download %s left %d packages", name, len(packages))
	}
	if _, err := command(dir, "dpkg-deb", "-x", packages[0], dir); err != nil {
		return "", err
	}
	images, _ := filepath.Glob(dir + "/boot/vmlinuz-*")
	if len(images) != 1 {
		return "", fmt.Errorf("%s holds %d kernel images", name, len(images))
	}
	data, err := os.ReadFile(images[0])
	if err != nil {
		return "", err
	}
	image := filepath.Join(cache, filepath.Base(images[0]))
	if err := os.WriteFile(image+".part", data, 0o600); err != nil {
		return "", err
	}
	return image, os.Rename(image+".part", image)
}

func command(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}
