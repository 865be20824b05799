package image

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"strconv"
	"sync"
)

// verifier passes a blob on while it compares size and digest with those of
// the descriptor. Whoever has read it to io.EOF has read the blob announced;
// one that is too short, too long or another ends in a MismatchError instead.
type verifier struct {
	r    io.Reader
	want Descriptor
	sum  hash.Hash
	size int64
}

func newVerifier(r io.Reader, want Descriptor) *verifier {
	return &verifier{r: r, want: want, sum: sha256.New()}
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.sum.Write(p[:n])
	v.size += int64(n)
	if v.size > v.want.Size {
		return 0, v.mismatch("size", strconv.FormatInt(v.want.Size, 10), "more")
	}
	if err == nil {
		return n, nil
	}
	if err != io.EOF {
		return n, fmt.Errorf("blob %s: after %d of %d bytes: %w", v.want.Digest, v.size, v.want.Size, err)
	}
	if v.size < v.want.Size {
		return n, v.mismatch("size", strconv.FormatInt(v.want.Size, 10), strconv.FormatInt(v.size, 10))
	}
	if got := digestOf(v.sum); got != v.want.Digest {
		return n, v.mismatch("digest", v.want.Digest.String(), got.String())
	}
	return n, io.EOF
}

func (v *verifier) mismatch(what, want, got string) error {
	return &MismatchError{Blob: v.want.Digest, What: what, Want: want, Got: got}
}

// limiter passes at most left bytes on, and then fails with a LimitError.
type limiter struct {
	r     io.Reader
	left  int64
	limit LimitError
}

func newLimiter(r io.Reader, what string, limit int64) *limiter {
	return &limiter{r: r, left: limit, limit: LimitError{What: what, Limit: limit}}
}

func (l *limiter) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	l.left -= int64(n)
	if l.left < 0 {
		return 0, &l.limit
	}
	return n, err
}

// copyBuffers are for reading streams in calls of a good size.
var copyBuffers = sync.Pool{New: func() any { return new([128 << 10]byte) }}

// drain reads r to its end for what reading does on the way.
func drain(r io.Reader) error {
	buf := copyBuffers.Get().(*[128 << 10]byte)
	defer copyBuffers.Put(buf)
	for {
		if _, err := r.Read(buf[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// ahead reads a stream in a goroutine of its own, a few buffers ahead of who
// reads it: so one processor inflates while another writes files.
type ahead struct {
	full chan chunk
	quit chan struct{}
	now  chunk
	rest []byte
}

// chunk is what one call of Read gave.
type chunk struct {
	buf *[128 << 10]byte
	n   int
	err error
}

const aheadBuffers = 4

// readAhead begins to read r, and calls done when it has ended: at r's end, or
// some time after stop.
func readAhead(r io.Reader, done func()) *ahead {
	a := &ahead{full: make(chan chunk, aheadBuffers), quit: make(chan struct{})}
	go func() {
		defer done()
		for {
			c := chunk{buf: copyBuffers.Get().(*[128 << 10]byte)}
			for c.n < len(c.buf)/2 && c.err == nil { // a socket gives little at a time
				var n int
				n, c.err = r.Read(c.buf[c.n:])
				c.n += n
			}
			select {
			case a.full <- c:
			case <-a.quit:
				return
			}
			if c.err != nil {
				return
			}
		}
	}()
	return a
}

func (a *ahead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.now.err != nil {
			return 0, a.now.err
		}
		if a.now.buf != nil {
			copyBuffers.Put(a.now.buf)
		}
		a.now = <-a.full
		a.rest = a.now.buf[:a.now.n]
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

func (a *ahead) stop() { close(a.quit) }
