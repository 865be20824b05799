package seccomp

import (
	"cmp"
	"slices"

	"golang.org/x/sys/unix"
)

// An Outcome is all that some filters can do with a system call, whatever its arguments are and
// wherever it is made.
type Outcome struct {
	Name   string
	Number uint32
	Cases  []Case // the most restrictive first
	Any    bool   // a filter returns a number that it makes of an argument: any other action, too
}

// A Case is an action that a call can have.
type Case struct {
	Action
	Example *Data // a call that has it; nil if Explore found none, and no proof that there is none
}

// MayPass reports whether the call is made for some arguments, or a tracer or a supervisor may make it.
func (o Outcome) MayPass() bool {
	return o.Any || slices.ContainsFunc(o.Cases, func(c Case) bool { return c.lenient() || c.kind() == Notify })
}

// MayFail reports whether the call is not made for some arguments, or a tracer or a supervisor may
// refuse it.
func (o Outcome) MayFail() bool {
	return o.Any || slices.ContainsFunc(o.Cases, func(c Case) bool { return c.kind() != Allow && c.kind() != Log })
}

// Outcomes explores every system call of an architecture that is known here, in the order of their
// names.
func Outcomes(filters []Filter, arch Arch) ([]Outcome, error) {
	column, ok := arch.abi()
	if !ok {
		return nil, nil
	}
	return outcomes(filters, arch, column)
}

// OutcomesX32 explores the calls of x32, the other way to number them on x86-64.
func OutcomesX32(filters []Filter) ([]Outcome, error) {
	return outcomes(filters, X86_64, abiX32)
}

func outcomes(filters []Filter, arch Arch, column abi) (all []Outcome, err error) {
	e, err := newExplorer(filters)
	if err != nil {
		return nil, err
	}
	for i := range calls {
		if nr := calls[i].nr[column]; nr >= 0 {
			all = append(all, e.explore(uint32(nr), arch))
		}
	}
	return all, nil
}

// Decide returns what all filters of a process, the oldest first, do with a call together: the
// kernel takes the most restrictive action, and of equal ones the newest filter's.
func Decide(filters []Filter, d Data) (Action, error) {
	for _, f := range filters {
		if err := f.Check(); err != nil {
			return 0, err
		}
	}
	return decide(filters, &d), nil
}

func decide(filters []Filter, d *Data) Action {
	action := Allow
	for _, f := range slices.Backward(filters) {
		action = action.or(f.eval(d))
	}
	return action
}

// rank orders actions, the most restrictive first.
func (a Action) rank() int32 { return int32(a.kind()) }

// or returns what an older filter's action makes of a newer one's.
func (a Action) or(older Action) Action {
	if older.rank() < a.rank() {
		return older
	}
	return a
}

// effort bounds the work for one call: instructions on all ways, and conditions looked at.
const effort = 1 << 20

// Explore finds what filters, the oldest first, do with the call nr on arch, for all arguments and
// addresses. All 64 bits of an argument count as unknown on 32-bit architectures, too: that may say more
// than there can be, never less.
//
// It executes the programs once with unknown words and without regard to what the comparisons on a way
// say together: that gives every action there can be, and perhaps more. If it is not just one, it goes
// each way of its own and finds words that meet all conditions on it. So a case that is left has an
// example, which Decide agrees to, but for two causes: a condition on a sum, difference, product or
// quotient of unknown words, or on two of them, counts as one that nothing is known of; and a call whose
// ways take more than a million instructions and conditions keeps what the first execution has found. No
// action is ever lost.
func Explore(filters []Filter, nr uint32, arch Arch) (Outcome, error) {
	e, err := newExplorer(filters)
	if err != nil {
		return Outcome{}, err
	}
	return e.explore(nr, arch), nil
}

type explorer struct {
	filters []Filter
	call    Data // with arguments 0
	data    values
	left    int              // of effort
	cases   map[Action]*Data // what a way leads to, with an example if there is one
	wanted  int              // how many examples are enough, -1 if all ways must be gone
	proven  int              // how many there are
	open    bool             // a way leads to a number that is not known
	at      []machine        // room for one of each instruction
	reached []bool           // likewise
}

func newExplorer(filters []Filter) (*explorer, error) {
	longest := 0
	for _, f := range filters {
		if err := f.Check(); err != nil {
			return nil, err
		}
		longest = max(longest, len(f.Program))
	}
	return &explorer{filters: filters, at: make([]machine, longest), reached: make([]bool, longest)}, nil
}

func (e *explorer) explore(nr uint32, arch Arch) Outcome {
	e.call = Data{NR: nr, Arch: arch}
	e.data = e.call.values()
	for i := offsetIP / 4; i < len(e.data); i++ {
		e.data[i] = unknown(uint16(i))
	}
	e.left, e.cases, e.proven, e.open = effort, map[Action]*Data{}, 0, false
	o := Outcome{Number: nr}
	o.Name, _ = Name(nr, arch)
	candidates, open := e.overview()
	if len(candidates) == 1 && !open {
		e.cases[candidates[0]] = new(e.call)
	} else {
		e.wanted = len(candidates)
		if open {
			e.wanted = -1
		}
		e.follow(machine{}, len(e.filters)-1, Allow, nil)
		o.Any = e.open
	}
	if e.left < 0 {
		o.Any = open
		for _, a := range candidates {
			if _, ok := e.cases[a]; !ok {
				e.cases[a] = nil
			}
		}
	}
	for a, example := range e.cases {
		o.Cases = append(o.Cases, Case{a, example})
	}
	slices.SortFunc(o.Cases, func(a, b Case) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.Action, b.Action))
	})
	return o
}

