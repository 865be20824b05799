package integration_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestDeviceInPlace asks for a device where the host has something else, which
// the container sees: it is left as it is, by whatever way the place leads there.
func TestDeviceInPlace(t *testing.T) {
	for _, c := range []struct {
		name, path, want string
		make             func(dir, rootfs string) error
	}{
		{"a file of a mount", "/data/node", "/linux/devices/0/path: another file is at /data/node", func(dir, _ string) error {
			return os.WriteFile(dir+"/node", []byte("kept"), 0o600)
		}},
		{"another device of a mount", "/data/node", "/linux/devices/0/path: another file is at /data/node", func(dir, _ string) error {
			return unix.Mknod(dir+"/node", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3)))
		}},
		{"by a link of the root", "/way/node", "mknodat(", func(dir, rootfs string) error {
			if err := os.Symlink("/data", rootfs+"/way"); err != nil {
				return err
			}
			return os.WriteFile(dir+"/node", []byte("kept"), 0o600)
		}},
		{"a file of the root", "/etc/node", "/linux/devices/0/path: another file is at /etc/node", func(_, rootfs string) error {
			return os.WriteFile(rootfs+"/etc/node", nil, 0o600)
		}},
		{"the device itself", "/data/node", "", func(dir, _ string) error {
			return unix.Mknod(dir+"/node", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5)))
		}},
		{"nothing", "/data/node", "", func(string, string) error { return nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, dir := newHost(t), temp(t)
			s := newSpec("node", "stat", c.path)
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/data", Type: "bind", Source: dir, Options: []string{"bind"}})
			s.Linux.Devices = []specs.LinuxDevice{{Path: c.path, Type: "c", Major: 1, Minor: 5}}
			bundle := newBundle(t, s, "node")
			if err := c.make(dir, filepath.Join(bundle, "rootfs")); err != nil {
				t.Fatal(err)
			}
			before := tree(t, dir)
			r := h.minictr(t, "run", "--bundle", bundle, "node")
			if c.want == "" && (r.status != 0 || !strings.Contains(r.stdout, "Device type: 1,5\n")) || c.want != "" && (r.status != statusFailed || !strings.Contains(r.stderr, c.want)) {
				t.Errorf("it is to say %q: %v", c.want, r)
			}
			if after := tree(t, dir); after != before && c.name != "nothing" {
				t.Errorf("the host had\n%s, and has\n%s", before, after)
			}
		})
	}
}
