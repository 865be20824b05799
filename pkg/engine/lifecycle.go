package engine

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/rootless"
	"github.com/minictr/minictr/pkg/sys"
)

// A MonitorError is the exit status of a monitor that has not started its
// container, and has said why.
type MonitorError int

func (e MonitorError) Error() string {
	return fmt.Sprintf("the container did not start: status %d", int(e))
}

// Start starts a container that is not running, and leaves it to its monitor.
func (e *Engine) Start(c *Container) (err error) {
	if c.lone != nil {
		return fmt.Errorf("container %s runs in the foreground of another command", c.Title())
	}
	if c.lock == 0 {
		switch err := e.seize(c, false); {
		case errors.Is(err, container.ErrRunning):
			return nil // as docker start of one that runs
		case err != nil:
			return err
		}
	}
	defer func() { err = errors.Join(err, c.Close()) }() // the monitor has its own
	if err := os.Remove(filepath.Join(c.dir, stoppedFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return e.spawn(c)
}

// spawn makes the monitor, and returns when the container has begun.
func (e *Engine) spawn(c *Container) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	defer r.Close()
	fd, err := unix.FcntlInt(uintptr(c.lock), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return errors.Join(fmt.Errorf("dup of the lock: %w", err), w.Close())
	}
	lock := os.NewFile(uintptr(fd), "lock")
	data, err := filepath.Abs(e.Root)
	run, e1 := filepath.Abs(e.Runtime.Root)
	if err = errors.Join(err, e1, rootless.KeepOnly()); err != nil {
		return errors.Join(err, lock.Close(), w.Close())
	}
	process, err := os.StartProcess("/proc/self/exe", []string{"minictr", "--data-root", data, "--root", run, MonitorCommand, c.ID}, &os.ProcAttr{
		Dir: "/", // whatever else this one is in may be unmounted
		// It waits nearly all its life: one processor is enough for that, and garbage
		// is collected when the container has begun.
		Env:   []string{"GOMAXPROCS=1", "GOGC=off", "PATH=" + os.Getenv("PATH"), "LANG=" + os.Getenv("LANG"), rootless.Variable + "=" + os.Getenv(rootless.Variable)},
		Files: []*os.File{null, null, os.Stderr, lock, w}, // in the order of lockFD and reportFD
		Sys:   &unix.SysProcAttr{Setsid: true},
	})
	if err = errors.Join(err, lock.Close(), w.Close()); err != nil {
		return fmt.Errorf("the container's monitor: %w", err)
	}
	if n, _ := r.Read(make([]byte, 1)); n == 1 {
		return process.Release()
	}
	state, err := process.Wait()
	if err != nil {
		return fmt.Errorf("the container's monitor: %w", err)
	}
	if code := state.ExitCode(); code > 0 {
		return MonitorError(code)
	}
	return fmt.Errorf("the container's monitor has ended: %v", state)
}

// MonitorCommand is the hidden command that is a container's monitor.
const MonitorCommand = "__monitor"

// stopSignal is the one that asks the container to end.
func (c *Container) stopSignal() unix.Signal {
	sig, err := ParseSignal(c.StopSignal)
	if err != nil {
		return unix.SIGTERM // an image may say anything
	}
	return sig
}

// ParseSignal reads a signal by its number or its name, signal(7): 9, KILL,
// SIGKILL, kill, RTMIN+3.
func ParseSignal(text string) (unix.Signal, error) {
	const first, last = 34, 64 // of the realtime ones, as the C library numbers them
	name := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if sig := unix.SignalNum("SIG" + name); sig != 0 {
		return sig, nil
	}
	n, err := strconv.Atoi(name)
	for prefix, base := range map[string]int{"RTMIN": first, "RTMAX": last} {
		if offset, ok := strings.CutPrefix(name, prefix); ok {
			if n, err = 0, nil; offset != "" {
				n, err = strconv.Atoi(offset)
			}
			if n += base; n < first {
				n = -1
			}
		}
	}
	if err != nil || n < 0 || n > last {
		return 0, fmt.Errorf("unknown signal %q", text)
	}
	return unix.Signal(n), nil
}

// monitorFD opens the process that monitors a container, pidfd_open(2); -1 if
// there is none, or it is hardly there yet.
func (c *Container) monitorFD() (int, error) {
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if !c.Monitored() {
			return -1, nil
		}
		s, err := c.Status()
		if errors.Is(err, fs.ErrNotExist) { // it is being removed
			return -1, nil
		}
		if err != nil {
			return -1, err
		}
		if fd, err := unix.PidfdOpen(max(s.Monitor, 1), 0); err == nil {
			// The number may be another's by now.
			line, _ := sys.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.Monitor))
			if bytes.HasSuffix(line, []byte("\x00"+MonitorCommand+"\x00"+c.ID+"\x00")) {
				return fd, nil
			}
			_ = unix.Close(fd)
		}
		if time.Now().After(end) {
			return -1, fmt.Errorf("container %s is locked by another command that has not ended within %v", c.Title(), patience)
		}
	}
}

