package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/image"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/spec"
)

// NewID returns a random container ID: twelve hexadecimal digits, as people
// know them from docker ps.
func NewID() string {
	b := make([]byte, 6)
	_, _ = rand.Read(b) // it never fails, crypto/rand
	return hex.EncodeToString(b)
}

// Run runs an image in a new container, in the foreground, and returns the
// exit status: the program's, or 128 and the number of the signal that ended
// it. Nothing of the container is left. Edit is that of container.Options.
func (e *Engine) Run(ctx context.Context, o Options, edit func(*plan.Plan)) (status int, err error) {
	status, err = e.run(ctx, o, edit)
	if !e.without(&o, err) {
		return status, err
	}
	if o.CIDFile != "" {
		if err := os.Remove(o.CIDFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
	}
	return e.run(ctx, o, edit)
}

func (e *Engine) run(ctx context.Context, o Options, edit func(*plan.Plan)) (status int, err error) {
	if err := e.Sweep(); err != nil {
		return 0, err
	}
	img, err := e.imageFor(ctx, o)
	if err != nil {
		return 0, err
	}
	signals := CatchSignals() // not before a pull, which they shall end
	id := NewID()
	template, err := templateOf(img)
	if err != nil {
		return 0, err
	}
	volumes := e.volumesFor(&o, id)
	s, err := e.spec(id, template, o)
	if err != nil {
		return 0, err
	}
	ports, err := published(o.Connection, img.Config.Config.ExposedPorts)
	if err != nil {
		return 0, err
	}
	signals.Wait()
	c, err := e.claim(img, container.Config{
		ID: id, Name: o.Name, Image: o.Image, ImageID: img.ID.String(), Bundle: e.bundle(id), Owned: true,
	})
	if err != nil {
		return 0, err
	}
	defer func() {
		err = errors.Join(err, e.freeName(o.Name, id), c.Delete(), e.removeAnonymous(volumes.anonymous))
	}()
	if err := os.MkdirAll(filepath.Dir(c.Bundle), 0o711); err != nil {
		return 0, err
	}
	if err := os.Mkdir(c.Bundle, 0o700); err != nil { // as in claimFiles
		return 0, err
	}
	unlock, err := volumes.hold(ctx, img, s, o)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(bundle(c.Bundle, img, s), unlock()); err != nil {
		return 0, err
	}
	if err := o.noteID(id); err != nil {
		return 0, err
	}
	if s, err = spec.Load(c.Bundle); err != nil {
		return 0, err
	}
	if err := e.rejoin(s, o); err != nil { // to pull and to fill a volume may have taken long
		return 0, err
	}
	link, err := e.connect(id, c.Bundle, s.Hostname, o, ports)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, link.close()) }()
	status, err = Foreground(s.Process.Terminal, signals, func(tty container.Options) (Process, error) {
		tty.Edit = edit
		err := c.Start(s, link.options(tty))
		return c, errors.Join(err, link.listen())
	})
	if err == nil && c.OOMKilled() {
		fmt.Fprintln(e.Messages, "minictr: the container was out of memory, and the kernel killed a process in it: --memory gives it more")
	}
	return status, err
}

// claim makes a container of an image, unless that was removed meanwhile: from
// then on it is known to be in use.
func (e *Engine) claim(img *image.Image, config container.Config) (c *container.Container, err error) {
	unlock, err := img.Hold(config.Image)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if config.Name == "" {
		return e.Runtime.New(config)
	}
	open, err := e.guard()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, open()) }()
	if err := e.takeName(config.Name, config.ID); err != nil {
		return nil, err
	}
	if c, err = e.Runtime.New(config); err != nil {
		return nil, errors.Join(err, e.freeName(config.Name, config.ID))
	}
	return c, nil
}

// Signals are those that a container in the foreground gets from us, for the
// rest of this process's life.
type Signals struct {
	received chan os.Signal
	caught   chan struct{}
}

// CatchSignals begins to catch signals, and returns before it is done: to
// catch one takes the Go runtime several switches of threads, and there is
// other work for that time. From Wait on nothing that is made can be left
// behind by a signal.
func CatchSignals() *Signals {
	s := &Signals{make(chan os.Signal, 16), make(chan struct{})}
	go func() {
		// The kernel's own about us, SIGCHLD and SIGPIPE, are not sent on, nor
		// SIGURG, with which the Go runtime interrupts itself, nor those of job
		// control, which stop us alone.
		signal.Notify(s.received, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH)
		close(s.caught)
	}()
	return s
}

// Wait returns when signals are caught.
func (s *Signals) Wait() { <-s.caught }

// Forward sends signals on, for ever; SIGWINCH is resize's, if there is one.
// What comes after the program's end is lost, as it should be.
func (s *Signals) Forward(send func(unix.Signal) error, resize func()) {
	for received := range s.received {
		if sig, ok := received.(unix.Signal); sig == unix.SIGWINCH && resize != nil {
			resize()
		} else if ok {
			_ = send(sig) // ESRCH: it has just ended
		}
	}
}

// A Process is one that somebody waits for.
type Process interface {
	Signal(unix.Signal) error
	Wait() (unix.WaitStatus, error)
}

// Foreground starts a process and stays with it, to its exit status: its
// terminal or standard streams are ours, and signals that we get are sent on
// to it. With a terminal, start gets the two ends of a socket: the one takes
// the terminal's master, and the other is ours.
func Foreground(terminal bool, signals *Signals, start func(container.Options) (Process, error)) (status int, err error) {
	var o container.Options
	var tty *terminalRelay
	if terminal {
		if tty, err = newTerminal(true); err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, tty.close()) }()
		o.Console, o.Relay = tty.container, tty.ours
	}
	p, err := start(o)
	if err != nil {
		return 0, err
	}
	var resize func()
	if tty != nil {
		resize = tty.resize
		if err := tty.relay(); err != nil {
			return 0, errors.Join(err, p.Signal(unix.SIGKILL))
		}
	}
	go signals.Forward(p.Signal, resize)
	ws, err := p.Wait()
	if err != nil {
		return 0, err
	}
	if ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return ws.ExitStatus(), nil
}
