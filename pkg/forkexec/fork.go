package forkexec

import (
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// maxRegs bounds the registers that the steps of one plan set.
const maxRegs = 256

// usualMemory is more than what the default wall's steps point to, in bytes.
const usualMemory = 16 << 10

// An op is a step as the child sees it: numbers only. An argument is a
// constant or an address, plus a register; register 0 is always zero, so the
// child adds and has no cases.
type op struct {
	number uintptr
	args   [6]uintptr
	regs   [6]uint16
	out    uint16 // register for the result; 0 throws it away
	then   uint16 // index of the op to go on with
	step   int32  // number in the plan
	allow  [plan.MaxAllow]struct{ errno, then uint16 }
	at     *int32 // where a register is stored before the call
	value  uint16 // which register that is
	result *int32 // where the call stores its result; nil if it returns it
}

// A report is what the child writes when a step fails.
type report struct{ step, errno int32 }

const reportSize = int(unsafe.Sizeof(report{}))

func (r *report) bytes() []byte { return (*[reportSize]byte)(unsafe.Pointer(r))[:] }

// A walker is all that the child needs. It lies on the Go heap, of which the
// child has its own copy, at the same addresses: Go's collector moves nothing.
type walker struct {
	ops    []op
	memory []byte // what the ops point to
	regs   [maxRegs]uintptr
	fd     uintptr // where a failure is reported
	failed report
	held   uint32     // the child does nothing until this is 0 in its memory, or so often
	clone  [2]uintptr // the arguments of clone3
	pidfd  *int32
	all    uint64 // every signal
	mask   uint64 // the signals that were blocked before
}

// lower turns the clone and the plan's child sections into numbers.
func lower(p *plan.Plan, clone *plan.Step, inputs map[plan.Reg]int) (*walker, error) {
	if p.Len() > math.MaxUint16 {
		return nil, fmt.Errorf("forkexec: the plan has %d steps, and %d are the most", p.Len(), math.MaxUint16)
	}
	m := &memory{data: make([]byte, 0, usualMemory), inputs: inputs, regs: make(map[plan.Reg]uint16)}
	w := &walker{ops: make([]op, 0, p.Len()), all: math.MaxUint64, fd: uintptr(inputs[plan.Report])}
	for i := range w.regs[1:] {
		w.regs[i+1] = math.MaxUint // no descriptor: an unset 0 would act on stdin
	}
	args, err := m.address(clone.Call.Args[0])
	if err != nil {
		return nil, err
	}
	number := 0
	for _, s := range p.Sections {
		for _, step := range s.Steps {
			number++
			if s.Where != plan.Child {
				continue
			}
			if err := w.add(m, step, number); err != nil {
				return nil, fmt.Errorf("forkexec: step %d: %s: %w", number, step, err)
			}
		}
	}
	w.link(m, args)
	return w, nil
}

// add lowers one step. Addresses are offsets, and jumps are step numbers,
// until link.
func (w *walker) add(m *memory, step *plan.Step, number int) error {
	o := op{number: step.Call.Number, step: int32(number), then: uint16(step.Then)}
	m.store, m.result = nil, 0
	for i, a := range step.Call.Args {
		v, err := m.operand(a)
		if err != nil {
			return err
		}
		o.args[i], o.regs[i] = uintptr(v.value), v.reg
		if v.pointer {
			m.operands = append(m.operands, [2]int{len(w.ops), i})
		}
	}
	if len(m.store) > 1 {
		return fmt.Errorf("stores %d registers, and one is the most", len(m.store))
	}
	for _, s := range m.store {
		m.stores = append(m.stores, placed{len(w.ops), s.offset})
		o.value = s.reg
	}
	if m.result != 0 {
		m.results = append(m.results, placed{len(w.ops), m.result})
	}
	for i, a := range step.Allow {
		o.allow[i].errno, o.allow[i].then = uint16(a.Errno), uint16(a.Then)
	}
	if step.Out != "" {
		if _, ok := m.regs[step.Out]; !ok {
			m.regs[step.Out] = uint16(len(m.regs) + 1)
		}
		o.out = m.regs[step.Out]
		if int(o.out) >= maxRegs {
			return fmt.Errorf("sets more than %d registers", maxRegs-1)
		}
	}
	w.ops = append(w.ops, o)
	return nil
}

// link makes offsets addresses and step numbers indexes.
func (w *walker) link(m *memory, clone int) {
	w.memory = m.data
	base := uintptr(unsafe.Pointer(unsafe.SliceData(w.memory)))
	m.rebase(uint64(base))
	for _, o := range m.operands {
		w.ops[o[0]].args[o[1]] += base
	}
	for _, s := range m.stores {
		w.ops[s.op].at = (*int32)(unsafe.Pointer(&w.memory[s.offset]))
	}
	for _, r := range m.results {
		w.ops[r.op].result = (*int32)(unsafe.Pointer(&w.memory[r.offset]))
	}
	index := func(self int, number uint16) uint16 {
		next := self + 1
		for number != 0 && next < len(w.ops) && w.ops[next].step < int32(number) {
			next++
		}
		return uint16(next)
	}
	for i := range w.ops {
		o := &w.ops[i]
		o.then = index(i, o.then)
		for j := range o.allow {
			o.allow[j].then = index(i, o.allow[j].then)
		}
	}
	w.clone = [2]uintptr{base + uintptr(clone), unsafe.Sizeof(cloneArgs{})}
	args := (*cloneArgs)(unsafe.Pointer(&w.memory[clone]))
	w.pidfd = (*int32)(unsafe.Pointer(&w.memory[uintptr(args.pidfd)-base]))
}

// cloneArgs is struct clone_args of clone3(2).
type cloneArgs struct {
	flags, pidfd, childTid, parentTid, exitSignal, stack, stackSize, tls, setTid, setTidSize, cgroup uint64
}

// fork makes the child, which walks and never comes back, and returns its pid
// and a pidfd. ForkLock keeps other goroutines from opening, at this moment,
// descriptors that are not close-on-exec yet.
func (w *walker) fork() (pid, pidfd int, err error) {
	ownLimit.Do(giveBackLimit)
	syscall.ForkLock.Lock()
	r, errno := w.clone3()
	syscall.ForkLock.Unlock()
	runtime.KeepAlive(w)
	if errno != 0 {
		return 0, -1, errno
	}
	return int(r), int(*w.pidfd), nil
}

var ownLimit sync.Once

// giveBackLimit puts the limit of open files back that this process was
// started with. Go raises it for itself, and knows the old value, but only
// exec uses it; so this executes a file that can't be there.
func giveBackLimit() { _ = unix.Exec("", nil, nil) }

// clone3 blocks every signal around the clone, so that no handler of the Go
// runtime ever runs in the child; CLONE_CLEAR_SIGHAND has removed them before
// the child's mask opens again.
//
//go:nosplit
//go:norace
//go:nocheckptr
//go:noinline
func (w *walker) clone3() (uintptr, unix.Errno) {
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&w.all)), uintptr(unsafe.Pointer(&w.mask)), 8, 0, 0)
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE3, w.clone[0], w.clone[1], 0, 0, 0, 0)
	if errno == 0 && pid == 0 {
		w.walk()
	}
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&w.mask)), 0, 8, 0, 0)
	return pid, errno
}