// patience is how long is waited for what another process does as it ends.
const patience = 10 * time.Second

// Stop asks a container to end, by a signal, or its stop signal if that is 0, and
// kills it if it has not within the time. One that is not running is left as it is.
func (e *Engine) Stop(c *Container, sig unix.Signal, wait time.Duration) error {
	if c.lone != nil {
		return e.stopLone(c, sig, wait)
	}
	fd, err := c.monitorFD()
	if fd < 0 || err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := c.stop(sig); err != nil {
		return err
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("pidfd_send_signal: %w", err)
	}
	ended, err := sys.Await(fd, wait)
	for end := time.Now().Add(patience); err == nil && !ended; ended, err = sys.Await(fd, 10*time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("container %s is killed, but does not end within %v", c.Title(), patience)
		}
		if err := c.kill(); err != nil { // between two lives there is none to kill
			return err
		}
	}
	e.event(c, "stop", nil)
	return err
}

// kill kills a container that may be between two lives.
func (c *Container) kill() error {
	s, err := c.State()
	if err == nil {
		err = s.Signal(unix.SIGKILL, false)
	}
	if errors.Is(err, container.ErrNotExist) || errors.Is(err, container.ErrStopped) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

func (e *Engine) stopLone(c *Container, sig unix.Signal, wait time.Duration) error {
	if err := c.lone.Signal(cmp.Or(sig, unix.SIGTERM), false); err != nil {
		return err
	}
	if ended, err := c.lone.Await(wait); err != nil || ended {
		return err
	}
	return c.lone.Signal(unix.SIGKILL, false)
}

// Kill sends a signal to a container's first process. If it is one that ends
// it, no policy starts it again. SIGKILL ends it: Kill returns when its end is
// written down.
func (e *Engine) Kill(c *Container, sig unix.Signal, all bool) error {
	s, err := c.State()
	if errors.Is(err, container.ErrNotExist) {
		return fmt.Errorf("%w: %s", container.ErrStopped, c.Title())
	}
	if err != nil {
		return err
	}
	if c.lone == nil && (sig == unix.SIGKILL || sig == c.stopSignal()) {
		if err := c.stop(0); err != nil {
			return err
		}
	}
	if err := s.Signal(sig, all); err != nil {
		return err
	}
	e.event(c, "kill", map[string]string{"signal": strconv.Itoa(int(sig))})
	if sig != unix.SIGKILL {
		return nil
	}
	ended, err := s.Await(patience)
	if err == nil && !ended {
		err = fmt.Errorf("container %s is killed, but does not end within %v", c.Title(), patience)
	}
	if err == nil && c.lone == nil {
		_, err = e.Wait(c)
	}
	return err
}

// Remove removes a container, one that runs only by force.
func (e *Engine) Remove(c *Container, force, volumes bool) error {
	if c.lone != nil {
		return e.Runtime.Delete(c.ID, force)
	}
	if c.lock == 0 {
		if err := e.seize(c, force); err != nil {
			return err
		}
	}
	return c.Discard(volumes)
}

// seize locks a container; by force its processes and its monitor are ended.
func (e *Engine) seize(c *Container, force bool) error {
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		err := c.hold()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		s, err := c.Status()
		if errors.Is(err, fs.ErrNotExist) { // who has it locked removes it
			return fmt.Errorf("%w: %s", container.ErrNotExist, c.Title())
		}
		if err != nil {
			return err
		}
		// Who only looks holds the lock for a moment, and a monitor that is about
		// to end, or to begin, for some more.
		if !force && c.goesOn(s.Phase) && c.Monitored() {
			return fmt.Errorf("%w: %s", container.ErrRunning, c.Title())
		}
		if time.Now().After(end) {
			return fmt.Errorf("container %s is locked by another command, or its monitor, process %d, and not free within %v", c.Title(), s.Monitor, patience)
		}
		if !force {
			continue
		}
		if err := c.stop(0); err != nil && !errors.Is(err, fs.ErrNotExist) { // it is being removed
			return err
		}
		if err := c.kill(); err != nil {
			return err
		}
		fd, err := c.monitorFD()
		if err != nil {
			return err
		}
		if fd >= 0 {
			_ = unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0) // ESRCH: it has ended
			_ = unix.Close(fd)
		}
	}
}

// goesOn says whether a container runs, or will again. The phase that its monitor
// has written stays Running for a moment after the end.
func (c *Container) goesOn(written Phase) bool {
	if written != Running {
		return written == Restarting
	}
	v, err := c.View()
	return err != nil || v.Process != nil
}

