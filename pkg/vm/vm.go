// Package vm runs a program in a virtual machine: the same root file system
// and the same process as in a container, behind another wall. Where a
// container's wall is a list of system calls on the one kernel that everybody
// uses, this one is a hypervisor, QEMU, and a kernel of the program's own.
//
// The machine's first root is an initramfs with the image's files, and its
// process 1 is this program itself (see Init). Host and guest talk over a
// serial line, so that any kernel will do, whatever its modules.
package vm

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A Config says what machine to make, and what to run in it.
type Config struct {
	Kernel  Kernel
	Init    string // file of the first process, minictr for the kernel's processor; "" is this program
	Accel   Accel
	Cgroup  Cgroup   // what the guest mounts
	Modules []string // kernel modules to load, if the kernel has them
	Params  []string // more parameters for the kernel
	Memory  int64    // bytes; 0 is enough for the files and a small program
	CPUs    int

	Layers   []string       // directories that make the root file system, the top one first
	Files    []File         // more for it
	Process  *specs.Process // nil: boot, and end
	Hostname string

	Timeout time.Duration // from Start to the end; 0 is none
	Console io.Writer     // gets what the kernel says; nil is nobody
}

// A File is a file or directory of the host that is copied into the machine.
type File struct {
	Host  string // path
	Guest string // absolute path
}

// Streams are the program's standard streams. Nobody writes to In when it is
// nil.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// A Machine is one that runs.
type Machine struct {
	cmd        *exec.Cmd
	complaints strings.Builder // of QEMU
	line       line
	console    console
	started    chan struct{} // closed when the program has been executed
	ended      chan outcome
	ctx        context.Context
	stop       context.CancelCauseFunc
}

// An outcome is how the program ended.
type outcome struct {
	status int
	err    error
}

// bootPatience is how long a kernel may take to its first process: some
// seconds on an emulated processor, and a multiple of it when the host is busy.
const bootPatience = 3 * time.Minute

// Causes for which a machine is stopped.
var (
	errTimeout = errors.New("it did not end within its time")
	errOver    = errors.New("it is over")
)

// Start makes the machine and boots it. The machine ends with this process,
// and with the context. The caller calls Wait.
func Start(ctx context.Context, c Config, s Streams) (*Machine, error) {
	initramfs, err := c.initramfs()
	if err != nil {
		return nil, err
	}
	defer initramfs.Close() // QEMU has its own
	if c.Memory == 0 {
		st, err := initramfs.Stat()
		if err != nil {
			return nil, err
		}
		// The archive, what is unpacked of it, of which the kernel lets half of
		// the memory be used, and the kernel and the program.
		c.Memory = 3*st.Size() + 256<<20
	}
	args, err := c.arguments()
	if err != nil {
		return nil, err
	}
	m := &Machine{started: make(chan struct{}), ended: make(chan outcome, 1)}
	m.ctx, m.stop = context.WithCancelCause(ctx)
	if err := m.start(args, initramfs, c.Console); err != nil {
		m.stop(err)
		return nil, err
	}
	if c.Timeout > 0 {
		time.AfterFunc(c.Timeout, func() { m.stop(errTimeout) })
	}
	go func() {
		status, err := m.serve(s)
		m.stop(errOver)
		m.ended <- outcome{status, err}
	}()
	return m, nil
}

// start executes QEMU. Its standard streams are the line to the guest.
func (m *Machine) start(args []string, initramfs *os.File, log io.Writer) error {
	m.cmd = exec.CommandContext(m.ctx, args[0], args[1:]...)
	// The kernel ends QEMU when the thread that made it ends, so that must
	// stay. A Ctrl-C in our terminal is not QEMU's.
	runtime.LockOSThread()
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL, Setpgid: true}
	m.cmd.Stderr = &m.complaints
	in, err := m.cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	says, console, err := os.Pipe()
	if err != nil {
		return err
	}
	m.line.in, m.line.out = bufio.NewReader(out), in
	m.cmd.ExtraFiles = []*os.File{fdInitramfs: initramfs, fdConsole: console}
	err = m.cmd.Start()
	_ = console.Close()
	if err != nil {
		return errors.Join(err, says.Close())
	}
	m.console.ended = make(chan struct{})
	go func() {
		m.console.read(says, log)
		_ = says.Close()
	}()
	return nil
}

// Started is closed when the program has been executed, or never.
func (m *Machine) Started() <-chan struct{} { return m.started }

// Signal sends a signal to the program.
func (m *Machine) Signal(sig unix.Signal) error { return m.line.send(kindSignal, byte(sig)) }

// Resize tells the program's terminal its size.
func (m *Machine) Resize(rows, columns uint16) error {
	size := binary.BigEndian.AppendUint16(nil, rows)
	return m.line.send(kindResize, binary.BigEndian.AppendUint16(size, columns)...)
}

