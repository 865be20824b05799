package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/sys"
)

// load finds a container's state, by its ID, its name or the beginning of its ID.
func (c *call) load(ref string) (*container.State, error) {
	s, err := c.runtime().Load(ref)
	if !errors.Is(err, container.ErrNotExist) || c.runc {
		return s, err
	}
	e, failed := c.engine()
	if failed != nil {
		return nil, failed
	}
	found, failed := e.Find(ref)
	if failed != nil {
		return nil, err
	}
	if s, err = found.State(); errors.Is(err, container.ErrNotExist) {
		err = fmt.Errorf("%w: %s", container.ErrStopped, ref)
	}
	return s, err
}

// isKept says whether a container is one of the engine's, which has a record.
func (c *call) isKept(id string) bool {
	e, err := c.engine()
	if err != nil || c.runc {
		return false
	}
	ctr, err := e.Find(id)
	return err == nil && ctr.LogFile() != ""
}

// ofContainers does something with each container that is named.
func (c *call) ofContainers(do func(*engine.Engine, *engine.Container) error) error {
	return c.ofAll(false, do)
}

// ofAll does it by force with those, too, whose record is not whole.
func (c *call) ofAll(force bool, do func(*engine.Engine, *engine.Container) error) error {
	if len(c.args) == 0 {
		return fmt.Errorf("%s needs a container: minictr ps -a lists them", c.name)
	}
	e, err := c.engine()
	if err != nil {
		return err
	}
	if err := e.Sweep(); err != nil {
		return err
	}
	return c.each(func(ref string) error {
		found, err := e.Find(ref)
		if force && errors.Is(err, engine.ErrTorn) {
			found, err = e.Torn(ref), nil
		}
		if err != nil {
			return err
		}
		return do(e, found)
	})
}

func rmCommand(f *pflag.FlagSet) action {
	force := f.BoolP("force", "f", false, "kill them first, if they run")
	volumes := f.BoolP("volumes", "v", false, "their volumes without a name go, too")
	return func(c *call) error {
		err := c.ofAll(*force, func(e *engine.Engine, ctr *engine.Container) error {
			err := e.Remove(ctr, *force, *volumes)
			if *force && errors.Is(err, container.ErrNotExist) {
				return nil // its monitor was faster, as --rm has it
			}
			return err
		})
		if *force && errors.Is(err, container.ErrNotExist) && len(c.args) == 1 && container.ValidateID(c.args[0]) == nil {
			return nil // it is gone already
		}
		return err
	}
}

// stopFlags are those of stop and restart.
func stopFlags(f *pflag.FlagSet) (stop func(*engine.Engine, *engine.Container) error) {
	signal := f.StringP("signal", "s", "", "ask it to end by this `SIGNAL`, and not its own")
	seconds := f.IntP("time", "t", defaultStop, "kill it after `SECONDS`")
	f.IntVar(seconds, "timeout", defaultStop, "as --time, in `SECONDS`")
	return func(e *engine.Engine, ctr *engine.Container) (err error) {
		var sig unix.Signal
		if *signal != "" {
			if sig, err = engine.ParseSignal(*signal); err != nil || sig == 0 {
				return fmt.Errorf("--signal: %q is no signal: a name such as TERM or SIGTERM, or a number from 1 to 64", *signal)
			}
		}
		n := *seconds
		if !f.Changed("time") && !f.Changed("timeout") && ctr.Options.StopTimeout != nil {
			n = *ctr.Options.StopTimeout
		}
		wait := time.Duration(n) * time.Second
		if n < 0 {
			wait = sys.Forever
		}
		return e.Stop(ctr, sig, wait)
	}
}

// defaultStop is how many seconds a container has to end, as Docker has it.
const defaultStop = 10

func stopCommand(f *pflag.FlagSet) action {
	stop := stopFlags(f)
	return func(c *call) error { return c.ofContainers(stop) }
}

func restartCommand(f *pflag.FlagSet) action {
	stop := stopFlags(f)
	return func(c *call) error {
		return c.ofContainers(func(e *engine.Engine, ctr *engine.Container) error {
			if err := stop(e, ctr); err != nil {
				return err
			}
			return e.Start(ctr)
		})
	}
}

func waitCommand(*pflag.FlagSet) action {
	return func(c *call) error {
		e, err := c.engine()
		if err != nil {
			return err
		}
		if len(c.args) == 0 {
			return errors.New("wait needs a container: minictr ps lists them")
		}
		if err := e.Sweep(); err != nil {
			return err
		}
		for _, ref := range c.args {
			found, err := e.Find(ref)
			if err != nil {
				return err
			}
			status, err := e.Wait(found)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintln(c.stdout, status); err != nil {
				return err
			}
		}
		return nil
	}
}

func renameCommand(*pflag.FlagSet) action {
	return withEngine(2, func(c *call, e *engine.Engine) error {
		found, err := e.Find(c.args[0])
		if err != nil {
			return err
		}
		return e.Rename(found, c.args[1])
	})
}

// createOrBundle is create: of the OCI's family where --bundle says so, or this
// program is called runc.
func createOrBundle(f *pflag.FlagSet) action {
	var o engine.Options
	wallFlags(f, &o, "v")
	initFlag(f, &o)
	bundle := createFlags(f, "")
	return func(c *call) error {
		if f.Changed("bundle") {
			return c.createBundle(bundle)
		}
		e, err := c.engine()
		if err != nil {
			return err
		}
		if err := c.complete(&o); err != nil {
			return err
		}
		ctr, err := e.Create(c, o)
		if err != nil {
			return err
		}
		return errors.Join(c.printID(ctr), ctr.Close())
	}
}

