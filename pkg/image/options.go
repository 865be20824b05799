package image

import (
	"context"
	"io"
	"runtime"
)

// Options are those of the operations that add images.
type Options struct {
	// Platform chooses among the images of an index; the zero Platform is this
	// machine's.
	Platform Platform
	// BuiltIn lets images have names of the host LocalHost: no registry's image
	// is to be taken for what this program has made itself. Those of archives lose
	// such a name.
	BuiltIn bool
	// Progress, if not nil, is called as the bytes of layers arrive, by one
	// goroutine at a time.
	Progress func(Progress)
	// Referrers, if not nil, lists the manifests whose subject is that digest, to
	// be kept with the image.
	Referrers func(ctx context.Context, subject Digest) ([]Descriptor, error)
}

// LocalHost is the host of the names of images that come from no registry.
const LocalHost = "minictr.local"

// Progress says how many of a layer's bytes have arrived.
type Progress struct {
	Layer       Digest // of the blob
	Done, Total int64
}

func (st *stage) progress(p Progress) {
	if st.opts.Progress != nil {
		st.mu.Lock()
		defer st.mu.Unlock()
		st.opts.Progress(p)
	}
}

func (o Options) platform() Platform {
	if o.Platform.OS == "" && o.Platform.Architecture == "" {
		return Platform{OS: "linux", Architecture: runtime.GOARCH}
	}
	return o.Platform
}

// accept refuses an image that says it is for another platform. One that says
// nothing may be for any.
func (o Options) accept(p Platform) error {
	want := o.platform()
	if p.Architecture == "" && p.OS == "" || want.Runs(p) {
		return nil
	}
	return &PlatformError{Want: want, Have: []Platform{p}}
}

// Runs tells whether an image for other serves who wants p. A variant counts
// only if both have one.
func (p Platform) Runs(other Platform) bool {
	return p.OS == other.OS && p.Architecture == other.Architecture &&
		(p.Variant == "" || other.Variant == "" || p.Variant == other.Variant)
}

type progressReader struct {
	r  io.Reader
	st *stage
	p  Progress
}

func (r *progressReader) Read(b []byte) (int, error) {
	n, err := r.r.Read(b)
	if r.p.Done += int64(n); n > 0 && r.p.Done < r.p.Total { // all of it is here when it is verified
		r.st.progress(r.p)
	}
	return n, err
}
