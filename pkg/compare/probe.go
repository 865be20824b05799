package compare

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/forkexec"
	"github.com/minictr/minictr/pkg/plan"
)

// Facts are what a process sees around itself.
type Facts struct {
	Kernel     string `json:"kernel"`     // uname -r
	BootID     string `json:"bootID"`     // of one boot of one kernel
	PID        int    `json:"pid"`        // its own
	Hostname   string `json:"hostname"`   // uname -n
	Processes  int    `json:"processes"`  // in /proc
	Memory     int64  `json:"memory"`     // bytes that the machine has, sysinfo(2)
	Processors int    `json:"processors"` // that it may use, sched_getaffinity(2)
}

// ProbeName is the name under which this program is the probe: what runs in
// each place and looks around.
const ProbeName = "minictr-probe"

// Probe is the probe's main. It writes its facts as JSON; or keeps processors
// busy until its input ends; or counts how far it comes in a second.
func Probe(args []string) error {
	switch strings.Join(args, " ") {
	case "facts":
		f, err := look()
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(f)
	case "hog":
		runtime.GOMAXPROCS(hogs + 1)
		for range hogs {
			go func() {
				for x := uint32(1); ; {
					x = work(x)
				}
			}()
		}
		fmt.Println()
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	case "work":
		n, x := 0, uint32(1)
		for end := time.Now().Add(workTime); time.Now().Before(end); n++ {
			x = work(x)
		}
		_, err := fmt.Println(n, x)
		return err
	}
	return fmt.Errorf("%s facts|hog|work", ProbeName)
}

const (
	hogs     = 3 // busy threads of a noisy neighbour
	workTime = time.Second
)

// work takes some microseconds, and can't be left out by a compiler.
func work(x uint32) uint32 {
	for range 10_000 {
		x = x*1664525 + 1013904223
	}
	return x
}

func look() (f Facts, err error) {
	var u unix.Utsname
	var s unix.Sysinfo_t
	boot, e := os.ReadFile("/proc/sys/kernel/random/boot_id")
	err = errors.Join(e, unix.Uname(&u), unix.Sysinfo(&s))
	f.Kernel, f.BootID, f.PID = unix.ByteSliceToString(u.Release[:]), strings.TrimSpace(string(boot)), os.Getpid()
	f.Hostname, f.Memory, f.Processors = unix.ByteSliceToString(u.Nodename[:]), int64(s.Totalram)*int64(s.Unit), runtime.NumCPU()
	entries, e := os.ReadDir("/proc")
	for _, d := range entries {
		if _, err := strconv.Atoi(d.Name()); err == nil {
			f.Processes++
		}
	}
	return f, errors.Join(err, e)
}

// firstCry is a program whose first instructions write a byte. It then waits
// until its input ends. It has a page, so that what is measured is the place.
func firstCry() ([]byte, error) {
	num := func(v uint64) plan.Num { return plan.Num{Value: v} }
	wait := plan.Call{Name: "splice", Number: unix.SYS_SPLICE, Args: []plan.Arg{num(0), num(0), num(1), num(0), num(1), num(0)}}
	return forkexec.Program([]*plan.Step{{Call: plan.WriteTo(1, "\n")}, {Call: wait}})
}