// printID prints the ID of a new container.
func (c *call) printID(ctr *engine.Container) error {
	_, err := fmt.Fprintln(c.stdout, ctr.ID)
	return err
}

// detached runs a container that outlives this process; one that does not start
// is removed.
func (c *call) detached(e *engine.Engine, o engine.Options) error {
	ctr, err := e.Create(c, o)
	if err != nil {
		return err
	}
	if o.Detach {
		if err := e.Start(ctr); err != nil {
			return errors.Join(err, e.Remove(ctr, true, true))
		}
		return c.printID(ctr)
	}
	status, err := c.startAndAttach(e, ctr, o.Interactive, "")
	return ended(status, err)
}

// startAndAttach starts a container, and stays with it.
func (c *call) startAndAttach(e *engine.Engine, ctr *engine.Container, input bool, keys string) (int, error) {
	parsed, err := engine.ParseKeys(keys)
	if err != nil {
		return 0, err
	}
	since := time.Now()
	if err := e.Start(ctr); err != nil {
		return 0, err
	}
	return c.attach(e, ctr, engine.Attachment{Since: since, Input: input, Once: true, Keys: parsed, Signals: engine.CatchSignals()})
}

// attach stays with a container. Who leaves it by keys has done what he wanted.
func (c *call) attach(e *engine.Engine, ctr *engine.Container, a engine.Attachment) (int, error) {
	status, err := e.Attach(c, ctr, a)
	if errors.Is(err, engine.ErrDetached) {
		fmt.Fprintln(c.stderr, "read escape sequence")
		return 0, nil
	}
	return status, err
}

// startCommand is start of both families.
func startCommand(f *pflag.FlagSet) action {
	attach := f.BoolP("attach", "a", false, "stay with it, and show its output")
	input := f.BoolP("interactive", "i", false, "send it standard input as well")
	keys := f.String("detach-keys", engine.DetachKeys, "the `KEYS` that leave it")
	all := f.Bool("all", false, "all that are not running")
	var filters []string
	f.Var((*list)(&filters), "filter", "only those of a `FILTER`: restart-policy=POLICY, should-start-on-boot=true")
	return func(c *call) error {
		e, err := c.engine()
		if err != nil {
			return err
		}
		switch {
		case *all:
			return c.startAll(e, filters)
		case len(c.args) == 1 && c.begins(e, c.args[0]):
			return c.notified().Begin(c.args[0])
		case *attach || *input:
			if err := c.exactly(1, "-a CONTAINER"); err != nil {
				return err
			}
			if err := e.Sweep(); err != nil {
				return err
			}
			ctr, err := e.Find(c.args[0])
			if err != nil {
				return err
			}
			status, err := c.startAndAttach(e, ctr, *input, *keys)
			return ended(status, err)
		}
		return c.ofContainers(func(e *engine.Engine, ctr *engine.Container) error { return e.Start(ctr) })
	}
}

// begins says whether a container is one that the OCI's create has made, or none
// at all.
func (c *call) begins(e *engine.Engine, ref string) bool {
	if c.runc || c.runtime().Has(ref) && !c.isKept(ref) {
		return true
	}
	_, err := e.Find(ref)
	return err != nil
}

// startAll starts those that are not running, if they meet all filters: also one
// whose monitor is just about to end.
func (c *call) startAll(e *engine.Engine, filters []string) error {
	if err := e.Sweep(); err != nil {
		return err
	}
	list, broken := e.Containers()
	for _, ctr := range list {
		meets, err := startFilter(ctr, filters)
		if err != nil {
			return err
		}
		if !meets || !ctr.Rests() {
			continue
		}
		if err := e.Start(ctr); err != nil {
			broken = errors.Join(broken, fmt.Errorf("container %s: %w", ctr.Title(), err))
			continue
		}
		fmt.Fprintln(c.stdout, ctr.Title())
	}
	return broken
}

func startFilter(ctr *engine.Container, filters []string) (bool, error) {
	for _, filter := range filters {
		key, value, _ := strings.Cut(filter, "=")
		switch {
		case key == "restart-policy":
			if ctr.Restart.Policy != value {
				return false, nil
			}
		case key == "should-start-on-boot" && (value == "true" || value == "false"):
			if ctr.AtBoot() != (value == "true") {
				return false, nil
			}
		default:
			return false, fmt.Errorf("--filter: %q is neither restart-policy=POLICY nor should-start-on-boot=true", filter)
		}
	}
	return true, nil
}

func attachCommand(f *pflag.FlagSet) action {
	keys := f.String("detach-keys", engine.DetachKeys, "the `KEYS` that leave it")
	noInput := f.Bool("no-stdin", false, "send it nothing")
	proxy := f.Bool("sig-proxy", true, "send signals on to it")
	return func(c *call) error {
		if err := c.exactly(1, "CONTAINER"); err != nil {
			return err
		}
		e, err := c.engine()
		if err != nil {
			return err
		}
		if err := e.Sweep(); err != nil {
			return err
		}
		ctr, err := e.Find(c.args[0])
		if err != nil {
			return err
		}
		if !ctr.Monitored() {
			return fmt.Errorf("%w: %s: minictr start -a starts it", container.ErrStopped, ctr.Title())
		}
		a := engine.Attachment{Input: !*noInput}
		if a.Keys, err = engine.ParseKeys(*keys); err != nil {
			return err
		}
		if *proxy {
			a.Signals = engine.CatchSignals()
		}
		status, err := c.attach(e, ctr, a)
		return ended(status, err)
	}
}

func monitorCommand(*pflag.FlagSet) action {
	return withEngine(1, func(c *call, e *engine.Engine) error { return e.Monitor(c.args[0]) })
}
