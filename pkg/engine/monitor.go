package engine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/logfile"
	"github.com/minictr/minictr/pkg/spec"
	"github.com/minictr/minictr/pkg/sys"
)

// Descriptors that a monitor begins with, besides the standard ones.
const (
	lockFD   = 3 // the lock on the container's directory
	reportFD = 4 // takes a byte when the container has begun
)

// A monitor stays with one container that runs detached: it does what run does
// in the foreground, keeps the output and the exit status, and starts the
// container again if that was asked for.
type monitor struct {
	*Container
	log    *logfile.Writer
	stderr *os.File // of the command that has started us, until the container has begun: then its end of a pipe is at 2
	term   chan os.Signal
	eof    chan os.Signal // inputEnds
	told   atomic.Bool    // it was sent the signal to end, as at shutdown, by no person maybe
	status Status
	begun  bool // once
	lived  bool // this time
}

// Monitor is the whole life of a container's monitor: this process, which
// Start has made. The error is that of the first start, which can be told on
// standard error; what comes later is in the container's status.
func (e *Engine) Monitor(id string) (err error) {
	unix.CloseOnExec(lockFD)
	unix.CloseOnExec(reportFD)
	c, err := e.record(id)
	if err != nil {
		return err
	}
	c.lock = lockFD
	m := &monitor{Container: c, term: make(chan os.Signal, 1), eof: make(chan os.Signal, 1)}
	if m.stderr, err = keepStderr(); err != nil {
		return err
	}
	e.Messages = m.stderr
	e.Runtime.Warn = func(err error) { fmt.Fprintf(m.stderr, "minictr: warning: %v\n", err) }
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT) // what is ignored would be ignored by the container, too
	signal.Notify(m.term, unix.SIGTERM)
	signal.Notify(m.eof, inputEnds)
	// Who attaches takes the descriptor of our input, pidfd_getfd(2), which takes
	// leave by Yama, too. It matters to nobody where there is no Yama: EINVAL.
	_ = unix.Prctl(unix.PR_SET_PTRACER, unix.PR_SET_PTRACER_ANY, 0, 0, 0)
	if m.log, err = logfile.Open(c.LogFile(), c.Log.rotation()); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.log.Close()) }()
	if m.status, err = c.Status(); err != nil {
		return err
	}
	err = m.live()
	if !m.begun && e.without(&c.Options, err) {
		err = m.live()
	}
	m.status.Input = 0
	if !m.begun {
		return errors.Join(err, m.note(err), unix.Dup3(int(fdOf(m.stderr)), 2, 0))
	}
	m.status.Phase = Exited
	err = m.note(err)
	if c.Options.Remove {
		err = errors.Join(err, c.Discard(true))
	}
	return err
}

// note writes the status.
func (m *monitor) note(err error) error {
	m.status.Error = ""
	if err != nil {
		m.status.Error = err.Error()
	}
	return m.writeStatus(m.status)
}

// Waits of a restart policy, as Docker has them: from the first on they double,
// until a container has run for a while.
const (
	firstDelay = 100 * time.Millisecond
	lastDelay  = time.Minute
	healthy    = 10 * time.Second
)

// live runs the container, again and again as its policy says.
func (m *monitor) live() error {
	m.status.Restarts = 0
	for delay := firstDelay; ; delay = min(2*delay, lastDelay) {
		m.lived = false
		err := m.once()
		if err != nil && !m.begun {
			return err
		}
		if !m.lived {
			m.status.Started, m.status.Finished = time.Now().UTC(), time.Now().UTC()
		}
		if now, err := m.engine.record(m.ID); err == nil {
			m.Restart = now.Restart // update may have changed it
		}
		if m.told.Load() || m.Stopped() || !m.Restart.wants(m.status.ExitCode, m.status.Restarts) {
			return err
		}
		if m.status.Finished.Sub(m.status.Started) >= healthy {
			delay = firstDelay
		}
		m.status.Phase, m.status.Input = Restarting, 0
		_ = m.note(err) // a full disk ends no policy: the next life notes more
		select {
		case <-m.term:
			return err
		case <-time.After(delay):
		}
		m.status.Restarts++
	}
}

