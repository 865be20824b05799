// Package rootless makes a user root of a user namespace, in which all of his
// everyday commands work: user_namespaces(7). Who is in another one has no power
// over its containers, so there is one for each directory of their state.
//
// Nobody is resident. The namespace lives as long as processes are in it, and the
// kernel tells of them: each has a lock on a file, fcntl(2), which ends with it
// however that comes, and of which everybody can ask who has it.
package rootless

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/forkexec"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/sys"
)

// File is the name of the file with the locks: no container can have it.
const File = "user:namespace"

// Variable names, in the environment of who is in the namespace, the descriptor of
// that file. Their children inherit both.
const Variable = "MINICTR_USER_NAMESPACE"

// Bytes of the file that are locked.
const (
	inside  = iota // for reading, by all who are in the namespace
	turn           // for writing, by the one who makes or enters it
	joined         // for reading, by all who have joined the network; for writing, by its router at the end
	joining        // for writing, by the one who joins it
	routing        // for writing, by its router
)

// Enter has this process execute its program once more, as root of the user's
// namespace, which it makes if nobody is in one. On success it does not return: the
// process stays what it is for its parent, its terminal and its signals. Help runs
// a program that has more power than its caller.
func Enter(root string, help func(path string, args ...string) error) error {
	program, err := os.Executable()
	if err == nil {
		err = os.MkdirAll(root, 0o711)
	}
	if err != nil {
		return err
	}
	low, err := sys.Number("open", func() (int, error) {
		return unix.Open(filepath.Join(root, File), unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	})
	if err != nil {
		return fmt.Errorf("%s in %s: %w", File, root, err)
	}
	// A child of ours that begins with descriptors of its own has this one, too. The
	// other goes before there are locks, which would go with it.
	fd, err := unix.FcntlInt(uintptr(low), unix.F_DUPFD_CLOEXEC, 64)
	if err = errors.Join(err, unix.Close(low)); err != nil {
		return fmt.Errorf("fcntl F_DUPFD_CLOEXEC: %w", err)
	}
	if err := set(fd, unix.F_SETLKW, unix.F_WRLCK, turn); err != nil {
		return err
	}
	env := append(os.Environ(), fmt.Sprintf("%s=%d", Variable, fd))
	for {
		run := &plan.Run{Fd: map[plan.Reg]int{locks: fd}}
		member, err := holder(fd, inside)
		if err == nil && member == 0 {
			run.Fd[userns], err = makeNamespace(help)
		}
		if err != nil {
			return err
		}
		err = forkexec.Become(Become(member, program, os.Args, env), run)
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ESRCH) || member == 0 { // that one has just ended
			return err
		}
	}
}

// Plan is the plan by which the first command of this process's user makes and
// enters his namespace.
func Plan() (*plan.Plan, error) {
	program, err := os.Executable()
	ids, _, e := Find(os.Geteuid(), os.Getegid())
	if err := cmp.Or(err, e); err != nil {
		return nil, err
	}
	p := Make(ids, nil)
	p.Sections = append(p.Sections, Become(0, program, os.Args, nil).Sections...)
	return p, nil
}

// Try makes the user's namespace, to find out whether that can be done. It is gone
// when Try returns.
func Try(help func(path string, args ...string) error) error {
	fd, err := makeNamespace(help)
	if err == nil {
		err = unix.Close(fd)
	}
	return err
}

// makeNamespace returns a descriptor of a new user namespace.
func makeNamespace(help func(path string, args ...string) error) (int, error) {
	ids, _, err := Find(os.Geteuid(), os.Getegid())
	if err != nil {
		return -1, err
	}
	run := &plan.Run{Fd: make(map[plan.Reg]int), Lent: make(map[plan.Reg]int)}
	child, err := forkexec.Start(Make(ids, help), run)
	if err != nil {
		return -1, err
	}
	_, err = child.Wait()
	child.Close()
	return run.Lent[userns], err
}

// Stay is what a program does first: if it is in a user's namespace, others find
// that by this process from now on, and the next one may enter.
func Stay() error {
	if !Inside() {
		return nil
	}
	fd, err := lockFile()
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("setns, CLONE_NEWUSER: %w: the user namespace of this user's commands can't be entered from here", unix.EPERM)
	}
	err = cmp.Or(set(fd, unix.F_SETLK, unix.F_RDLCK, inside), set(fd, unix.F_SETLK, unix.F_UNLCK, turn))
	if errors.Is(err, unix.EBADF) { // somebody between has closed it, and is in it himself
		return nil
	}
	return err
}

// KeepOnly has programs that this process executes inherit no descriptor that they
// are not given, but that of the locks.
func KeepOnly() error {
	if err := sys.Call("close_range", func() error { return unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC) }); err != nil {
		return err
	}
	if !Inside() {
		return nil
	}
	fd, err := lockFile()
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
	}
	if errors.Is(err, unix.EBADF) { // as in Stay
		return nil
	}
	return err
}

// set changes one of the locks.
func set(fd, how int, kind int16, start int64) error {
	return sys.Call("fcntl of "+File, func() error {
		return unix.FcntlFlock(uintptr(fd), how, &unix.Flock_t{Type: kind, Start: start, Len: 1})
	})
}

// holder is the PID of a process that has one of the locks; 0 if no other has.
func holder(fd int, start int64) (int, error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: start, Len: 1}
	err := sys.Call("fcntl of "+File, func() error { return unix.FcntlFlock(uintptr(fd), unix.F_GETLK, &lock) })
	switch {
	case err != nil || lock.Type == unix.F_UNLCK:
		return 0, err
	case lock.Pid <= 0:
		return 0, errors.New("who is in the user namespace of this user's commands can't be seen from this PID namespace")
	}
	return int(lock.Pid), nil
}
