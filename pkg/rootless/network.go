package rootless

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

// A Network is a network namespace of the user's own, which plays the host for
// the networks of his containers: of the real one he is no root. It lives as long
// as processes have joined it, and so does its router, who connects it to the
// host. Whose containers are on a network has joined it.
type Network struct{ fd int }

// memberFD is the lowest number of the descriptor by which who has joined the
// network has it: no process of ours has so many others.
const memberFD = 200

// Inside says whether this process is in a user's namespace that Enter has made.
func Inside() bool { return os.Getenv(Variable) != "" }

// IsUser says whether this process's everyday commands are a user's, who has
// entered his namespace or is to do so.
func IsUser() bool { return Inside() || os.Geteuid() != 0 }

// lockFile is the descriptor of the file with the locks.
func lockFile() (int, error) {
	fd, err := strconv.Atoi(os.Getenv(Variable))
	if err != nil {
		return -1, fmt.Errorf("%s: %w", Variable, err)
	}
	return fd, nil
}

// Join makes this process one of those for whom the network is kept, until its
// end. Tell is told what is not as it could be.
func Join(tell func(string)) (*Network, error) {
	locks, err := lockFile()
	if err == nil {
		err = set(locks, unix.F_SETLKW, unix.F_WRLCK, joining)
	}
	if err != nil {
		return nil, err
	}
	fd, err := join(locks, tell)
	if err != nil {
		err = errors.Join(err, set(locks, unix.F_SETLK, unix.F_UNLCK, joined))
	}
	if err = errors.Join(err, set(locks, unix.F_SETLK, unix.F_UNLCK, joining)); err != nil {
		return nil, fmt.Errorf("the network of this user's containers: %w", err)
	}
	return &Network{fd}, nil
}

// Leave is for who has no container on a network after all.
func (n *Network) Leave() error {
	locks, err := lockFile()
	if err == nil {
		err = set(locks, unix.F_SETLK, unix.F_UNLCK, joined)
	}
	return errors.Join(err, unix.Close(n.fd))
}

func join(locks int, tell func(string)) (fd int, err error) {
	// A router that ends has this lock as its own, and then is gone.
	if err := set(locks, unix.F_SETLKW, unix.F_RDLCK, joined); err != nil {
		return -1, err
	}
	fd, err = find(locks)
	if errors.Is(err, errNobody) {
		if err = startRouter(-1, tell); err == nil {
			fd, err = find(locks)
		}
	} else if err == nil {
		var router int
		if router, err = holder(locks, routing); err == nil && router == 0 { // it was killed
			err = startRouter(fd, tell)
		}
	}
	if err != nil {
		if fd >= 0 {
			err = errors.Join(err, unix.Close(fd))
		}
		return -1, err
	}
	kept, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, memberFD)
	return kept, errors.Join(err, unix.Close(fd))
}

// errNobody is that there is no such network namespace.
var errNobody = errors.New("nobody has a network for this user's containers")

// find opens the network namespace, if it is there: the router has it, and all
// that have joined it.
func find(locks int) (fd int, err error) {
	for _, where := range [...]struct {
		lock int64
		fd   int
	}{{routing, routerFD}, {joined, memberFD}} {
		pid, err := holder(locks, where.lock)
		if err != nil {
			return -1, err
		}
		if pid == 0 {
			continue
		}
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/fd/%d", pid, where.fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			if kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE); err == nil && kind == unix.CLONE_NEWNET {
				return fd, nil
			}
			err = unix.Close(fd)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return -1, fmt.Errorf("open the network namespace of process %d: %w", pid, err)
		}
	}
	return -1, errNobody
}

// findAll is find while nobody joins, who has not the network yet.
func findAll() (fd int, err error) {
	locks, err := lockFile()
	if err == nil {
		err = set(locks, unix.F_SETLKW, unix.F_WRLCK, joining)
	}
	if err != nil {
		return -1, err
	}
	fd, err = find(locks)
	return fd, errors.Join(err, set(locks, unix.F_SETLK, unix.F_UNLCK, joining))
}

// Do does something in the network: n, or, if that is nil, the one that others
// have joined. If there is none, there is nothing in it either: an empty one will
// do.
func (n *Network) Do(do func() error) (err error) {
	fd := -1
	if n != nil {
		fd = n.fd
	} else {
		fd, err = findAll()
		switch {
		case errors.Is(err, errNobody):
		case err != nil:
			return err
		default:
			defer func() { _ = unix.Close(fd) }() // it was only read
		}
	}
	return sys.OnThread(func() (err error) {
		if fd < 0 {
			err = sys.Call("unshare(CLONE_NEWNET)", func() error { return unix.Unshare(unix.CLONE_NEWNET) })
		} else {
			err = sys.Call("setns(CLONE_NEWNET)", func() error { return unix.Setns(fd, unix.CLONE_NEWNET) })
		}
		if err != nil {
			return err
		}
		return do()
	})
}
