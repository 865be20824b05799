// Package conformance_test holds minictr, and for comparison runc and crun, to
// what the OCI runtime specification says that a runtime MUST do on Linux.
// Each test names the section. minictr must pass all; where another runtime
// does not, the log says so.
package conformance_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/tests/alone"
)

const (
	patience = 20 * time.Second
	unified  = "/sys/fs/cgroup/unified"
)

// scratch is a directory for all that these tests make.
var scratch = alone.Dir

func TestMain(m *testing.M) {
	alone.Main(m, "conformance", unix.CLONE_NEWNS|unix.CLONE_NEWNET, enter, func() error {
		var st unix.Stat_t
		if err := unix.Stat("/dev/null", &st); err != nil || st.Uid != 0 || st.Gid != 0 {
			return fmt.Errorf("the host's /dev/null belongs to %d:%d now, %w", st.Uid, st.Gid, err)
		}
		return nil
	})
}

// enter makes this process the parent of containers, and covers the second
// cgroup tree, since Debian's crun refuses a host that has both.
func enter() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if _, err := os.Stat(unified); err != nil {
		return nil //nolint:nilerr // there is one tree
	}
	return unix.Mount("tmpfs", unified, "tmpfs", 0, "")
}

// runtimes are those that are held to the specification.
func runtimes() map[string]string {
	return map[string]string{"minictr": scratch + "/minictr", "runc": "runc", "crun": "crun"}
}

// A must is a sentence of the specification, and a test of it.
type must struct {
	section string // of which document
	text    string
	edit    func(*specs.Spec)
	script  string // what the container runs; "" is check's business
	want    string // a regular expression for all that it prints
	check   func(*box) error
}

// TestSpecification has each runtime do what the specification says.
func TestSpecification(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	for name, program := range runtimes() {
		t.Run(name, func(t *testing.T) {
			path, err := exec.LookPath(program)
			if err != nil {
				t.Fatalf("%s is not installed", name)
			}
			failed := 0
			for _, list := range [][]must{operations, configuration, linux, joins, resources(), interfaces, hooks, lifecycle, structure, refusals()} {
				for _, m := range list {
					t.Run(m.section+": "+m.text, func(t *testing.T) {
						err := m.test(t, name, path)
						switch {
						case err == nil:
						case name == "minictr":
							t.Error(err)
						default:
							failed++
							t.Logf("%s: %s: %s: %v", name, m.section, m.text, err)
						}
					})
				}
			}
			t.Logf("%s fails %d", name, failed)
		})
	}
}

func (m must) test(t *testing.T, name, program string) (err error) {
	b := newBox(t, name, program)
	defer func() { err = errors.Join(err, b.end()) }()
	s := base(b)
	if m.script != "" {
		s.Process.Args = []string{"sh", "-c", m.script}
	}
	if m.edit != nil {
		m.edit(s)
	}
	b.write(s)
	if m.check != nil {
		return m.check(b)
	}
	out, err := b.toTheEnd()
	if err != nil {
		return err
	}
	if !regexp.MustCompile("^(?s:" + m.want + ")$").MatchString(strings.TrimSpace(out)) {
		return fmt.Errorf("it prints %q, not %q", strings.TrimSpace(out), m.want)
	}
	return nil
}

// A box is one container of one runtime.
type box struct {
	t             *testing.T
	name, program string
	dir           string // the bundle
	pid           int
	out           *os.File
	said          string // by the last command
}

func newBox(t *testing.T, name, program string) *box {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "box-") //nolint:usetesting // others may not pass through what t.TempDir makes
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	for _, d := range []string{"bin", "dev", "etc", "proc", "sys", "tmp", "mnt"} {
		err = errors.Join(err, os.MkdirAll(filepath.Join(dir, "rootfs", d), 0o755))
	}
	busybox, e := os.ReadFile("/bin/busybox")
	err = errors.Join(err, e, os.WriteFile(dir+"/rootfs/bin/busybox", busybox, 0o755))
	for applet := range strings.FieldsSeq("sh cat echo env id pwd ls grep hostname sleep stat readlink touch mount umount true false kill uname cut head wc sed seq tr sort printf dd mknod mkdir ulimit ip") {
		err = errors.Join(err, os.Link(dir+"/rootfs/bin/busybox", dir+"/rootfs/bin/"+applet)) // a link of a file: masks of /proc paths need it so
	}
	out, e := os.Create(dir + "/output")
	if err = errors.Join(err, e, os.WriteFile(dir+"/empty", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	return &box{t: t, name: name, program: program, dir: dir, out: out}
}

// id is unlike that of any other container here.
func (b *box) id() string { return filepath.Base(b.dir) }

func (b *box) cgroup() string { return "/" + filepath.Base(scratch) + "-" + b.id() }

// base is a plain container.
func base(b *box) *specs.Spec {
	caps := []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_MKNOD"}
	return &specs.Spec{
		Version: "1.0.2",
		Process: &specs.Process{
			Args: []string{"true"}, Env: []string{"PATH=/bin"}, Cwd: "/",
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
		},
		Root: &specs.Root{Path: "rootfs"},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: b.cgroup(),
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace},
			},
			Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}},
		},
	}
}

