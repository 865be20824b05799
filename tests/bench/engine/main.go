// Command engine measures how long it takes until a container runs detached,
// with a network: by minictr, docker and podman. All take turns, in an order that
// is shuffled anew each round, on the same image.
//
//	go run ./tests/bench/engine [-n ROUNDS]
//
// It needs root, and Debian's docker.io, podman and busybox-static. All is in one
// network namespace that plays the host's.
package main

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const inside = "MINICTR_BENCH_INSIDE" // set where mounts and the network are private

func main() {
	rounds := flag.Int("n", 20, "`rounds`")
	flag.Parse()
	do := func() error { return measure(*rounds) }
	if os.Getenv(inside) == "" {
		do = enter
	}
	if err := do(); err != nil {
		fmt.Fprintln(os.Stderr, "tests/bench/engine:", err)
		os.Exit(1)
	}
}

// enter runs this program again, in namespaces of its own.
func enter() error {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET}
	return cmd.Run()
}

// An engine is one of those that take turns: its program with the flags that say
// where it keeps what.
type engine struct {
	name    string
	program []string
	load    []string // takes the image from a tar archive
	flags   []string // of run
}

func (e engine) command(args ...string) *exec.Cmd {
	args = append(slices.Clone(e.program), args...)
	return exec.Command(args[0], args[1:]...)
}

// run starts a container, and returns how long that took. It is removed after
// that.
func (e engine) run(dir string) (took time.Duration, err error) {
	out, err := os.Create(filepath.Join(dir, "id"))
	if err != nil {
		return 0, err
	}
	defer out.Close()
	cmd := e.command(slices.Concat([]string{"run", "-d"}, e.flags, []string{"bench", "/bin/sleep", "1000000"})...)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	begun := time.Now()
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("%v: %w", cmd.Args, err)
	}
	took = time.Since(begun)
	id, err := os.ReadFile(out.Name())
	if err != nil {
		return 0, err
	}
	return took, run(e.command("rm", "-f", strings.TrimSpace(string(id))))
}

// run runs a command, and tells what it says if it fails.
func run(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
	}
	return nil
}

func measure(rounds int) (err error) {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// Where podman's plugins keep addresses, and its locks.
	for _, at := range []string{"/var/lib/cni", "/run/containers", "/run/libpod", "/run/lock"} {
		if err := os.MkdirAll(at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", at, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("mount over %s: %w", at, err)
		}
	}
	// crun refuses a hybrid host, so for all it is one of cgroup v1.
	const unified = "/sys/fs/cgroup/unified"
	if _, missing := os.Stat(unified); missing == nil {
		if err := unix.Mount("tmpfs", unified, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("mount over %s: %w", unified, err)
		}
	}
	if err := run(exec.Command("busybox", "ip", "link", "set", "lo", "up")); err != nil {
		return err
	}
	built := filepath.Join(dir, "minictr")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", built+".built", "./cmd/minictr")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	image := filepath.Join(dir, "image.tar")
	if err := errors.Join(run(build), run(exec.Command("cp", built+".built", built)), makeImage(dir, image)); err != nil {
		return err
	}
	cgroup := filepath.Base(dir)
	defer func() { err = errors.Join(err, removeCgroups(cgroup)) }()
	stop, err := startDaemon(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	engines := []engine{
		{"minictr", []string{built, "--data-root", dir + "/images", "--root", dir + "/run"}, []string{"import", image, "bench"}, []string{"--network", "bridge"}},
		{"docker", []string{"docker", "--host", "unix://" + dir + "/docker.sock"}, []string{"import", image, "bench"}, []string{"--network", "bridge", "--cgroup-parent", "/" + cgroup}},
		{"podman", []string{
			"podman", "--root", dir + "/podman", "--runroot", dir + "/pr", "--tmpdir", dir + "/pt",
			"--cgroup-manager", "cgroupfs", "--events-backend", "file",
		}, []string{"import", image, "bench"}, []string{"--network", "podman", "--cgroup-parent", "/" + cgroup, "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"}}, // without CAP_SYS_RESOURCE it can have no more
	}
	times := make([][]time.Duration, len(engines))
	for _, e := range engines {
		if err := run(e.command(e.load...)); err != nil {
			return err
		}
		if _, err := e.run(dir); err != nil { // the first makes what others find
			return err
		}
	}
	for range rounds {
		for _, i := range rand.Perm(len(engines)) {
			took, err := engines[i].run(dir)
			if err != nil {
				return err
			}
			times[i] = append(times[i], took)
		}
	}
	print(engines, times)
	return nil
}

// removeCgroups removes the cgroups of others' containers, and of their monitors,
// which end a little later.
func removeCgroups(name string) (err error) {
	time.Sleep(time.Second) // podman's own cleaning comes after its rm, and makes one anew
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		busy := false
		for _, below := range []string{"/*/", "/"} {
			dirs, _ := filepath.Glob("/sys/fs/cgroup/*/" + name + below)
			for _, dir := range dirs {
				err = unix.Rmdir(filepath.Clean(dir))
				busy = busy || err != nil
			}
		}
		if !busy {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("cgroup %s: %w", name, err)
		}
	}
}

