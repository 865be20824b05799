package integration_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A screen is a terminal with minictr in it: what a person would type and see.
type screen struct {
	master, slave *os.File
	cmd           *exec.Cmd
	ended         chan struct{}

	mu  sync.Mutex
	out strings.Builder
}

// newScreen starts minictr in a terminal of that size.
func newScreen(t *testing.T, cmd *exec.Cmd, rows, columns uint16) *screen {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &screen{master: master, slave: slave, cmd: cmd, ended: make(chan struct{})}
	s.resize(t, rows, columns)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // the test looks at the state
		close(s.ended)
	}()
	go func() { _, _ = io.Copy(s, master) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-s.ended
		slave.Close()
		master.Close()
	})
	return s
}

func (s *screen) Write(text []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(text)
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.String()
}

func (s *screen) resize(t *testing.T, rows, columns uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(s.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
		t.Fatal(err)
	}
}

func (s *screen) enter(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(s.master, text); err != nil {
		t.Fatal(err)
	}
}

// see waits for a text on the screen.
func (s *screen) see(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(patience); !strings.Contains(s.text(), text); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never seen: %q in\n%q", text, s.text())
		}
	}
}

// status waits for the end of minictr and returns its exit status.
func (s *screen) status(t *testing.T) int {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(patience):
		t.Fatalf("minictr did not end within %v\n%q", patience, s.text())
	}
	return s.cmd.ProcessState.ExitCode()
}

// TestTerminal is a session of a person with a container.
func TestTerminal(t *testing.T) {
	h := newHost(t)
	cmd := h.command("run", "tiny", "sh")
	s := newScreen(t, cmd, 31, 97)
	before, err := unix.IoctlGetTermios(int(s.slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	s.enter(t, "tty; echo $TERM a''b $$\r")
	s.see(t, "/dev/pts/0\r\nxterm ab 1\r\n")

	// The size arrives, and arrives again.
	size := func() string { return terminalSize(t, h) }
	eventually(t, "31 97", func() bool { return size() == "31 97" })
	s.resize(t, 11, 200)
	eventually(t, "11 200", func() bool { return size() == "11 200" })

	s.enter(t, "ls -l /dev/console; exit 5\r")
	s.see(t, "136,")
	if status := s.status(t); status != 5 {
		t.Errorf("exit status %d, want 5\n%q", status, s.text())
	}
	after, err := unix.IoctlGetTermios(int(s.slave.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("the terminal was %+v before and is %+v now: %v", before, after, err)
	}
}

// terminalSize is the size of the terminal of the one container that runs.
func terminalSize(t *testing.T, h host) string {
	t.Helper()
	id := strings.TrimSpace(h.must(t, "ps", "-q"))
	if id == "" {
		return ""
	}
	pid := strings.TrimSpace(h.must(t, "inspect", "--format", "{{.State.Pid}}", id))
	// It is one of the container's own devpts, which only its root leads to.
	f, err := os.OpenFile("/proc/"+pid+"/fd/0", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %d", size.Row, size.Col)
}

// TestTerminalOutput is that nothing of a long output is lost or changed, to
// the last byte before the end.
func TestTerminalOutput(t *testing.T) {
	h := newHost(t)
	var long strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&long, "%d\n", i+1)
	}
	file := temp(t) + "/long"
	if err := os.WriteFile(file, []byte(long.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	s := newScreen(t, h.command("run", "-v", file+":/long", "tiny", "cat", "/long"), 24, 80)
	if status := s.status(t); status != 0 {
		t.Errorf("exit status %d", status)
	}
	s.see(t, "20000\r\n")
	if strings.ReplaceAll(s.text(), "\r\n", "\n") != long.String() {
		t.Errorf("%d bytes arrived, in lines that end with CR LF; %d were written", len(s.text()), long.Len())
	}
	// Where our output is no terminal, lines end as the program ends them.
	if out := h.must(t, "run", "-t", "tiny", "sh", "-c", "echo 1; echo 2"); out != "1\n2\n" {
		t.Errorf("%q", out)
	}
	if out := h.must(t, "run", "-t", "-u", "student", "tiny", "sh", "-c", "tty; echo x > /dev/tty; echo y > /dev/stderr"); out != "/dev/pts/0\nx\ny\n" {
		t.Errorf("%q", out)
	}
}

// TestTerminalInterrupt is that Ctrl-C is a byte to the container's terminal,
// which makes a signal of it for the program in its foreground.
func TestTerminalInterrupt(t *testing.T) {
	h := newHost(t)
	s := newScreen(t, h.command("run", "tiny", "sh", "-c", `trap "echo caught; exit 3" INT; echo up; while :; do sleep 0.01; done`), 24, 80)
	s.see(t, "up\r\n")
	s.enter(t, "\x03")
	s.see(t, "caught\r\n")
	if status := s.status(t); status != 3 {
		t.Errorf("exit status %d, want 3\n%q", status, s.text())
	}
}
