package wall

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// asSubject has this program be a process to look at, and not a test.
const asSubject = "MINICTR_WALL_SUBJECT"

func TestMain(m *testing.M) {
	if masking, ok := os.LookupEnv(asSubject); ok {
		if err := beSubject(masking); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// beSubject lays masks, or goes to another root, if it is asked to, tries each
// file, tells what became of that, and waits until nobody looks any more.
func beSubject(masking string) error {
	var err error
	switch {
	case filepath.IsAbs(masking):
		err = errors.Join(unix.Chroot(masking), unix.Chdir("/"))
	case masking == "uptime":
		err = errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("/dev/null", "/proc/uptime", "", unix.MS_BIND, ""))
	case masking == "autofs":
		err = automount()
	case masking != "":
		err = mask()
	}
	if err != nil {
		return err
	}
	var list []file
	for _, path := range sensitive {
		list = append(list, try(path))
	}
	if err := json.NewEncoder(os.Stdout).Encode(list); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// mask hides and locks some files, in the ways that runtimes do.
func mask() error {
	const ro = unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY
	return errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("/dev/null", "/proc/keys", "", unix.MS_BIND, ""),
		unix.Mount("tmpfs", "/proc/irq", "tmpfs", unix.MS_RDONLY, ""),
		unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""),
		unix.Mount("", "/proc/sys", "", ro, ""),
		unix.Mount("/proc/uptime", "/proc/uptime", "", unix.MS_BIND, ""),
		unix.Mount("", "/proc/uptime", "", ro, ""))
}

// automount has /proc/sys/fs/binfmt_misc be what is mounted when somebody walks
// through: autofs(5). Nobody does that here.
func automount() error {
	var ends [2]int
	if err := errors.Join(unix.Pipe(ends[:]), unix.Setpgid(0, 0)); err != nil {
		return err
	}
	options := fmt.Sprintf("fd=%d,pgrp=%d,minproto=5,maxproto=5,direct", ends[1], unix.Getpid())
	return errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("minictr", "/proc/sys/fs/binfmt_misc", "autofs", 0, options))
}

// try opens a file of the kernel's, and says whether that works.
func try(path string) file {
	f := file{Path: path}
	for _, t := range []struct {
		flags int
		ok    *bool
	}{{unix.O_RDONLY, &f.Read}, {unix.O_WRONLY, &f.Write}} {
		fd, err := unix.Open(path, t.flags|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		var fs unix.Statfs_t
		err = unix.Fstatfs(fd, &fs)
		f.Masked = err != nil || fs.Type == unix.TMPFS_MAGIC
		*t.ok = !f.Masked
		unix.Close(fd)
	}
	return f
}

// A subject is a process to look at.
type subject struct {
	pid   int
	files []file // what it could open
}

// begin starts one. It ends with the test.
func begin(t *testing.T, masking string, attr *syscall.SysProcAttr, command ...string) subject {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	if len(command) == 0 {
		command = []string{program(t)}
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), asSubject+"="+masking)
	cmd.SysProcAttr = attr
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	s := subject{pid: cmd.Process.Pid}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &s.files)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// program is a copy of this one that every user may execute.
func program(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "minictr-wall-") //nolint:usetesting // others may not pass through what t.TempDir makes
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	text, e := os.ReadFile("/proc/self/exe")
	name := filepath.Join(dir, "subject")
	if err := errors.Join(err, e, os.WriteFile(name, text, 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return name
}

// around looks at a wall.
func wallOf(t *testing.T, pid int) *Wall {
	t.Helper()
	w, err := Around(pid)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *Wall) brick(name string) Brick {
	return w.Bricks[slices.IndexFunc(w.Bricks, func(b Brick) bool { return b.Name == name })]
}

// ours are the bricks that this file speaks of.
var ours = strings.Fields("user pid mnt root masks net uts ipc time cgroup")

// check compares the states of all: those that are named, and shared ones.
func (w *Wall) check(t *testing.T, walled ...string) {
	t.Helper()
	for _, name := range ours {
		want := Shared
		if slices.Contains(walled, name) {
			want = Walled
		}
		if b := w.brick(name); b.State != want {
			t.Errorf("%s is %s, want %s: %+v", name, b.State, want, b)
		}
	}
}

// TestSelf looks at the test itself: it shares all with who looks. It needs no
// privilege for that.
func TestSelf(t *testing.T) {
	w := wallOf(t, os.Getpid())
	w.check(t)
	if w.Inside[len(w.Inside)-1] != os.Getpid() || w.PID != os.Getpid() || w.Kernel == "" || len(w.Boot) != 36 {
		t.Errorf("got %+v", w)
	}
	for _, f := range w.files(t) {
		got := try(f.Path)
		if f.Read != got.Read || f.Write != got.Write {
			t.Errorf("%s: it says %+v, and it is %+v", f.Path, f, got)
		}
	}
}

func (w *Wall) files(t *testing.T) []file {
	t.Helper()
	facts, ok := w.brick("masks").Facts.(map[string][]file)
	if !ok || len(facts["files"]) < 20 {
		t.Fatalf("facts of the masks: %v", w.brick("masks").Facts)
	}
	return facts["files"]
}

// TestNamespaces puts a process into each kind of namespace, and into all.
func TestNamespaces(t *testing.T) {
	for name, flag := range map[string]uintptr{
		"pid": unix.CLONE_NEWPID, "mnt": unix.CLONE_NEWNS, "net": unix.CLONE_NEWNET,
		"uts": unix.CLONE_NEWUTS, "ipc": unix.CLONE_NEWIPC, "cgroup": unix.CLONE_NEWCGROUP,
	} {
		t.Run(name, func(t *testing.T) {
			w := wallOf(t, begin(t, "", &syscall.SysProcAttr{Cloneflags: flag}).pid)
			if name == "mnt" { // there its /proc has no masks
				if b := w.brick("masks"); b.State != Missing {
					t.Errorf("without any mask: %+v", b)
				}
				return
			}
			w.check(t, name)
			if inside := w.Inside[len(w.Inside)-1]; (inside == 1) != (name == "pid") {
				t.Errorf("its numbers are %v", w.Inside)
			}
		})
	}
	t.Run("user", func(t *testing.T) {
		w := wallOf(t, begin(t, "", mapped(100000, 1000)).pid)
		w.check(t, "user")
		if b := w.brick("user"); b.Inside != "user 0, of 1000 ids" || b.Host != "user 100000" || !strings.Contains(b.Means, "ordinary user") {
			t.Errorf("got %+v", b)
		}
		w = wallOf(t, begin(t, "", mapped(0, 1)).pid)
		if b := w.brick("user"); b.State != Walled || !strings.Contains(b.Means, "user 0 outside, too") {
			t.Errorf("got %+v", b)
		}
	})
	t.Run("time", func(t *testing.T) {
		// Its child: on older kernels who makes the namespace can't have threads.
		parent := begin(t, "", nil, "unshare", "--fork", "--time", "--boottime", "7200", program(t)).pid
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", parent))
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(children)))
		if err != nil {
			t.Fatal(err)
		}
		w := wallOf(t, pid)
		if w.check(t, "time"); w.brick("time").Inside != "monotonic 0 s, boot 7200 s" {
			t.Errorf("got %+v", w.brick("time"))
		}
	})
}

