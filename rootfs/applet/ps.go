package applet

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ps lists the processes that this proc(5) shows, whatever options are given:
// "ps", "ps aux" and "ps -ef" are the same here.
func ps(std Stdio, _ []string) error {
	pids, err := processes("/proc")
	if err != nil {
		return err
	}
	out := bufio.NewWriter(std.Out)
	fmt.Fprintf(out, "%5s %-8s %-4s %6s %s\n", "PID", "USER", "STAT", "TIME", "COMMAND")
	for _, pid := range pids {
		p, err := readProcess("/proc", pid)
		if err != nil {
			continue // it has ended since
		}
		fmt.Fprintf(out, "%5d %-8s %-4s %6s %s\n", pid, nameOf("/etc/passwd", p.uid), p.state, p.time, p.command)
	}
	return out.Flush()
}

// processes lists the numbers in a proc file system, ascending.
func processes(proc string) ([]int, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	if len(pids) == 0 {
		return nil, fmt.Errorf("%s shows no processes: is a proc file system mounted there?", proc)
	}
	return pids, nil
}

// A process is what ps shows of one.
type process struct {
	uid                  uint32
	state, time, command string
}

func readProcess(proc string, pid int) (process, error) {
	dir := proc + "/" + strconv.Itoa(pid)
	var st unix.Stat_t
	line, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return process{}, err
	}
	if err := unix.Stat(dir, &st); err != nil {
		return process{}, err
	}
	p, err := parseStat(string(line))
	if err != nil {
		return p, fmt.Errorf("%s/stat: %w", dir, err)
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

// kill sends a signal, TERM if none is named: kill [-SIGNAL | -s SIGNAL] PID...
func kill(std Stdio, args []string) error {
	args = args[1:]
	if len(args) > 0 && args[0] == "-l" {
		for n := unix.Signal(1); n < 32; n++ {
			fmt.Fprintf(std.Out, "%2d %s\n", n, strings.TrimPrefix(unix.SignalName(n), "SIG"))
		}
		return nil
	}
	sig, err := unix.SIGTERM, error(nil)
	switch {
	case len(args) > 1 && args[0] == "-s":
		sig, err = ParseSignal(args[1])
		args = args[2:]
	case len(args) > 0 && args[0] == "--":
		args = args[1:]
	case len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-':
		sig, err = ParseSignal(args[0][1:])
		args = args[1:]
	}
	if err != nil {
		return err
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return errors.New("usage: kill [-SIGNAL] PID...")
	}
	var errs []error
	for _, a := range args {
		pid, err := strconv.Atoi(a)
		if err != nil {
			errs = append(errs, fmt.Errorf("%q is not a process number", a))
			continue
		}
		if err := unix.Kill(pid, sig); err != nil {
			errs = append(errs, fmt.Errorf("%d: %w", pid, err))
		}
	}
	return errors.Join(errs...)
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
