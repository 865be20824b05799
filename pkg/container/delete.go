package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

// Sweep takes away what containers have left whose runtime was killed, and
// returns their states: their processes, cgroups, bundles. Those that are known
// to be alive are not looked at. It tells failed of what can't be removed now, and
// goes on.
func (r *Runtime) Sweep(alive map[string]bool, failed func(error)) (swept []*State, err error) {
	dirs, err := os.ReadDir(r.Root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	dirs = slices.DeleteFunc(dirs, func(d os.DirEntry) bool { return !d.IsDir() })
	for _, d := range dirs {
		if alive[d.Name()] {
			continue
		}
		switch s, err := r.sweep(d.Name()); {
		case err != nil:
			failed(err)
		case s != nil:
			swept = append(swept, s)
		}
	}
	return swept, nil
}

// SweepOne does the same for one container, and says whether there was any.
func (r *Runtime) SweepOne(id string) (bool, error) {
	s, err := r.sweep(id)
	return s != nil && !s.settled(), err
}

// sweep removes one container if nobody runs it. When its runtime has just
// died, the child still holds the lock too, until its first step.
func (r *Runtime) sweep(id string) (s *State, err error) {
	own, err := r.try(id)
	for end := time.Now().Add(patience); errors.Is(err, unix.EWOULDBLOCK) && r.abandoned(id) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
		own, err = r.try(id)
	}
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.ENOENT) {
		return nil, nil // it is alive, or gone already
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, own.close()) }()
	s, err = r.read(id)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, errBroken) {
		// Killed before it wrote its first state, or lost in a power cut: there
		// are no processes and no cgroups of it.
		return nil, r.remove(&State{ID: id})
	}
	if err != nil || s.settled() {
		return nil, err
	}
	return s, errors.Join(s.kill(), r.remove(s))
}

// try takes the lock of a container if nobody has it. It holds the lock of the
// whole meanwhile, so that no directory is half made, and none is removed
// between its opening and its locking.
func (r *Runtime) try(id string) (lock, error) {
	all, err := r.lock()
	if err != nil {
		return -1, err
	}
	own, err := flock(r.dir(id), unix.LOCK_EX|unix.LOCK_NB)
	return own, errors.Join(err, all.close())
}

// kill ends the processes of a container that nobody waits for.
func (s *State) kill() error {
	if fd, err := s.pidfd(); err == nil {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // ESRCH: it is dead
		_ = unix.Close(fd)
	}
	return s.Host.Cgroup.Kill()
}

// patience is how long we wait for what another process does as it ends.
const patience = 10 * time.Second

// Delete removes a container by its ID or name. One that runs is killed if
// force says so; if it runs in the foreground of a process, that removes it.
func (r *Runtime) Delete(id string, force bool) error {
	own, s, err := r.take(id, force)
	if err != nil {
		return err
	}
	if s.Detached {
		return errors.Join(r.deleteDetached(s, force), own.close())
	}
	if swept, err := r.SweepOne(s.ID); err != nil || swept {
		return err
	}
	if !force {
		return fmt.Errorf("%w: %s", ErrRunning, id)
	}
	if err := s.kill(); err != nil {
		return err
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if _, err := r.read(s.ID); errors.Is(err, os.ErrNotExist) {
			return nil
		}
	}
	return fmt.Errorf("container %s is dead, but the process that runs it has not removed it within %v", id, patience)
}

// deleteDetached removes a container that has stopped, or that waits. Its lock
// is held.
func (r *Runtime) deleteDetached(s *State, force bool) error {
	switch status, err := s.Status(); {
	case err != nil:
		return err
	case !force && (status == specs.StateRunning || status == Paused):
		return fmt.Errorf("cannot delete container %s that is not stopped: %s", s.ID, status)
	}
	return r.destroy(s)
}

