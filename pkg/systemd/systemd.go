// Package systemd has systemd make and remove the cgroups of containers, over
// D-Bus: org.freedesktop.systemd1(5). On a host whose cgroups systemd manages
// there is one writer of the tree, as it asks for: a container's cgroup is a
// scope unit, systemd.scope(5).
package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/cgroup"
	"github.com/minictr/minictr/pkg/container"
)

// patience bounds the wait for an answer of systemd's.
const patience = 30 * time.Second

// Units are those of the system's systemd, or without the power of root those of
// the user's own.
type Units struct{}

// PID is the process of that systemd.
func (Units) PID() (int, error) {
	if !container.Rootless() {
		return 1, nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: private()}); err != nil {
		return 0, fmt.Errorf("%w: connect to %s: %w", errNoUser, private(), err)
	}
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, fmt.Errorf("getsockopt: %w", err)
	}
	return int(peer.Pid), nil
}

var errNoUser = errors.New("the user's systemd does not answer, which makes cgroups for who is not root (loginctl enable-linger starts it)")

// private is the socket on which the user's systemd listens.
func private() string {
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = fmt.Sprintf("/run/user/%d", os.Geteuid())
	}
	return dir + "/systemd/private"
}

// user connects to it. It wants to hear who we are by the id that it knows us
// by, outside the user namespace that we may be in.
func user(ctx context.Context) (*dbus.Conn, error) {
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return nil, err
	}
	uid := os.Geteuid()
	for line := range strings.Lines(string(text)) {
		var inside, outside, size int
		if _, err := fmt.Sscan(line, &inside, &outside, &size); err != nil {
			return nil, fmt.Errorf("/proc/self/uid_map: %w", err)
		}
		if n := uid - inside; n >= 0 && n < size {
			uid = outside + n
			break
		}
	}
	c, err := dbus.Dial("unix:path="+private(), dbus.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoUser, err)
	}
	if err := c.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(uid))}); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Start makes a scope for a process, and waits until it is there.
func (Units) Start(unit string, properties []cgroup.Property) error {
	return with(func(ctx context.Context, c *sd.Conn) error {
		list, err := encode(properties)
		if err != nil {
			return err
		}
		// What an earlier container of this name has left failed is in the way.
		_ = c.ResetFailedUnitContext(ctx, unit)
		done := make(chan string, 1)
		if _, err := c.StartTransientUnitContext(ctx, unit, "replace", list, done); err != nil {
			if named(err, "UnitExists") {
				err = fmt.Errorf("%w: %w", container.ErrUnitExists, err)
			}
			return err
		}
		return result(ctx, unit, done)
	})
}

// Set changes properties of a unit until it ends.
func (Units) Set(unit string, properties []cgroup.Property) error {
	return with(func(ctx context.Context, c *sd.Conn) error {
		list, err := encode(properties)
		if err != nil {
			return err
		}
		return c.SetUnitPropertiesContext(ctx, unit, true, list...)
	})
}

// Stop ends a unit, and waits until its name is free. One that is not there is
// no error.
func (Units) Stop(unit string) error {
	return with(func(ctx context.Context, c *sd.Conn) error {
		done := make(chan string, 1)
		_, err := c.StopUnitContext(ctx, unit, "replace", done)
		if err == nil {
			err = result(ctx, unit, done)
		}
		if named(err, "NoSuchUnit") {
			err = nil
		}
		_ = c.ResetFailedUnitContext(ctx, unit) // it is not there, most often
		return err
	})
}

// named says whether an error is systemd's of that name.
func named(err error, name string) bool {
	var e dbus.Error
	return errors.As(err, &e) && e.Name == "org.freedesktop.systemd1."+name
}

// result waits for the end of a job.
func result(ctx context.Context, unit string, done <-chan string) error {
	select {
	case r := <-done:
		if r != "done" {
			return fmt.Errorf("the job for %s has ended as %q: systemctl status %[1]s says more", unit, r)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the job for %s does not end: %w", unit, ctx.Err())
	}
}

// with does something over the socket on which systemd itself listens: no
// message bus is needed.
func with(do func(context.Context, *sd.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := do(ctx, c); err != nil {
		return fmt.Errorf("systemd: %w", err)
	}
	return nil
}

func connect(ctx context.Context) (*sd.Conn, error) {
	if container.Rootless() {
		return sd.NewConnection(func() (*dbus.Conn, error) { return user(ctx) })
	}
	c, err := sd.NewSystemdConnectionContext(ctx)
	if err != nil {
		err = fmt.Errorf("systemd does not answer: is it this system's process 1? %w", err)
	}
	return c, err
}

// encode gives properties their types on the wire. Those that come from an
// annotation have the text form of D-Bus values.
func encode(properties []cgroup.Property) (list []sd.Property, err error) {
	for _, p := range properties {
		v := dbus.MakeVariant(p.Value)
		if text, ok := p.Value.(cgroup.Text); ok {
			if v, err = dbus.ParseVariant(string(text), dbus.Signature{}); err != nil {
				return nil, fmt.Errorf("%s: %q: %w", p.Name, text, err)
			}
			// People write seconds, and the bus has microseconds only.
			if name, ok := strings.CutSuffix(p.Name, "Sec"); ok && !strings.HasSuffix(name, "U") {
				if v, err = microseconds(v); err != nil {
					return nil, fmt.Errorf("%s: %w", p.Name, err)
				}
				p.Name = name + "USec"
			}
		}
		list = append(list, sd.Property{Name: p.Name, Value: v})
	}
	return list, nil
}

func microseconds(v dbus.Variant) (dbus.Variant, error) {
	const second = 1e6
	switch n := v.Value().(type) {
	case int32:
		return dbus.MakeVariant(uint64(n) * second), nil
	case uint32:
		return dbus.MakeVariant(uint64(n) * second), nil
	case int64:
		return dbus.MakeVariant(uint64(n) * second), nil
	case uint64:
		return dbus.MakeVariant(n * second), nil
	case float64:
		return dbus.MakeVariant(uint64(n * second)), nil
	}
	return v, fmt.Errorf("%v is no number of seconds", v)
}
