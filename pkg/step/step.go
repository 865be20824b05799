// Package step carries a plan out one step at a time, and tells after each
// what it has changed.
//
// The plan is the one that runs anyway, and nothing is put into it. Actions of
// the runtime are wrapped. The container's process is traced: ptrace(2) stops it
// at the beginning and the end of each system call, until it is the program.
package step

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/lang"
	"github.com/minictr/minictr/pkg/plan"
)

// ErrInterrupted ends a run that a signal has interrupted.
var ErrInterrupted = errors.New("interrupted")

// What is said below a step; a result stands behind an equals sign.
const (
	howTo   = "Enter does this step, c and Enter all that follow; Ctrl-C ends the container."
	done    = "done"
	failed  = "failed: "
	passed  = ", passed over"
	again   = "interrupted, and made again"
	changed = "changed:"
)

// A Stepper waits before each step of one run, and prints what came of it.
type Stepper struct {
	out      io.Writer
	language lang.Language
	signals  chan os.Signal
	caught   atomic.Int32
	wake     [2]int // a pipe that can be read once a signal is caught

	mu     sync.Mutex // the runtime and the container's process take turns to speak
	waits  bool       // for Enter, before each step
	told   bool       // how
	failed bool       // an action has failed
	pidfd  int        // of the process; -1 is none
	last   int        // number of the step that was announced last
	brick  *plan.Section
	facts  facts
	err    error
}

// New is a stepper that prints to out. It waits for lines of standard input if
// that is a terminal.
func New(out io.Writer, waits bool, l lang.Language) (*Stepper, error) {
	s := &Stepper{out: out, language: l, waits: waits, pidfd: -1, signals: make(chan os.Signal, 4), facts: factsOf("self")}
	if err := unix.Pipe2(s.wake[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("pipe2: %w", err)
	}
	return s, nil
}

// Interrupted is the signal that has ended the run; 0 is none.
func (s *Stepper) Interrupted() unix.Signal { return unix.Signal(s.caught.Load()) }

// Err is why the run could not be followed.
func (s *Stepper) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Edit has a plan be carried out step by step: it is for container.Options.
// From here on signals end the run.
func (s *Stepper) Edit(p *plan.Plan) {
	signal.Notify(s.signals, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM)
	go func() {
		if sig, ok := (<-s.signals).(unix.Signal); ok {
			s.caught.Store(int32(sig))
			_, _ = unix.Write(s.wake[1], []byte{0}) // there is room
			s.mu.Lock()
			s.kill()
			s.mu.Unlock()
		}
	}()
	for _, at := range placesOf(p) {
		act := at.step.Act
		if act == nil {
			continue
		}
		at.step.Act = func(r *plan.Run) error {
			r.Trace = func(pid int, held uintptr) { s.follow(p, pid, held) }
			if err := s.before(at); err != nil {
				return err
			}
			err := act(r)
			s.acted(at, r.PID, err)
			return err
		}
	}
}

// A place is a step in its plan.
type place struct {
	number  int
	section *plan.Section
	step    *plan.Step
}

func placesOf(p *plan.Plan) (list []place) {
	for _, section := range p.Sections {
		for _, step := range section.Steps {
			list = append(list, place{len(list) + 1, section, step})
		}
	}
	return list
}

// before announces a step, and waits for the word to do it.
func (s *Stepper) before(at place) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.caught.Load() != 0 || s.failed {
		return ErrInterrupted
	}
	if s.brick != at.section {
		s.brick = at.section
		at.section.Head(s.out, s.language)
	}
	s.last = at.number
	at.step.Format(s.out, at.number, plan.Reasons, s.language)
	return s.prompt()
}

// prompt waits for a line. A word, or the end of input, is the last that is
// waited for.
func (s *Stepper) prompt() error {
	if !s.waits {
		return nil
	}
	if !s.told {
		s.told = true
		s.line(howTo)
	}
	fmt.Fprint(s.out, "      > ")
	fds := []unix.PollFd{{Fd: 0, Events: unix.POLLIN}, {Fd: int32(s.wake[0]), Events: unix.POLLIN}, {Fd: int32(s.pidfd), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	switch {
	case fds[1].Revents != 0:
		fmt.Fprintln(s.out)
		return ErrInterrupted
	case fds[0].Revents == 0: // the process is dead, and nobody asks
		fmt.Fprintln(s.out)
		s.waits = false
		return nil
	}
	var line [256]byte
	n, _ := unix.Read(0, line[:]) // an error is an end
	s.waits = strings.TrimSpace(string(line[:max(n, 0)])) == "" && n > 0
	return nil
}

// line prints a sentence below a step.
func (s *Stepper) line(english string) {
	for _, line := range s.language.Say(english) {
		fmt.Fprintf(s.out, "      %s\n", line)
	}
}

// acted tells what became of an action.
func (s *Stepper) acted(at place, pid int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	result := done
	if err != nil {
		s.failed = true
		result = failed + err.Error()
	}
	s.after(at, pid, result)
}

// after prints the result of a step, and what has changed since the last.
func (s *Stepper) after(at place, pid int, result string) {
	if s.last != at.number { // another was announced meanwhile
		result, s.last = fmt.Sprintf("%d: %s", at.number, result), at.number
	}
	s.line("= " + result)
	if pid == 0 {
		return
	}
	now := factsOf(fmt.Sprint(pid))
	word := s.language.Line(changed)
	for _, change := range s.facts.changes(now) {
		fmt.Fprintf(s.out, "      %s %s\n", word, printable(change))
		word = lang.Pad("", lang.Width(word))
	}
	s.facts = now
}

// printable shows what a terminal would obey: programs name themselves, and
// images their directories.
func printable(text string) string {
	if utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl) {
		return text
	}
	quoted := strconv.Quote(text)
	return quoted[1 : len(quoted)-1]
}

// kill ends the container's process. The lock is held.
func (s *Stepper) kill() {
	if s.pidfd >= 0 {
		_ = unix.PidfdSendSignal(s.pidfd, unix.SIGKILL, nil, 0) // ESRCH: it is dead
	}
}
