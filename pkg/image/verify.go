package image

import (
	"context"
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

// copyBuffer is of a good size for reading streams.
type copyBuffer [128 << 10]byte

var copyBuffers = sync.Pool{New: func() any { return new(copyBuffer) }}

// drain reads r to its end for what reading does on the way.
func drain(r io.Reader) error {
	buf := copyBuffers.Get().(*copyBuffer)
	defer copyBuffers.Put(buf)
	for {
		if _, err := r.Read(buf[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// interruptible is a reader that ends with the context, between two reads.
type interruptible struct {
	context.Context
	r io.Reader
}

func (i interruptible) Read(p []byte) (int, error) {
	if err := i.Err(); err != nil {
		return 0, err
	}
	return i.r.Read(p)
}
