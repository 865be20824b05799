// Package vm_test runs programs in virtual machines, by minictr vm. It boots
// each under plain emulation, which every machine has. The tier vm of
// tests/run brings a kernel; other tests run inside such machines.
package vm_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/vm"
	"github.com/minictr/minictr/tests/alone"
)

// patience bounds one boot and what is done in it, on an emulated processor of
// a busy machine.
const patience = 3 * time.Minute

// machine is a minictr with a store of its own, built once.
var machine struct {
	once sync.Once
	args []string
	err  error
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "minictr-vm-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	machine.args = []string{filepath.Join(dir, "minictr"), "--data-root", filepath.Join(dir, "root"), "--root", filepath.Join(dir, "run")}
	if err := os.Setenv("MINICTR_NETWORK", "none"); err != nil { // the host is the machine's
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// command is minictr, not started yet.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: it unpacks an image")
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("the kernel is one for amd64")
	}
	if _, err := vm.FindKernel(""); err != nil {
		t.Fatalf("%v: go run ./tests/run vm brings one", err)
	}
	machine.once.Do(func() { machine.err = alone.Build(machine.args[0]) })
	if machine.err != nil {
		t.Fatal(machine.err)
	}
	args = append(machine.args[1:len(machine.args):len(machine.args)], args...)
	return exec.CommandContext(t.Context(), machine.args[0], args...)
}

// booted is the beginning of the arguments of minictr vm.
func booted(args ...string) []string {
	return append([]string{"vm", "--accel", "tcg", "--timeout", patience.String()}, args...)
}

type result struct {
	stdout, stderr string
	status         int
}

func (r result) String() string {
	return fmt.Sprintf("exit status %d\nstdout: %q\nstderr: %q", r.status, r.stdout, r.stderr)
}

func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// bootID tells the host's kernel from a machine's.
func bootID(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// TestProgram is that a program has what it was given, on a kernel of its own.
func TestProgram(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("brought\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := command(t, booted("-u", "student", "-w", "/new", "-e", "A=b", "--hostname", "box", "-v", dir+":/data", "tiny", "sh", "-c",
		`cat; pwd; echo $A; hostname; id -u; cat /proc/sys/kernel/random/boot_id; ls /data; echo oops >&2; exit 7`)...)
	cmd.Stdin = strings.NewReader("input\n")
	r := finish(t, cmd)
	lines := strings.Split(r.stdout, "\n")
	if len(lines) != 8 || strings.Join(lines[:5], " ") != "input /new b box 1000" || lines[6] != "file" || r.stderr != "oops\n" || r.status != 7 {
		t.Fatalf("%v", r)
	}
	if lines[5] == bootID(t) {
		t.Error("the machine has the kernel of the host")
	}
}

// TestContainersInside is that a machine's kernel carries containers, too: they
// run on any kernel, and the machine's is theirs.
func TestContainersInside(t *testing.T) {
	cmd := command(t, booted("-m", "1g", "-v", machine.args[0]+":/minictr", "tiny", "sh", "-c",
		`cat /proc/sys/kernel/random/boot_id; /minictr run tiny sh -c 'cat /proc/sys/kernel/random/boot_id; echo $$'`)...)
	r := finish(t, cmd)
	ids := strings.Fields(r.stdout)
	if r.status != 0 || len(ids) != 3 || ids[0] != ids[1] || ids[2] != "1" {
		t.Fatalf("%v", r)
	}
}

// TestCgroups is that the machine mounts the hierarchies that it is asked for.
func TestCgroups(t *testing.T) {
	for cgroup, want := range map[string]string{"v1": "memory", "hybrid": "unified"} {
		t.Run(cgroup, func(t *testing.T) {
			r := finish(t, command(t, booted("--cgroup", cgroup, "tiny", "ls", "/sys/fs/cgroup")...))
			if r.status != 0 || !strings.Contains(r.stdout, want+"\n") {
				t.Errorf("%v", r)
			}
		})
	}
}

// TestPanic is that a kernel's panic is the guest's alone, and is told as such,
// with the last that the kernel said.
func TestPanic(t *testing.T) {
	// A serial line holds the last bytes for a moment, and dies with the kernel.
	r := finish(t, command(t, booted("tiny", "sh", "-c", "echo before; sleep 1; echo c > /proc/sysrq-trigger; sleep 1000")...))
	if r.status != 125 || r.stdout != "before\n" || !strings.Contains(r.stderr, "Call Trace:") ||
		!strings.HasSuffix(r.stderr, "minictr: vm: the guest's kernel panicked: sysrq triggered crash: the host's kernel is another one, and goes on [VM-PANIC]\n") {
		t.Errorf("%v", r)
	}
}

