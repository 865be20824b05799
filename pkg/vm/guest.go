package vm

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// InitName is the name by which the kernel of a virtual machine starts this
// program as its process 1.
const InitName = "minictr-vm"

// What the initramfs holds: this program and its orders, and beside them the
// root file system that the machine will have.
const (
	initDir = "minictr"
	jobFile = initDir + "/job.json"
	newRoot = "root"
)

// A job is what process 1 has to do.
type job struct {
	Args, Env []string
	Cwd       string
	UID, GID  uint32
	Groups    []uint32
	Terminal  bool
	Hostname  string
	Cgroup    Cgroup
	Modules   []string // files in the initramfs, in the order to load them
}

// Init is process 1 of a virtual machine: it gives the machine what every
// system has, runs one program, and ends the machine. It does not return.
func Init() {
	err := new(guest).run()
	fmt.Printf("minictr-vm: the end: %v\n", err) // to the kernel's console
	unix.Sync()
	// With -no-reboot that ends QEMU, on machines without a power switch, too.
	err = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	fmt.Printf("minictr-vm: reboot: %v\n", err)
	select {}
}

// A guest is the inside of a virtual machine.
type guest struct {
	job
	line    line
	program *os.Process
	input   io.WriteCloser // of the program
	screen  *os.File       // the master end of its terminal; nil if it has none
}

func (g *guest) run() error {
	if err := g.setUp(); err != nil {
		return err
	}
	if len(g.Args) == 0 {
		return g.line.send(kindExited, 0)
	}
	outputs, err := g.start()
	if err != nil {
		return errors.Join(err, g.line.send(kindFailed, append([]byte{statusOf(err)}, err.Error()...)...))
	}
	go g.obey()
	ended := make(chan error, len(outputs))
	for k, r := range outputs {
		go func() { ended <- g.line.stream(k, r) }()
	}
	status := reap(g.program.Pid)
	// What it has left behind would keep its output open.
	_ = unix.Kill(-1, unix.SIGKILL)
	for range outputs {
		err = errors.Join(err, <-ended)
	}
	code := status.ExitStatus()
	if status.Signaled() {
		code = 128 + int(status.Signal())
	}
	return errors.Join(err, g.line.send(kindExited, byte(code)))
}

// setUp makes the initramfs a system.
func (g *guest) setUp() error {
	if err := os.Chdir("/"); err != nil {
		return err
	}
	text, err := os.ReadFile(jobFile)
	if err == nil {
		err = json.Unmarshal(text, &g.job)
	}
	if err != nil {
		return err
	}
	// The kernel's first root can't be exchanged by pivot_root(2), which
	// containers in this machine will call: another mount becomes the root.
	if err := unix.Mount(newRoot, newRoot, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", newRoot, err)
	}
	for _, m := range [...]struct{ kind, at, options string }{
		{"proc", "proc", ""},
		{"sysfs", "sys", ""},
		{"devtmpfs", "dev", "mode=0755"},
		{"devpts", "dev/pts", "newinstance,ptmxmode=0666,mode=0620,gid=5"},
		{"tmpfs", "dev/shm", "mode=1777"},
		{"tmpfs", "run", "mode=0755"},
	} {
		if err := mount(m.kind, m.kind, filepath.Join(newRoot, m.at), 0, m.options); err != nil {
			return err
		}
	}
	if err := g.connect(); err != nil {
		return err
	}
	for _, name := range g.Modules {
		if err := load(name); err != nil {
			return err
		}
	}
	if err := switchRoot(newRoot); err != nil {
		return err
	}
	return errors.Join(g.Cgroup.mount("/sys/fs/cgroup"), loopback(), unix.Sethostname([]byte(g.Hostname)))
}

// connect opens the line to the host.
func (g *guest) connect() error {
	q, err := emulatorOf(runtime.GOARCH)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(newRoot, "dev", q.line), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	if _, err := term.MakeRaw(int(f.Fd())); err != nil {
		return fmt.Errorf("raw mode of the serial line: %w", err)
	}
	g.line.in, g.line.out = bufio.NewReader(f), f
	_, err = io.WriteString(f, greeting)
	return err
}

// start executes the program, and returns its outputs.
func (g *guest) start() (map[kind]io.Reader, error) {
	for _, e := range g.Env {
		if path, ok := strings.CutPrefix(e, "PATH="); ok {
			if err := os.Setenv("PATH", path); err != nil { // for LookPath
				return nil, err
			}
		}
	}
	if err := os.MkdirAll(g.Cwd, 0o755); err != nil {
		return nil, err
	}
	if err := os.Chdir(g.Cwd); err != nil {
		return nil, err
	}
	path, err := exec.LookPath(g.Args[0])
	if err != nil {
		return nil, err
	}
	files, outputs, err := g.streams()
	if err != nil {
		return nil, err
	}
	g.program, err = os.StartProcess(path, g.Args, &os.ProcAttr{Env: g.Env, Files: files, Sys: &syscall.SysProcAttr{
		Setsid: true, Setctty: g.Terminal,
		Credential: &syscall.Credential{Uid: g.UID, Gid: g.GID, Groups: g.Groups},
	}})
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		_ = f.Close() // the program's ends
	}
	return outputs, g.line.send(kindStarted)
}

// statusOf is the exit status that a shell would have for a program that it
// can't execute.
func statusOf(err error) byte {
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return 127
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOEXEC):
		return 126
	}
	return 125
}

// streams makes the program's standard streams: pipes, or one terminal.
func (g *guest) streams() (files []*os.File, outputs map[kind]io.Reader, err error) {
	if g.Terminal {
		if g.screen, err = os.OpenFile("/dev/pts/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
			return nil, nil, err
		}
		fd := int(g.screen.Fd())
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return nil, nil, err
		}
		number, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
		if err != nil {
			return nil, nil, err
		}
		tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			return nil, nil, err
		}
		g.input = g.screen
		return []*os.File{tty, tty, tty}, map[kind]io.Reader{kindOutput: g.screen}, tty.Chown(int(g.UID), 5)
	}
	stdin, input, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	output, stdout, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	errs, stderr, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	g.input = input
	return []*os.File{stdin, stdout, stderr}, map[kind]io.Reader{kindOutput: output, kindErrors: errs}, nil
}

// obey does what the host sends. Input that nobody reads any more is lost.
func (g *guest) obey() {
	for {
		k, payload, err := g.line.receive()
		if err != nil {
			return
		}
		switch {
		case k == kindInput && len(payload) > 0:
			_, _ = g.input.Write(payload)
		case k == kindInput && g.screen == nil:
			_ = g.input.Close()
		case k == kindInput:
			_, _ = g.input.Write([]byte{4}) // Ctrl-D, termios(3)
		case k == kindResize && len(payload) == 4 && g.screen != nil:
			_ = unix.IoctlSetWinsize(int(g.screen.Fd()), unix.TIOCSWINSZ, &unix.Winsize{
				Row: binary.BigEndian.Uint16(payload), Col: binary.BigEndian.Uint16(payload[2:]),
			})
		case k == kindSignal && len(payload) == 1:
			_ = unix.Kill(g.program.Pid, unix.Signal(payload[0]))
		}
	}
}

// reap waits for the program, and for every orphan, as process 1 must.
func reap(pid int) unix.WaitStatus {
	for {
		var status unix.WaitStatus
		if got, err := unix.Wait4(-1, &status, 0, nil); err == nil && got == pid {
			return status
		}
	}
}
