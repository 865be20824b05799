package cgroup

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

// Delete removes the cgroup from every hierarchy, with the cgroups that the
// container made below it. What is missing is no error. It waits for
// processes that are just ending, and the error wraps ErrTimeout if one stays.
func (g Group) Delete() error {
	left := g.Places
	return wait(g.Path+" is busy", func() (bool, error) {
		var busy []Place
		var errs []error
		for _, p := range left {
			removed, err := remove(p.Dir)
			if !removed {
				busy = append(busy, p)
			}
			errs = append(errs, err)
		}
		left = busy
		return len(left) == 0, errors.Join(errs...)
	})
}

// Prune removes the parents of the cgroup up to the host's own, as far as
// they are empty. It is for those who chose the path: a parent can be
// somebody else's.
func (g Group) Prune() error {
	var errs []error
	for _, p := range g.Places {
		dirs := p.parents()
		for i := len(dirs) - 1; i >= 0; i-- {
			removed, err := rmdir(dirs[i])
			errs = append(errs, err)
			if !removed {
				break
			}
		}
	}
	return errors.Join(errs...)
}

// remove tries rmdir, which is all there is to do in most cases, and looks
// below only if that is refused. It tells whether dir is gone.
func remove(dir string) (bool, error) {
	removed, err := rmdir(dir)
	if removed || err != nil {
		return removed, err
	}
	err = walk(dir, func(sub string) error {
		removed, err = rmdir(sub)
		return err
	})
	return removed, err
}

// rmdir tells whether the cgroup is gone: it is not while it is in use.
func rmdir(dir string) (bool, error) {
	err := sys.Call("rmdir", func() error { return unix.Rmdir(dir) })
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return true, nil
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.ENOTEMPTY):
		return false, nil
	}
	return false, &FileError{Op: "rmdir", Path: dir, Err: errors.Unwrap(err)}
}

// walk calls visit for the cgroups below dir and then for dir itself.
func walk(dir string, visit func(string) error) error {
	names, err := children(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := walk(dir+"/"+name, visit); err != nil {
			return err
		}
	}
	return visit(dir)
}

// children lists the directories in dir, none if it is gone. A directory has a
// link from each one in it, besides its own two.
func children(dir string) ([]string, error) {
	var st unix.Stat_t
	if unix.Stat(dir, &st) == nil && st.Nlink == 2 {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
