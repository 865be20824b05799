package seccomp

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// A Filter is a program for seccomp(2), SECCOMP_SET_MODE_FILTER.
type Filter struct {
	Program  []unix.SockFilter
	Flags    uint32   // SECCOMP_FILTER_FLAG_*, with NEW_LISTENER if Listener
	Listener bool     // an action is SCMP_ACT_NOTIFY: seccomp(2) returns a descriptor
	Unknown  []string // system calls of the profile that no architecture known here has
}

// Bytes returns the program as an array of struct sock_filter in the byte order of this machine.
func (f Filter) Bytes() []byte {
	b := make([]byte, 0, 8*len(f.Program))
	for _, in := range f.Program {
		b = binary.NativeEndian.AppendUint16(b, in.Code)
		b = append(b, in.Jt, in.Jf)
		b = binary.NativeEndian.AppendUint32(b, in.K)
	}
	return b
}

// Data is what the kernel shows a filter of a call: struct seccomp_data.
type Data struct {
	NR   uint32
	Arch Arch
	IP   uint64 // address of the instruction
	Args [6]uint64
}

// word returns 32 bits at an offset, which Check has seen.
func (d *Data) word(offset uint32) uint32 {
	switch offset {
	case offsetNR:
		return d.NR
	case offsetArch:
		return uint32(d.Arch)
	}
	long := d.IP
	if offset >= offsetArgs {
		long = d.Args[(offset-offsetArgs)/8]
	}
	if offset%8 != 0 {
		return uint32(long >> 32)
	}
	return uint32(long)
}

// Eval returns what the program does with a call, or what Check finds wrong with the program.
func (f Filter) Eval(d Data) (Action, error) {
	if err := f.Check(); err != nil {
		return 0, err
	}
	var a uint32
	for pc := 0; ; pc++ {
		in := f.Program[pc]
		taken := false
		switch in.Code {
		case load:
			a = d.word(in.K)
			continue
		case and:
			a &= in.K
			continue
		case ret:
			return Action(in.K), nil
		case jump:
			pc += int(in.K)
			continue
		case ifEqual:
			taken = a == in.K
		case ifAbove:
			taken = a > in.K
		case ifAtOver:
			taken = a >= in.K
		}
		if taken {
			pc += int(in.Jt)
		} else {
			pc += int(in.Jf)
		}
	}
}

// Passes says whether a call whose arguments are 0 is made.
func (f Filter) Passes(call string, arch Arch) bool {
	number, _ := Number(call, arch)
	action, err := f.Eval(Data{NR: number, Arch: arch})
	return err == nil && action.lenient()
}

// Check reports the first instruction that the kernel would refuse: a jump or a load out of bounds,
// a program without end, or more than 4096 instructions. Of the kernel's
// instructions it knows those that Compile uses; others are refused too.
func (f Filter) Check() error {
	n := len(f.Program)
	if n == 0 {
		return fmt.Errorf("seccomp: program is empty")
	}
	if n > unix.BPF_MAXINSNS {
		return fmt.Errorf("%w: %d", ErrTooLong, n)
	}
	for i, in := range f.Program {
		left := n - i - 1 // instructions that a jump can lead to
		switch in.Code {
		case load:
			if in.K%4 != 0 || in.K >= sizeofData {
				return fmt.Errorf("seccomp: instruction %d loads offset %d of struct seccomp_data", i, in.K)
			}
		case jump:
			if uint64(in.K) >= uint64(left) {
				return fmt.Errorf("seccomp: instruction %d jumps out of the program", i)
			}
		case ifEqual, ifAbove, ifAtOver:
			if int(max(in.Jt, in.Jf)) >= left {
				return fmt.Errorf("seccomp: instruction %d jumps out of the program", i)
			}
		case and, ret:
		default:
			return fmt.Errorf("seccomp: instruction %d has the unknown code %#x", i, in.Code)
		}
	}
	if f.Program[n-1].Code != ret {
		return fmt.Errorf("seccomp: program does not end with a return")
	}
	return nil
}
