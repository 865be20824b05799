package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/spec"
)

// The operations of the OCI runtime specification, as container managers call
// them: by a bundle, and with the flags that they know.

// startFlags are those of create and run.
type startFlags struct {
	bundle, pidFile              string
	consoleSocket, pidfdSocket   string
	noPivot, noNewKeyring, keeps bool
	preserve                     int
	edit                         func(*plan.Plan) // that of container.Options
}

func (o *startFlags) add(f *pflag.FlagSet) {
	o.sockets(f)
	f.BoolVar(&o.noPivot, "no-pivot", false, "refused: a root that is no mount can't hold a container")
	f.BoolVar(&o.noNewKeyring, "no-new-keyring", false, "leave the caller's session keyring to it")
}

// sockets are the flags that exec has as well.
func (o *startFlags) sockets(f *pflag.FlagSet) {
	f.StringVar(&o.pidFile, "pid-file", "", "write the PID of its process to `FILE`")
	f.StringVar(&o.consoleSocket, "console-socket", "", "send its terminal's master end to the Unix socket `PATH`")
	f.StringVar(&o.pidfdSocket, "pidfd-socket", "", "send a pidfd of its process to the Unix socket `PATH`")
	f.IntVar(&o.preserve, "preserve-fds", 0, "pass `N` descriptors from 3 on to it as well")
}

// createBundleCommand is create of the OCI's family alone.
func createBundleCommand(f *pflag.FlagSet) action {
	o := createFlags(f, ".")
	return func(c *call) error { return c.createBundle(o) }
}

// createFlags are those of create for a bundle.
func createFlags(f *pflag.FlagSet, bundle string) *startFlags {
	o := new(startFlags)
	f.StringVarP(&o.bundle, "bundle", "b", bundle, "the OCI bundle in `DIR`")
	o.add(f)
	return o
}

func (c *call) createBundle(o *startFlags) error {
	if err := c.exactly(1, "ID"); err != nil {
		return err
	}
	s, ctr, err := c.newContainer(o, true)
	if err != nil {
		return err
	}
	options, err := o.options(s, true)
	if err == nil {
		err = ctr.Create(s, options)
	}
	return o.leave(ctr, err)
}

// newContainer loads a bundle, and takes the ID for it.
func (c *call) newContainer(o *startFlags, detached bool) (*specs.Spec, *container.Container, error) {
	if o.noPivot {
		return nil, nil, errors.New("--no-pivot is not supported: without pivot_root(2) the host's root stays within reach")
	}
	bundle, err := filepath.Abs(o.bundle)
	if err != nil {
		return nil, nil, err
	}
	s, err := spec.Load(bundle)
	if err != nil {
		return nil, nil, err
	}
	if n := os.Getenv("LISTEN_FDS"); n != "" && os.Getenv("LISTEN_PID") == strconv.Itoa(os.Getpid()) { // sd_listen_fds(3)
		count, err := strconv.Atoi(n)
		if err != nil || count < 0 {
			return nil, nil, fmt.Errorf("LISTEN_FDS: %q is no number of descriptors", n)
		}
		o.preserve += count
		s.Process.Env = append(s.Process.Env, "LISTEN_FDS="+n, "LISTEN_PID=1")
	}
	ctr, err := c.notified().New(container.Config{ID: c.args[0], Bundle: bundle, Detached: detached, Scope: c.systemdCgroup})
	return s, ctr, err
}

// options connects the console socket, if there is one.
func (o *startFlags) options(s *specs.Spec, detached bool) (container.Options, error) {
	options := container.Options{Preserved: o.preserve, OldKeys: o.noNewKeyring, Edit: o.edit}
	if o.preserve < 0 {
		return options, fmt.Errorf("--preserve-fds: %d is no number of descriptors", o.preserve)
	}
	for fd := range o.preserve {
		if err := unix.Fstat(3+fd, new(unix.Stat_t)); err != nil {
			return options, fmt.Errorf("--preserve-fds: descriptor %d: %w", 3+fd, err)
		}
	}
	terminal := s.Process.Terminal
	switch {
	case detached && terminal && o.consoleSocket == "":
		return options, errors.New("cannot allocate tty if runc will detach without setting console socket")
	case o.consoleSocket != "" && (!detached || !terminal):
		return options, errors.New("cannot use console socket if runc will not detach or allocate tty")
	case o.consoleSocket != "":
		var err error
		options.Console, err = connect(o.consoleSocket)
		return options, err
	}
	return options, nil
}

// leave ends a command whose container stays.
func (o *startFlags) leave(ctr *container.Container, err error) error {
	if err == nil {
		err = o.announce(ctr.PID, "standard")
	}
	if err != nil {
		return errors.Join(err, ctr.Abort())
	}
	return ctr.Release()
}