// Wait waits for the end of the machine, and returns the program's exit
// status, or 128 and the number of the signal that ended it. The error is a
// *ProgramError if there is no such program, a *PanicError if the guest's kernel
// panicked, and a *BootError if the machine ended for another reason than that
// the program did.
func (m *Machine) Wait() (int, error) {
	end := <-m.ended
	err := m.cmd.Wait() // that it was killed is our doing
	<-m.console.ended
	lines, panicked := m.console.last()
	switch cause := context.Cause(m.ctx); {
	case end.err == nil:
		return end.status, nil
	case errors.As(end.err, new(*ProgramError)), errors.Is(end.err, errOutput):
		return 0, end.err
	case panicked != "":
		return 0, &PanicError{panicked, lines}
	case !errors.Is(cause, errOver):
		return 0, &BootError{cause.Error(), lines}
	case m.complaints.Len() > 0:
		return 0, &BootError{"QEMU ended: " + strings.TrimSpace(m.complaints.String()), lines}
	default:
		return 0, &BootError{fmt.Sprintf("the machine ended before its program did: %v", err), lines}
	}
}

// A ProgramError says why the guest could not execute its program.
type ProgramError struct {
	Status int // 126 or 127 as a shell has it, else 125
	Text   string
}

func (e *ProgramError) Error() string { return "in the virtual machine: " + e.Text }

// errOutput is wrapped by errors about the program's output on the host.
var errOutput = errors.New("vm: the program's output")

// serve talks to the guest until its program has ended.
func (m *Machine) serve(s Streams) (status int, err error) {
	boot := time.AfterFunc(bootPatience, func() { m.stop(fmt.Errorf("it did not boot within %v", bootPatience)) })
	if err := m.line.greeted(); err != nil {
		return 0, err
	}
	boot.Stop()
	if s.In != nil {
		go func() {
			_ = m.line.stream(kindInput, s.In) // what fails is the machine, which tells itself
			_ = m.line.send(kindInput)
		}()
	}
	for running := false; ; {
		k, payload, err := m.line.receive()
		if err != nil {
			return 0, err
		}
		// Whoever has broken out to the guest's kernel can send anything.
		if k == kindStarted && running || (k == kindExited || k == kindFailed) && len(payload) == 0 {
			return 0, fmt.Errorf("vm: the guest sent a frame of kind %d that makes no sense", k)
		}
		switch k {
		case kindStarted:
			running = true
			close(m.started)
		case kindOutput:
			_, err = s.Out.Write(payload)
		case kindErrors:
			_, err = s.Err.Write(payload)
		case kindExited:
			return int(payload[0]), nil
		case kindFailed:
			return 0, &ProgramError{int(payload[0]), string(payload[1:])}
		case kindInput, kindResize, kindSignal: // which only we send
		}
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errOutput, err)
		}
	}
}

// initramfs makes the machine's first root, in memory: nothing of it can be
// left behind.
func (c *Config) initramfs() (*os.File, error) {
	fd, err := unix.MemfdCreate("initramfs", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "initramfs")
	if err := c.write(newArchive(f)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (c *Config) write(a *archive) (err error) {
	if len(c.Layers) > 0 {
		err = a.layers(newRoot, c.Layers)
	} else {
		err = a.dir(newRoot)
	}
	if err != nil {
		return err
	}
	for i, f := range c.Files {
		if slices.ContainsFunc(c.Files[i+1:], func(later File) bool { return filepath.Clean(later.Guest) == filepath.Clean(f.Guest) }) {
			continue // the kernel would take a second name for the same file as a link to itself
		}
		if err := a.copy(filepath.Join(newRoot, f.Guest), f.Host); err != nil {
			return err
		}
	}
	if err := a.dir(initDir); err != nil {
		return err
	}
	first, err := os.ReadFile(cmp.Or(c.Init, self))
	if err != nil {
		return err
	}
	modules, err := c.Kernel.modules(c.Modules)
	if err != nil {
		return err
	}
	j := job{Hostname: c.Hostname, Cgroup: c.Cgroup}
	if p := c.Process; p != nil {
		j.Args, j.Env, j.Cwd, j.Terminal = p.Args, p.Env, p.Cwd, p.Terminal
		j.UID, j.GID, j.Groups = p.User.UID, p.User.GID, p.User.AdditionalGids
	}
	err = a.bytes(initDir+"/"+InitName, 0o755, first)
	for _, m := range modules {
		name := initDir + "/" + m.name + ".ko"
		j.Modules = append(j.Modules, name)
		err = errors.Join(err, a.bytes(name, 0o644, m.text))
	}
	text, e := json.Marshal(j)
	return errors.Join(err, e, a.bytes(jobFile, 0o644, text), a.end())
}
