package vm

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// Host and guest talk over the machine's second serial line: the first is the
// kernel's console. The guest begins with a line of greeting, since firmware
// may have written before it; then both send frames, a kind, a length of two
// bytes, and so many bytes.
const greeting = "minictr-vm 1\n"

type kind byte

const (
	kindStarted kind = iota + 1 // the guest has executed the program
	kindOutput                  // of the program, to its standard output
	kindErrors                  // to its standard error
	kindExited                  // its exit status, one byte: the last frame
	kindFailed                  // an exit status, and why there is no program, in words: the last frame
	kindInput                   // for the program; an empty frame is the end of it
	kindResize                  // rows and columns of the terminal, two bytes each
	kindSignal                  // a signal's number, for the program
)

// maxPayload keeps a frame short enough that others need not wait for it.
const maxPayload = 4096

// A line is one end of the serial line.
type line struct {
	in  *bufio.Reader
	mu  sync.Mutex // one frame at a time
	out io.Writer
}

// greeted reads up to the end of the greeting.
func (l *line) greeted() error {
	for matched := 0; matched < len(greeting); {
		b, err := l.in.ReadByte()
		if err != nil {
			return err
		}
		switch b {
		case greeting[matched]:
			matched++
		case greeting[0]:
			matched = 1
		default:
			matched = 0
		}
	}
	return nil
}

func (l *line) send(k kind, payload ...byte) error {
	frame := make([]byte, 3, 3+len(payload))
	frame[0] = byte(k)
	binary.BigEndian.PutUint16(frame[1:], uint16(len(payload)))
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.out.Write(append(frame, payload...))
	return err
}

func (l *line) receive() (kind, []byte, error) {
	var head [3]byte
	if _, err := io.ReadFull(l.in, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint16(head[1:])
	if n > maxPayload {
		return 0, nil, fmt.Errorf("vm: a frame of %d bytes on the serial line", n)
	}
	payload := make([]byte, n)
	_, err := io.ReadFull(l.in, payload)
	return kind(head[0]), payload, err
}

// stream sends what is read from r until it ends.
func (l *line) stream(k kind, r io.Reader) error {
	buf := make([]byte, maxPayload)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if err := l.send(k, buf[:n]...); err != nil {
				return err
			}
		}
		if err != nil {
			return nil // the end, or of a terminal EIO: whoever wrote is gone
		}
	}
}
