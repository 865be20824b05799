package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// A kernel is one that Debian has for clouds.
type kernel struct {
	suite string // of Debian; "" is this system's own
	arch  string
}

// Kernels that tests run on.
var (
	stable  = kernel{"", "amd64"}
	newest  = kernel{"sid", "amd64"}
	foreign = kernel{"stable", "arm64"} // for another kind of processor
)

// cacheDir is where kernels for virtual machines are kept, so that the next run
// needs no network; minictr vm looks for one there.
func cacheDir() (string, error) {
	if dir := os.Getenv("MINICTR_VM_CACHE"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "minictr-vm"), err
}

// fetch brings a kernel into the directory to, unpacked, with its modules, and
// never installed; it returns the image. Without a network what is there
// serves. The directory dir is for temporary files.
func (k kernel) fetch(s *suite, dir, to string) (image string, err error) {
	if image := imageIn(to); image != "" {
		return image, nil
	}
	dir = filepath.Join(dir, "kernel-"+k.suite+k.arch)
	if err := os.MkdirAll(dir+"/lists/partial", 0o755); err != nil {
		return "", err
	}
	// As root, apt would warn that its own user cannot write here.
	options := []string{"-o", "APT::Sandbox::User=root"}
	if k.suite != "" {
		source := fmt.Sprintf("deb [arch=%s signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian %s main\n", k.arch, k.suite)
		if err := os.WriteFile(dir+"/sources.list", []byte(source), 0o600); err != nil {
			return "", err
		}
		for _, o := range []string{
			"APT::Architecture=" + k.arch, "APT::Architectures=" + k.arch, "Dir::State::Status=/dev/null", "Dir::State::Lists=" + dir + "/lists",
			"Dir::Etc::SourceList=" + dir + "/sources.list", "Dir::Etc::SourceParts=-", "Dir::Cache::PkgCache=", "Dir::Cache::SrcPkgCache=",
		} {
			options = append(options, "-o", o)
		}
		if _, err := s.say(dir, "apt-get", append(options, "update")...); err != nil {
			return "", err
		}
	}
	names, err := k.packages(s, dir, options)
	if err != nil {
		return "", err
	}
	if _, err := s.say(dir, "apt-get", append(append(options, "download"), names...)...); err != nil {
		return "", err
	}
	part := filepath.Join(to, ".part") // the image comes last: it is there when all is
	if err := errors.Join(os.RemoveAll(part), os.MkdirAll(part, 0o755)); err != nil {
		return "", err
	}
	packages, _ := filepath.Glob(dir + "/*.deb")
	for _, p := range packages {
		if _, err := s.say(dir, "dpkg-deb", "-x", p, part); err != nil {
			return "", err
		}
	}
	modules, _ := filepath.Glob(part + "/*/modules/*/kernel")
	more, _ := filepath.Glob(part + "/usr/lib/modules/*/kernel")
	if imageIn(part) == "" || len(modules)+len(more) == 0 {
		return "", fmt.Errorf("there is no kernel with modules in %v", names)
	}
	for _, name := range []string{"lib", "usr", "boot"} {
		if _, err := os.Stat(filepath.Join(part, name)); err != nil {
			continue
		}
		err := errors.Join(os.RemoveAll(filepath.Join(to, name)), os.Rename(filepath.Join(part, name), filepath.Join(to, name)))
		if err != nil {
			return "", err
		}
	}
	return imageIn(to), os.RemoveAll(part)
}

// imageIn finds a kernel's image below a directory: Debian has moved it.
func imageIn(dir string) string {
	for _, pattern := range []string{"boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz"} {
		if found, _ := filepath.Glob(filepath.Join(dir, pattern)); len(found) > 0 {
			return found[0]
		}
	}
	return ""
}

// packages are those in which it comes: one package, or one for the image and
// another for the modules.
func (k kernel) packages(s *suite, dir string, options []string) (names []string, err error) {
	meta := "linux-image-cloud-" + k.arch
	depends, err := s.say(dir, "apt-cache", append(options, "depends", "--important", meta)...)
	if err != nil {
		return nil, err
	}
	release, found := strings.CutPrefix(regexp.MustCompile(`linux-image-[0-9]\S*`).FindString(depends), "linux-image-")
	if !found {
		return nil, fmt.Errorf("apt-cache knows no kernel for %s; run apt-get update first", meta)
	}
	for _, name := range []string{"linux-image-" + release, "linux-binary-" + release, "linux-modules-" + release} {
		if _, err := s.say(dir, "apt-cache", append(options, "show", name)...); err == nil {
			names = append(names, name)
		}
	}
	return names, nil
}

// say is what a command in a directory says.
func (s *suite) say(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	return s.said(cmd)
}

// said runs a command to its end, and returns what it says.
func (s *suite) said(cmd *exec.Cmd) (string, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := s.wait(cmd); err != nil {
		return "", fmt.Errorf("%v: %w\n%s", cmd, err, out.String())
	}
	return out.String(), nil
}
