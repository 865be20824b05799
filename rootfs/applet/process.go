package applet

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ps lists the processes that this proc(5) shows, whatever options are given:
// "ps", "ps aux" and "ps -ef" are the same here.
func ps(c *call) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	if len(pids) == 0 {
		return errors.New("/proc shows no processes: is a proc file system mounted there?")
	}
	slices.Sort(pids)
	fmt.Fprintf(c.out, "%5s %-8s %-4s %6s %s\n", "PID", "USER", "STAT", "TIME", "COMMAND")
	for _, pid := range pids {
		p, err := readProcess(filepath.Join("/proc", strconv.Itoa(pid)))
		if err != nil {
			continue // it has ended since
		}
		fmt.Fprintf(c.out, "%5d %-8s %-4s %6s %s\n", pid, nameOf(passwd, p.uid), p.state, p.time, p.command)
	}
	return nil
}

// A process is what ps shows of one.
type process struct {
	uid                  uint32
	state, time, command string
}

func readProcess(dir string) (process, error) {
	line, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return process{}, err
	}
	p, err := parseStat(string(line))
	if err != nil {
		return p, fmt.Errorf("%s/stat: %w", dir, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return p, err
	}
	p.uid = st.Uid
	if args, err := os.ReadFile(dir + "/cmdline"); err == nil && len(args) > 0 {
		p.command = string(bytes.ReplaceAll(bytes.TrimRight(args, "\x00"), []byte{0}, []byte{' '}))
	}
	return p, nil
}

// parseStat reads /proc/PID/stat, proc_pid_stat(5). The name in brackets may
// itself hold brackets and spaces; what follows the last one is numbers.
func parseStat(line string) (process, error) {
	open, end := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')')
	if open < 0 || end < open {
		return process{}, errors.New("no name in brackets")
	}
	f := strings.Fields(line[end+1:])
	if len(f) < 13 {
		return process{}, fmt.Errorf("%d fields after the name, want 13", len(f))
	}
	utime, err1 := strconv.ParseUint(f[11], 10, 64)
	stime, err2 := strconv.ParseUint(f[12], 10, 64)
	const ticks = 100 // USER_HZ, the same on all architectures that Go knows
	seconds := (utime + stime) / ticks
	return process{
		state:   f[0],
		time:    fmt.Sprintf("%d:%02d", seconds/60, seconds%60),
		command: "[" + line[open+1:end] + "]",
	}, errors.Join(err1, err2)
}

// kill sends a signal, TERM if none is named.
func kill(c *call) (err error) {
	sig := unix.SIGTERM
	if name, ok := strings.CutPrefix(c.Args[0], "-"); ok {
		c.Args = c.Args[1:]
		if sig, err = ParseSignal(name); err != nil {
			return err
		}
	}
	if len(c.Args) == 0 {
		return errors.New("which process?")
	}
	return c.each(func(operand string) error {
		pid, err := strconv.Atoi(operand)
		if err != nil {
			return fmt.Errorf("%q is not a process number", operand)
		}
		return failed("kill", operand, unix.Kill(pid, sig))
	})
}

// ParseSignal reads a signal's name or number: "TERM", "SIGTERM", "15". 0 is
// the signal that is none, which kill(2) uses to ask whether a process is there.
func ParseSignal(s string) (unix.Signal, error) {
	if n, err := strconv.ParseUint(s, 10, 8); err == nil && n <= 64 {
		return unix.Signal(n), nil
	}
	if n := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(s), "SIG")); n != 0 {
		return n, nil
	}
	return 0, fmt.Errorf("%q is not a signal", s)
}

// Exec becomes another program, execve(2), found in the directories of path
// as execvp(3) does. It returns only if that fails: with status 127 if there
// is no such program, 126 if it may not be executed.
func Exec(path string, args, environ []string) *Failure {
	files := []string{args[0]}
	if !strings.Contains(args[0], "/") {
		files = filepath.SplitList(path)
		for i, dir := range files {
			files[i] = filepath.Join(dir, args[0])
		}
	}
	failure := &Failure{127, failed("execve", args[0], unix.ENOENT)}
	for _, file := range files {
		if err := unix.Exec(file, args, environ); !errors.Is(err, unix.ENOENT) {
			failure = &Failure{126, failed("execve", file, err)}
		}
	}
	return failure
}

// env prints the environment, or changes it for a command.
func env(c *call) error {
	environ := os.Environ()
	if c.Has('i') {
		environ = nil
	}
	for ; len(c.Args) > 0 && strings.Contains(c.Args[0], "="); c.Args = c.Args[1:] {
		name, _, _ := strings.Cut(c.Args[0], "=")
		environ = slices.DeleteFunc(environ, func(e string) bool { return strings.HasPrefix(e, name+"=") })
		environ = append(environ, c.Args[0])
	}
	if len(c.Args) == 0 {
		for _, e := range environ {
			fmt.Fprintln(c.out, e)
		}
		return nil
	}
	return Exec(os.Getenv("PATH"), c.Args, environ)
}

// setsid runs a command in a session of its own, setsid(2), where no
// terminal's signals come.
func setsid(c *call) error {
	if _, err := unix.Setsid(); err != nil {
		return fmt.Errorf("setsid: %w", err)
	}
	return Exec(os.Getenv("PATH"), c.Args, os.Environ())
}

// sleep waits: seconds, or "500ms", "2m", "infinity".
func sleep(c *call) error {
	text := c.Args[0]
	d, err := time.ParseDuration(text)
	switch {
	case text == "infinity":
		d, err = math.MaxInt64, nil
	case err != nil:
		d, err = time.ParseDuration(text + "s")
	}
	if err != nil {
		return fmt.Errorf("%q is not a time", text)
	}
	time.Sleep(d)
	return nil
}
