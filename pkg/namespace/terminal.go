package namespace

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// Console is the input on which the terminal's master is sent, and RelayEnd
// the other end of that socket, where the runtime itself has it.
const (
	Console  plan.Reg = "console"
	RelayEnd plan.Reg = "console/runtime"
)

// Terminal makes the container's terminal from its own devpts, pts(4), sends
// the master end to the runtime, and makes the other end standard input,
// output and error, and /dev/console.
func Terminal(b *plan.Builder, s *specs.Spec, h Host) {
	if !s.Process.Terminal {
		return
	}
	m := &maker{Builder: b}
	tty := m.terminal(s, h, plan.Openat2(root, "dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY, inRoot))
	at := m.open("at", "/dev/console", true, inRoot|unix.RESOLVE_NO_SYMLINKS)
	b.Get("mount", "the terminal's node", plan.OpenTree(tty, "", unix.AT_EMPTY_PATH))
	b.Do("is also /dev/console", plan.MoveMount("mount", at))
	m.standard(tty)
}

// OneMoreTerminal is Terminal for a process that has entered a container.
func OneMoreTerminal(b *plan.Builder, s *specs.Spec, h Host) {
	if !s.Process.Terminal {
		return
	}
	m := &maker{Builder: b}
	m.standard(m.terminal(s, h, plan.Openat2(plan.AtFdcwd, "/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY, unix.RESOLVE_NO_SYMLINKS)))
}

// terminal makes a terminal that controls the session.
func (m *maker) terminal(s *specs.Spec, h Host, open plan.Call) (tty plan.Reg) {
	m.Section(plan.Child, "terminal", "a terminal of its own")
	m.At("/process/terminal")
	master := m.Get("master", "a new terminal", open)
	m.Do("let its other end be opened", plan.UnlockPty(master))
	tty = m.Get("tty", "the other end, by descriptor: no name is looked up", plan.PtyPeer(master))
	if size := s.Process.ConsoleSize; size != nil {
		m.At("/process/consoleSize")
		m.Do("rows and columns", plan.WindowSize(tty, uint16(size.Height), uint16(size.Width)))
		m.At("/process/terminal")
	}
	if u := s.Process.User; u.UID != 0 {
		m.Do("it belongs to the container's user", plan.Fchown(tty, int64(u.UID), -1))
	}
	if h.Relay {
		m.Do("the runtime alone holds the other end: should it die, nobody waits for it", plan.Close(RelayEnd))
	}
	m.Do("the runtime keeps the master end", plan.SendFd(Console, master, "/dev/ptmx"))
	if h.Relay {
		m.Do("it has set its end up, so the program's first byte passes as it should", plan.ReadByte(Console))
	}
	if !h.Init {
		m.Do("it controls this session", plan.ControllingTerminal(tty))
	}
	return tty
}

func (m *maker) standard(tty plan.Reg) {
	for fd := range 3 {
		m.Do("standard input, output and error", plan.Dup3(tty, fd))
	}
}
