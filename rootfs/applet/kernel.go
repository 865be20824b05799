package applet

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// uname prints what uname(2) says of the kernel, which all containers share.
func uname(c *call) error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	if len(c.value) == 0 {
		c.value['s'] = ""
	}
	var words []string
	for _, field := range []struct {
		letter byte
		text   [65]byte
	}{{'s', u.Sysname}, {'n', u.Nodename}, {'r', u.Release}, {'v', u.Version}, {'m', u.Machine}} {
		if c.Has(field.letter) || c.Has('a') {
			words = append(words, unix.ByteSliceToString(field.text[:]))
		}
	}
	fmt.Fprintln(c.out, strings.Join(words, " "))
	return nil
}

// hostname prints the host name, or sets it, sethostname(2).
func hostname(c *call) error {
	if len(c.Args) > 0 {
		return failed("sethostname", c.Args[0], unix.Sethostname([]byte(c.Args[0])))
	}
	name, err := os.Hostname()
	fmt.Fprintln(c.out, name)
	return err
}

// free prints /proc/meminfo, which is the host's in every container: a limit
// stands in the cgroup, not here.
func free(c *call) error {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	value := func(key string) (n uint64) {
		_, text, _ := strings.Cut("\n"+string(data), "\n"+key+":")
		_, _ = fmt.Sscan(text, &n) // a line that this kernel has not is 0
		return n << 10
	}
	row := func(name string, values ...uint64) {
		fmt.Fprintf(c.out, "%-5s", name)
		for _, n := range values {
			fmt.Fprintf(c.out, " %11s", c.bytes(n))
		}
		fmt.Fprintln(c.out)
	}
	fmt.Fprintf(c.out, "%5s %11s %11s %11s %11s %11s\n", "", "total", "used", "free", "shared", "available")
	total, available := value("MemTotal"), value("MemAvailable")
	row("Mem:", total, total-available, value("MemFree"), value("Shmem"), available)
	swap, unused := value("SwapTotal"), value("SwapFree")
	row("Swap:", swap, swap-unused, unused)
	return nil
}

// dmesg prints the kernel log, syslog(2).
func dmesg(c *call) error {
	log := make([]byte, 1<<20)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, log)
	if err != nil {
		return failed("syslog", "kernel log", err)
	}
	for line := range bytes.Lines(log[:n]) {
		if _, message, ok := bytes.Cut(line, []byte(">")); ok && line[0] == '<' {
			line = message // without the priority
		}
		_, _ = c.out.Write(line) // the writer keeps its error
	}
	return nil
}

// date prints the time, or sets it: clock_settime(2), for all that run on this
// kernel, since no namespace holds this clock.
func date(c *call) error {
	if text, ok := c.value['s']; ok {
		seconds, err := strconv.ParseInt(strings.TrimPrefix(text, "@"), 10, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number of seconds", text)
		}
		if err := unix.ClockSettime(unix.CLOCK_REALTIME, &unix.Timespec{Sec: seconds}); err != nil {
			return failed("clock_settime", text, err)
		}
	}
	fmt.Fprintln(c.out, time.Now().UTC().Format(time.UnixDate))
	return nil
}

// nproc counts the CPUs that sched_getaffinity(2) allows; a quota doesn't show.
func nproc(c *call) error {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return fmt.Errorf("sched_getaffinity: %w", err)
	}
	fmt.Fprintln(c.out, set.Count())
	return nil
}

// tty prints the terminal's name as this /proc has it.
func tty(c *call) error {
	if _, err := unix.IoctlGetTermios(0, unix.TCGETS); err != nil {
		fmt.Fprintln(c.out, "not a tty")
		return &Failure{Status: 1}
	}
	name, err := os.Readlink("/proc/self/fd/0")
	fmt.Fprintln(c.out, name)
	return err
}

func pwd(c *call) error {
	dir, err := unix.Getwd()
	fmt.Fprintln(c.out, dir)
	return err
}