// makeImage makes a root file system of busybox alone.
func makeImage(dir, image string) error {
	root := filepath.Join(dir, "rootfs")
	for _, name := range []string{"bin", "proc", "sys", "dev", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			return err
		}
	}
	busybox, err := os.ReadFile("/bin/busybox")
	return errors.Join(err,
		os.WriteFile(filepath.Join(root, "bin/busybox"), busybox, 0o755),
		os.Symlink("busybox", filepath.Join(root, "bin/sleep")),
		run(exec.Command("tar", "-C", root, "-cf", image, ".")))
}

// startDaemon starts Docker's, and waits until it answers.
func startDaemon(dir string) (stop func() error, err error) {
	log, err := os.Create(filepath.Join(dir, "dockerd.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	daemon := exec.Command("dockerd", "--host", "unix://"+dir+"/docker.sock", "--data-root", dir+"/docker", "--exec-root", dir+"/docker-run", "--pidfile", dir+"/docker.pid")
	daemon.Stdout, daemon.Stderr = log, log
	if err := daemon.Start(); err != nil {
		return nil, err
	}
	stop = func() error {
		err := daemon.Process.Signal(unix.SIGTERM)
		_ = daemon.Wait()
		for _, left := range []string{dir + "/docker-run/netns/default", dir + "/docker-run/netns", dir + "/docker", dir + "/podman/overlay", dir + "/podman"} {
			_ = unix.Unmount(left, unix.MNT_DETACH) // what they leave mounted
		}
		return err
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		err := run(exec.Command("docker", "--host", "unix://"+dir+"/docker.sock", "version"))
		if err == nil {
			return stop, nil
		}
		if time.Now().After(end) {
			said, _ := os.ReadFile(log.Name())
			return nil, errors.Join(err, fmt.Errorf("dockerd says\n%s", said), stop())
		}
	}
}

// print prints milliseconds, and what share of others' medians the first one's is.
func print(engines []engine, times [][]time.Duration) {
	for _, t := range times {
		slices.Sort(t)
	}
	at := func(i int, share float64) float64 {
		return times[i][int(share*float64(len(times[i])-1))].Seconds() * 1e3
	}
	fmt.Printf("%d rounds:\n\n| run -d | minimum | median | p90 | × minictr |\n|---|--:|--:|--:|--:|\n", len(times[0]))
	for i, e := range engines {
		fmt.Printf("| %s | %.1f | %.1f | %.1f | %.1f |\n", e.name, at(i, 0), at(i, 0.5), at(i, 0.9), at(i, 0.5)/at(0, 0.5))
	}
}