// destroy ends and removes a detached container whose lock is held.
func (r *Runtime) destroy(s *State) error {
	if err := s.kill(); err != nil {
		return err
	}
	for end := time.Now().Add(patience); s.alive(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("process %d does not die within %v", s.PID, patience)
		}
	}
	if !s.Hooks {
		return r.remove(s)
	}
	config, err := r.Config(s)
	if err := errors.Join(err, r.remove(s)); err != nil {
		return err
	}
	s.PID = 0
	r.warn(afterStop(s, config))
	return nil
}

// take reads the state of a container, by its ID or name, and holds the lock of
// one that is detached. Nobody else has that in most cases: then the state is
// read once.
func (r *Runtime) take(id string, force bool) (own lock, s *State, err error) {
	if ValidateID(id) == nil {
		if own, err = flock(r.dir(id), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			if s, err = r.read(id); err == nil && s.Detached {
				return own, s, nil
			}
			if err := own.close(); err != nil {
				return -1, nil, err
			}
		}
	}
	if s, err = r.Load(id); err != nil || !s.Detached {
		return -1, s, err
	}
	if own, err = r.hold(s.ID, force); err != nil {
		return -1, nil, err
	}
	if s, err = r.read(s.ID); err != nil { // it was removed while we waited
		return -1, nil, errors.Join(notExist(id, err), own.close())
	}
	return own, s, nil
}

// hold takes the lock of a container. By force whatever another command waits
// for in the container is killed.
func (r *Runtime) hold(id string, force bool) (lock, error) {
	how := unix.LOCK_EX
	if force {
		how |= unix.LOCK_NB
	}
	own, err := flock(r.dir(id), how)
	for end := time.Now().Add(patience); errors.Is(err, unix.EWOULDBLOCK); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return -1, fmt.Errorf("container %s is killed, but another command that is at work on it, in a hook of the host's perhaps, has not ended within %v", id, patience)
		}
		if s, err := r.read(id); err == nil {
			_ = s.kill() // what can't be killed holds the lock on
		}
		own, err = flock(r.dir(id), how)
	}
	return own, notExist(id, err)
}

// notExist says of a missing file that the container is missing.
func notExist(id string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s", ErrNotExist, id)
	}
	return err
}

// remove takes away what a state tells of, the state last: what can't be
// removed now is known to the next command.
func (r *Runtime) remove(s *State) (err error) {
	err = errors.Join(r.stop(s), s.Host.Cgroup.Delete())
	if err == nil && s.Owned {
		err = s.Host.Cgroup.Prune()
	}
	if err == nil && s.Owned && !s.Kept {
		err = sys.RemoveAll(s.Bundle)
	}
	if err != nil {
		return fmt.Errorf("container %s: %w", s.ID, err)
	}
	all, err := r.lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, all.close()) }()
	dir := r.dir(s.ID)
	if err := sys.RemoveAll(filepath.Join(dir, notifyHidden)); err != nil { // the container's root may have files there
		return err
	}
	for _, name := range files {
		if err := unix.Unlink(filepath.Join(dir, name)); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unlink %s: %w", filepath.Join(dir, name), err)
		}
	}
	if err := unix.Rmdir(dir); err != nil {
		return fmt.Errorf("rmdir %s: %w", dir, err)
	}
	return nil
}

// Keep keeps a container that has run in the foreground, as a stopped one.
func (c *Container) Keep() error {
	if c.process == nil {
		return c.Delete() // it has not come so far
	}
	c.Detached, c.Phase, c.PID = true, Created, 0
	return errors.Join(c.writeConfig(c.config), c.runtime.write(&c.State), c.runtime.writeProcess(&c.State), c.Release())
}

// Release leaves a detached container to itself, but not before it is ready if
// a service manager wants to know that.
func (c *Container) Release() error {
	if c.process != nil {
		c.process.Close()
	}
	err := c.lock.close()
	c.hear()
	return err
}

// Abort ends a container that could not be brought as far as was asked.
func (c *Container) Abort() error {
	if c.PID != 0 {
		_ = c.failed(nil)
	}
	return c.Delete()
}
