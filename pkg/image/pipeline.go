package image

import (
	"context"
	"io"
	"sync"
)

// A pipeline reads one blob in several goroutines, each some buffers ahead of
// the next: one takes the bytes from the network, one inflates them, and the
// caller's writes files.
type pipeline struct {
	ctx     context.Context // what the first reads must end with it
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func newPipeline(ctx context.Context) *pipeline {
	p := new(pipeline)
	p.ctx, p.cancel = context.WithCancel(ctx)
	return p
}

// end returns when nothing is read any more.
func (p *pipeline) end() {
	p.cancel()
	p.running.Wait()
}

// ahead begins to read r. When that has ended it calls done.
func (p *pipeline) ahead(r io.Reader, done func()) io.Reader {
	a := &ahead{ctx: p.ctx, full: make(chan chunk, aheadBuffers)}
	p.running.Go(func() {
		defer done()
		a.fill(r)
	})
	return a
}

const aheadBuffers = 4

// ahead is what one goroutine has read for another.
type ahead struct {
	ctx  context.Context
	full chan chunk
	now  chunk
	rest []byte
}

// chunk is what was read at once.
type chunk struct {
	buf *copyBuffer
	n   int
	err error
}

func (a *ahead) fill(r io.Reader) {
	for {
		c := chunk{buf: copyBuffers.Get().(*copyBuffer)}
		for c.n < len(c.buf)/2 && c.err == nil { // a socket gives little at a time
			var n int
			n, c.err = r.Read(c.buf[c.n:])
			c.n += n
		}
		select {
		case a.full <- c:
		case <-a.ctx.Done():
			return
		}
		if c.err != nil {
			return
		}
	}
}

func (a *ahead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.now.err != nil {
			return 0, a.now.err
		}
		if a.now.buf != nil {
			copyBuffers.Put(a.now.buf)
		}
		select {
		case a.now = <-a.full:
			a.rest = a.now.buf[:a.now.n]
		case <-a.ctx.Done():
			a.now = chunk{err: a.ctx.Err()}
		}
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}