func (b *box) write(s *specs.Spec) {
	text, err := json.Marshal(s)
	if err == nil {
		err = os.WriteFile(b.dir+"/config.json", text, 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// run runs a command of the runtime.
func (b *box) run(args ...string) error {
	errs, err := os.Create(b.dir + "/messages")
	if err != nil {
		b.t.Fatal(err)
	}
	defer errs.Close()
	cmd := exec.Command(b.program, append([]string{"--root", scratch + "/state-" + b.name}, args...)...)
	// Not /dev/null: with a user namespace crun gives it, the host's own, to the
	// container's root.
	stdin, err := os.Open(b.dir + "/empty")
	if err != nil {
		b.t.Fatal(err)
	}
	defer stdin.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, errs, errs
	if args[0] == "create" {
		cmd.Stdout = b.out
	}
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	err = cmd.Start()
	if err == nil {
		err = cmd.Wait()
	}
	timer.Stop()
	text, _ := os.ReadFile(errs.Name())
	b.said = string(text)
	if err != nil {
		return fmt.Errorf("%s: %w: %s", args[0], err, bytes.TrimSpace(text))
	}
	return nil
}

func (b *box) create() error {
	err := b.run("create", "--bundle", b.dir, "--pid-file", b.dir+"/pid", b.id())
	if err != nil {
		return err
	}
	text, err := os.ReadFile(b.dir + "/pid")
	if err == nil {
		b.pid, err = strconv.Atoi(string(text))
	}
	return err
}

func (b *box) start() error { return b.run("start", b.id()) }

// ended waits for the end of the container's process.
func (b *box) ended() (status unix.WaitStatus, err error) {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		pid, err := unix.Wait4(b.pid, &status, unix.WNOHANG, nil)
		if err != nil || pid == b.pid {
			b.pid = 0
			return status, err
		}
	}
	return status, errors.New("the process does not end")
}

func (b *box) output() string {
	text, _ := os.ReadFile(b.out.Name())
	return string(text)
}

// toTheEnd is the whole life, and what the program prints.
func (b *box) toTheEnd() (string, error) {
	if err := b.create(); err != nil {
		return "", err
	}
	if err := b.start(); err != nil {
		return "", err
	}
	if _, err := b.ended(); err != nil {
		return "", err
	}
	return b.output(), b.run("delete", b.id())
}

// state is what the command state prints.
func (b *box) state() (s specs.State, err error) {
	if err := b.run("state", b.id()); err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(b.said), &s)
}

// is checks the status.
func (b *box) is(want specs.ContainerState) error {
	s, err := b.state()
	if err == nil && s.Status != want {
		err = fmt.Errorf("the status is %s, not %s", s.Status, want)
	}
	return err
}

// refuses checks that a command fails, and says why.
func (b *box) refuses(args ...string) error {
	if b.run(args...) == nil {
		return fmt.Errorf("%v is no error", args)
	}
	if b.said == "" {
		return fmt.Errorf("%v fails, and does not say why", args)
	}
	return nil
}

// left lists the cgroups of the container.
func (b *box) left() []string {
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*" + b.cgroup())
	more, _ := filepath.Glob("/sys/fs/cgroup" + b.cgroup())
	return slices.DeleteFunc(append(dirs, more...), func(dir string) bool {
		return strings.HasPrefix(dir, unified+"/") // no cgroup: the tree is covered
	})
}

// notCreated is for what must be an error of create, which leaves nothing.
func notCreated(b *box) error {
	if err := b.refuses("create", "--bundle", b.dir, b.id()); err != nil {
		return err
	}
	if dirs := b.left(); len(dirs) > 0 {
		return fmt.Errorf("left: %q", dirs)
	}
	return b.refuses("state", b.id())
}

// end takes away whatever is left.
func (b *box) end() error {
	_ = b.run("delete", "--force", b.id())
	if b.pid != 0 {
		_ = unix.Kill(b.pid, unix.SIGKILL)
		_, _ = b.ended()
	}
	for { // what hooks and killed runtimes have left to us
		if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != nil || pid == 0 {
			break
		}
	}
	_ = b.out.Close()
	for _, dir := range b.left() {
		_ = os.Remove(dir)
	}
	return os.RemoveAll(b.dir)
}
