package shell

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"

	"github.com/minictr/minictr/rootfs/applet"
)

// call is asked before every command. It gives the interpreter other names for
// the builtins that are ours, and puts what a trap says before the command if
// a signal has come.
func (s *shell) call(_ context.Context, args []string) ([]string, error) {
	if action, ok := s.caughtAction(); ok {
		source := action + "\n"
		for _, a := range args {
			q, err := syntax.Quote(a, syntax.LangBash)
			if err != nil {
				return nil, err
			}
			source += q + " "
		}
		return []string{"eval", source}, nil
	}
	switch args[0] {
	case "kill", "wait", "jobs", "trap", "umask", "ulimit":
		return append([]string{own + args[0]}, args[1:]...), nil
	}
	return args, nil
}

// caughtAction takes the trap of a signal that has come.
func (s *shell) caughtAction() (string, bool) {
	select {
	case sig := <-s.caught:
		s.mu.Lock()
		defer s.mu.Unlock()
		action := s.traps[sig.(unix.Signal)]
		return action, action != ""
	default:
		return "", false
	}
}

// runTraps runs the traps of the signals that have come.
func (s *shell) runTraps(ctx context.Context, hc interp.HandlerContext) error {
	for {
		action, ok := s.caughtAction()
		if !ok {
			return nil
		}
		if err := hc.Builtin(ctx, []string{"eval", action}); err != nil {
			return err
		}
	}
}

// trap decides what a signal does: an action, nothing (""), or the default ("-").
func (s *shell) trap(ctx context.Context, hc interp.HandlerContext, args []string) error {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		s.mu.Lock()
		for sig, action := range s.traps {
			fmt.Fprintf(hc.Stdout, "trap -- %q %s\n", action, strings.TrimPrefix(unix.SignalName(sig), "SIG"))
		}
		s.mu.Unlock()
		return hc.Builtin(ctx, []string{"trap"})
	}
	action, names := args[0], args[1:]
	if len(names) == 0 {
		action, names = "-", args
	}
	for _, name := range names {
		if name == "EXIT" || name == "0" || name == "ERR" {
			if err := hc.Builtin(ctx, []string{"trap", action, strings.Replace(name, "0", "EXIT", 1)}); err != nil {
				return err
			}
			continue
		}
		sig, err := applet.ParseSignal(name)
		if err != nil {
			return builtin(hc, "trap", err)
		}
		s.setTrap(sig, action)
	}
	return nil
}

func (s *shell) setTrap(sig unix.Signal, action string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch action {
	case "-":
		delete(s.traps, sig)
		signal.Reset(sig)
	case "":
		delete(s.traps, sig)
		signal.Ignore(sig)
	default:
		s.traps[sig] = action
		signal.Notify(s.caught, sig)
	}
}

// kill runs in the shell itself, since a process limit must not stop it.
// "%1" is the first job.
func (s *shell) kill(hc interp.HandlerContext, args []string) error {
	args = slices.Clone(args)
	for i, a := range args {
		if j := s.job(a); j != nil && strings.HasPrefix(a, "%") {
			args[i] = strconv.Itoa(j.pid)
		}
	}
	f, _ := applet.Lookup("kill")
	return builtin(hc, "kill", f(applet.Stdio{In: hc.Stdin, Out: hc.Stdout, Err: hc.Stderr}, args))
}

// job finds a job by process number, or by "%" and its own number.
func (s *shell) job(name string) *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := strconv.Atoi(strings.TrimPrefix(name, "%"))
	if err != nil {
		return nil
	}
	if !strings.HasPrefix(name, "%") {
		return s.jobs[n]
	}
	for _, j := range s.jobs {
		if j.number == n {
			return j
		}
	}
	return nil
}

// all lists the jobs in the order of their starts.
func (s *shell) all() []*job {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.jobs), func(a, b *job) int { return cmp.Compare(a.number, b.number) })
}

// forget drops a job whose end somebody was told of.
func (s *shell) forget(j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.jobs, j.pid)
}

func (s *shell) list(hc interp.HandlerContext) error {
	for _, j := range s.all() {
		state := "running"
		select {
		case <-j.done:
			state = "ended with " + strconv.Itoa(j.status)
		default:
		}
		fmt.Fprintf(hc.Stdout, "[%d] %d %s: %s\n", j.number, j.pid, state, j.text)
	}
	return nil
}

