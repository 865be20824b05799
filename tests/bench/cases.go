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
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/seccomp"
)

//go:embed config.json
var config []byte

// A variant is a bundle whose runs are compared with one another.
type variant string

const (
	plain    variant = "bundle"
	filtered variant = "bundle-seccomp"
	// Of the same bundle as plain: create, start and delete, as container
	// managers call them, and exec in a container that runs.
	apart   variant = "create, start, delete"
	entered variant = "exec"
)

// A contestant is one of those that take turns.
type contestant struct {
	name    string
	variant variant
	// commands are timed together, one after the other.
	commands [][]string
}

// run runs the commands once, and returns how long they took.
func (c contestant) run() (time.Duration, error) {
	start := time.Now()
	for _, args := range c.commands {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return 0, err
		}
	}
	took := time.Since(start)
	return took, reap()
}

// reap takes leave of the containers' processes that were left to this one,
// and have ended.
func reap() error {
	for {
		switch pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ECHILD), err == nil && pid == 0:
			return nil
		case err != nil:
			return err
		}
	}
}

// prepare builds the bundles and programs, and returns what takes turns.
func (p place) prepare() ([]contestant, error) {
	err := errors.Join(p.writeBundle(plain), p.writeBundle(filtered), p.makeRootfs(), p.makeState(), p.makeCgroup())
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

// makeState makes the directory of the runtimes' states: /run is a tmpfs on
// most machines, and here it shall be.
func (p place) makeState() error {
	if err := os.Mkdir(p.state, 0o711); err != nil {
		return err
	}
	return unix.Mount("tmpfs", p.state, "tmpfs", 0, "mode=711")
}

// command is one of a runtime.
func (p place) command(name string, args ...string) []string {
	return append([]string{p.dir + "/" + name, "--root", p.state + "/" + name}, args...)
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
		os.Symlink("busybox", filepath.Join(p.rootfs(), "bin/sleep")),
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
	switch v {
	case filtered:
		s.Linux.Seccomp = seccomp.Default(s.Process.Capabilities.Bounding, seccomp.Native())
	case plain, apart, entered:
	default:
		s.Process.Args = []string{"/bin/sleep", "1000000"}
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
		list = append(list, contestant{name, v, [][]string{args}})
	}
	runtimes := []string{"minictr", "crun", "runc"}
	for _, v := range []variant{plain, filtered} {
		for _, name := range runtimes {
			add(name, v, p.command(name, "run", "--bundle", p.bundle(v), "bench")...)
		}
	}
	for _, name := range runtimes {
		if _, err := exec.LookPath(p.dir + "/" + name); err == nil {
			list = append(list, contestant{name, apart, [][]string{
				p.command(name, "create", "--bundle", p.bundle(plain), "bench"), p.command(name, "start", "bench"), p.command(name, "delete", "--force", "bench"),
			}})
		}
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