// TestWithin reads what only members see: a host name, and shared memory.
func TestWithin(t *testing.T) {
	script := `hostname inside && ipcmk -M 4096 >/dev/null && exec ` + program(t)
	s := begin(t, "", &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUTS | unix.CLONE_NEWIPC}, "sh", "-c", script)
	for range 3 { // and it stays where it was
		w := wallOf(t, s.pid)
		w.check(t, "uts", "ipc")
		if uts, ipc := w.brick("uts"), w.brick("ipc"); uts.Inside != "inside" || uts.Host == "inside" || ipc.Inside != "1 shared objects" {
			t.Errorf("got %+v, %+v", uts, ipc)
		}
	}
}

// mapped is a user namespace whose ids from 0 on are the host's from another on.
func mapped(outside, count int) *syscall.SysProcAttr {
	ids := []syscall.SysProcIDMap{{HostID: outside, Size: count}}
	return &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, Credential: &syscall.Credential{NoSetGroups: true}}
}

// nobody is a user without any power.
const nobody = 65534

func as(gid uint32, groups []uint32, caps ...uintptr) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: gid, Groups: groups}, AmbientCaps: caps}
}

// TestFiles compares what is worked out with what processes find that try it:
// of many users, with many capabilities, in user namespaces, behind masks.
func TestFiles(t *testing.T) {
	for _, c := range []struct {
		name    string
		masking string
		attr    *syscall.SysProcAttr
		command []string
	}{
		{"root", "", nil, nil},
		{"nobody", "", as(nobody, nil), nil},
		{"group 0", "", as(0, nil), nil},
		{"a member of group 0", "", as(nobody, []uint32{0}), nil},
		{"CAP_DAC_OVERRIDE", "", as(nobody, nil, unix.CAP_DAC_OVERRIDE), nil},
		{"CAP_DAC_READ_SEARCH", "", as(nobody, nil, unix.CAP_DAC_READ_SEARCH), nil},
		{"CAP_SYSLOG", "", as(nobody, nil, unix.CAP_SYSLOG, unix.CAP_DAC_READ_SEARCH), nil},
		{"CAP_SYS_ADMIN", "", as(nobody, nil, unix.CAP_SYS_ADMIN, unix.CAP_DAC_READ_SEARCH), nil},
		{"CAP_SYS_RAWIO", "", as(nobody, nil, unix.CAP_SYS_RAWIO, unix.CAP_DAC_OVERRIDE), nil},
		{"root of other ids", "", mapped(100000, 1000), nil},
		{"root of its own", "", mapped(0, 1), nil},
		{"nobody who is root inside", "", mapped(nobody, 1), nil},
		{"root without power over files", "", nil, []string{"setpriv", "--bounding-set", "-dac_override,-dac_read_search", program(t)}},
		{"root without any power", "", nil, []string{"setpriv", "--bounding-set", "-all", program(t)}},
		{"behind masks", "masks", &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := begin(t, c.masking, c.attr, c.command...)
			w := wallOf(t, s.pid)
			list := w.files(t)
			for _, f := range s.files {
				i := slices.IndexFunc(list, func(other file) bool { return other.Path == f.Path })
				switch {
				case i < 0 && (f.Read || f.Write || f.Masked):
					t.Errorf("%s is not in the list, and it is %+v", f.Path, f)
				case i >= 0 && (list[i].Read != f.Read || list[i].Write != f.Write || f.Masked && !list[i].Masked):
					t.Errorf("%s: it says %+v, and it is %+v", f.Path, list[i], f)
				}
			}
			if c.masking == "" {
				return
			}
			if w.brick("masks").State != Walled {
				t.Errorf("behind masks: %+v", w.brick("masks"))
			}
			if !slices.ContainsFunc(list, func(f file) bool { return f.Path == "/proc/uptime" && f.Read && !f.Write }) {
				t.Errorf("what is read-only is not in %v", list)
			}
		})
	}
}

