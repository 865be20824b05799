package engine

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/cgroup"
	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/sys"
)

// A Usage is what a container has used up to a moment, and has in use.
type Usage struct {
	At             time.Time
	CPU            time.Duration // of all processors
	Memory, Limit  uint64        // bytes; without a limit of its own it has the host's memory
	Received, Sent uint64        // bytes, by all interfaces but the loopback
	Read, Written  uint64        // bytes, of block devices
	PIDs           uint64
}

// Usage reads a container's statistics. The error wraps container.ErrStopped if
// it does not run.
func (v View) Usage() (u Usage, err error) {
	if v.Process == nil {
		return u, fmt.Errorf("%w: %s", container.ErrStopped, v.Title())
	}
	s, err := v.Process.Host.Cgroup.Stats()
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %s", container.ErrStopped, v.Title())
	}
	if err != nil {
		return u, err
	}
	u = Usage{At: time.Now(), CPU: s.CPU.Usage, Memory: inUse(s.Memory), Limit: s.Memory.Limit, PIDs: s.Pids.Current}
	var host unix.Sysinfo_t
	if err := unix.Sysinfo(&host); err != nil {
		return u, fmt.Errorf("sysinfo: %w", err)
	}
	u.Limit = min(u.Limit, host.Totalram*uint64(host.Unit))
	for _, device := range s.IO {
		u.Read, u.Written = u.Read+device.ReadBytes, u.Written+device.WriteBytes
	}
	return u, u.readNetwork(v.PID())
}

// inUse is the memory that the kernel can't have back at once: what is used but
// for files' pages that nobody has touched of late.
func inUse(m cgroup.MemoryStats) uint64 {
	inactive, v1 := m.Stat["total_inactive_file"]
	if !v1 {
		inactive = m.Stat["inactive_file"]
	}
	return m.Usage - min(inactive, m.Usage)
}

// readNetwork reads what the interfaces of a process have carried: proc_net(5).
func (u *Usage) readNetwork(pid int) error {
	text, err := sys.ReadFile("/proc/" + strconv.Itoa(pid) + "/net/dev")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EINVAL) { // it has just ended
		return nil
	}
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		name, counters, found := strings.Cut(lines.Text(), ":")
		fields := strings.Fields(counters)
		if !found || strings.TrimSpace(name) == "lo" || len(fields) < 9 {
			continue // the first two lines are titles
		}
		received, err := strconv.ParseUint(fields[0], 10, 64)
		sent, other := strconv.ParseUint(fields[8], 10, 64)
		if err := errors.Join(err, other); err != nil {
			return fmt.Errorf("/proc/%d/net/dev: %w", pid, err)
		}
		u.Received, u.Sent = u.Received+received, u.Sent+sent
	}
	return nil
}

// Load is the share of one processor, in percent, that was used since before.
func (u Usage) Load(before Usage) float64 {
	passed := u.At.Sub(before.At)
	if passed <= 0 || u.CPU < before.CPU { // of another life
		return 0
	}
	return 100 * float64(u.CPU-before.CPU) / float64(passed)
}