// overview returns the actions there can be, and whether there can be any other.
func (e *explorer) overview() (actions []Action, open bool) {
	actions = []Action{Allow}
	for _, f := range slices.Backward(e.filters) {
		own, ownOpen := e.returns(f.Program)
		open = open || ownOpen
		var both []Action
		for _, newer := range actions {
			for _, older := range own {
				if a := newer.or(older); !slices.Contains(both, a) {
					both = append(both, a)
				}
			}
		}
		actions = both
	}
	return actions, open
}

// returns goes through a program once, which can be done since jumps only lead forward: where ways meet
// that differ in a value, that is unknown from there on.
func (e *explorer) returns(program []unix.SockFilter) (actions []Action, open bool) {
	at, reached := e.at, e.reached
	clear(reached)
	at[0], reached[0] = machine{}, true
	for pc := range program {
		if !reached[pc] {
			continue
		}
		m := at[pc]
		m.pc = pc
		b := m.step(program[pc], &e.data)
		for _, to := range [...]int{b.yes, b.no} {
			switch {
			case to != end && reached[to]:
				at[to].join(&m)
			case to != end:
				at[to], reached[to] = m, true
			case m.result.mask != 0:
				open = true
			case !slices.Contains(actions, Action(m.result.bits)):
				actions = append(actions, Action(m.result.bits))
			}
		}
	}
	return actions, open
}

// join makes m what holds of both m and other.
func (m *machine) join(other *machine) {
	m.a.join(other.a)
	m.x.join(other.x)
	for i := range m.memory {
		m.memory[i].join(other.memory[i])
	}
}

func (v *value) join(other value) {
	if *v != other {
		*v = unknown(0)
	}
}

// follow goes all ways from m through filters[i] and the older ones, on which the newer
// ones have decided on action, under the conditions of path.
func (e *explorer) follow(m machine, i int, action Action, path []condition) {
	for i >= 0 {
		if e.left--; e.left < 0 || e.proven == e.wanted {
			return
		}
		if m.pc == end {
			if m.result.mask != 0 {
				e.open = true
				return
			}
			action = action.or(Action(m.result.bits))
			m = machine{made: m.made}
			i--
			continue
		}
		b := m.step(e.filters[i].Program[m.pc], &e.data)
		m.pc = b.no
		if b.yes == b.no {
			continue
		}
		if yes := append(path, b.condition); e.solvable(yes) {
			other := m
			other.pc = b.yes
			e.follow(other, i, action, yes)
		}
		path = append(path, b.not())
		if !e.solvable(path) {
			return
		}
	}
	if e.cases[action] == nil {
		e.cases[action] = e.example(action, path)
	}
}

// example returns a call that goes a way, if that leads to action in truth.
func (e *explorer) example(action Action, path []condition) *Data {
	var words [len(e.data)]uint64
	for i := range words {
		word, _ := e.solve(about(uint16(i), path))
		words[i] = uint64(word)
	}
	d := e.call
	d.IP = words[offsetIP/4] | words[offsetIP/4+1]<<32
	for i := range d.Args {
		d.Args[i] = words[offsetArgs/4+2*i] | words[offsetArgs/4+2*i+1]<<32
	}
	if decide(e.filters, &d) != action {
		return nil
	}
	e.proven++
	return &d
}

// about returns the conditions on a word.
func about(word uint16, path []condition) (conditions []condition) {
	for _, c := range path {
		if c.word == word {
			conditions = append(conditions, c)
		}
	}
	return conditions
}

// solvable reports whether a path's last condition can be met with the others. Words do not depend on
// each other.
func (e *explorer) solvable(path []condition) bool {
	_, ok := e.solve(about(path[len(path)-1].word, path))
	return ok
}

// solve finds a word that meets all conditions on it. It tries bit by bit, from the highest, 0 and 1,
// and drops a condition as soon as it holds for sure. Of the words so far that leave the same conditions
// open one is enough: so far, all of them are equal to the numbers compared with, for what a shift
// leaves of a word keeps the order of its bits.
func (e *explorer) solve(conditions []condition) (uint32, bool) {
	type start struct {
		word uint32
		open []condition
	}
	starts := []start{{0, conditions}}
	for bit := 31; bit >= 0; bit-- {
		var longer []start
		for _, s := range starts {
			for _, word := range [...]uint32{s.word, s.word | 1<<bit} {
				if e.left -= len(s.open) + len(longer); e.left < 0 {
					return 0, false
				}
				open, ok := narrow(s.open, ^uint32(0)<<bit, word)
				if ok && len(open) == 0 {
					return word, true
				}
				if ok && !slices.ContainsFunc(longer, func(l start) bool { return slices.Equal(l.open, open) }) {
					longer = append(longer, start{word, open})
				}
			}
		}
		starts = longer
	}
	return 0, false
}

// narrow returns the conditions that depend on the bits outside of fixed, false if one cannot be met.
func narrow(conditions []condition, fixed, word uint32) (open []condition, ok bool) {
	for _, c := range conditions {
		if !c.possible(fixed, word) {
			return nil, false
		}
		if c.not().possible(fixed, word) {
			open = append(open, c)
		}
	}
	return open, true
}
