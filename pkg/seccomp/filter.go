package seccomp

import (
	"encoding/binary"

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

// values returns the words of struct seccomp_data.
func (d *Data) values() (v values) {
	v[offsetNR/4], v[offsetArch/4] = constant(d.NR), constant(uint32(d.Arch))
	for i, long := range append([]uint64{d.IP}, d.Args[:]...) {
		v[offsetIP/4+2*i], v[offsetIP/4+2*i+1] = constant(uint32(long)), constant(uint32(long>>32))
	}
	return v
}

// Eval returns what the program does with a call, or what Check finds wrong with the program.
func (f Filter) Eval(d Data) (Action, error) {
	if err := f.Check(); err != nil {
		return 0, err
	}
	return f.eval(&d), nil
}

// eval is Eval for a program that Check has seen.
func (f Filter) eval(d *Data) Action {
	data := d.values()
	m := machine{}
	for m.pc != end {
		m.pc = m.step(f.Program[m.pc], &data).yes // all is known, so that there is one way
	}
	return Action(m.result.bits)
}

// Passes says whether a call whose arguments are 0 is made.
func (f Filter) Passes(call string, arch Arch) bool {
	number, _ := Number(call, arch)
	action, err := f.Eval(Data{NR: number, Arch: arch})
	return err == nil && action.lenient()
}
