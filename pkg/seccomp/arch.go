package seccomp

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Arch is an architecture as the kernel reports it to a filter: the AUDIT_ARCH_* value in
// struct seccomp_data.
type Arch uint32

// The architectures whose system calls are known.
const (
	X86_64  Arch = unix.AUDIT_ARCH_X86_64
	I386    Arch = unix.AUDIT_ARCH_I386
	AArch64 Arch = unix.AUDIT_ARCH_AARCH64
	ARM     Arch = unix.AUDIT_ARCH_ARM
)

// Native returns the architecture this program was built for, or 0 if its system calls are not known.
func Native() Arch {
	switch runtime.GOARCH {
	case "amd64":
		return X86_64
	case "arm64":
		return AArch64
	}
	return 0
}

// String returns the architecture's name as uname(2) spells it.
func (a Arch) String() string {
	switch a {
	case X86_64:
		return "x86_64"
	case I386:
		return "i386"
	case AArch64:
		return "aarch64"
	case ARM:
		return "arm"
	}
	return fmt.Sprintf("arch %#x", uint32(a))
}

//go:generate go run gentable.go

// An abi is a column of the table: a way of numbering system calls. x32 is not an architecture,
// its calls are those of x86-64 with bit 30 set.
type abi int

const (
	abiX86_64 abi = iota
	abiX32
	abiI386
	abiAArch64
	abiARM
	abis
)

const (
	x32Bit     = 0x40000000
	armPrivate = 0xf0000 // __ARM_NR_BASE: cacheflush, set_tls and so on
)

type call struct {
	name string
	nr   [abis]int32
}

func (a Arch) abi() (abi, bool) {
	switch a {
	case X86_64:
		return abiX86_64, true
	case I386:
		return abiI386, true
	case AArch64:
		return abiAArch64, true
	case ARM:
		return abiARM, true
	}
	return 0, false
}

// near is how far find looks from its hint: profiles list names in alphabetical order.
const near = 8

// find returns the row of the table for a name, -1 if there is none. It looks first at hint
// and just behind.
func find(name string, hint int) int {
	for i := hint; i < min(hint+near, len(calls)); i++ {
		if calls[i].name == name {
			return i
		}
	}
	i, ok := slices.BinarySearchFunc(calls[:], name, func(c call, name string) int {
		return strings.Compare(c.name, name)
	})
	if !ok {
		return -1
	}
	return i
}

// Number returns the number of the system call name on arch, and whether it exists there.
func Number(name string, arch Arch) (uint32, bool) {
	column, ok := arch.abi()
	i := find(name, 0)
	if !ok || i < 0 || calls[i].nr[column] < 0 {
		return 0, false
	}
	return uint32(calls[i].nr[column]), true
}

// Name returns the name of the system call nr on arch, and whether there is one. On x86-64 it knows
// the numbers of x32 too.
func Name(nr uint32, arch Arch) (string, bool) {
	column, ok := arch.abi()
	if !ok || int32(nr) < 0 {
		return "", false
	}
	if arch == X86_64 && nr&x32Bit != 0 {
		column = abiX32
	}
	for i := range calls {
		if calls[i].nr[column] == int32(nr) {
			return calls[i].name, true
		}
	}
	return "", false
}
