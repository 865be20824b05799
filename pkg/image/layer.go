package image

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
)

// The parts of a layer's directory.
const (
	layerTree = "tree"          // its files
	layerNote = "unlisted.json" // a list of directories in it that its archive does not list
)

// unpackLayer unpacks the blob of a layer into the directory dir and reads it
// to its end. If it returns no error, the plain archive has the digest diffID;
// that of the blob is for who gives it to verify.
func (st *stage) unpackLayer(p *pipeline, blob io.Reader, diffID Digest, dir string) error {
	got, err := st.unpackArchive(p.ctx, p, blob, dir)
	if err != nil {
		return err
	}
	return checkDiffID(diffID, got)
}

// verifyLayer is unpackLayer of a layer that is there: it leaves nothing.
func (st *stage) verifyLayer(p *pipeline, blob io.Reader, diffID Digest) error {
	got, err := st.readArchive(p, blob, drain)
	if err != nil {
		return err
	}
	return checkDiffID(diffID, got)
}

func checkDiffID(want, got Digest) error {
	if got != want {
		return &MismatchError{Blob: want, What: "diffID", Want: want.String(), Got: got.String()}
	}
	return nil
}

// unpackArchive unpacks a tar, which may be compressed, and returns the digest
// of the plain one.
func (st *stage) unpackArchive(ctx context.Context, p *pipeline, blob io.Reader, dir string) (Digest, error) {
	return st.readArchive(p, blob, func(r io.Reader) error {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		unlisted, err := untar(ctx, r, filepath.Join(dir, layerTree), st.budget, st.limits)
		if err != nil {
			return err
		}
		note, err := json.Marshal(unlisted)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, layerNote), note, 0o600)
	})
}

// readArchive passes a plain tar on, and returns its digest. The blob is read
// to its end, and ahead where there is a pipeline: a stream that nobody can
// interrupt has none.
func (st *stage) readArchive(p *pipeline, blob io.Reader, use func(io.Reader) error) (diffID Digest, err error) {
	plain, err := decompress(blob, st.limits.Window)
	if err != nil {
		return Digest{}, err
	}
	sum := sha256.New()
	r := io.TeeReader(budgeted{plain, &st.budget.bytes}, sum)
	if p == nil {
		defer plain.Close()
	} else {
		r = p.ahead(r, func() { _ = plain.Close() }) // it has no error to tell, io.NopCloser and zstd.Decoder
	}
	// What follows the end of the archive, usually zero bytes, is part of both
	// digests.
	for _, read := range []func() error{
		func() error { return use(r) },
		func() error { return drain(r) },
		func() error { return drain(blob) },
	} {
		if err := read(); err != nil {
			return Digest{}, err
		}
	}
	return digestOf(sum), nil
}

// budgeted reads what is taken from an allowance.
type budgeted struct {
	io.Reader
	left *allowance
}

func (b budgeted) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if e := b.left.take(int64(n)); e != nil {
		return 0, e
	}
	return n, err
}