// walk is all that runs in the child: no allocation, no lock, no growth of
// the stack, no call but raw system calls, and only integers are stored.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (w *walker) walk() {
	// Without a call, which a tracer would see. If there is none in the end, the
	// runtime is dead, and the walk finds that out.
	for n := w.held; n > 0 && atomic.LoadUint32(&w.held) != 0; n-- {
	}
	for i := 0; i < len(w.ops); {
		o := &w.ops[i]
		if o.at != nil {
			*o.at = int32(w.regs[o.value])
		}
		r, _, errno := syscall.RawSyscall6(o.number,
			o.args[0]+w.regs[o.regs[0]], o.args[1]+w.regs[o.regs[1]], o.args[2]+w.regs[o.regs[2]],
			o.args[3]+w.regs[o.regs[3]], o.args[4]+w.regs[o.regs[4]], o.args[5]+w.regs[o.regs[5]])
		// It may have been in the root all the time: EAGAIN, openat2(2).
		if errno == syscall.EINTR || errno == syscall.EAGAIN && o.number == unix.SYS_OPENAT2 {
			continue
		}
		if errno == 0 {
			if o.result != nil {
				r = uintptr(*o.result)
			}
			w.regs[o.out] = r
			w.regs[0] = 0
			i = int(o.then)
			continue
		}
		j := 0
		for j < len(o.allow) && o.allow[j].errno != uint16(errno) {
			j++
		}
		if j == len(o.allow) {
			w.failed = report{o.step, int32(errno)}
			syscall.RawSyscall6(unix.SYS_WRITE, w.fd, uintptr(unsafe.Pointer(&w.failed)), unsafe.Sizeof(w.failed), 0, 0, 0)
			break
		}
		i = int(o.allow[j].then)
	}
	for {
		syscall.RawSyscall6(unix.SYS_EXIT_GROUP, 127, 0, 0, 0, 0, 0)
	}
}
