package forkexec

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// A child may make a second one, which goes on in its place, and end. The
// second one's PID is noted by the kernel, before that one does anything, in
// memory that the runtime shares with the first: nothing that comes out of the
// container, not even over the report pipe, can make the runtime take another
// process for its child.

// A birth is that memory; nil where none is awaited.
type birth []byte

// again says whether the child of a plan makes a second one.
func again(p *plan.Plan) bool {
	for _, s := range p.Sections {
		for _, step := range s.Steps {
			if s.Where == plan.Child && step.Call.Number == unix.SYS_CLONE3 {
				return true
			}
		}
	}
	return false
}

func awaitBirth() (birth, error) {
	b, err := unix.Mmap(-1, 0, 4, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	return b, nil
}

// address is where the kernel shall note the PID.
func (b birth) address() int { return int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

// pid is that of the second child; 0 is none yet.
func (b birth) pid() int {
	if b == nil {
		return 0
	}
	return int(atomic.LoadInt32((*int32)(unsafe.Pointer(unsafe.SliceData(b)))))
}

func (b *birth) forget() {
	if *b != nil {
		_ = unix.Munmap(*b) // it is ours, as a whole
		*b = nil
	}
}

// adopt takes the second child, which the first has made, for the process. The
// first ends by itself, if nobody has stopped it.
func (proc *Process) adopt(pid int) error {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	first := proc.PID
	if err := pollIn(proc.pidfd, time.Now().Add(Deadline)); err != nil {
		_ = proc.Signal(unix.SIGKILL)
	}
	proc.mu.Lock()
	closeFd(&proc.pidfd)
	proc.PID, proc.pidfd = pid, pidfd
	proc.mu.Unlock()
	proc.birth.forget()
	_, err = wait(first)
	return err
}

// newborn makes a child that ends at once. It stays a zombie, of which the
// kernel still tells everything, until it is reaped here.
func newborn(namespaces uint64, do func(pid int) error) error {
	w, err := lower(&plan.Plan{}, &plan.Step{Call: plan.Clone3(namespaces, "")}, nil)
	if err != nil {
		return err
	}
	pid, pidfd, err := w.fork()
	if err != nil {
		return fmt.Errorf("clone3: %w", err)
	}
	err = do(pid)
	_, lost := wait(pid)
	return errors.Join(err, lost, unix.Close(pidfd))
}
