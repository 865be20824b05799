package seccomp

import (
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// String returns the program as Format prints it.
func (f Filter) String() string {
	var b strings.Builder
	_ = f.Format(&b) // a strings.Builder takes everything
	return b.String()
}

// Format prints one line for each instruction: its index, what it does, and what its
// constant means, as far as the instructions before it tell. Jumps show the index they lead to.
func (f Filter) Format(w io.Writer) error {
	if err := f.Check(); err != nil {
		return err
	}
	known := make([]knowledge, len(f.Program))
	for i, in := range f.Program {
		k := known[i]
		yes, no := i+1+int(in.Jt), i+1+int(in.Jf)
		text, comment := mnemonic(in, i), ""
		switch in.Code {
		case ret:
			comment = Action(in.K).String()
		case retA:
		case jump:
			known[i+1+int(in.K)].join(k)
		case load:
			comment = field(in.K)
			k.loaded = comment
			known[i+1].join(k)
		case ifEqual, ifAbove, ifAtOver, ifSet:
			comment = k.constant(in.K)
			known[no].join(k)
			if in.Code == ifEqual && k.loaded == "arch" {
				k.arch = Arch(in.K)
			}
			known[yes].join(k)
		default:
			if in.Code&class == unix.BPF_JMP {
				known[no].join(k)
				known[yes].join(k)
				break
			}
			k.loaded = ""
			known[i+1].join(k)
		}
		if comment != "" {
			text = fmt.Sprintf("%-36s; %s", text, comment)
		}
		if _, err := fmt.Fprintf(w, "%4d  %s\n", i, text); err != nil {
			return err
		}
	}
	return nil
}

// mnemonic prints the instruction at pc.
func mnemonic(in unix.SockFilter, pc int) string {
	operand := fmt.Sprintf("%#x", in.K)
	if in.Code&fromX != 0 {
		operand = "x"
	}
	memory := fmt.Sprintf("m[%d]", in.K)
	switch in.Code {
	case load:
		return fmt.Sprintf("ld   [%d]", in.K)
	case loadLength:
		return "ld   len"
	case loadNumber:
		return "ld   " + operand
	case loadMemory:
		return "ld   " + memory
	case loadXLength:
		return "ldx  len"
	case loadXNumber:
		return "ldx  " + operand
	case loadXMemory:
		return "ldx  " + memory
	case storeMemory:
		return "st   " + memory
	case storeXMemory:
		return "stx  " + memory
	case toX:
		return "tax"
	case toA:
		return "txa"
	case negate:
		return "neg"
	case jump:
		return fmt.Sprintf("jmp  %d", pc+1+int(in.K))
	case ret:
		return fmt.Sprintf("ret  %#08x", in.K)
	case retA:
		return "ret  a"
	}
	if in.Code&class == unix.BPF_JMP {
		name := [...]string{"jmp", "jeq", "jgt", "jge", "jset"}[in.Code>>4]
		return fmt.Sprintf("%-4s %s %d else %d", name, operand, pc+1+int(in.Jt), pc+1+int(in.Jf))
	}
	name := [...]string{"add", "sub", "mul", "div", "or", "and", "lsh", "rsh", "neg", "mod", "xor"}[in.Code>>4]
	return fmt.Sprintf("%-4s %s", name, operand)
}

// knowledge is what holds on every way to an instruction.
type knowledge struct {
	reached bool
	loaded  string // what A holds, "" if that differs
	arch    Arch   // 0 if that differs
}

// join adds a way on which k holds.
func (k *knowledge) join(other knowledge) {
	other.reached = true
	if !k.reached {
		*k = other
		return
	}
	if k.loaded != other.loaded {
		k.loaded = ""
	}
	if k.arch != other.arch {
		k.arch = 0
	}
}

// constant says what a number means that A is compared with.
func (k *knowledge) constant(value uint32) string {
	switch k.loaded {
	case "arch":
		return Arch(value).String()
	case "nr":
		if value == x32Bit && k.arch == X86_64 {
			return "x32"
		}
		name, _ := Name(value, k.arch)
		return name
	}
	return ""
}

// field names a word of struct seccomp_data.
func field(offset uint32) string {
	half := "low"
	if offset%8 != 0 {
		half = "high"
	}
	switch {
	case offset == offsetNR:
		return "nr"
	case offset == offsetArch:
		return "arch"
	case offset < offsetArgs:
		return "instruction pointer, " + half
	}
	return fmt.Sprintf("args[%d], %s", (offset-offsetArgs)/8, half)
}
