package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// metapackage depends on the newest kernel that Debian has for clouds.
const metapackage = "linux-image-cloud-amd64"

// kernel brings Debian's kernel for virtual machines into the cache, where
// minictr vm looks for one: it is unpacked there, with its modules, and never
// installed. Without a network what is there serves.
func kernel(dir string) (cache string, err error) {
	if cache = os.Getenv("MINICTR_VM_CACHE"); cache == "" {
		if cache, err = os.UserCacheDir(); err != nil {
			return "", err
		}
		cache = filepath.Join(cache, "minictr-vm")
	}
	if found, _ := filepath.Glob(cache + "/boot/vmlinuz-*"); len(found) > 0 {
		return cache, nil
	}
	depends, err := output(dir, "apt-cache", "depends", "--important", metapackage)
	if err != nil {
		return "", err
	}
	name := regexp.MustCompile(`linux-image-[0-9]\S*`).FindString(depends)
	if name == "" {
		return "", fmt.Errorf("apt-cache knows no kernel for %s; run apt-get update first", metapackage)
	}
	// As root, apt would warn that its own user cannot write here.
	if _, err := output(dir, "apt-get", "-o", "APT::Sandbox::User=root", "download", name); err != nil {
		return "", err
	}
	packages, _ := filepath.Glob(dir + "/*.deb")
	if len(packages) != 1 {
		return "", fmt.Errorf("apt-get download %s left %d packages", name, len(packages))
	}
	part := cache + ".part" // whole, or not there
	if err := os.RemoveAll(part); err != nil {
		return "", err
	}
	if err := os.MkdirAll(part, 0o755); err != nil {
		return "", err
	}
	if _, err := output(dir, "dpkg-deb", "-x", packages[0], part); err != nil {
		return "", err
	}
	if err := os.RemoveAll(cache); err != nil {
		return "", err
	}
	return cache, os.Rename(part, cache)
}

// output is what a command in a directory says.
func output(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}
