package image

import (
	"bufio"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/xi2/xz"
)

type compression int

const (
	uncompressed compression = iota
	gzipped
	zstandard
	bzipped
	xzipped
)

// magicSize is how many first bytes tell how a file is compressed.
const magicSize = 6

// anyWindow is for what was let in before.
const anyWindow = 1 << 40

func compressionOf(magic []byte) compression {
	s := string(magic)
	switch {
	case strings.HasPrefix(s, "\x1f\x8b"):
		return gzipped
	case strings.HasPrefix(s, "\x28\xb5\x2f\xfd"):
		return zstandard
	case len(s) >= 4 && s[0]>>4 == 5 && s[1:4] == "\x2a\x4d\x18": // a skippable frame
		return zstandard
	case strings.HasPrefix(s, "BZh"):
		return bzipped
	case strings.HasPrefix(s, "\xfd7zXZ\x00"):
		return xzipped
	}
	return uncompressed
}

// decompress returns the plain bytes of r, which may be compressed by gzip
// (of several members, too), zstd, bzip2 or xz, as its first bytes tell, or
// not at all. A zstd stream that wants a larger window is refused. Closing the
// result does not close r.
func decompress(r io.Reader, window int64) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	magic, err := buffered.Peek(magicSize)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch compressionOf(magic) {
	case gzipped:
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		return z, nil
	case zstandard:
		z, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(uint64(window)))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		return z.IOReadCloser(), nil
	case bzipped:
		return io.NopCloser(bzip2.NewReader(buffered)), nil
	case xzipped:
		z, err := xz.NewReader(buffered, maxDictionary)
		return io.NopCloser(dictionaryReader{z}), dictionaryError(err)
	case uncompressed:
	}
	return io.NopCloser(buffered), nil
}

type dictionaryReader struct{ z *xz.Reader }

func (r dictionaryReader) Read(p []byte) (int, error) {
	n, err := r.z.Read(p)
	return n, dictionaryError(err)
}

// dictionaryError says what the limit is.
func dictionaryError(err error) error {
	if errors.Is(err, xz.ErrMemlimit) {
		return &LimitError{What: "bytes in xz's dictionary", Limit: maxDictionary}
	}
	return err
}
