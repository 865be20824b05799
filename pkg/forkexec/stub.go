package forkexec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// The stub is an ELF program of a few hundred bytes: the machine code of walk
// (in stub_GOARCH.s), a table of calls, and what they point to. The child
// executes it from a sealed memfd, so from then on /proc/self/exe is the stub,
// and a container that tricks the kernel into running /proc/self/exe
// (CVE-2019-5736: a program whose first line is "#!/proc/self/exe") gets only
// that. Its last act is execve(argv[0], argv+1, envp).
//
// A stub can also be process 1: its clone(2) makes a child, which goes on in the
// table, and it goes on at the step that stands in the clone's sixth argument,
// which the kernel does not look at. That is the first of five: one call, and a
// loop of rt_sigtimedwait(2) that makes the others as signals tell. To what
// stands for registers in them the machine code adds their values.
//
// The table begins with the report's fcntl(2) FD_CLOEXEC, which fails in a
// stub that the kernel starts a second time, so such a script ends at once.

const (
	stubBase  = 0x400000 // where the program is mapped; nothing else is there
	stubTable = 0x280    // offset of the table, known to the machine code
	entrySize = 64       // bytes of a table entry: number, six arguments, tail
	endOfList = ^uint64(0)
)

// code returns where the machine code of the stub lies.
func code() (start *byte, size int)

// Program makes an executable that does the calls in order and then exits
// with 0. A call that fails with an errno that it doesn't allow ends the
// program with status 127. Registers and jumps are not to be had.
func Program(steps []*plan.Step) ([]byte, error) {
	exit := &plan.Step{Call: plan.Call{Name: "exit_group", Number: unix.SYS_EXIT_GROUP, Args: []plan.Arg{plan.Num{}}}}
	b := &program{memory: memory{inputs: map[plan.Reg]int{plan.Report: -1}}}
	for i, s := range append(steps[:len(steps):len(steps)], exit) {
		if err := b.add(s, i+1); err != nil {
			return nil, err
		}
	}
	return b.elf()
}

// seal makes the stub of the plan and opens it for the child.
func seal(p *plan.Plan, inputs map[plan.Reg]int) error {
	b := &program{memory: memory{inputs: inputs, regs: map[plan.Reg]uint16{plan.Forked: 1, plan.Signal: 2, plan.Status: 3}}}
	number := 0
	for _, s := range p.Sections {
		for _, step := range s.Steps {
			number++
			if s.Where != plan.Stub {
				continue
			}
			if number == b.stays {
				b.table[b.fork+6].value = stubBase + stubTable + 8*uint64(len(b.table))
			}
			if step.Call.Number == unix.SYS_EXECVE {
				b.end(number)
			} else if err := b.add(step, number); err != nil {
				return err
			}
		}
	}
	file, err := b.elf()
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("stub", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // MFD_EXEC is younger than Linux 6.3, and implied before
		fd, err = unix.MemfdCreate("stub", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return fmt.Errorf("memfd_create: %w", err)
	}
	inputs[plan.Sealed] = fd
	if _, err := unix.Write(fd, file); err != nil {
		return fmt.Errorf("write of %d bytes to the memfd: %w", len(file), err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return fmt.Errorf("fcntl F_ADD_SEALS: %w", err)
	}
	return nil
}

// A program is a stub that is being made.
type program struct {
	memory memory
	table  []operand // eight an entry
	fork   int       // index of the clone's entry
	stays  int       // number of the step that its parent goes on with; 0 is none
}

func (b *program) add(step *plan.Step, number int) error {
	if step.Out == plan.Forked && step.Then > number {
		b.fork, b.stays = len(b.table), step.Then
	} else if step.Out != "" && step.Out != plan.Signal || step.Then != 0 || len(step.Allow) > 1 || len(step.Allow) == 1 && step.Allow[0].Then != 0 {
		return fmt.Errorf("forkexec: step %d: %s: the stub has no registers and no jumps", number, step)
	}
	entry := make([]operand, entrySize/8)
	entry[0].value = uint64(step.Call.Number)
	for i, a := range step.Call.Args {
		var err error
		if entry[i+1], err = b.memory.operand(a); err != nil {
			return fmt.Errorf("forkexec: step %d: %s: %w", number, step, err)
		}
	}
	entry[7].value = b.tail(number, step.Allow)
	b.table = append(b.table, entry...)
	return nil
}

// end adds the final execve.
func (b *program) end(number int) {
	entry := make([]operand, entrySize/8)
	entry[0].value, entry[7].value = endOfList, b.tail(number, nil)
	b.table = append(b.table, entry...)
}

// tail is the last word of an entry: the step's number, the errno that is no
// failure, and the descriptor to report others on.
func (b *program) tail(number int, allow []plan.Allow) uint64 {
	v := uint64(uint16(number)) | uint64(uint32(b.memory.inputs[plan.Report]))<<32
	for _, a := range allow {
		v |= uint64(uint16(a.Errno)) << 16
	}
	return v
}

// elf is the whole file, elf(5).
func (b *program) elf() ([]byte, error) {
	const headers = 64 + 2*56
	text := unsafe.Slice(code())
	if headers+len(text) > stubTable {
		return nil, fmt.Errorf("forkexec: the stub's code of %d bytes is too long", len(text))
	}
	data := stubTable + 8*len(b.table)
	file := make([]byte, data)
	copy(file, "\x7fELF\x02\x01\x01") // 64 bits, little endian, version 1
	le := binary.LittleEndian
	le.PutUint16(file[16:], 2) // ET_EXEC
	le.PutUint16(file[18:], machine)
	le.PutUint32(file[20:], 1)
	le.PutUint64(file[24:], stubBase+headers) // entry point
	le.PutUint64(file[32:], 64)               // program headers
	le.PutUint16(file[52:], 64)
	le.PutUint16(file[54:], 56)
	le.PutUint16(file[56:], 2)
	size := uint64(data + len(b.memory.data))
	for i, v := range []uint64{1 | 5<<32, 0, stubBase, stubBase, size, size, 0x1000} { // PT_LOAD, readable and executable
		le.PutUint64(file[64+8*i:], v)
	}
	le.PutUint64(file[64+56:], 0x6474e551|6<<32) // PT_GNU_STACK: the stack is not executable
	copy(file[headers:], text)
	for i, v := range b.table {
		if v.pointer {
			v.value += stubBase + uint64(data)
		}
		le.PutUint64(file[stubTable+8*i:], v.value)
	}
	b.memory.rebase(stubBase + uint64(data))
	return append(file, b.memory.data...), nil
}
