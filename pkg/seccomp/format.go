package seccomp

import (
	"fmt"
	"io"
	"strings"
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
		var text, comment string
		next := k
		switch in.Code {
		case load:
			text = fmt.Sprintf("ld   [%d]", in.K)
			comment = field(in.K)
			next.loaded = comment
		case and:
			text = fmt.Sprintf("and  %#x", in.K)
		case ret:
			text = fmt.Sprintf("ret  %#08x", in.K)
			comment = Action(in.K).String()
		case jump:
			yes = i + 1 + int(in.K)
			text = fmt.Sprintf("jmp  %d", yes)
			known[yes].join(k)
		case ifEqual, ifAbove, ifAtOver:
			text = fmt.Sprintf("%-4s %#x %d else %d", mnemonic(in.Code), in.K, yes, no)
			comment = k.constant(in.K)
			known[no].join(k)
			if in.Code == ifEqual && k.loaded == "arch" {
				k.arch = Arch(in.K)
			}
			known[yes].join(k)
		}
		if in.Code == load || in.Code == and {
			known[i+1].join(next)
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

func mnemonic(code uint16) string {
	switch code {
	case ifEqual:
		return "jeq"
	case ifAbove:
		return "jgt"
	default:
		return "jge"
	}
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
