package plan

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Call is a system call, or the text of an action.
type Call struct {
	Name   string // as in the kernel's table: "openat2"
	Number uintptr
	Args   []Arg
	Text   string // of an action; "" for a system call
}

// String is the call as strace(1) prints it, with names for the registers.
func (c Call) String() string {
	if c.Text != "" {
		return c.Text
	}
	args := make([]string, len(c.Args))
	for i, a := range c.Args {
		args[i] = a.String()
	}
	return c.Name + "(" + strings.Join(args, ", ") + ")"
}

// An Arg is one argument of a system call: a Num, Str, Strs, Mem or Reg.
// The set is closed, so that all that the walk must handle is in this file.
type Arg interface {
	String() string
	arg()
}

// A Num is a constant.
type Num struct {
	Value uint64
	Text  string // how strace prints it; "" is decimal
	set   []bit  // if not nil, what the bits are called; Text is for none of them
}

// A Str is the address of a NUL-terminated string.
type Str string

// Strs is the address of a NULL-terminated vector of strings, as execve(2)
// takes them.
type Strs []string

// A Reg is the result of an earlier step, or a descriptor that the parent
// opened for the child (an input), by name. A register that was never set
// holds -1, which no call takes for a descriptor.
type Reg string

// Mem is the address of a block of memory.
type Mem struct {
	Data   []byte
	Refs   []Ref
	Text   string              // how strace prints it
	decode func([]byte) string // if not nil, makes the text of the bytes themselves
}

// A Ref stores, in a block of memory, what is known only at run time: the
// address of a Str, Strs or Mem (8 bytes), or the value of a Reg (Size bytes).
type Ref struct {
	Offset int
	Size   int
	To     Arg
	// Result says that it is the other way round: the call stores its step's
	// result there, four bytes, instead of returning it.
	Result bool
}

func (Num) arg()  {}
func (Str) arg()  {}
func (Strs) arg() {}
func (Reg) arg()  {}
func (Mem) arg()  {}

func (n Num) String() string {
	switch {
	case n.set != nil:
		return setString(n.Value, n.set, n.Text)
	case n.Text != "":
		return n.Text
	}
	return strconv.FormatInt(int64(n.Value), 10)
}

func (s Str) String() string { return quote(string(s)) }

func (s Strs) String() string {
	q := make([]string, len(s))
	for i, v := range s {
		q[i] = quote(v)
	}
	return "[" + strings.Join(q, ", ") + "]"
}

func (r Reg) String() string { return "$" + string(r) }

func (m Mem) String() string {
	if m.decode != nil {
		return m.decode(m.Data)
	}
	return m.Text
}

// quote writes a C string as strace does: octal for what is not ASCII.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c >= '\t' && c <= '\r':
			b.WriteByte('\\')
			b.WriteByte("tnvfr"[c-'\t'])
		case c < ' ' || c > '~':
			b.WriteByte('\\')
			next := i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '9'
			if o := strconv.FormatUint(uint64(c), 8); next {
				b.WriteString("000"[len(o):] + o) // or the next digit would join it
			} else {
				b.WriteString(o)
			}
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// ErrnoName is the name of an errno, "ENOENT".
func ErrnoName(e unix.Errno) string {
	if n := unix.ErrnoName(e); n != "" {
		return n
	}
	return "errno " + strconv.Itoa(int(e))
}
