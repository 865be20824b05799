// Package plan says what a container is: a list of system calls.
//
// A Plan is pure data. Each Step is one call with its arguments, the errnos
// that are no failure there, the place in config.json that asked for it, and
// one sentence that says why. The same argument list is printed for people,
// as strace(1) would print the call, and lowered to memory by package
// forkexec, so what is printed is what runs.
package plan

import "golang.org/x/sys/unix"

// A Plan is a whole wall, from the first thing the parent prepares to the
// execve(2) of the container's program.
type Plan struct {
	Sections []*Section
}

// Where says which process carries a section out.
type Where uint8

const (
	// Parent sections are actions of the runtime itself, outside the wall.
	Parent Where = iota
	// Child sections are walked, call for call, by the process that
	// clone3(2) made.
	Child
	// Stub sections are walked by the few bytes of machine code that the
	// child becomes before it becomes the program, so that the program's
	// /proc/self/exe is never the runtime's file.
	Stub
)

func (w Where) String() string { return [...]string{"parent", "child", "stub"}[w] }

// A Section is one brick of the wall: the steps that lay it, in one process.
type Section struct {
	Brick string // one word: "pid", "mounts", "seccomp"
	Title string // one sentence, for people
	Where Where
	Steps []*Step
}

// A Step is one system call, or, in a Parent section, one action.
type Step struct {
	Call  Call
	Out   Reg     // takes the result; "" throws it away
	Allow []Allow // errnos that are no failure here
	Then  int     // number of the step to go on with; 0 is the next
	Why   string  // one sentence
	Spec  string  // JSON pointer into config.json (RFC 6901); "" is none

	// Act is what the parent does; nil in the other sections.
	Act func(*Run) error
}

// An Allow is an errno that a step passes over.
type Allow struct {
	Errno unix.Errno
	Then  int // number of the step to go on with; 0 is the next
}

// A Run is what the actions of one run share: what they open for the child,
// and the child itself once it is there.
type Run struct {
	PID  int         // of the child, in the parent's PID namespace; 0 before the clone
	Fd   map[Reg]int // inputs of the child, by register; the runner closes them
	Lent map[Reg]int // inputs that stay open in the parent
	// Await waits until the child has written Ready once more. The executor
	// sets it.
	Await func() error
	// Clone makes the child, by its step. The executor sets it.
	Clone func(*Step) error
	// Trace, if not nil, is called beside the run with a child that does nothing
	// until the word at the address held, in its memory, is 0. Until Trace returns
	// nobody else waits for that child.
	Trace func(pid int, held uintptr)
	// Newborn makes a child in new namespaces that ends at once, and reaps it
	// when all is done that needs its PID: until then they are found in /proc.
	// The executor sets it.
	Newborn func(namespaces uint64, do func(pid int) error) error
}

// Step returns the step with the given number, nil if there is none.
// Steps are numbered from 1, through all sections.
func (p *Plan) Step(number int) *Step {
	for _, s := range p.Sections {
		if number <= len(s.Steps) {
			if number < 1 {
				return nil
			}
			return s.Steps[number-1]
		}
		number -= len(s.Steps)
	}
	return nil
}

// Len is the number of steps.
func (p *Plan) Len() (n int) {
	for _, s := range p.Sections {
		n += len(s.Steps)
	}
	return n
}

const (
	// Report is the input on which the child tells of the step that failed.
	// The executor makes it, a pipe, unless it is given.
	Report Reg = "report"
	// ReportEnd is the other end of Report, which the executor reads.
	ReportEnd Reg = "report/runtime"
	// Sealed is the input that holds the stub, made of the Stub sections and
	// ready for execveat(2). The executor makes it.
	Sealed Reg = "stub"
	// Born is the input that is an address in the runtime's memory, where it
	// finds the PID of a second child. The executor makes it.
	Born Reg = "born"
	// Ready is what a plan writes to Report when the wall stands, and before
	// that where an action awaits it: a report of no step. A child that dies
	// without it never became its program.
	Ready = "\x00\x00\x00\x00\x00\x00\x00\x00"
)
