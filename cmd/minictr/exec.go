package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/spec"
	"github.com/minictr/minictr/pkg/sys"
)

// execFlags are those of exec.
type execFlags struct {
	startFlags
	process, cwd, user   string
	env, caps            []string
	groups               []int64
	tty, detach, noPrivs bool
	label, apparmor      string
	cgroup               []string
	paused               bool
}

func execCommand(f *pflag.FlagSet) action {
	var o execFlags
	f.SetInterspersed(false)
	f.StringVarP(&o.process, "process", "p", "", "the process is described by the JSON in `FILE`")
	f.BoolVarP(&o.tty, "tty", "t", false, "give it a terminal")
	f.BoolVarP(&o.detach, "detach", "d", false, "do not wait for its end")
	f.StringVarP(&o.cwd, "workdir", "w", "", "begin in `DIR`")
	f.StringVar(&o.cwd, "cwd", "", "as --workdir, of the OCI's family: `DIR`")
	f.BoolP("interactive", "i", false, "keep standard input open (always so)")
	f.VarP((*list)(&o.env), "env", "e", "set `NAME=VALUE` in its environment")
	f.StringVarP(&o.user, "user", "u", "", "run as `USER[:GROUP]`, by number, or by name in a container of an image")
	f.Int64SliceVarP(&o.groups, "additional-gids", "g", nil, "give it the `GID` as well")
	f.VarP((*list)(&o.caps), "cap", "c", "give it a `CAPABILITY`")
	f.BoolVar(&o.noPrivs, "no-new-privs", false, "no program gives it more privileges")
	f.StringVar(&o.label, "process-label", "", "its SELinux `LABEL`")
	f.StringVar(&o.apparmor, "apparmor", "", "its AppArmor `PROFILE`")
	f.Var((*list)(&o.cgroup), "cgroup", "enter the cgroup `PATH`, below the container's; memory,pids:PATH is for those of version 1 alone")
	f.BoolVar(&o.paused, "ignore-paused", false, "enter a paused container as well, and wait until it is resumed")
	o.sockets(f)
	return func(c *call) error {
		if len(c.args) == 0 || len(c.args) < 2 && o.process == "" {
			return errors.New("exec needs a container and a command: minictr exec ID COMMAND")
		}
		r := c.runtime()
		s, err := c.load(c.args[0])
		if err != nil {
			return err
		}
		c.everyday = s.Image != "" && o.process == "" && !c.runc
		config, err := r.Config(s)
		if err != nil {
			return err
		}
		var read spec.FileReader
		if c.everyday {
			read = s.Reader()
		}
		p, err := o.describe(config, c.args[1:], read)
		if err != nil {
			return err
		}
		if err := spec.ValidateProcess(p); err != nil {
			return err
		}
		config.Process = p
		return c.exec(r, s, config, &o)
	}
}

// describe is the process that the flags ask for. Read reads files of a container
// whose users may be named; it is nil in the OCI's family.
func (o *execFlags) describe(config *specs.Spec, args []string, read spec.FileReader) (*specs.Process, error) {
	if o.process != "" {
		data, err := sys.ReadFile(o.process)
		if err != nil {
			return nil, err
		}
		p := new(specs.Process)
		if err := spec.Unmarshal(data, p); err != nil {
			return nil, fmt.Errorf("%s: %w", o.process, err)
		}
		p.Terminal = p.Terminal || o.tty
		return p, nil
	}
	p := container.ProcessOf(config, args)
	p.Terminal = o.tty
	for _, e := range o.env {
		spec.SetEnv(&specs.Spec{Process: p}, e)
	}
	if o.cwd != "" {
		p.Cwd = o.cwd
	}
	p.NoNewPrivileges = p.NoNewPrivileges || o.noPrivs
	if o.label != "" {
		p.SelinuxLabel = o.label
	}
	if o.apparmor != "" {
		p.ApparmorProfile = o.apparmor
	}
	o.capabilities(p)
	if read != nil && o.user != "" {
		own := specs.Spec{Process: p}
		p.Env = slices.DeleteFunc(p.Env, func(e string) bool {
			return strings.HasPrefix(e, "HOME=") && !slices.Contains(o.env, e) // it was the other user's
		})
		return p, spec.SetUser(&own, o.user, read)
	}
	return p, o.ids(p)
}

// capabilities adds those of the flags to every set but the ambient one.
func (o *execFlags) capabilities(p *specs.Process) {
	if len(o.caps) == 0 {
		return
	}
	sets := specs.LinuxCapabilities{}
	if p.Capabilities != nil {
		sets = *p.Capabilities
	}
	for _, set := range []*[]string{&sets.Bounding, &sets.Effective, &sets.Permitted} {
		*set = append(slices.Clone(*set), o.caps...)
	}
	p.Capabilities = &sets
}

// ids are numbers alone in the OCI's family: a name would be looked up in files of
// the container.
func (o *execFlags) ids(p *specs.Process) error {
	id := func(text string) (uint32, error) {
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return 0, fmt.Errorf("--user: %q is no id from 0 to 2147483647", text)
		}
		return uint32(n), nil
	}
	if o.user != "" {
		uid, gid, both := strings.Cut(o.user, ":")
		var err error
		if p.User.UID, err = id(uid); err != nil {
			return err
		}
		if both {
			if p.User.GID, err = id(gid); err != nil {
				return err
			}
		}
	}
	for _, g := range o.groups {
		gid, err := id(strconv.FormatInt(g, 10))
		if err != nil {
			return err
		}
		p.User.AdditionalGids = append(p.User.AdditionalGids, gid)
	}
	return nil
}

// exec starts the process, and stays with it unless it is detached.
func (c *call) exec(r *container.Runtime, s *container.State, config *specs.Spec, o *execFlags) error {
	options, err := o.options(config, o.detach)
	if err != nil {
		return err
	}
	options.Cgroup, options.Paused = o.cgroup, o.paused
	if o.detach {
		if c.everyday { // nobody sees what it writes
			if c.stderr, err = engine.Silence(); err != nil {
				return err
			}
		}
		p, err := r.Exec(s, config.Process, options)
		if err != nil {
			return err
		}
		defer p.Close()
		if err := o.announce(p.PID, "setns"); err != nil {
			p.Kill()
			return err
		}
		return nil
	}
	var signals engine.Signals
	catch := func() {
		signals = *engine.CatchSignals()
		signals.Wait()
	}
	if !o.paused {
		catch()
	}
	status, err := engine.Foreground(config.Process.Terminal, &signals, func(tty container.Options) (engine.Process, error) {
		options.Console, options.Relay = tty.Console, tty.Relay
		p, err := r.Exec(s, config.Process, options)
		if err != nil {
			return nil, err
		}
		if o.paused { // until here a signal ended the wait; without us nobody begins there
			catch()
		}
		if err := o.announce(p.PID, "setns"); err != nil {
			p.Kill()
			return nil, err
		}
		return p, nil
	})
	return ended(status, err)
}