// TestPanicInContainer is where a container's wall ends: of two containers on
// one kernel, one panics it, and the other dies too. The machine's wall holds.
// The two speak half a second apart: what is written to a terminal at once mixes.
func TestPanicInContainer(t *testing.T) {
	const alive, last = "b is alive\n", "a panics the kernel\n"
	cmd := command(t, booted("-m", "1g", "-v", machine.args[0]+":/minictr", "tiny", "sh", "-c", `
		/minictr run tiny sh -c 'while true; do echo b is alive; sleep 1; done' &
		sleep 5.5
		/minictr run --without masks tiny sh -c 'for i in 1 2 3; do echo a panics the kernel; sleep 0.7; done; echo c > /proc/sysrq-trigger; sleep 1000'`)...)
	before := bootID(t)
	r := finish(t, cmd)
	if !strings.Contains(r.stdout, alive) || !strings.Contains(r.stdout, last) {
		t.Fatalf("%v", r)
	}
	// The serial line may hold what B said before.
	if r.status != 125 || !strings.Contains(r.stderr, "the guest's kernel panicked") || strings.Count(r.stdout[strings.Index(r.stdout, last):], alive) > 3 {
		t.Errorf("%v", r)
	}
	if after := bootID(t); after != before {
		t.Errorf("the host's boot_id was %s and is %s", before, after)
	}
}

// TestFailures is what is told of machines that don't do what they should.
func TestFailures(t *testing.T) {
	noKernel := filepath.Join(t.TempDir(), "vmlinuz-no")
	if err := os.WriteFile(noKernel, []byte("no kernel"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{booted("--timeout", "8s", "tiny", "sleep", "1000"), 125, "minictr: vm: it did not end within its time"},
		{booted("tiny", "nosuch"), 127, `minictr: in the virtual machine: exec: "nosuch": executable file not found in $PATH`},
		{booted("tiny", "/etc/motd"), 126, `minictr: in the virtual machine: `},
		{booted("--kernel", noKernel, "tiny", "true"), 125, "minictr: vm: QEMU ended: "},
		{booted("--kernel", noKernel+"/x", "tiny", "true"), 125, "minictr: open "},
		{booted("--cgroup", "v3", "tiny", "true"), 125, `minictr: --cgroup: "v3" is neither v1, v2 nor hybrid`},
		{booted("--accel", "magic", "tiny", "true"), 125, `minictr: --accel: "magic" is neither kvm, tcg nor auto`},
		{booted("--cap-drop", "ALL", "tiny", "true"), 125, "minictr: --cap-drop: a virtual machine's wall is the hypervisor, and has no such brick"},
		{booted("--exec", "tiny"), 125, "minictr: --exec needs a command, a file of the host"},
	} {
		t.Run(strings.Join(c.args[5:], " "), func(t *testing.T) {
			r := finish(t, command(t, c.args...))
			if r.status != c.status || !strings.HasPrefix(r.stderr, c.want) || strings.Count(r.stderr, "\n") != 1 {
				t.Errorf("%v", r)
			}
		})
	}
}

// TestSignal is that a signal to us is one to the program.
func TestSignal(t *testing.T) {
	cmd := command(t, booted("tiny", "sh", "-c", `trap 'echo caught; exit 9' TERM; echo ready; while true; do sleep 0.1; done`)...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	awaited(t, out, "ready\n")
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	awaited(t, out, "caught\n")
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 9 {
		t.Error(err)
	}
}

// awaited reads until a text has come.
func awaited(t *testing.T, r io.Reader, want string) {
	t.Helper()
	var got strings.Builder
	buf := make([]byte, 1024)
	for !strings.Contains(got.String(), want) {
		n, err := r.Read(buf)
		got.Write(buf[:n])
		if err != nil {
			t.Fatalf("%v before %q came: %q", err, want, got.String())
		}
	}
}

// TestKilled is that a machine ends with the minictr that made it.
func TestKilled(t *testing.T) {
	cmd := command(t, booted("tiny", "sh", "-c", "echo ready; sleep 1000")...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	awaited(t, out, "ready\n")
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", cmd.Process.Pid))
	for _, thread := range threads {
		more, _ := os.ReadFile(thread)
		children = append(children, more...)
	}
	var qemu int
	if _, e := fmt.Sscan(string(children), &qemu); e != nil {
		t.Fatalf("no child: %v, %v", e, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", qemu)); err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
	}
	t.Errorf("QEMU, process %d, is still there", qemu)
}

// TestTerminal is a session of a person with a machine.
func TestTerminal(t *testing.T) {
	cmd := command(t, booted("-it", "tiny", "sh")...)
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	number, err := unix.IoctlGetUint32(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 33, Col: 99})
	}
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = tty.Close()
	typed := func(line, want string) {
		t.Helper()
		if _, err := io.WriteString(master, line+"\r"); err != nil {
			t.Fatal(err)
		}
		awaited(t, master, want)
	}
	awaited(t, master, "# ")
	typed("tty; echo sum $((40+2))", "/dev/pts/0\r\nsum 42\r\n")
	typed("sleep 1000", "sleep 1000\r\n")
	time.Sleep(time.Second) // the job needs a moment, or Ctrl-C is for the shell, which is no failure either
	typed("\x03", "# ")
	typed("exit 5", "exit 5\r\n")
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 5 {
		t.Error(err)
	}
}
