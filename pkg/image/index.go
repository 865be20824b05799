package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// readIndex reads index.json: a descriptor for each name of each manifest,
// and one without a name for a manifest that has lost its last.
func (s *Store) readIndex() (*index, error) {
	text, err := os.ReadFile(s.path("index.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return &index{SchemaVersion: 2, MediaType: mediaTypeIndex, Manifests: []Descriptor{}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	x := new(index)
	if err := json.Unmarshal(text, x); err != nil {
		return nil, fmt.Errorf("store: %s: %w", s.path("index.json"), err)
	}
	return x, nil
}

// editIndex is the one place where the store's content changes, from one
// moment to the next. The caller holds the lock file at least shared, so that
// no sweep takes the new index out of tmp.
func (s *Store) editIndex(edit func(*index) error) (err error) {
	lock, err := s.lock("index.lock", unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	x, err := s.readIndex()
	if err != nil {
		return err
	}
	if err := edit(x); err != nil {
		return err
	}
	text, err := json.MarshalIndent(x, "", "  ")
	if err != nil {
		return fmt.Errorf("store: index.json: %w", err)
	}
	if err := s.replaceFile("index.json", append(text, '\n')); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

func nameOf(d Descriptor) string { return d.Annotations[annotationRefName] }

// put adds manifest d under name, or without one if name is empty.
func (x *index) put(d Descriptor, name string) {
	if name != "" {
		x.untag(func(other Descriptor) bool { return nameOf(other) == name })
	}
	entry := Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, Platform: d.Platform}
	if name == "" {
		if !x.has(d.Digest) {
			x.Manifests = append(x.Manifests, entry)
		}
		return
	}
	entry.Annotations = map[string]string{annotationRefName: name}
	for _, how := range []string{annotationIndex, annotationReferrers} {
		if digest := d.Annotations[how]; digest != "" {
			entry.Annotations[how] = digest
		}
	}
	x.drop(func(other Descriptor) bool { return other.Digest == d.Digest && nameOf(other) == "" })
	x.Manifests = append(x.Manifests, entry)
}

// untag takes the names away from the entries that match; the manifests stay.
func (x *index) untag(match func(Descriptor) bool) {
	for _, entry := range slices.Clone(x.Manifests) {
		if nameOf(entry) == "" || !match(entry) {
			continue
		}
		x.drop(func(d Descriptor) bool { return d.Digest == entry.Digest && nameOf(d) == nameOf(entry) })
		x.put(entry, "")
	}
}

func (x *index) drop(match func(Descriptor) bool) {
	x.Manifests = slices.DeleteFunc(x.Manifests, match)
}

func (x *index) has(d Digest) bool {
	return slices.ContainsFunc(x.Manifests, func(entry Descriptor) bool { return entry.Digest == d })
}

// List returns the images in the order in which they came. The error is, or
// wraps, a DamagedError for each that can't be read; the others are there.
func (s *Store) List() (images []*Image, err error) {
	defer annotate(&err, "list")
	return s.list()
}

func (s *Store) list() (images []*Image, err error) {
	x, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	seen := map[Digest]bool{}
	for _, entry := range x.Manifests {
		if seen[entry.Digest] {
			continue
		}
		seen[entry.Digest] = true
		if img, e := s.image(entry, x); e != nil {
			err = errors.Join(err, e)
		} else {
			images = append(images, img)
		}
	}
	return images, err
}

// Get finds an image by a name, or by its ID or the beginning of one. A name
// without a tag means the tag latest or, if the repository has no such tag
// here, the only image of it that is here. The error is a NotFoundError if
// there is none.
func (s *Store) Get(name string) (img *Image, err error) {
	defer annotate(&err, "get")
	return s.get(name)
}

func (s *Store) get(name string) (*Image, error) {
	x, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	ref, refErr := ParseReference(name)
	if refErr == nil {
		if entry, found := x.find(ref); found {
			return s.image(entry, x)
		}
	}
	img, err := s.getByID(name)
	if err != nil || img != nil {
		return img, err
	}
	if refErr != nil && !isHex(strings.TrimPrefix(name, sha256Prefix)) {
		return nil, refErr
	}
	return nil, &NotFoundError{Name: name, Other: x.inRepository(ref)}
}

func (x *index) find(ref Reference) (Descriptor, bool) {
	var repository []Descriptor
	for _, entry := range x.Manifests {
		if nameOf(entry) == ref.String() {
			return entry, true
		}
		other, err := ParseReference(nameOf(entry))
		if err != nil || other.Repository() != ref.Repository() {
			continue
		}
		if !ref.Digest.IsZero() && entry.Digest == ref.Digest {
			return entry, true
		}
		repository = append(repository, entry)
	}
	if ref.Tag == "" && ref.Digest.IsZero() && len(repository) == 1 {
		return repository[0], true
	}
	return Descriptor{}, false
}

// inRepository returns the familiar names of the images in ref's repository.
func (x *index) inRepository(ref Reference) []string {
	var names []string
	for _, entry := range x.Manifests {
		other, err := ParseReference(nameOf(entry))
		if err == nil && other.Repository() == ref.Repository() {
			names = append(names, other.Familiar())
		}
	}
	return names
}

// getByID returns nil if no ID begins with id. Of several manifests with one
// configuration it returns the first.
func (s *Store) getByID(id string) (*Image, error) {
	digits := strings.TrimPrefix(id, sha256Prefix)
	if digits == "" || !isHex(digits) {
		return nil, nil
	}
	images, err := s.list()
	var found *Image
	for _, img := range images {
		if !strings.HasPrefix(img.ID.Hex(), digits) || found != nil && found.ID == img.ID {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("ID %s is ambiguous: %s and %s begin with it", id, found.ID.Short(), img.ID.Short())
		}
		found = img
	}
	if found == nil {
		return nil, err // one of the damaged may be meant
	}
	return found, nil
}

// Tag gives the image that Get finds by name another name, and takes that name
// from the image that had it.
func (s *Store) Tag(name, newName string) (err error) {
	defer annotate(&err, "tag")
	ref, err := ParseReference(newName)
	if err != nil {
		return err
	}
	if !ref.Digest.IsZero() {
		return fmt.Errorf("name %s: a name with a digest can't be given", newName)
	}
	if err := checkName(ref.String()); err != nil {
		return err
	}
	return s.edit(func(x *index) error {
		img, err := s.get(name)
		if err != nil {
			return err
		}
		d := img.Manifest
		d.Annotations = img.entry(name).Annotations
		x.put(d, ref.String())
		return nil
	})
}

// Remove takes the name from its image. When it was the last one, or the name
// is an ID, the image goes, with every blob and layer that no other image
// has. The caller sees to it that no container uses the image.
func (s *Store) Remove(name string) (err error) {
	defer annotate(&err, "remove")
	return s.edit(func(x *index) error {
		img, err := s.get(name)
		var damaged *DamagedError
		if err != nil && !errors.As(err, &damaged) {
			return err
		}
		before := len(x.Manifests)
		if ref, err := ParseReference(name); err == nil {
			if entry, found := x.find(ref); found {
				x.drop(func(d Descriptor) bool { return nameOf(d) == nameOf(entry) && d.Digest == entry.Digest })
			}
		}
		switch {
		case len(x.Manifests) < before:
		case damaged != nil:
			x.drop(func(d Descriptor) bool { return d.Digest == damaged.Manifest })
		default:
			x.drop(func(d Descriptor) bool { return d.Digest == img.Manifest.Digest })
		}
		return nil
	})
}

// edit runs an operation that changes names only, and sweeps afterwards if no
// other operation is at work; else a later one will.
func (s *Store) edit(change func(*index) error) (err error) {
	lock, err := s.lock("lock", unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := s.editIndex(change); err != nil {
		return err
	}
	return s.sweepIfAlone(lock)
}
