package main

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
)

// stay starts one container with each runtime, in which exec is measured.
func (p place) stay() (list []contestant, err error) {
	for _, name := range []string{"minictr", "crun", "runc"} {
		if _, err := exec.LookPath(filepath.Join(p.dir, name)); err != nil {
			continue
		}
		stays := variant("stays-" + name)
		if err := p.writeBundle(stays); err != nil {
			return list, err
		}
		args := p.command(name, "run", "--detach", "--bundle", p.bundle(stays), "stays")
		if err := exec.Command(args[0], args[1:]...).Run(); err != nil {
			return list, fmt.Errorf("%v: %w", args, err)
		}
		list = append(list, contestant{name, entered, [][]string{p.command(name, "exec", "stays", "/bin/true")}})
	}
	return list, nil
}

// leave removes them.
func (p place) leave(list []contestant) (err error) {
	for _, c := range list {
		args := p.command(c.name, "delete", "--force", "stays")
		if out, e := exec.Command(args[0], args[1:]...).CombinedOutput(); e != nil {
			err = errors.Join(err, fmt.Errorf("%v: %w\n%s", args, e, out))
		}
	}
	return errors.Join(err, reap())
}
