package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/sys"
)

// Sweep takes away what killed processes have left, and says so: containers of
// the foreground, files without a container, and what a killed monitor did not
// come to do. What can't be removed now is told, and left to the next command:
// it is not the business of this one.
func (e *Engine) Sweep() error {
	failed := func(err error) {
		fmt.Fprintf(e.Messages, "minictr: what a killed container has left can't be removed yet: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	ids, err := e.ids() // before the states are read: a new container has a state first
	if err != nil {
		return err
	}
	alive := make(map[string]bool, len(ids))
	for _, id := range ids {
		alive[id] = (&Container{ID: id, dir: e.bundle(id)}).Monitored()
	}
	swept, err := e.Runtime.Sweep(alive, failed)
	for _, s := range swept {
		if s.Kept {
			continue
		}
		fmt.Fprintf(e.Messages, "minictr: removed what was left of container %s, whose runtime was killed\n", s.ID)
		if err := errors.Join(e.freeName(s.Name, s.ID), e.removeVolumesOf(s.ID)); err != nil {
			failed(err)
		}
	}
	for _, id := range ids {
		if alive[id] {
			continue
		}
		if err := e.repair(id); err != nil {
			failed(err)
		}
	}
	if err := errors.Join(e.freeNames(ids), e.disconnect()); err != nil {
		failed(err)
	}
	return err
}

// freeNames removes names of containers that are not there: who took one was
// killed before there was more. The IDs are of those that were there just now.
func (e *Engine) freeNames(ids []string) error {
	top, prefix := filepath.Split(e.nameLink(""))
	entries, err := os.ReadDir(top)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	for _, entry := range entries {
		name, ours := strings.CutPrefix(entry.Name(), prefix)
		if ours && !slices.Contains(ids, e.named(name)) {
			err = errors.Join(err, e.freeIfGone(name))
		}
	}
	return err
}

func (e *Engine) freeIfGone(name string) (err error) {
	unlock, err := e.guard()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	id := e.named(name)
	if e.has(id) {
		return nil
	}
	return e.freeName(name, id)
}

// disconnect takes away what is left of connections whose containers are gone.
func (e *Engine) disconnect() error {
	stale, err := e.Networks().Stale(func(id string) bool {
		own := e.bundle(id)
		if e.Runtime.Has(id) || (&Container{ID: id, dir: own}).Monitored() {
			return true
		}
		all, err := filepath.Glob(filepath.Join(filepath.Dir(own), "????????-"+id)) // of engines with another directory for states
		return err != nil || slices.ContainsFunc(all, func(dir string) bool { return dir != own })
	})
	if errors.Is(err, fs.ErrPermission) {
		return nil // another's are not ours
	}
	for _, id := range stale {
		c := &Container{ID: id, dir: e.bundle(id), engine: e}
		switch held := c.hold(); {
		case errors.Is(held, unix.EWOULDBLOCK):
			continue // it was just started again
		case held != nil && !errors.Is(held, container.ErrNotExist):
			err = errors.Join(err, held)
			continue
		}
		err = errors.Join(err, e.Networks().Leave(id), c.Close())
	}
	if len(stale) == 0 {
		return err
	}
	all, lost := e.Networks().List()
	err = errors.Join(err, lost)
	for _, n := range all { // the others must not take a name for somebody else's address
		err = errors.Join(err, e.tellNames(n.Name))
	}
	return err
}

// repair puts right what a killed process has left of one container.
func (e *Engine) repair(id string) error {
	c := &Container{ID: id, dir: e.bundle(id), engine: e}
	_, err := os.Lstat(filepath.Join(c.dir, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return e.abandoned(c)
	}
	var s Status
	if s, err = c.Status(); err == nil && (s.Phase == Created || s.Phase == Exited) {
		return nil
	}
	if c.Monitored() {
		return nil
	}
	if c, err = e.record(id); err != nil {
		return err
	}
	switch err := c.hold(); {
	case errors.Is(err, unix.EWOULDBLOCK), errors.Is(err, fs.ErrNotExist):
		return nil // somebody else repairs it, or has removed it
	case err != nil:
		return err
	}
	defer c.Close()
	s, err = c.Status()
	switch {
	case errors.Is(err, ErrTorn):
		s = Status{Phase: Running}
	case err != nil || s.Phase == Created || s.Phase == Exited:
		return err
	}
	return c.bury(s)
}

// bury writes down the end of a container whose monitor was killed: the kernel
// has killed it then, too.
func (c *Container) bury(s Status) error {
	if _, err := c.engine.Runtime.SweepOne(c.ID); err != nil {
		return err
	}
	s.Phase, s.Finished, s.ExitCode = Exited, time.Now().UTC(), 128+int(unix.SIGKILL)
	s.Error = fmt.Sprintf("its monitor, process %d, was killed, and the kernel killed it with that", s.Monitor)
	if s.Boot != bootID() {
		s.Error, s.ExitCode = "it ended when the host did", lostStatus
	}
	if err := c.writeStatus(s); err != nil {
		return err
	}
	c.engine.event(c, "die", map[string]string{"exitCode": fmt.Sprint(s.ExitCode)})
	fmt.Fprintf(c.engine.Messages, "minictr: container %s has ended: %s: minictr start %[1]s\n", c.Title(), s.Error)
	if c.Options.Remove {
		return c.Discard(true)
	}
	return nil
}

// lostStatus is the exit status of a container whose own nobody has seen.
const lostStatus = 255

// bootID is another one after each start of the host, random(4).
func bootID() string {
	id, _ := sys.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
}

// abandoned removes files of no container: a command was killed before it had
// made one, or after it had removed one, or power was cut.
func (e *Engine) abandoned(c *Container) (err error) {
	if e.Runtime.Has(c.ID) {
		return nil // it is in the foreground
	}
	unlock, err := e.guard()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if c.lock, err = sys.LockDir(c.dir, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if _, err := os.Lstat(filepath.Join(c.dir, recordFile)); err == nil || e.Runtime.Has(c.ID) {
		return nil // it has become one just now
	}
	return sys.RemoveAll(c.dir) // its volumes may be to stay
}
