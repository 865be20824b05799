package image

import (
	"context"
	"crypto/sha256"
	"io"
)

// unpackLayer unpacks the blob of a layer into dir and reads it to its end. If
// it returns no error, the plain archive has the digest diffID; the blob's own
// is for r to verify.
func unpackLayer(ctx context.Context, blob io.Reader, diffID Digest, dir string) error {
	got, err := unpackArchive(ctx, blob, dir)
	if err != nil {
		return err
	}
	if got != diffID {
		return &MismatchError{Blob: diffID, What: "diffID", Want: diffID.String(), Got: got.String()}
	}
	return nil
}

// unpackArchive unpacks a tar, which may be compressed, and returns the digest
// of the plain one.
func unpackArchive(ctx context.Context, blob io.Reader, dir string) (diffID Digest, err error) {
	plain, err := decompress(blob)
	if err != nil {
		return Digest{}, err
	}
	defer plain.Close()
	sum := sha256.New()
	r := io.TeeReader(newLimiter(plain, "bytes in a layer", MaxLayerBytes), sum)
	if err := untar(ctx, r, dir); err != nil {
		return Digest{}, err
	}
	// What follows the end of the archive, usually zero bytes, is part of both
	// digests.
	for _, rest := range []io.Reader{r, blob} {
		if err := drain(rest); err != nil {
			return Digest{}, err
		}
	}
	return digestOf(sum), nil
}
