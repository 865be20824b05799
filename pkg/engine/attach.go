package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/minictr/minictr/pkg/logfile"
)

// ErrDetached says that a person has left a container with the detach keys; it
// goes on.
var ErrDetached = errors.New("detached")

// DetachKeys are the keys that leave a container unless told otherwise.
const DetachKeys = "ctrl-p,ctrl-q"

// ParseKeys reads keys, as "ctrl-p,ctrl-q" or "a,b".
func ParseKeys(text string) (keys []byte, err error) {
	if text == "" {
		return nil, nil
	}
	for name := range strings.SplitSeq(text, ",") {
		key, control := strings.CutPrefix(name, "ctrl-")
		switch {
		case !control && len(key) == 1:
			keys = append(keys, key[0])
		case control && len(key) == 1 && (key[0] >= '@' && key[0] <= '_' || key[0] >= 'a' && key[0] <= 'z'):
			keys = append(keys, key[0]&0x1f)
		default:
			return nil, fmt.Errorf("--detach-keys: %q is neither a letter nor ctrl- and a letter or one of @[\\]^_", name)
		}
	}
	return keys, nil
}

// An input is a container's terminal, or the pipe of its standard input, that
// its monitor holds, and we took.
type input struct {
	*os.File
	terminal bool
	restore  *term.State
}

// input takes the descriptor of a container's input from its monitor,
// pidfd_getfd(2); nil if it has none.
func (c *Container) input() (*input, error) {
	monitor, err := c.monitorFD()
	if err != nil || monitor < 0 {
		return nil, err
	}
	defer unix.Close(monitor)
	s, err := c.Status()
	if err != nil || s.Input == 0 {
		return nil, err
	}
	fd, err := unix.PidfdGetfd(monitor, s.Input, 0)
	if err != nil {
		return nil, fmt.Errorf("pidfd_getfd of the container's input: %w", err)
	}
	return &input{File: os.NewFile(uintptr(fd), "the container's input"), terminal: c.Options.Terminal}, nil
}

// begin sends our standard input, and as a terminal's master the size and the
// keys of ours. Left is called when the detach keys were typed, and ended when
// there is no more input.
func (in *input) begin(keys []byte, left, ended func()) (err error) {
	if in.terminal && term.IsTerminal(0) {
		if in.restore, err = term.MakeRaw(0); err != nil {
			return fmt.Errorf("raw mode of the terminal: %w", err)
		}
		resized := make(chan os.Signal, 1)
		signal.Notify(resized, unix.SIGWINCH)
		go func() {
			for ; ; <-resized {
				in.resize()
			}
		}()
	}
	go func() {
		// Without keys, or without a terminal, all that comes is the container's.
		if in.restore == nil {
			keys = nil
		}
		if err := copyKeys(in.File, os.Stdin, keys); errors.Is(err, ErrDetached) {
			left()
		} else {
			ended()
		}
	}()
	return nil
}

// endInput has the monitor end the container's input.
func (c *Container) endInput() {
	fd, err := c.monitorFD()
	if err != nil || fd < 0 {
		return // it is gone, and has no input any more
	}
	_ = unix.PidfdSendSignal(fd, inputEnds, nil, 0)
	_ = unix.Close(fd)
}

// resize gives the container's terminal the size of ours. A program redraws when
// the size changes, so who comes to a terminal of the same size sees it, too.
func (in *input) resize() {
	if size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ); err == nil {
		_ = unix.IoctlSetWinsize(fdOf(in.File), unix.TIOCSWINSZ, size) // only for show
	}
}

func (in *input) end() error {
	if in == nil {
		return nil
	}
	var err error
	if in.restore != nil {
		err = term.Restore(0, in.restore)
	}
	if e := in.Close(); !errors.Is(e, os.ErrClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// copyKeys copies until the keys come, one after the other. The first of them
// are held back until it is clear what they are.
func copyKeys(w io.Writer, r io.Reader, keys []byte) error {
	buffer, held := make([]byte, 4096), 0
	for {
		n, err := r.Read(buffer)
		var out []byte
		for _, b := range buffer[:n] {
			if len(keys) > 0 && b == keys[held] {
				if held++; held == len(keys) {
					_, err := w.Write(out)
					return errors.Join(err, ErrDetached)
				}
				continue
			}
			out = append(out, keys[:held]...)
			held = 0
			if len(keys) > 0 && b == keys[0] {
				held = 1
				continue
			}
			out = append(out, b)
		}
		if _, err := io.Copy(w, bytes.NewReader(out)); err != nil {
			return err
		}
		if err != nil {
			return err
		}
	}
}

// An Attachment says how to be with a container.
type Attachment struct {
	Since   time.Time // output from then on; zero is from now on
	Input   bool      // our standard input goes to the container
	Once    bool      // and its end is that of the container's
	Keys    []byte    // that leave it
	Signals *Signals  // that are sent on to it; nil for none
}

// Attach shows what a container writes, and may send what we read, until it
// ends. It returns its exit status; the error is ErrDetached if the detach keys
// were typed.
func (e *Engine) Attach(ctx context.Context, c *Container, a Attachment) (status int, err error) {
	if c.lone != nil {
		return 0, fmt.Errorf("container %s runs in the foreground, with the terminal of the command that runs it", c.Title())
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if a.Input {
		in, err := c.input()
		if err != nil {
			return 0, err
		}
		if in != nil {
			defer func() { err = errors.Join(err, in.end()) }()
			ended := func() {}
			if a.Once {
				ended = func() {
					_ = in.Close() // the pipe has no end while anybody holds it
					c.endInput()
				}
			}
			if err := in.begin(a.Keys, func() { cancel(ErrDetached) }, ended); err != nil {
				return 0, err
			}
		}
	}
	if a.Signals != nil {
		go a.Signals.Forward(func(sig unix.Signal) error { return e.Kill(c, sig, false) }, nil)
	}
	o := logfile.Options{Follow: true, Since: a.Since, Ended: func() bool { return !c.Monitored() }}
	if !a.Since.IsZero() {
		o.Tail = -1
	}
	if err := logfile.Print(ctx, c.LogFile(), o, os.Stdout, os.Stderr, false); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return 0, err
	}
	return e.Wait(c)
}
