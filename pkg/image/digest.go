package image

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
)

const sha256Prefix = "sha256:"

// Digest is the SHA-256 of some bytes. A Digest that is not zero has been
// checked for its form, so its hexadecimal part is safe as a file name. The
// zero Digest stands for none.
type Digest struct {
	hex string
}

// ParseDigest reads the form of the image-spec, "sha256:" and 64 lower-case
// hexadecimal digits. Other algorithms are refused.
func ParseDigest(s string) (Digest, error) {
	digits, found := strings.CutPrefix(s, sha256Prefix)
	if !found {
		return Digest{}, fmt.Errorf("digest %.80q: only sha256 is supported", s)
	}
	if len(digits) != hex.EncodedLen(sha256.Size) || !isHex(digits) {
		return Digest{}, fmt.Errorf("digest %.80q: want 64 lower-case hexadecimal digits", s)
	}
	return Digest{digits}, nil
}

func isHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}

// digestOf reads the sum out of a SHA-256.
func digestOf(h hash.Hash) Digest {
	return Digest{hex.EncodeToString(h.Sum(nil))}
}

func digestBytes(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest{hex.EncodeToString(sum[:])}
}

// String returns "sha256:" and the digits, or nothing for the zero Digest.
func (d Digest) String() string {
	if d.IsZero() {
		return ""
	}
	return sha256Prefix + d.hex
}

// Hex returns the 64 digits.
func (d Digest) Hex() string { return d.hex }

// Short returns the first twelve digits, which people use to name an image.
func (d Digest) Short() string { return d.hex[:min(12, len(d.hex))] }

// IsZero reports whether d stands for no digest.
func (d Digest) IsZero() bool { return d.hex == "" }

// MarshalText returns what String does.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is ParseDigest, so that no unchecked digest comes out of a
// JSON document.
func (d *Digest) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDigest(string(text))
	return err
}
