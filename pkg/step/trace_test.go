package step

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/lang"
	"github.com/minictr/minictr/pkg/plan"
)

// TestStopped is that a signal stops a process although it is traced, until
// SIGCONT, and that it goes on then.
func TestStopped(t *testing.T) {
	runtime.LockOSThread() // the tracer is a thread
	defer runtime.UnlockOSThread()
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	// reads says whether it reads standard input, and is made to.
	reads := func() bool {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", cmd.Process.Pid))
		return strings.HasPrefix(string(text), fmt.Sprintf("%d 0x0 ", unix.SYS_READ))
	}
	state := func(want string) bool {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		return strings.HasPrefix(strings.TrimPrefix(string(text), fmt.Sprintf("%d (cat) ", cmd.Process.Pid)), want)
	}
	await := func(what string, ok func() bool) {
		for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Errorf("never: %s", what)
				return
			}
		}
	}
	await("it reads", reads)
	if err := unix.PtraceSeize(cmd.Process.Pid); err != nil {
		t.Skip("nobody may trace here: ", err)
	}
	if err := unix.PtraceInterrupt(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if _, alive, err := stop(cmd.Process.Pid); err != nil || !alive {
		t.Fatal(alive, err)
	}
	if err := unix.PtraceSetOptions(cmd.Process.Pid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_EXITKILL); err != nil {
		t.Fatal(err)
	}
	b := plan.New()
	b.Section(plan.Child, "a", "")
	b.Do("", plan.ReadByte("stdin"))
	var out strings.Builder
	tr := &tracer{Stepper: &Stepper{out: &out, language: lang.English, pidfd: -1}, pid: cmd.Process.Pid, steps: placesOf(b.Plan())}
	done := make(chan struct{})
	go func() {
		defer close(done)
		await("it reads on", func() bool { return reads() && state("S") })
		_ = cmd.Process.Signal(unix.SIGSTOP)
		await("it stays stopped", func() bool {
			for range 20 { // the stops that tell the tracer are over in less
				if time.Sleep(10 * time.Millisecond); !state("t") {
					return false
				}
			}
			return true
		})
		_ = cmd.Process.Signal(unix.SIGCONT)
		await("it goes on", func() bool { return reads() && state("S") })
		_ = cmd.Process.Kill()
	}()
	if err := tr.trace(); err != nil {
		t.Error(err)
	}
	<-done
	_ = cmd.Wait() // it was killed
	if !strings.Contains(out.String(), again) {
		t.Errorf("it says %q", out.String())
	}
}
