package container

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/spec"
	"github.com/minictr/minictr/pkg/sys"
)

// Paused is the status of a container whose processes are frozen. The
// specification does not know it; every runtime does.
const Paused specs.ContainerState = "paused"

// Status is what the specification calls the state of a container: creating,
// created, running, stopped; and paused.
func (s *State) Status() (specs.ContainerState, error) {
	if !s.alive() {
		if s.Phase == "" {
			return specs.StateCreating, nil
		}
		return specs.StateStopped, nil
	}
	switch frozen, err := s.Host.Cgroup.Frozen(); {
	case err == nil && frozen:
		return Paused, nil
	case s.Phase == Creating && s.Detached: // in the foreground there is one phase
		return specs.StateCreating, nil
	case s.waits():
		return specs.StateCreated, nil
	}
	return specs.StateRunning, nil
}

// alive says whether the container's first process is there, and not a zombie.
func (s *State) alive() bool {
	if s.PID == 0 {
		return false
	}
	b, dead, err := birth(s.PID)
	return err == nil && !dead && b == s.Birth
}

// waits says whether the container's process waits to be told to begin: then it
// has the pipe open by which it is told.
func (s *State) waits() bool {
	fd, err := unix.Open(filepath.Join(s.Host.Dir, startFifo), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err == nil // else ENXIO: nobody has it open; or ENOENT: it never waited
}

// settled says whether the container goes on without the process that made it.
func (s *State) settled() bool { return s.Detached && s.Phase == Created }

// pidfd opens the container's first process, pidfd_open(2). The error wraps
// ErrStopped if there is none any more.
func (s *State) pidfd() (int, error) {
	if s.PID == 0 {
		return -1, ErrStopped
	}
	fd, err := unix.PidfdOpen(s.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return -1, ErrStopped
	}
	if err != nil {
		return -1, fmt.Errorf("pidfd_open of process %d: %w", s.PID, err)
	}
	// The pidfd is of whoever has this PID now; its birth tells who it is.
	if !s.alive() {
		_ = unix.Close(fd)
		return -1, ErrStopped
	}
	return fd, nil
}

// Signal sends a signal to the container's first process, or to all of its
// cgroup. SIGKILL wakes a frozen one, and reaches all where nothing but the
// cgroup holds them together. Without a cgroup, the first is all that is known.
// The error wraps ErrStopped.
func (s *State) Signal(sig unix.Signal, all bool) error {
	bound := len(s.Host.Cgroup.Places) > 0
	if all && bound {
		return s.signalAll(sig)
	}
	if sig == unix.SIGKILL && !s.Host.OwnPIDs && bound {
		if pids, err := s.Processes(); err == nil && len(pids) == 0 {
			return ErrStopped
		}
		return s.signalAll(sig)
	}
	fd, err := s.pidfd()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	switch err := unix.PidfdSendSignal(fd, sig, nil, 0); {
	case errors.Is(err, unix.ESRCH): // it has just ended
		return ErrStopped
	case err != nil:
		return fmt.Errorf("pidfd_send_signal: %w", err)
	}
	if sig == unix.SIGKILL {
		return s.thaw()
	}
	return nil
}

func (s *State) thaw() error {
	if _, err := s.Host.Cgroup.Frozen(); err != nil {
		return nil //nolint:nilerr // without a freezer nothing is frozen
	}
	return s.Host.Cgroup.Thaw() // in any case: who has just entered may not stand still yet
}

func (s *State) signalAll(sig unix.Signal) error {
	if sig == unix.SIGKILL {
		return s.Host.Cgroup.Kill()
	}
	pids, err := s.Host.Cgroup.Procs()
	for _, pid := range pids {
		if e := unix.Kill(pid, sig); e != nil && !errors.Is(e, unix.ESRCH) {
			err = errors.Join(err, fmt.Errorf("kill of process %d: %w", pid, e))
		}
	}
	return err
}

// Config is the config.json that the container was made of: a copy, since who
// leaves a container to itself may change the bundle; in the foreground it may
// be the bundle's own.
func (r *Runtime) Config(s *State) (*specs.Spec, error) {
	data, err := sys.ReadFile(filepath.Join(r.dir(s.ID), spec.ConfigFile))
	if errors.Is(err, fs.ErrNotExist) && !s.Detached {
		return spec.Load(s.Bundle)
	}
	if err != nil {
		return nil, err
	}
	c := new(specs.Spec)
	return c, spec.Unmarshal(data, c)
}

// Await waits until the container's first process has ended, and says whether it
// has.
func (s *State) Await(wait time.Duration) (bool, error) {
	fd, err := s.pidfd()
	if errors.Is(err, ErrStopped) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	return sys.Await(fd, wait)
}
