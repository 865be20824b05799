package wall

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func kernelGap(p *process) (Gap, error) {
	return p.shown(Gap{Name: "kernel", Means: "every process of the machine runs on this one kernel, and the wall ends where the kernel has a hole"},
		"/proc/sys/kernel/osrelease", "uname(2)", strings.TrimSpace)
}

func bootGap(p *process) (Gap, error) {
	return p.shown(Gap{Name: "boot", Means: "the kernel draws this number when it boots: who sees the same one is on the same kernel"},
		"/proc/sys/kernel/random/boot_id", "", strings.TrimSpace)
}

// clockGap reads no file: every process has the clock by clock_gettime(2).
func clockGap(p *process) (Gap, error) {
	now := time.Now().UTC().Format("2006-01-02 15:04:05 UTC")
	g := Gap{
		Name: "clock", State: Shared, Inside: now, Host: now,
		Means: "there is one CLOCK_REALTIME: a time namespace moves only the monotonic and the boot clock",
	}
	who, err := p.identity()
	if err != nil || !who.capable(unix.CAP_SYS_TIME) {
		return g, err
	}
	passes, err := p.passes("adjtimex", "clock_adjtime", "clock_adjtime64", "clock_settime", "clock_settime64", "settimeofday", "stime")
	switch {
	case err != nil:
		g.Means = g.unread(err).Means
	case passes:
		g.Means = "there is one CLOCK_REALTIME, in no namespace, and this process may set it for the whole machine"
	}
	return g, nil
}

func memoryGap(p *process) (Gap, error) {
	return p.shown(Gap{Name: "memory", Means: "/proc/meminfo has the memory of the whole machine: a limit stands in the cgroup, not here"},
		"/proc/meminfo", "sysinfo(2)", func(text string) string {
			return fmt.Sprintf("%s in all, %s available", mebibytes(text, "MemTotal"), mebibytes(text, "MemAvailable"))
		})
}

// cpusGap also tells to which processors the process is held, if it is.
func cpusGap(p *process) (Gap, error) {
	g, err := p.shown(Gap{Name: "cpus", Means: "/proc/cpuinfo and /proc/stat have all processors and all their time, whatever the quota is; and who shares a cache with another can time what it does"},
		"/proc/cpuinfo", "sched_getaffinity(2)", func(text string) string {
			return fmt.Sprintf("processors: %d", strings.Count("\n"+text, "\nprocessor\t"))
		})
	if held := p.status["Cpus_allowed_list"]; held != p.host["Cpus_allowed_list"] {
		g.Inside = g.Inside + ", and it runs on " + held
	}
	return g, err
}

func loadGap(p *process) (Gap, error) {
	return p.shown(Gap{Name: "load", Means: "the load average counts the processes of the whole machine: a cgroup has its own pressure, in other files"},
		"/proc/loadavg", "sysinfo(2)", func(text string) string {
			words := append(strings.Fields(text), "", "", "")
			return strings.TrimSpace(strings.Join(words[:3], " "))
		})
}

// uptimeGap adds to the file what a time namespace does: the kernel shows the
// file by the clocks of who reads it.
func uptimeGap(p *process) (Gap, error) {
	g, err := p.shown(Gap{Name: "uptime", Means: "it runs as long as the machine does, and not as long as the container"},
		"/proc/uptime", "sysinfo(2)", func(text string) string {
			seconds, _, _ := strings.Cut(text, ".")
			n, err := strconv.ParseInt(seconds, 10, 64)
			if err != nil {
				return ""
			}
			return (time.Duration(n) * time.Second).String()
		})
	if err != nil {
		return g, err
	}
	if own, err := p.namespace("time"); own != Walled {
		return g, err
	}
	own, err := p.bootOffset()
	if err != nil {
		return g, err
	}
	hosts, err := p.looker().bootOffset()
	if since, parseErr := time.ParseDuration(g.Host); parseErr == nil && g.Inside == g.Host {
		g.Inside = (since + own - hosts).String()
	}
	g.State = Walled
	g.Means = "a time namespace has its own boot and monotonic clocks, which began at other times than the host's"
	return g, err
}

// bootOffset is by how much the boot clock of a process's time namespace is
// moved (time_namespaces(7)), in whole seconds.
func (p *process) bootOffset() (time.Duration, error) {
	text, err := p.read("timens_offsets")
	if err != nil {
		return 0, err
	}
	_, line, _ := strings.Cut(text, "boottime")
	words := strings.Fields(line)
	if len(words) == 0 {
		return 0, fmt.Errorf("timens_offsets has no boottime: %q", text)
	}
	seconds, err := strconv.ParseInt(words[0], 10, 64)
	return time.Duration(seconds) * time.Second, err
}

// sysctlsGap shows one of those that no namespace holds. The owner of their
// files is the root of the first user namespace: no capability is asked for.
func sysctlsGap(p *process) (Gap, error) {
	const name = "/proc/sys/vm/swappiness"
	g, err := p.shown(Gap{Name: "sysctls", Means: "no namespace holds vm.*, fs.* and most of kernel.*: what the host sets holds in here, too; this process can't set them in its /proc/sys"},
		name, "", func(text string) string { return "vm.swappiness = " + strings.TrimSpace(text) })
	if err != nil || g.State != Shared {
		return g, err
	}
	f, err := p.file(name)
	if f.Write {
		g.Means = "no namespace holds vm.*, fs.* and most of kernel.*, and this process may set them for the whole machine"
	}
	return g, err
}

func entropyGap(p *process) (Gap, error) {
	return p.shown(Gap{Name: "entropy", Means: "all random numbers come from one pool; nothing that is drawn from it tells anything of it"},
		"/proc/sys/kernel/random/entropy_avail", "ioctl(2)", func(text string) string { return strings.TrimSpace(text) + " bits" })
}

func cacheGap(p *process) (Gap, error) {
	return p.shown(Gap{Name: "cache", Means: "a file of an image or a volume is in memory once for all: who owns it or may write to it learns by mincore(2) which parts others have read"},
		"/proc/meminfo", "mincore(2)", func(text string) string { return mebibytes(text, "Cached") + " of files" })
}

// mebibytes reads a line of /proc/meminfo, "Name:  123 kB".
func mebibytes(text, name string) string {
	_, line, _ := strings.Cut("\n"+text, "\n"+name+":")
	line, _, _ = strings.Cut(strings.TrimSpace(line), " ")
	n, _ := strconv.ParseUint(line, 10, 64) // 0 where a cover has no such line
	return fmt.Sprintf("%d MiB", n>>10)
}
