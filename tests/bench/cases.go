package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/seccomp"
)

//go:embed config.json
var config []byte

// A variant is a bundle whose runs are compared with one another.
type variant string

const (
	plain    variant = "bundle"
	filtered variant = "bundle-seccomp"
)

// A contestant is one of the commands that take turns.
type contestant struct {
	name    string
	variant variant
	args    []string
}

// run runs the command once, and returns how long it took.
func (c contestant) run() (time.Duration, error) {
	cmd := exec.Command(c.args[0], c.args[1:]...)
	cmd.Stderr = os.Stderr
	start := time.Now()
	err := cmd.Run()
	return time.Since(start), err
}

// prepare builds the bundles and programs, and returns what takes turns.
func (p place) prepare() ([]contestant, error) {
	err := errors.Join(p.writeBundle(plain), p.writeBundle(filtered), p.makeRootfs(), os.Mkdir(p.state, 0o711), p.makeCgroup())
	for _, peer := range peers {
		if program, missing := exec.LookPath(peer); missing == nil {
			err = errors.Join(err, install(program, filepath.Join(p.dir, peer)))
		}
	}
	if built := os.Getenv(programs); built != "" {
		for name := range ours {
			err = errors.Join(err, install(filepath.Join(built, name), filepath.Join(p.dir, name)))
		}
	} else {
		err = errors.Join(err, p.build())
	}
	if _, missing := exec.LookPath("gcc"); missing == nil {
		err = errors.Join(err, build("gcc", "-static", "-O2", "-Wall", "-o", filepath.Join(p.dir, "floor"), "tests/bench/floor/floor.c"))
	}
	return p.contestants(), err
}

// peers are the programs of others that take turns, if they are there.
var peers = []string{"crun", "runc", "bwrap"}

// ours are the packages of the programs that this module has.
var ours = map[string]string{"minictr": "./cmd/minictr", "nothing": "./tests/bench/nothing"}

// build makes them.
func (p place) build() (err error) {
	for name, dir := range ours {
		built := filepath.Join(p.dir, name+".built")
		err = errors.Join(err, build("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", built, dir), install(built, filepath.Join(p.dir, name)))
	}
	return err
}

func build(args ...string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}

// install copies a program, as make install does. How a file lies in the page
// cache depends on how it came there: in single pages, as Go's linker writes
// it, it starts up to 1 ms later than in large folios. All are copied alike.
func install(from, to string) error {
	program, err := os.ReadFile(from)
	return errors.Join(err, os.WriteFile(to, program, 0o755))
}

// makeRootfs makes a root file system of busybox alone.
func (p place) makeRootfs() error {
	for _, dir := range []string{"bin", "proc", "sys", "dev"} {
		if err := os.MkdirAll(filepath.Join(p.rootfs(), dir), 0o755); err != nil {
			return err
		}
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return fmt.Errorf("%w: install Debian's busybox-static", err)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(p.rootfs(), "bin/busybox"), busybox, 0o755),
		os.Symlink("busybox", filepath.Join(p.rootfs(), "bin/true")),
	)
}

func (p place) bundle(v variant) string { return filepath.Join(p.dir, string(v)) }

func (p place) rootfs() string { return filepath.Join(p.bundle(plain), "rootfs") }

func (p place) writeBundle(v variant) error {
	var s specs.Spec
	if err := json.Unmarshal(config, &s); err != nil {
		return err
	}
	s.Root.Path = p.rootfs()
	s.Linux.CgroupsPath = "/" + p.cgroup + "/" + string(v)
	if v == filtered {
		s.Linux.Seccomp = seccomp.Default(s.Process.Capabilities.Bounding, seccomp.Native())
	}
	text, err := json.Marshal(s)
	return errors.Join(err, os.Mkdir(p.bundle(v), 0o755), os.WriteFile(filepath.Join(p.bundle(v), "config.json"), text, 0o600))
}

// bwrap makes a sandbox as much like the bundle as it can: without cgroups.
const bwrap = `DIR/bwrap --unshare-pid --unshare-net --unshare-ipc --unshare-uts --unshare-cgroup --hostname bench
	--ro-bind ROOTFS / --proc /proc --dev /dev --ro-bind /sys /sys --remount-ro /
	--cap-drop ALL --new-session --die-with-parent --clearenv /bin/true`

// contestants lists those that are installed.
func (p place) contestants() []contestant {
	var list []contestant
	add := func(name string, v variant, args ...string) {
		if _, err := exec.LookPath(args[0]); err != nil {
			fmt.Printf("%s is left out: %v\n", name, err)
			return
		}
		list = append(list, contestant{name, v, args})
	}
	for _, v := range []variant{plain, filtered} {
		add("minictr", v, p.dir+"/minictr", "--data-root", p.state+"/images", "--root", p.state+"/minictr", "run", "--bundle", p.bundle(v), "bench")
		add("crun", v, p.dir+"/crun", "--root", p.state+"/crun", "run", "--bundle", p.bundle(v), "bench")
		add("runc", v, p.dir+"/runc", "--root", p.state+"/runc", "run", "--bundle", p.bundle(v), "bench")
	}
	add("bwrap", plain, strings.Fields(strings.NewReplacer("DIR", p.dir, "ROOTFS", p.rootfs()).Replace(bwrap))...)
	add("nothing", plain, p.dir+"/nothing")

	floor := []string{p.dir + "/floor", p.bundle(plain), p.state + "/floor", p.cgroup + "/floor"}
	for _, h := range hierarchies() {
		if h == "/sys/fs/cgroup" {
			fmt.Println("floor is left out: it is written for cgroup v1")
			return list
		}
		floor = append(floor, filepath.Base(h))
	}
	add("floor", plain, floor...)
	return list
}
