package cgroup

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// delegatable lists the files of a cgroup that may be given to a less
// privileged user without giving it the limits, cgroups(7).
const delegatable = "/sys/kernel/cgroup/delegate"

// Delegate adds the action that makes a user, by its id on the host, the
// owner of the version 2 cgroup: it may then make cgroups below it and divide
// what it has among them, but the limits of the cgroup itself stay the
// parent's. Version 1 is never handed over: its controllers were not made for
// that.
func (g Group) Delegate(b *plan.Builder, uid uint32) {
	p := g.unifiedPlace()
	if p == nil || len(g.Places) > 1 {
		return
	}
	b.Act("its user may divide among cgroups of its own what it has, and no more",
		fmt.Sprintf("chown(%s, %d), and the files of %s in it", quote(p.Dir), uid, delegatable),
		func(*plan.Run) error { return p.give(int(uid)) })
}

// give changes the owner of the directory and of the files in it that the
// kernel calls delegatable. A controller that is not enabled has no files.
func (p Place) give(uid int) error {
	files, err := read(delegatable)
	switch {
	case errors.Is(err, unix.ENOENT): // sysfs is not there
		files = "cgroup.procs cgroup.subtree_control cgroup.threads"
	case err != nil:
		return err
	}
	if err := unix.Lchown(p.Dir, uid, -1); err != nil {
		return &FileError{Op: "chown", Path: p.Dir, Err: err}
	}
	for file := range strings.FieldsSeq(files) {
		path := p.Dir + "/" + file
		if err := unix.Lchown(path, uid, -1); err != nil && !errors.Is(err, unix.ENOENT) {
			return &FileError{Op: "chown", Path: path, Err: err}
		}
	}
	return nil
}

// Delegated makes Base the topmost cgroup on the way to Dir that this process
// may divide, and tells whether there is one. The process has to be in it or
// below: nobody moves a process, or has one born elsewhere, who may not write to
// cgroup.procs where both ways part (cgroup-v2.rst, "Delegation Containment").
func (p *Place) Delegated() bool {
	for _, dir := range append([]string{p.Base}, p.parents()...) {
		if unix.Access(dir, unix.W_OK) == nil && unix.Access(dir+"/cgroup.procs", unix.W_OK) == nil {
			p.Base = dir
			return below(p.Mount+strings.TrimSuffix(p.Self, "/"), dir) != ""
		}
	}
	return false
}
