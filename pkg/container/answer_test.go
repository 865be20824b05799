package container

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/minictr/minictr/pkg/forkexec"
)

// TestNoAnswer is that a container whose process neither begins nor fails is
// ended: first where it does not even take the byte that tells it to begin, and
// then where it has, and its program's file system does not answer.
func TestNoAnswer(t *testing.T) {
	for name, said := range map[string]string{"nothing": "", "that it begins": "\x01"} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("sleep", "10")
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
			s := &State{ID: "box", PID: cmd.Process.Pid}
			var err error
			if s.Birth, _, err = birth(s.PID); err != nil {
				t.Fatal(err)
			}
			fifo, process, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer fifo.Close()
			defer process.Close()
			if _, err := process.WriteString(said); err != nil {
				t.Fatal(err)
			}
			const wait = 50 * time.Millisecond
			begin := time.Now()
			err = new(Runtime).answer(s, int(fifo.Fd()), begin.Add(wait))
			if !errors.Is(err, forkexec.ErrDeadline) || time.Since(begin) < wait/2 {
				t.Errorf("after %v: %v", time.Since(begin), err)
			}
			_ = cmd.Wait()
			if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signal() != syscall.SIGKILL {
				t.Errorf("its process ends by %v", ws)
			}
		})
	}
}
