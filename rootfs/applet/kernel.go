package applet

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// uname prints what uname(2) says of the kernel, which all containers share.
func uname(std Stdio, args []string) error {
	o, err := parse(args, "asnrvmo")
	if err != nil {
		return err
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	text := unix.ByteSliceToString
	var out []string
	for _, f := range []struct {
		letter byte
		value  string
	}{
		{'s', text(u.Sysname[:])}, {'n', text(u.Nodename[:])}, {'r', text(u.Release[:])},
		{'v', text(u.Version[:])}, {'m', text(u.Machine[:])}, {'o', "GNU/Linux"},
	} {
		if o.has(f.letter) || o.has('a') {
			out = append(out, f.value)
		}
	}
	if len(out) == 0 {
		out = []string{text(u.Sysname[:])}
	}
	_, err = fmt.Fprintln(std.Out, strings.Join(out, " "))
	return err
}

// hostname prints the host name, or sets it, sethostname(2).
func hostname(std Stdio, args []string) error {
	if len(args) > 1 && args[1] != "-s" {
		if err := unix.Sethostname([]byte(args[1])); err != nil {
			return fmt.Errorf("sethostname: %w", err)
		}
		return nil
	}
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(std.Out, name)
	return err
}

// free prints /proc/meminfo, which is the host's in every container: a limit
// stands in the cgroup, not here.
func free(std Stdio, args []string) error {
	o, err := parse(args, "bkmh")
	if err != nil {
		return err
	}
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	m := meminfo(string(data))
	show := func(bytes uint64) string {
		switch {
		case o.has('h'):
			return human(bytes)
		case o.has('b'):
			return strconv.FormatUint(bytes, 10)
		case o.has('m'):
			return strconv.FormatUint(bytes>>20, 10)
		}
		return strconv.FormatUint(bytes>>10, 10)
	}
	cache := m("Buffers") + m("Cached") + m("SReclaimable")
	fmt.Fprintf(std.Out, "%-6s %11s %11s %11s %11s %11s %11s\n", "", "total", "used", "free", "shared", "buff/cache", "available")
	fmt.Fprintf(std.Out, "%-6s %11s %11s %11s %11s %11s %11s\n", "Mem:", show(m("MemTotal")), show(m("MemTotal")-m("MemAvailable")),
		show(m("MemFree")), show(m("Shmem")), show(cache), show(m("MemAvailable")))
	_, err = fmt.Fprintf(std.Out, "%-6s %11s %11s %11s\n", "Swap:", show(m("SwapTotal")), show(m("SwapTotal")-m("SwapFree")), show(m("SwapFree")))
	return err
}

// meminfo looks up a line of /proc/meminfo, in bytes.
func meminfo(text string) func(key string) uint64 {
	return func(key string) uint64 {
		for line := range strings.Lines(text) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == key+":" {
				n, _ := strconv.ParseUint(f[1], 10, 64)
				return n << 10
			}
		}
		return 0
	}
}

// dmesg prints the kernel log, syslog(2) SYSLOG_ACTION_READ_ALL.
func dmesg(std Stdio, _ []string) error {
	const sizeBuffer = 10 // SYSLOG_ACTION_SIZE_BUFFER
	size, err := unix.Klogctl(sizeBuffer, nil)
	if err != nil {
		size = 1 << 20
	}
	log := make([]byte, size)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, log)
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("syslog: %w: the kernel has one log for all, and reading it needs CAP_SYSLOG", err)
	}
	if err != nil {
		return fmt.Errorf("syslog: %w", err)
	}
	for line := range bytes.Lines(log[:n]) {
		if end := bytes.IndexByte(line, '>'); line[0] == '<' && end > 0 {
			line = line[end+1:] // the priority
		}
		if _, err := std.Out.Write(line); err != nil {
			return err
		}
	}
	return nil
}

// sleep waits for the sum of its arguments: seconds, or "500ms", "2m".
func sleep(_ Stdio, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: sleep SECONDS")
	}
	var sum time.Duration
	for _, a := range args[1:] {
		d, err := seconds(a)
		if err != nil {
			return err
		}
		sum += d
	}
	time.Sleep(sum)
	return nil
}

func seconds(s string) (time.Duration, error) {
	if s == "infinity" {
		return 1<<63 - 1, nil
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && f >= 0 && f < 1e9 {
		return time.Duration(f * float64(time.Second)), nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a time", s)
	}
	return d, nil
}

// date prints the time, with +%s the seconds since 1970. It doesn't set it.
func date(std Stdio, args []string) error {
	now := time.Now()
	text := now.Format(time.UnixDate)
	switch strings.Join(args[1:], " ") {
	case "":
	case "-u":
		text = now.UTC().Format(time.UnixDate)
	case "+%s":
		text = strconv.FormatInt(now.Unix(), 10)
	default:
		return errors.New("usage: date [-u | +%s]")
	}
	_, err := fmt.Fprintln(std.Out, text)
	return err
}

// nproc counts the CPUs that sched_getaffinity(2) allows; a quota doesn't show.
func nproc(std Stdio, _ []string) error {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return fmt.Errorf("sched_getaffinity: %w", err)
	}
	_, err := fmt.Fprintln(std.Out, set.Count())
	return err
}

// tty prints the terminal's name as this /proc has it.
func tty(std Stdio, _ []string) error {
	if _, err := unix.IoctlGetTermios(0, unix.TCGETS); err != nil {
		fmt.Fprintln(std.Out, "not a tty")
		return Status(1)
	}
	name, err := os.Readlink("/proc/self/fd/0")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(std.Out, name)
	return err
}

func clearScreen(std Stdio, _ []string) error {
	_, err := fmt.Fprint(std.Out, "\x1b[H\x1b[2J\x1b[3J")
	return err
}

func pwd(std Stdio, _ []string) error {
	dir, err := unix.Getwd()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(std.Out, dir)
	return err
}
