package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
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
	if err := e.Sweep(); err != nil {
		return 0, err
	}
	img, err := e.Image(ctx, o.Image, true)
	if err != nil {
		return 0, err
	}
	id := NewID()
	s, bricks, err := Spec(id, templateOf(img), o)
	if err != nil {
		return 0, err
	}
	for _, b := range bricks {
		fmt.Fprintf(e.Messages, "minictr: WITHOUT the brick %s: %s\n", b.Name, b.Leaks)
	}
	c, err := e.Runtime.New(container.Config{
		ID: id, Name: o.Name, Image: o.Image, ImageID: img.ID.String(), Bundle: e.bundle(id), Owned: true,
	})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Delete()) }()
	if err := bundle(c.Bundle, img, s); err != nil {
		return 0, err
	}
	status, err = Foreground(c, s.Process.Terminal, edit)
	if err == nil && c.OOMKilled() {
		fmt.Fprintln(e.Messages, "minictr: the container was out of memory, and the kernel killed a process in it: --memory gives it more")
	}
	return status, err
}

// bundle writes the files of a container: its config.json, a link to the
// image's layers, the layer that it writes to, and the place for all.
func bundle(dir string, img *image.Image, s *specs.Spec) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o711); err != nil {
		return err
	}
	for _, d := range []string{"", "rootfs", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	layers, _ := img.Lower()
	if err := os.Symlink(filepath.Join(layers, "l"), filepath.Join(dir, "l")); err != nil {
		return err
	}
	return spec.Write(dir, s)
}

// Foreground starts a container and stays with it: its terminal or standard
// streams are ours, and signals that we get are sent on to it.
func Foreground(c *container.Container, terminal bool, edit func(*plan.Plan)) (status int, err error) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals)
	defer signal.Stop(signals)
	start := container.Options{Edit: edit}
	var tty *terminalRelay
	if terminal {
		if tty, err = newTerminal(); err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, tty.close()) }()
		start.Console = tty.container
	}
	if err := c.Start(start); err != nil {
		return 0, err
	}
	if terminal {
		if err := tty.relay(); err != nil {
			return 0, errors.Join(err, c.Signal(unix.SIGKILL))
		}
	}
	ended := make(chan struct{})
	forwarded := make(chan struct{})
	go func() {
		defer close(forwarded)
		forward(c, signals, ended, tty)
	}()
	ws, err := c.Wait()
	close(ended)
	<-forwarded
	if err != nil {
		return 0, err
	}
	if ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return ws.ExitStatus(), nil
}

// forward sends signals on until the container has ended.
func forward(c *container.Container, signals <-chan os.Signal, ended <-chan struct{}, tty *terminalRelay) {
	for {
		select {
		case <-ended:
			return
		case s := <-signals:
			sig, _ := s.(unix.Signal)
			switch {
			case sig == unix.SIGWINCH && tty != nil:
				tty.resize()
			case sig == unix.SIGCHLD, sig == unix.SIGURG, sig == unix.SIGPIPE: // our own: a child, the Go runtime, our output
			default:
				_ = c.Signal(sig) // ESRCH: it has just ended
			}
		}
	}
}