// wait waits for jobs, all if none is named. A signal that has a trap ends it.
func (s *shell) wait(ctx context.Context, hc interp.HandlerContext, args []string) error {
	var jobs []*job
	for _, a := range args {
		j := s.job(a)
		if j == nil {
			fmt.Fprintf(hc.Stderr, "wait: %s is no child of this shell\n", a)
			return interp.ExitStatus(127)
		}
		jobs = append(jobs, j)
	}
	if len(args) == 0 {
		jobs = s.all()
	}
	code := 0
	for _, j := range jobs {
		select {
		case <-j.done:
			if len(args) > 0 {
				code = j.status
			}
			s.forget(j)
		case <-ctx.Done():
			return interp.ExitStatus(interrupted)
		case sig := <-s.caught:
			s.caught <- sig
			if err := s.runTraps(ctx, hc); err != nil {
				return err
			}
			return interp.ExitStatus(128 + int(sig.(unix.Signal)))
		}
	}
	return exitStatus(code)
}

func umask(w io.Writer, args []string) error {
	if len(args) == 0 {
		old := unix.Umask(0)
		unix.Umask(old)
		_, err := fmt.Fprintf(w, "%04o\n", old)
		return err
	}
	mask, err := strconv.ParseUint(args[0], 8, 9)
	if err != nil {
		return fmt.Errorf("%q is not a mask in octal", args[0])
	}
	unix.Umask(int(mask))
	return nil
}

// limits are the resources of setrlimit(2) that ulimit knows, in units of
// what the shells print.
var limits = [...]struct {
	letter   byte
	resource int
	unit     uint64
	text     string
}{
	{'c', unix.RLIMIT_CORE, 512, "core file size (512-byte blocks)"},
	{'d', unix.RLIMIT_DATA, 1024, "data segment (KB)"},
	{'f', unix.RLIMIT_FSIZE, 512, "file size (512-byte blocks)"},
	{'l', unix.RLIMIT_MEMLOCK, 1024, "locked memory (KB)"},
	{'n', unix.RLIMIT_NOFILE, 1, "open files"},
	{'s', unix.RLIMIT_STACK, 1024, "stack (KB)"},
	{'t', unix.RLIMIT_CPU, 1, "CPU time (seconds)"},
	{'u', unix.RLIMIT_NPROC, 1, "processes"},
	{'v', unix.RLIMIT_AS, 1024, "address space (KB)"},
}

// ulimit prints or sets limits, both soft and hard unless -S or -H:
// ulimit [-SH] [-a | -LETTER [VALUE | unlimited]].
func ulimit(w io.Writer, args []string) error {
	letter, soft, hard, value := byte('f'), false, false, ""
	for _, a := range args {
		if len(a) < 2 || a[0] != '-' {
			value = a
			continue
		}
		for _, c := range []byte(a[1:]) {
			switch c {
			case 'S':
				soft = true
			case 'H':
				hard = true
			default:
				letter = c
			}
		}
	}
	if letter == 'a' {
		for _, l := range limits {
			fmt.Fprintf(w, "-%c %-34s ", l.letter, l.text)
			if err := limit(w, l.resource, l.unit, hard, hard, ""); err != nil {
				return err
			}
		}
		return nil
	}
	for _, l := range limits {
		if l.letter == letter {
			return limit(w, l.resource, l.unit, soft || !hard, hard || !soft && value != "", value)
		}
	}
	return fmt.Errorf("unknown option -%c", letter)
}

func limit(w io.Writer, resource int, unit uint64, soft, hard bool, value string) error {
	var r unix.Rlimit
	if err := unix.Getrlimit(resource, &r); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	if value == "" {
		v := r.Cur
		if hard && !soft {
			v = r.Max
		}
		if v == unix.RLIM_INFINITY {
			_, err := fmt.Fprintln(w, "unlimited")
			return err
		}
		_, err := fmt.Fprintln(w, v/unit)
		return err
	}
	v := uint64(unix.RLIM_INFINITY)
	if value != "unlimited" {
		n, err := strconv.ParseUint(value, 10, 53)
		if err != nil {
			return errors.New(value + " is no limit")
		}
		v = n * unit
	}
	if soft {
		r.Cur = v
	}
	if hard {
		r.Max = v
	}
	return os.NewSyscallError("setrlimit", unix.Setrlimit(resource, &r))
}
