package image

import (
	"cmp"
	"fmt"
	"strings"
)

// Limits bound what comes from outside. Beyond them an image is refused with
// a LimitError. A field that is zero stands for DefaultLimits'.
type Limits struct {
	Document int64 `json:"document,omitempty"` // bytes of an index, a manifest or a configuration
	Layers   int64 `json:"layers,omitempty"`   // layers of an image
	Bytes    int64 `json:"bytes,omitempty"`    // bytes of an image's layers, packed and unpacked
	Entries  int64 `json:"entries,omitempty"`  // files and directories in an image's layers
	Path     int64 `json:"path,omitempty"`     // bytes of a path in a layer
	Window   int64 `json:"window,omitempty"`   // bytes of zstd's window
}

// DefaultLimits are far beyond what images are. Overlayfs takes 500 layers,
// and mount(2) the names that Image.Lower has for them.
var DefaultLimits = Limits{
	Document: 4 << 20,
	Layers:   500,
	Bytes:    64 << 30,
	Entries:  2_000_000,
	Path:     4095,
	Window:   128 << 20,
}

// Or returns the limits, with those of other in the place of zeros.
func (l Limits) Or(other Limits) Limits {
	return Limits{
		Document: cmp.Or(l.Document, other.Document),
		Layers:   cmp.Or(l.Layers, other.Layers),
		Bytes:    cmp.Or(l.Bytes, other.Bytes),
		Entries:  cmp.Or(l.Entries, other.Entries),
		Path:     cmp.Or(l.Path, other.Path),
		Window:   cmp.Or(l.Window, other.Window),
	}
}

// Limits that nobody has a reason to change.
const (
	maxArchiveFiles = 10_000   // files in an archive of images
	maxDepth        = 512      // directories in a path in a layer, each of which is held open
	maxUnlisted     = 4 << 20  // bytes in the paths of directories that layers need and do not list
	maxList         = 10_000   // elements of a list in a document
	maxValues       = 500_000  // of a document; an empty one is 3 bytes there, and 16 in a list
	maxDictionary   = 64 << 20 // bytes of xz's dictionary, which is taken at once
	maxLinkText     = 4095     // bytes of a symbolic link
	maxReadFile     = 1 << 20  // bytes that Image.ReadFile reads
)

// annotate says of the error of a public function where it comes from.
func annotate(err *error, doing string) {
	if *err != nil {
		*err = fmt.Errorf("image: %s: %w", doing, *err)
	}
}

// LimitError says that something from outside is larger than it may be.
type LimitError struct {
	What  string // what is limited, such as "layers"
	Limit int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("more than %d %s", e.Limit, e.What)
}

// NotFoundError says that the store has no image of that name or ID.
type NotFoundError struct {
	Name  string
	Other []string // names in the same repository that the store has
}

func (e *NotFoundError) Error() string {
	msg := fmt.Sprintf("%s is not in the store", e.Name)
	if len(e.Other) > 0 {
		msg += ", which has " + strings.Join(e.Other, ", ")
	}
	return msg
}

// PlatformError says that an image is not for the platform that was wanted.
type PlatformError struct {
	Want Platform
	Have []Platform
}

func (e *PlatformError) Error() string {
	have := make([]string, len(e.Have))
	for i, p := range e.Have {
		have[i] = p.String()
	}
	return fmt.Sprintf("not for platform %s, only for %s", e.Want, strings.Join(have, ", "))
}

// MismatchError says that a blob is not the one that was announced.
type MismatchError struct {
	Blob      Digest // as announced; zero for a manifest that was named by a tag
	What      string // "size", "digest" or "diffID"
	Want, Got string
}

func (e *MismatchError) Error() string {
	blob := "manifest"
	if !e.Blob.IsZero() {
		blob = "blob " + e.Blob.String()
	}
	return fmt.Sprintf("%s: %s is %s, want %s", blob, e.What, e.Got, e.Want)
}

// DamagedError says that an image of the store can't be read.
type DamagedError struct {
	Manifest Digest
	Err      error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("store: the image of manifest %s is damaged: %v", e.Manifest.Short(), e.Err)
}

// Unwrap returns the cause.
func (e *DamagedError) Unwrap() error { return e.Err }

// NotImageError says that an archive is no image: neither an image layout nor
// what docker save writes.
type NotImageError struct {
	Entry string // the first entry; empty if there is none
}

func (e *NotImageError) Error() string {
	if e.Entry == "" {
		return "the archive is empty"
	}
	return fmt.Sprintf("the archive is no image: it has neither index.json nor manifest.json, but %.200q", e.Entry)
}

// EntryError says which entry of a layer can't be unpacked, and why.
type EntryError struct {
	Name string
	Err  error
}

func (e *EntryError) Error() string { return fmt.Sprintf("entry %.300q: %v", e.Name, e.Err) }

// Unwrap returns the cause.
func (e *EntryError) Unwrap() error { return e.Err }
