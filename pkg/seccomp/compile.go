// Package seccomp compiles the seccomp profile of a container, /linux/seccomp in config.json, to the
// classic BPF program that seccomp(2) takes; prints such a program, whoever made it; and interprets it, so
// that one can ask what would happen to a call without making it, or (Explore) to all calls of a number.
//
// A profile is read like a list of rules: for each call, the first rule in the order of the profile
// that names the call, and whose conditions hold, decides; without one, defaultAction. Besides:
//
//   - A call through an architecture that is not permitted kills the process. The host's own is
//     always permitted. A number with the x32 bit fails with ENOSYS if x32 is not permitted.
//   - If defaultAction does not let calls pass, a number above the highest that the profile names fails
//     with ENOSYS: the profile does not know that call, and programs have a fallback for ENOSYS.
//   - All conditions of a rule must hold; but if two of them look at the same argument, it is
//     enough that any one of the rule's conditions holds. Profiles written for runc rely on this.
//   - Arguments are compared as 64 bits without sign; those of 32-bit programs are extended with zeros.
//
// See seccomp(2), https://docs.kernel.org/userspace-api/seccomp_filter.html and section Seccomp of
// config-linux.md in the OCI runtime specification.
package seccomp

import (
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ErrTooLong is returned for a profile whose program has more than BPF_MAXINSNS (4096) instructions.
var ErrTooLong = errors.New("seccomp: program has more than 4096 instructions")

// Compile turns a profile into a program for a kernel of architecture arch. A field that is
// wrong gives a *FieldError. System calls whose names are unknown are left out and listed in
// Filter.Unknown.
func Compile(p *specs.LinuxSeccomp, arch Arch) (Filter, error) {
	r, err := parse(p, arch)
	if err != nil {
		return Filter{}, err
	}
	c := compiler{profile: r}
	c.reversed = make([]unix.SockFilter, 0, 512)
	if arch == X86_64 {
		c.architectures(X86_64, I386)
	} else {
		c.architectures(AArch64, ARM)
	}
	if len(c.reversed) > unix.BPF_MAXINSNS {
		return Filter{}, fmt.Errorf("%w: %d", ErrTooLong, len(c.reversed))
	}
	f := Filter{Program: c.program(), Flags: r.flags, Listener: r.notifies, Unknown: r.unknown}
	if f.Listener && !f.Passes("write", arch) {
		return Filter{}, fieldError("", "an action is SCMP_ACT_NOTIFY, and write does not pass, by which a process tells of its listener")
	}
	return f, nil
}

type compiler struct {
	*profile
	assembler
	blocks []block
}

// A verdict is what happens to a call: the action of the first of some rules that
// matches, else another action.
type verdict struct {
	rules     []int // indices into profile.rules, all with conditions
	otherwise Action
}

func (v verdict) equal(w verdict) bool {
	return v.otherwise == w.otherwise && slices.Equal(v.rules, w.rules)
}

// A block is the code for a verdict.
type block struct {
	verdict
	label
}

// A span is the calls from a number up to the next span, all with the same verdict.
type span struct {
	first uint32
	verdict
}

// A window is a part of an architecture's numbers that an ABI uses.
type window struct {
	first uint32
	abi   abi
}

func windows(arch Arch) []window {
	switch arch {
	case X86_64:
		return []window{{0, abiX86_64}, {x32Bit, abiX32}}
	case I386:
		return []window{{0, abiI386}}
	case AArch64:
		return []window{{0, abiAArch64}}
	case ARM:
		return []window{{0, abiARM}, {armPrivate, abiARM}}
	}
	return nil
}

// architectures emits the whole program: the architecture first, then the number.
func (c *compiler) architectures(native, compat Arch) {
	next := c.ret(KillProcess)
	for _, arch := range []Arch{compat, native} {
		if column, _ := arch.abi(); !c.permitted[column] {
			continue
		}
		c.follow(c.search(c.spans(arch)))
		calls := c.load(offsetNR)
		next = c.branch(ifEqual, uint32(arch), calls, next)
	}
	c.load(offsetArch)
}

// spans divides all numbers of an architecture by verdict.
func (c *compiler) spans(arch Arch) []span {
	spans := make([]span, 0, 128)
	add := func(first uint32, v verdict) {
		if len(spans) == 0 || !spans[len(spans)-1].equal(v) {
			spans = append(spans, span{first, v})
		}
	}
	all := windows(arch)
	for i, w := range all {
		if !c.permitted[w.abi] {
			add(w.first, verdict{otherwise: Errno(unix.ENOSYS)})
			continue
		}
		end := ^uint32(0)
		if i+1 < len(all) {
			end = all[i+1].first
		}
		next := w.first
		uses := c.sorted(w, end)
		for len(uses) > 0 {
			nr := uint32(uses[0] >> 32)
			n := 1
			for n < len(uses) && uint32(uses[n]>>32) == nr {
				n++
			}
			if nr > next {
				add(next, verdict{otherwise: c.otherwise})
			}
			add(nr, c.verdict(uses[:n]))
			next, uses = nr+1, uses[n:]
		}
		above := verdict{otherwise: c.otherwise}
		if next > w.first && !c.otherwise.lenient() {
			above.otherwise = Errno(unix.ENOSYS)
		}
		add(next, above)
	}
	return spans
}

// sorted returns the uses of rules for the calls of a window as number<<32 | rule, in that order.
func (c *compiler) sorted(w window, end uint32) []uint64 {
	keys := make([]uint64, 0, len(c.uses))
	for _, u := range c.uses {
		nr := calls[u.call].nr[w.abi]
		if nr >= 0 && uint32(nr) >= w.first && uint32(nr) < end {
			keys = append(keys, uint64(nr)<<32|uint64(u.rule))
		}
	}
	slices.Sort(keys)
	return keys
}

// verdict collects the rules for one call up to the first that has no conditions.
func (c *compiler) verdict(uses []uint64) verdict {
	v := verdict{otherwise: c.otherwise}
	for _, key := range uses {
		i := int(uint32(key))
		if len(c.rules[i].conditions) == 0 {
			v.otherwise = c.rules[i].action
			break
		}
		v.rules = append(v.rules, i)
	}
	for len(v.rules) > 0 && c.rules[v.rules[len(v.rules)-1]].action == v.otherwise {
		v.rules = v.rules[:len(v.rules)-1]
	}
	return v
}

// search emits a binary search for the call's number, which is in A.
func (c *compiler) search(spans []span) label {
	if len(spans) == 1 {
		return c.decide(spans[0].verdict)
	}
	middle := len(spans) / 2
	above := c.search(spans[middle:])
	below := c.search(spans[:middle])
	return c.branch(ifAtOver, spans[middle].first, above, below)
}

// decide emits the code for a verdict, or finds it.
func (c *compiler) decide(v verdict) label {
	if len(v.rules) == 0 {
		return c.ret(v.otherwise)
	}
	for _, b := range c.blocks {
		if b.equal(v) {
			return b.label
		}
	}
	next := c.ret(v.otherwise)
	for _, i := range slices.Backward(v.rules) {
		matched := c.ret(c.rules[i].action)
		for _, condition := range slices.Backward(c.rules[i].conditions) {
			matched = c.compare(condition, matched, next)
		}
		next = matched
	}
	c.blocks = append(c.blocks, block{v, next})
	return next
}

// compare emits a condition. A holds 32 bits, so that an argument is compared in two halves.
func (c *compiler) compare(arg specs.LinuxSeccompArg, yes, no label) label {
	switch arg.Op {
	case specs.OpEqualTo:
	case specs.OpNotEqual:
		return c.masked(arg.Index, ^uint64(0), arg.Value, no, yes)
	case specs.OpMaskedEqual:
		return c.masked(arg.Index, arg.Value, arg.ValueTwo, yes, no)
	case specs.OpGreaterThan:
		return c.ordered(arg, ifAbove, yes, no)
	case specs.OpGreaterEqual:
		return c.ordered(arg, ifAtOver, yes, no)
	case specs.OpLessThan:
		return c.ordered(arg, ifAtOver, no, yes)
	case specs.OpLessEqual:
		return c.ordered(arg, ifAbove, no, yes)
	}
	return c.masked(arg.Index, ^uint64(0), arg.Value, yes, no)
}

// masked emits (argument & mask) == value.
func (c *compiler) masked(index uint, mask, value uint64, yes, no label) label {
	low := c.maskedWord(offsetArgs+8*uint32(index), uint32(mask), uint32(value), yes, no)
	return c.maskedWord(offsetArgs+8*uint32(index)+4, uint32(mask>>32), uint32(value>>32), low, no)
}

func (c *compiler) maskedWord(offset, mask, value uint32, yes, no label) label {
	if mask == 0 && value == 0 || yes == no {
		return yes
	}
	c.branch(ifEqual, value, yes, no)
	if mask != ^uint32(0) {
		c.emit(and, 0, 0, mask)
	}
	return c.load(offset)
}

// ordered emits argument > value, or >=: the low halves count where the high ones are equal.
func (c *compiler) ordered(arg specs.LinuxSeccompArg, code uint16, yes, no label) label {
	if yes == no {
		return yes
	}
	offset := offsetArgs + 8*uint32(arg.Index)
	c.branch(code, uint32(arg.Value), yes, no)
	low := c.load(offset)
	equal := c.branch(ifEqual, uint32(arg.Value>>32), low, no)
	c.branch(ifAbove, uint32(arg.Value>>32), yes, equal)
	return c.load(offset + 4)
}
