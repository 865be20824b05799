package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"time"
)

const maxTries = 4

// delays are how long to wait; those that are zero are the usual ones.
type delays struct {
	first   time.Duration // before the second try; each later one doubles it
	longest time.Duration // that a server may ask for
	idle    time.Duration // for too few bytes
}

func (d delays) orUsual() delays {
	if d.first == 0 {
		d.first = 2 * time.Second
	}
	if d.longest == 0 {
		d.longest = time.Minute
	}
	if d.idle == 0 {
		d.idle = idleTimeout
	}
	return d
}

// retry calls do until it succeeds, fails for good, or has failed too often.
func (c *Client) retry(ctx context.Context, do func() error) error {
	for try := 1; ; try++ {
		err := do()
		if err == nil || !c.again(ctx, &err, try) {
			return err
		}
	}
}

// again tells whether it makes sense to try what has failed once more, after a
// wait. The wait is random in part, so that the clients of a server that has
// failed don't come back all at once. err says how often it was tried.
func (c *Client) again(ctx context.Context, err *error, try int) bool {
	d := c.delays.orUsual()
	wait := d.first << (try - 1)
	wait = wait/2 + rand.N(wait/2+1)
	status, answered := errors.AsType[*StatusError](*err)
	switch {
	case ctx.Err() != nil:
		return false
	case answered && slices.Contains([]int{http.StatusRequestTimeout, http.StatusTooManyRequests}, status.Status),
		answered && status.Status >= 500 && status.Status != http.StatusNotImplemented:
		if wait = max(wait, status.RetryAfter); status.RetryAfter > d.longest {
			*err = fmt.Errorf("%w; it may be asked again in %v", *err, status.RetryAfter)
			return false
		}
	case answered || !isBroken(*err):
		return false
	}
	if try >= maxTries {
		*err = fmt.Errorf("%w, after %d tries", *err, try)
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(wait):
		return true
	}
}

// isDial tells whether there was no connection.
func isDial(err error) bool {
	network, found := errors.AsType[*net.OpError](err)
	return found && network.Op == "dial"
}

// isBroken tells whether a connection that was there has ended.
func isBroken(err error) bool {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	if network, found := errors.AsType[*net.OpError](err); found {
		return network.Op == "read" || network.Op == "write"
	}
	return errors.Is(err, io.EOF) || errors.As(err, new(*stalledError))
}

// stalledError says that a server has all but stopped without closing the connection.
type stalledError struct{ idle time.Duration }

func (e *stalledError) Error() string {
	return fmt.Sprintf("less than 1 kB a second has moved for %v", e.idle)
}

// watch ends a request when nothing has moved for a while. Time that we take
// ourselves, to unpack what came, doesn't count.
type watch struct {
	context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	idle   time.Duration
}

func newWatch(ctx context.Context, idle time.Duration) *watch {
	w := &watch{idle: idle}
	w.Context, w.cancel = context.WithCancelCause(ctx)
	w.timer = time.AfterFunc(idle, func() { w.cancel(&stalledError{idle}) })
	return w
}

func (w *watch) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// cause is err, or why the watch has ended the request.
func (w *watch) cause(err error) error {
	if err != nil && !errors.Is(err, io.EOF) && w.Err() != nil {
		return context.Cause(w)
	}
	return err
}

// A download is the body of an answer: the time that the server takes counts. A
// byte that comes gives it a millisecond more, up to what it had at first: so a
// link of 1 kB a second, with all the pauses that it can make up for, is fast
// enough, and a server that drips can hold nobody up.
type download struct {
	io.ReadCloser
	watch *watch
	left  time.Duration
}

func (d *download) Read(p []byte) (int, error) {
	d.watch.timer.Reset(d.left)
	defer d.watch.timer.Stop()
	began := time.Now()
	n, err := d.ReadCloser.Read(p)
	d.left = min(d.left-time.Since(began)+time.Duration(n)*time.Millisecond, d.watch.idle)
	return n, d.watch.cause(err)
}

func (d *download) Close() error {
	defer d.watch.stop()
	return d.ReadCloser.Close()
}

// An upload is the body of a request: the time until the next part is asked
// for counts. When the last has gone, the server may have to put it away.
type upload struct {
	io.Reader
	watch *watch
}

func (u *upload) Read(p []byte) (int, error) {
	n, err := u.Reader.Read(p)
	if u.watch.timer.Reset(u.watch.idle); err == io.EOF {
		u.watch.timer.Reset(10 * u.watch.idle)
	}
	return n, err
}

func (*upload) Close() error { return nil }