// Discard removes a container whose lock is ours, and what is left of its
// processes.
func (c *Container) Discard(volumes bool) error {
	if _, err := c.engine.Runtime.SweepOne(c.ID); err != nil {
		return err
	}
	var names []string
	if volumes {
		names, _ = c.volumes() // without its config.json it is known to use none
	}
	err := c.remove()
	if err == nil {
		c.engine.event(c, "destroy", nil)
		err = c.engine.removeAnonymous(names)
	}
	return err
}

// PruneContainers removes all containers that are not running, and returns them.
func (e *Engine) PruneContainers() (removed []*Container, err error) {
	if err := e.Sweep(); err != nil {
		return nil, err
	}
	list, err := e.Containers()
	for _, c := range list {
		if c.lone != nil || c.Monitored() {
			continue
		}
		switch failed := e.Remove(c, false, false); {
		case errors.Is(failed, container.ErrRunning), errors.Is(failed, container.ErrNotExist): // somebody was faster
		case failed != nil:
			err = errors.Join(err, failed)
		default:
			removed = append(removed, c)
		}
	}
	return removed, err
}

// Wait waits until a container ends, and returns its exit status: that of its
// next end if it is started again and again.
func (e *Engine) Wait(c *Container) (int, error) {
	before, err := c.Status()
	if errors.Is(err, fs.ErrNotExist) {
		return e.lastStatus(c)
	}
	if err != nil {
		return 0, err
	}
	if c.lone != nil {
		_, err = c.lone.Await(sys.Forever)
		return 0, errors.Join(err, fmt.Errorf("container %s has ended: its exit status is that of the command that ran it", c.Title()))
	}
	if before.Phase != Running && !c.Monitored() {
		return before.ExitCode, nil
	}
	for {
		if state, err := c.State(); err == nil {
			if _, err := state.Await(sys.Forever); err != nil {
				return 0, err
			}
		}
		now, err := c.Status()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return e.lastStatus(c)
		case err != nil:
			return 0, err
		case now.Phase == Exited, now.Phase == Restarting, now.Restarts > before.Restarts:
			return now.ExitCode, nil
		case !c.Monitored():
			if err := e.Sweep(); err != nil {
				return 0, err
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Pause stops all processes of a container; Unpause lets them go on.
func (e *Engine) Pause(c *Container) error { return e.freeze(c, "pause", (*container.State).Pause) }

// Unpause lets the processes of a container go on.
func (e *Engine) Unpause(c *Container) error {
	return e.freeze(c, "unpause", (*container.State).Resume)
}

func (e *Engine) freeze(c *Container, event string, do func(*container.State) error) error {
	s, err := c.State()
	if errors.Is(err, container.ErrNotExist) {
		return fmt.Errorf("%w: %s", container.ErrStopped, c.Title())
	}
	if err == nil {
		err = do(s)
	}
	if err == nil {
		e.event(c, event, nil)
	}
	return err
}

// Paused says whether a container's processes are stopped.
func (c *Container) Paused() bool {
	s, err := c.State()
	if err != nil {
		return false
	}
	status, err := s.Status()
	return err == nil && status == container.Paused
}

// Rename gives a container another name, by which its neighbours know it at once.
func (e *Engine) Rename(c *Container, name string) error {
	if err := e.rename(c, name); err != nil {
		return err
	}
	attached, err := e.Attachments()
	if a, ok := attached[c.ID]; ok {
		err = errors.Join(err, e.tellNames(a.Network))
	}
	return err
}

func (e *Engine) rename(c *Container, name string) (err error) {
	if c.lone != nil {
		return fmt.Errorf("container %s runs in the foreground: its name goes with it", c.Title())
	}
	if err := container.ValidateID(name); err != nil {
		return err
	}
	if name == c.Name {
		return fmt.Errorf("container %s has that name already", name)
	}
	unlock, err := e.guard()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := e.takeName(name, c.ID); err != nil {
		return err
	}
	old := c.Name
	c.Name, c.Options.Name = name, name
	if err := c.writeRecord(); err != nil {
		return errors.Join(err, e.freeName(name, c.ID))
	}
	e.event(c, "rename", map[string]string{"oldName": old})
	return e.freeName(old, c.ID)
}

// Rests says whether a container is one that Start starts: it neither runs nor will
// by itself.
func (c *Container) Rests() bool {
	s, err := c.Status()
	return c.lone == nil && err == nil && !c.goesOn(s.Phase)
}

// AtBoot says whether a container is to be started when the host has booted: one
// that was never started is not.
func (c *Container) AtBoot() bool {
	s, err := c.Status()
	if c.lone != nil || err != nil || s.Phase == Created {
		return false
	}
	switch c.Restart.Policy {
	case "always":
		return true
	case "unless-stopped":
		return !c.Stopped()
	}
	return c.Restart.wants(s.ExitCode, 0) && !c.Stopped()
}