// announce tells of a process that is there.
func (o *startFlags) announce(pid int, kind string) error {
	if o.pidfdSocket != "" {
		if err := sendPidfd(o.pidfdSocket, pid, kind); err != nil {
			return err
		}
	}
	if o.pidFile == "" {
		return nil
	}
	dir, name := filepath.Split(o.pidFile)
	temporary := filepath.Join(dir, "."+name+".tmp")
	if err := os.WriteFile(temporary, strconv.AppendInt(nil, int64(pid), 10), 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, o.pidFile)
}

// connect opens a Unix socket by its path.
func connect(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return -1, errors.Join(fmt.Errorf("connect to %s: %w", path, err), unix.Close(fd))
	}
	return fd, nil
}

func sendPidfd(path string, pid int, kind string) error {
	socket, err := connect(path)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(pidfd)
	return unix.Sendmsg(socket, []byte(kind), unix.UnixRights(pidfd), nil, 0)
}

// beginCommand is start of the OCI's family alone.
func beginCommand(*pflag.FlagSet) action {
	return func(c *call) error {
		if err := c.exactly(1, "ID"); err != nil {
			return err
		}
		return c.notified().Begin(c.args[0])
	}
}

// notified is the runtime for a caller that may be a service manager.
func (c *call) notified() *container.Runtime {
	r := c.runtime()
	r.Notify = os.Getenv(container.Notify)
	return r
}

// runBundle is run of the OCI's family: a bundle and an ID.
func (c *call) runBundle(o *startFlags, detach bool) (err error) {
	if o.bundle == "" {
		return errors.New("--bundle: it is empty: leave it out, or give it a value")
	}
	if err := c.exactly(1, "--bundle DIR ID"); err != nil {
		return err
	}
	var signals *engine.Signals
	if !detach {
		signals = engine.CatchSignals()
	}
	s, ctr, err := c.newContainer(o, detach)
	if err != nil {
		return err
	}
	if detach {
		options, err := o.options(s, true)
		if err == nil {
			err = ctr.Start(s, options)
		}
		return o.leave(ctr, err)
	}
	signals.Wait()
	end := ctr.Delete
	if o.keeps {
		end = ctr.Keep
	}
	defer func() { err = errors.Join(err, end()) }()
	options, err := o.options(s, false)
	if err != nil {
		return err
	}
	status, err := engine.Foreground(s.Process.Terminal, signals, func(tty container.Options) (engine.Process, error) {
		options.Console, options.Relay = tty.Console, tty.Relay
		if err := ctr.Start(s, options); err != nil {
			return nil, err
		}
		return ctr, o.announce(ctr.PID, "standard")
	})
	return ended(status, err)
}

func stateCommand(*pflag.FlagSet) action {
	return func(c *call) error {
		if err := c.exactly(1, "ID"); err != nil {
			return err
		}
		s, err := c.load(c.args[0])
		if err != nil {
			return err
		}
		o, err := ociState(c.runtime(), s)
		if err != nil {
			return err
		}
		return writeJSON(c.stdout, o)
	}
}

func killCommand(f *pflag.FlagSet) action {
	all := f.BoolP("all", "a", false, "all its processes, not only the first")
	named := f.StringP("signal", "s", "", "send this `SIGNAL`")
	return func(c *call) error {
		name, ids := *named, c.args
		// The OCI's kill has the signal after the ID.
		if n := len(ids); name == "" && n > 1 {
			if _, err := engine.ParseSignal(ids[n-1]); err == nil || n == 2 && c.runtime().Has(ids[0]) {
				name, ids = ids[n-1], ids[:n-1]
			}
		}
		if len(ids) == 0 {
			return errors.New("kill needs an ID, and may have a signal: minictr kill ID [SIGNAL]")
		}
		if len(ids) == 1 && c.runtime().Has(ids[0]) && !c.isKept(ids[0]) {
			sig, err := engine.ParseSignal(cmp.Or(name, "TERM"))
			if err != nil {
				return err
			}
			s, err := c.runtime().Load(ids[0])
			if err != nil {
				return err
			}
			return s.Signal(sig, *all)
		}
		sig, err := engine.ParseSignal(cmp.Or(name, "KILL"))
		if err != nil {
			return err
		}
		c.args = ids
		return c.ofContainers(func(e *engine.Engine, ctr *engine.Container) error { return e.Kill(ctr, sig, *all) })
	}
}

func deleteCommand(f *pflag.FlagSet) action {
	force := f.BoolP("force", "f", false, "kill it first, if it runs; it may be gone already")
	return func(c *call) error {
		if err := c.exactly(1, "ID"); err != nil {
			return err
		}
		r := c.runtime()
		if err := container.ValidateID(c.args[0]); err != nil {
			return err
		}
		err := r.Delete(c.args[0], *force)
		if !errors.Is(err, container.ErrNotExist) {
			return err
		}
		if swept, e := r.SweepOne(c.args[0]); e != nil || swept || *force {
			return e // it has hardly begun, or is gone
		}
		return err
	}
}