// once runs the container to its end.
func (m *monitor) once() (err error) {
	e := m.engine
	s, err := spec.Load(m.dir)
	if err != nil {
		return err
	}
	ctr, err := e.Runtime.New(container.Config{
		ID: m.ID, Image: m.Options.Image, ImageID: m.ImageID, Bundle: m.dir, Owned: true, Kept: true,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ctr.Delete()) }()
	if err := e.rejoin(s, m.Options); err != nil {
		return err
	}
	link, err := e.connect(m.ID, m.dir, s.Hostname, m.Options, m.Ports)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, link.close()) }()
	streams, err := openStreams(s.Process.Terminal, m.Options.Interactive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, streams.close()) }()
	if err := ctr.Start(s, link.options(streams.options())); err != nil {
		return err
	}
	err = errors.Join(streams.started(), link.listen())
	if err == nil {
		streams.copy(m.log)
		err = m.began(streams.input())
	}
	if err != nil {
		err = errors.Join(err, ctr.Signal(unix.SIGKILL))
		_, failed := ctr.Wait()
		return errors.Join(err, failed)
	}
	ended := make(chan struct{})
	go m.obey(ctr, streams, ended)
	ws, err := ctr.Wait()
	close(ended)
	streams.drain()
	m.status.Finished, m.status.OOMKilled, m.status.ExitCode = time.Now().UTC(), ctr.OOMKilled(), ws.ExitStatus()
	if ws.Signaled() {
		m.status.ExitCode = 128 + int(ws.Signal())
	}
	if m.status.OOMKilled {
		e.event(m.Container, "oom", nil)
	}
	e.event(m.Container, "die", map[string]string{"exitCode": fmt.Sprint(m.status.ExitCode)})
	return err
}

// began tells the world that the container has begun.
func (m *monitor) began(input int) error {
	m.status.Phase, m.status.Started, m.status.Finished = Running, time.Now().UTC(), time.Time{}
	m.status.Monitor, m.status.Boot, m.status.Input = os.Getpid(), bootID(), input
	m.lived, m.status.OOMKilled = true, false // the exit status stays the last one's, for who waited for it
	if err := m.note(nil); err != nil {
		return err
	}
	m.engine.event(m.Container, "start", nil)
	if m.begun {
		return nil
	}
	m.begun, m.engine.Messages = true, io.Discard
	_, err := unix.Write(reportFD, []byte{1})
	if errors.Is(err, unix.EPIPE) { // nobody waits for it any more
		err = nil
	}
	err = errors.Join(err, unix.Close(reportFD), m.stderr.Close(), nowhere(2))
	// Until now there was no collection: each one more takes 300 kB for good.
	debug.SetGCPercent(20)
	debug.FreeOSMemory()
	return err
}

// inputEnds is the signal that tells a monitor that who has started the container
// and is attached to it has no more input for it.
const inputEnds = unix.SIGUSR1

// obey does what signals ask for: the container gets its stop signal when
// somebody asks for its end, and the end of its input.
func (m *monitor) obey(ctr *container.Container, s *streams, ended <-chan struct{}) {
	for {
		select {
		case <-ended:
			return
		case <-m.eof:
			s.endInput()
		case <-m.term:
			m.told.Store(true)
			_ = ctr.Signal(m.askedSignal())
			_ = ctr.Resume() // what is paused can't end by itself
		}
	}
}

// stop marks a container as stopped by a person, who wants it to get a signal; 0
// is its stop signal.
func (c *Container) stop(sig unix.Signal) error {
	var text []byte
	if sig != 0 {
		text = strconv.AppendInt(nil, int64(sig), 10)
	}
	return os.WriteFile(filepath.Join(c.dir, stoppedFile), text, 0o600)
}

// askedSignal is the one that who stops the container asks for.
func (c *Container) askedSignal() unix.Signal {
	text, _ := sys.ReadFile(filepath.Join(c.dir, stoppedFile)) // at shutdown there is none
	if sig, err := ParseSignal(string(text)); err == nil && sig != 0 {
		return sig
	}
	return c.stopSignal()
}

// Stopped says whether a person has stopped a container.
func (c *Container) Stopped() bool {
	_, err := os.Lstat(filepath.Join(c.dir, stoppedFile))
	return err == nil
}
