package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A tool pulls images into a store that begins empty.
type tool struct {
	name string
	// daemon and pull are the commands; MNT is the file system for the store,
	// DIR a directory on another one, and IMAGE what is to be pulled. The
	// daemon is ready when there is something at the place ready.
	daemon []string
	ready  string
	pull   []string
}

// tools are those that take turns; the first is ours.
var tools = []tool{
	{name: "minictr", pull: []string{"DIR/minictr", "--data-root", "MNT/root", "--root", "DIR/run", "pull", "IMAGE"}},
	{
		name:   "containerd",
		daemon: []string{"containerd", "--config", "DIR/containerd.toml"}, ready: "DIR/containerd.sock",
		pull: []string{"ctr", "--address", "DIR/containerd.sock", "images", "pull", "--plain-http", "IMAGE"},
	},
	{name: "podman", pull: []string{"podman", "--root", "MNT/root", "--runroot", "DIR/podman", "--storage-driver", "overlay", "pull", "-q", "--tls-verify=false", "IMAGE"}},
}

const containerdConf = `version = 2
root = "MNT/root"
state = "DIR/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "DIR/containerd.sock"
`

// pull measures one pull, on a new file system, with nothing in the page cache
// but the programs and what the registry reads.
func (b bench) pull(t tool, image string) (c cost, err error) {
	mnt, err := b.mount()
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, b.unmount(mnt)) }()
	conf := b.words([]string{containerdConf}, mnt, "")[0]
	if err := errors.Join(os.Mkdir(mnt+"/tmp", 0o700), os.WriteFile(b.dir+"/containerd.toml", []byte(conf), 0o600)); err != nil {
		return c, err
	}
	if err := b.warm(image); err != nil {
		return c, err
	}
	for _, command := range [][]string{t.daemon, t.pull} {
		if command != nil { // its file is read
			_ = exec.Command(b.words(command[:1], mnt, "")[0], "--version").Run()
		}
	}
	if t.daemon != nil {
		daemon, err := b.start(t, mnt)
		if err != nil {
			return c, err
		}
		defer end(daemon)
	}
	return b.watch(b.command(b.words(t.pull, mnt, image), mnt), mnt)
}

// start starts a daemon in the cgroup, and waits until it is ready.
func (b bench) start(t tool, mnt string) (*exec.Cmd, error) {
	daemon := b.command(b.words(t.daemon, mnt, ""), mnt)
	ready := b.words([]string{t.ready}, mnt, "")[0]
	if err := os.RemoveAll(ready); err != nil {
		return nil, err
	}
	if err := daemon.Start(); err != nil {
		return nil, err
	}
	for range 200 {
		if _, err := os.Stat(ready); err == nil {
			time.Sleep(500 * time.Millisecond) // its plugins start
			return daemon, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	end(daemon)
	return nil, fmt.Errorf("%s does not get ready", t.daemon[0])
}

// end kills a process that this one has started.
func end(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // killed
}

func (b bench) words(command []string, mnt, image string) []string {
	var words []string
	for _, w := range command {
		words = append(words, replace(w, "MNT", mnt, "DIR", b.dir, "IMAGE", b.host+"/"+image))
	}
	return words
}

// command makes a command that runs in the cgroup, and dies with this program.
func (b bench) command(words []string, mnt string) *exec.Cmd {
	cmd := exec.Command("sh", append([]string{"-c", `echo $$ >"$0" && exec "$@"`, b.cgroup + "/cgroup.procs"}, words...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+mnt+"/tmp")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return cmd
}

// mount makes a new file system on a file. The device that stands for the file
// goes with the mount.
func (b bench) mount() (mnt string, err error) {
	file, mnt := b.disk, filepath.Join(b.dir, "mnt")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 12<<30), os.MkdirAll(mnt, 0o755)); err != nil {
		return "", err
	}
	// Nothing of the file system is left for the kernel to make while we measure.
	return mnt, errors.Join(
		run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", file),
		run("mount", "-o", "loop,noinit_itable", file, mnt),
	)
}

func (b bench) unmount(mnt string) (err error) {
	for range 50 { // a process that was killed may still be at its end
		if err = unix.Unmount(mnt, 0); !errors.Is(err, unix.EBUSY) {
			break
		}
		_ = unix.Unmount(mnt+"/root/overlay", 0) // Podman's
		time.Sleep(100 * time.Millisecond)
	}
	return errors.Join(err, os.Remove(b.disk))
}

func run(args ...string) error {
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%q: %w\n%s", args, err, out)
	}
	return nil
}