// TestChroot looks at a process whose root is an empty directory.
func TestChroot(t *testing.T) {
	for _, flags := range []uintptr{0, unix.CLONE_NEWNS} {
		w := wallOf(t, begin(t, t.TempDir(), &syscall.SysProcAttr{Cloneflags: flags}).pid)
		if b := w.brick("root"); b.State != Missing || !strings.Contains(b.Means, "chroot(2) alone") {
			t.Errorf("got %+v", b)
		}
		if b := w.brick("masks"); b.State != Walled {
			t.Errorf("got %+v", b)
		}
	}
}

// TestOneCover looks at a process before whose uptime something lies, which is
// no mask.
func TestOneCover(t *testing.T) {
	w := wallOf(t, begin(t, "uptime", &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}).pid)
	if b := w.brick("masks"); b.State != Missing {
		t.Errorf("got %+v", b)
	}
}

// TestAutomount wants a look to have nothing mounted: that would wait for who
// mounts.
func TestAutomount(t *testing.T) {
	kinds, err := os.ReadFile("/proc/filesystems")
	if _, e := os.Stat("/proc/sys/fs/binfmt_misc"); err != nil || e != nil || !strings.Contains(string(kinds), "\tautofs\n") {
		t.Skip("autofs is a module, which is not loaded in the virtual machine")
	}
	pid := begin(t, "autofs", &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}).pid
	if list := wallOf(t, pid).files(t); slices.ContainsFunc(list, func(f file) bool { return strings.HasPrefix(f.Path, "/proc/sys/fs/binfmt_misc/") }) {
		t.Errorf("it has walked through: %v", list)
	}
}

// TestForbidden has somebody look who may not: what can't be read is unknown, and
// the rest is told.
func TestForbidden(t *testing.T) {
	if os.Getuid() == 0 {
		cmd := exec.CommandContext(t.Context(), program(t), "-test.run=^TestForbidden$", "-test.v")
		cmd.SysProcAttr, cmd.Dir = as(nobody, nil), "/"
		if output, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(output), "PASS") {
			t.Errorf("as nobody: %v\n%s", err, output)
		}
		return
	}
	w := wallOf(t, 1)
	if len(w.Bricks) != len(bricks) || len(w.Gaps) != len(gaps) {
		t.Errorf("%d bricks, %d gaps", len(w.Bricks), len(w.Gaps))
	}
	if b := w.brick("user"); b.State != Unknown || !strings.Contains(b.Means, "permission denied") {
		t.Errorf("got %+v", b)
	}
	if b := w.brick("nnp"); b.State == Unknown {
		t.Errorf("got %+v", b)
	}
}

// TestNoProcess looks at processes that are none, or dead.
func TestNoProcess(t *testing.T) {
	dead := exec.Command("true")
	if err := dead.Start(); err != nil {
		t.Fatal(err)
	}
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, dead.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{dead.Process.Pid, 1 << 22, 0, -1} {
		if _, err := Around(pid); !errors.Is(err, ErrNoProcess) {
			t.Errorf("%d: %v", pid, err)
		}
	}
	if err := dead.Wait(); err != nil {
		t.Fatal(err)
	}
}
