package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	layoutVersion = "1.0.0"
	// maxIndexDepth is how many indexes may lead to a manifest.
	maxIndexDepth = 4
)

// checkLayout reads the file oci-layout (image-spec, image-layout.md).
func checkLayout(text []byte) error {
	var layout struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := parseJSON(text, &layout); err != nil {
		return fmt.Errorf("oci-layout: %w", err)
	}
	if layout.Version != layoutVersion {
		return fmt.Errorf("oci-layout: imageLayoutVersion is %.40q, want %q", layout.Version, layoutVersion)
	}
	return nil
}

// layoutDir is an image layout in a directory. Its blobs may be links to
// other files in it, but not out of it.
type layoutDir struct {
	root     *os.Root
	document int64 // bytes that one may have
}

func (l layoutDir) Open(_ context.Context, d Descriptor) (io.ReadCloser, error) {
	const dir = "blobs/sha256"
	f, err := l.openFile(path.Join(dir, d.Digest.Hex()))
	if err != nil {
		return nil, err
	}
	target, found := linkText(f, d.Size)
	if !found {
		return f, nil
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	return l.openFile(path.Join(dir, target))
}

// openFile opens a regular file; O_NONBLOCK keeps a fifo from blocking.
func (l layoutDir) openFile(name string) (*os.File, error) {
	f, err := l.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// linkText reads a symbolic link that is a plain file with the target as its
// text: Git writes it so where it can't make links, and layouts are kept in
// Git. The blob that the link leads to is verified like any other.
func linkText(f *os.File, want int64) (target string, found bool) {
	info, err := f.Stat()
	if err != nil || info.Size() == want || info.Size() > maxLinkText {
		return "", false
	}
	text := make([]byte, info.Size())
	if _, err := f.ReadAt(text, 0); err != nil || !strings.HasPrefix(string(text), "../") {
		return "", false
	}
	return string(text), true
}

func (l layoutDir) read(name string) ([]byte, error) {
	f, err := l.openFile(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(newLimiter(f, "bytes in "+name, l.document))
}

// addIndex adds the images that the index.json of a layout lists.
func (st *stage) addIndex(ctx context.Context, src Source, text []byte) ([]*addition, error) {
	_, list, err := parseManifest(text, "")
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	if list == nil || len(list.Manifests) == 0 {
		return nil, errors.New("index.json lists no image")
	}
	var additions []*addition
	for _, group := range groupByName(list.Manifests) {
		d, err := st.resolve(ctx, src, group, 1)
		if err != nil {
			return nil, err
		}
		names, err := namesOf(group[0])
		if err != nil {
			return nil, err
		}
		a, err := st.add(ctx, src, d, st.others(names)...)
		if err != nil {
			return nil, err
		}
		additions = append(additions, a)
	}
	return additions, nil
}

// groupByName puts the entries together that are one image on several
// platforms: those of one name. An entry with neither name nor platform is an
// image by itself.
func groupByName(entries []Descriptor) [][]Descriptor {
	var groups [][]Descriptor
	at := map[string]int{}
	for _, d := range entries {
		key := d.Annotations[annotationImageName] + " " + d.Annotations[annotationRefName]
		if key == " " && d.Platform == nil {
			key = d.Digest.String()
		}
		i, found := at[key]
		if !found {
			i = len(groups)
			at[key], groups = i, append(groups, nil)
		}
		groups[i] = append(groups[i], d)
	}
	return groups
}

// namesOf returns the name that a layout gives to an image. The annotation
// ref.name is often a tag only, which is no name.
func namesOf(d Descriptor) ([]string, error) {
	name := d.Annotations[annotationImageName]
	if name == "" {
		name = d.Annotations[annotationRefName]
		if !strings.ContainsAny(name, ":/") {
			return nil, nil
		}
	}
	ref, err := ParseReference(name)
	if err != nil {
		return nil, err
	}
	return []string{ref.String()}, nil
}

// resolve chooses one of the descriptors by platform and follows it through
// indexes to a manifest.
func (st *stage) resolve(ctx context.Context, src Source, from []Descriptor, depth int) (Descriptor, error) {
	d, err := choose(from, st.opts.platform())
	if err != nil || !isIndex(d.MediaType) {
		return d, err
	}
	if depth == maxIndexDepth {
		return Descriptor{}, &LimitError{What: "indexes that lead to a manifest", Limit: maxIndexDepth - 1}
	}
	text, err := st.document(ctx, src, d)
	if err != nil {
		return Descriptor{}, err
	}
	_, list, err := parseManifest(text, d.MediaType)
	if err != nil {
		return Descriptor{}, err
	}
	return st.resolve(ctx, src, list.Manifests, depth+1)
}

func isIndex(mediaType string) bool {
	return mediaType == mediaTypeIndex || mediaType == mediaTypeDockerList
}

// choose returns the first descriptor for the platform, or else the first that
// names none. One of the very variant goes before the others.
func choose(from []Descriptor, want Platform) (Descriptor, error) {
	var fits, silent []Descriptor
	var have []Platform
	for _, d := range from {
		switch {
		case d.Platform == nil:
			silent = append(silent, d)
		case isAttestation(d):
		case want.Runs(*d.Platform) && d.Platform.Variant == want.Variant:
			return d, nil
		case want.Runs(*d.Platform):
			fits = append(fits, d)
		default:
			have = append(have, *d.Platform)
		}
	}
	if candidates := append(fits, silent...); len(candidates) > 0 {
		return candidates[0], nil
	}
	if len(have) == 0 {
		return Descriptor{}, errors.New("index lists no image")
	}
	return Descriptor{}, &PlatformError{Want: want, Have: have}
}

// isAttestation tells whether d is not an image but says something about one.
func isAttestation(d Descriptor) bool { return d.Platform.OS == "unknown" }
