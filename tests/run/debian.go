package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// debian lists the packages that the tests need, and what for.
var debian = [][2]string{
	{"gcc", "the race detector"},
	{"libc6-dev", "the race detector"},
	{"git", "the README's commands in a clone"},
	{"sudo", "the README's commands as a user"},
	{"strace", "comparing a plan with what runs"},
	{"crun", "comparing with other runtimes"},
	{"runc", "comparing with other runtimes"},
	{"busybox-static", "comparing the built-in image's commands"},
	{"bzip2", "compressed layers"},
	{"xz-utils", "compressed layers"},
	{"apparmor", "a profile for a container"},
	{"secilc", "a policy for a container"},
	{"docker.io", "minictr under Docker"},
	{"podman", "minictr under Podman"},
	{"buildah", "minictr under Buildah"},
	{"bubblewrap", "the walls of others"},
	{"containerd", "minictr under containerd"},
	{"catatonit", "a container's first process"},
	{"iptables", "the networks of Docker"},
	{"iproute2", "the networks of the tests"},
	{"nftables", "what others see of a firewall"},
	{"procps", "ps of a container"},
	{"systemd", "a container with systemd in it"},
	{"uidmap", "a user's container with ids of its own"},
	{"passt", "a user's networks"},
	{"slirp4netns", "a user's networks"},
	{"umoci", "comparing the trees of images"},
	{"docker-registry", "pushing to a registry, and pulling from it"},
	{"skopeo", "what others find in a registry"},
	{"mmdebstrap", "an image of Debian"},
	{"qemu-system-x86", "virtual machines"},
	{"qemu-system-arm", "a virtual machine with another kind of processor"},
	{"shellcheck", "checking scripts"},
	{"shfmt", "checking scripts"},
}

// install installs what is missing, and says so.
func install() error {
	var missing []string
	for _, p := range debian {
		status, _ := exec.Command("dpkg-query", "-W", "-f", "${db:Status-Status}", p[0]).Output()
		if string(status) != "installed" {
			missing = append(missing, p[0])
			fmt.Printf("The tests need Debian's package %s for %s.\n", p[0], p[1])
		}
	}
	// Without these apt does not know the virtual machine's kernel.
	lists, _ := filepath.Glob("/var/lib/apt/lists/*_Packages*")
	if len(missing) == 0 && len(lists) > 0 {
		return nil
	}
	if err := apt("update", "-q"); err != nil {
		return err
	}
	return apt(slices.Concat([]string{"install", "-q", "-y", "--no-install-recommends"}, missing)...)
}

func apt(args ...string) error {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return errors.New("there is no apt-get: install these by this system's own means, and use --no-install")
	}
	args = slices.Concat([]string{"env", "DEBIAN_FRONTEND=noninteractive", "apt-get"}, args)
	if os.Getuid() != 0 {
		if _, err := exec.LookPath("sudo"); err != nil {
			return errors.New("installing needs root or sudo: become root, or use --no-install")
		}
		args = slices.Concat([]string{"sudo"}, args)
	}
	fmt.Println(strings.Join(args, " "))
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = os.Stdin // for sudo's question
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}
