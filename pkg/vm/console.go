package vm

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"sync"
)

// A console takes what the guest's kernel says, and keeps the last lines.
type console struct {
	mu    sync.Mutex
	lines []string
	panic string // what the kernel panicked of
	ended chan struct{}
}

// keptLines is enough for the whole report of a panic.
const keptLines = 60

// panicMark begins the line by which a kernel says that it can't go on,
// kernel/panic.c.
const panicMark = "Kernel panic - not syncing: "

// read reads until the machine is gone, and copies everything to the log, if
// there is one.
func (c *console) read(r io.Reader, log io.Writer) {
	defer close(c.ended)
	if log != nil {
		r = io.TeeReader(r, log)
	}
	for scanner := bufio.NewScanner(r); scanner.Scan(); {
		c.add(strings.TrimRight(scanner.Text(), "\r"))
	}
	_, _ = io.Copy(io.Discard, r) // after a line that is too long
}

func (c *console) add(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.lines) == keptLines {
		c.lines = c.lines[1:]
	}
	c.lines = append(c.lines, line)
	if _, reason, ok := strings.Cut(line, panicMark); ok && c.panic == "" {
		c.panic = reason
	}
}

// last are the last lines, and the reason of a panic, if there was one.
func (c *console) last() (lines []string, panicked string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.lines...), c.panic
}

// A PanicError says that the guest's kernel panicked. The host's did not.
type PanicError struct {
	Reason string
	Lines  []string // the last ones of the kernel's console
}

func (e *PanicError) Error() string {
	return "vm: the guest's kernel panicked: " + e.Reason
}

// A BootError says that a machine ended, or had to be ended, without an exit
// status of its program.
type BootError struct {
	What  string
	Lines []string // the last ones of the kernel's console, and QEMU's own
}

func (e *BootError) Error() string {
	text := "vm: " + e.What
	if len(e.Lines) > 0 {
		text += fmt.Sprintf("; its last line: %q", e.Lines[len(e.Lines)-1])
	}
	return text
}
