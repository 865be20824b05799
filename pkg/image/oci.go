package image

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Media types of the image-spec and of Docker's registry, which name the same
// documents.
const (
	mediaTypeManifest       = "application/vnd.oci.image.manifest.v1+json"
	mediaTypeIndex          = "application/vnd.oci.image.index.v1+json"
	mediaTypeConfig         = "application/vnd.oci.image.config.v1+json"
	mediaTypeLayer          = "application/vnd.oci.image.layer.v1.tar"
	mediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	mediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	mediaTypeDockerConfig   = "application/vnd.docker.container.image.v1+json"
	mediaTypeDockerLayer    = "application/vnd.docker.image.rootfs.diff.tar"
)

// Annotations that carry an image's name.
const (
	annotationRefName   = "org.opencontainers.image.ref.name"
	annotationImageName = "io.containerd.image.name"
	annotationIndex     = "minictr.index"     // the digest of the index that led here
	annotationReferrers = "minictr.referrers" // that of a list of what refers to them
)

// Descriptor refers to a blob by what it is, its digest and its size in bytes
// (image-spec, descriptor.md).
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType,omitempty"` // of what is no image
	Digest       Digest            `json:"digest"`
	Size         int64             `json:"size"`
	URLs         []string          `json:"urls,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Platform     *Platform         `json:"platform,omitempty"`
}

// In tells whether a list has a descriptor of the same blob.
func (d Descriptor) In(list []Descriptor) bool {
	return slices.ContainsFunc(list, func(other Descriptor) bool { return other.Digest == d.Digest })
}

// Platform is what an image runs on, in Go's names (image-spec,
// image-index.md).
type Platform struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	OSVersion    string   `json:"os.version,omitempty"`
	OSFeatures   []string `json:"os.features,omitempty"`
	Variant      string   `json:"variant,omitempty"`
}

// String returns the usual spelling, such as linux/arm64 or linux/arm/v7.
func (p Platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// index lists manifests, often one for each platform (image-index.md).
type index struct {
	SchemaVersion int              `json:"schemaVersion"`
	MediaType     string           `json:"mediaType,omitempty"`
	Manifests     list[Descriptor] `json:"manifests"`
}

// manifest lists what one image is made of; the first layer is the lowest
// (manifest.md).
type manifest struct {
	SchemaVersion int              `json:"schemaVersion"`
	MediaType     string           `json:"mediaType,omitempty"`
	Config        Descriptor       `json:"config"`
	Layers        list[Descriptor] `json:"layers"`
}

// Config is the document that an image's ID is the digest of (image-spec,
// config.md). Its Config and Platform can be converted to the types ImageConfig
// and Platform of image-spec's Go package, which is not used itself because it
// compiles regular expressions at every start of the program.
type Config struct {
	Created *time.Time `json:"created,omitempty"`
	Author  string     `json:"author,omitempty"`
	Platform
	Config  ContainerConfig `json:"config,omitzero"`
	RootFS  RootFS          `json:"rootfs"`
	History list[History]   `json:"history,omitempty"`
}

// ContainerConfig says how a container of the image is run, unless the person
// who runs it says otherwise.
type ContainerConfig struct {
	User         string              `json:"User,omitempty"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
	Env          []string            `json:"Env,omitempty"`
	Entrypoint   []string            `json:"Entrypoint,omitempty"`
	Cmd          []string            `json:"Cmd,omitempty"`
	Volumes      map[string]struct{} `json:"Volumes,omitempty"`
	WorkingDir   string              `json:"WorkingDir,omitempty"`
	Labels       map[string]string   `json:"Labels,omitempty"`
	StopSignal   string              `json:"StopSignal,omitempty"`
	ArgsEscaped  bool                `json:"ArgsEscaped,omitempty"`
}

// RootFS lists the layers by the digests of their uncompressed archives, the
// lowest first.
type RootFS struct {
	Type    string       `json:"type"`
	DiffIDs list[Digest] `json:"diff_ids"`
}

// History tells how a layer was made.
type History struct {
	Created    *time.Time `json:"created,omitempty"`
	CreatedBy  string     `json:"created_by,omitempty"`
	Author     string     `json:"author,omitempty"`
	Comment    string     `json:"comment,omitempty"`
	EmptyLayer bool       `json:"empty_layer,omitempty"`
}

// A list is an array of a document. A few megabytes of empty elements would
// take a hundred times as much memory; so it is read one by one.
type list[T any] []T

func (l *list[T]) UnmarshalJSON(text []byte) error {
	elements := json.NewDecoder(bytes.NewReader(text))
	first, err := elements.Token()
	if err != nil || first == nil {
		return err // null is no list
	}
	if first != json.Delim('[') {
		return json.Unmarshal(text, (*[]T)(l)) // the error for what is no array
	}
	for *l = []T{}; elements.More(); {
		if len(*l) == maxList {
			return &LimitError{What: "elements in a list", Limit: maxList}
		}
		var element T
		if err := elements.Decode(&element); err != nil {
			return err
		}
		*l = append(*l, element)
	}
	return nil
}

// document is a manifest or an index before it is known which.
type document struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     string          `json:"mediaType"`
	Config        json.RawMessage `json:"config"`
	Layers        json.RawMessage `json:"layers"`
	Manifests     json.RawMessage `json:"manifests"`
	FSLayers      json.RawMessage `json:"fsLayers"`
}

// parseJSON reads a document of others. Its errors name the field, and no type
// of Go.
func parseJSON(text []byte, v any) error {
	if bytes.Count(text, []byte{','}) >= maxValues {
		return &LimitError{What: "values in a document", Limit: maxValues}
	}
	err := json.Unmarshal(text, v)
	if field, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("/%s: can't be a JSON %s", strings.ReplaceAll(field.Field, ".", "/"), field.Value)
	}
	return err
}

// parseManifest reads a manifest or an index; the other result is nil. A
// document that could pass for both is refused: two readers might see two
// images in it. declared is the media type of the descriptor or response that
// led here; it may be empty. The result's is never empty.
func parseManifest(text []byte, declared string) (*manifest, *index, error) {
	var d document
	if err := parseJSON(text, &d); err != nil {
		return nil, nil, fmt.Errorf("manifest: %w", err)
	}
	switch {
	case d.SchemaVersion == 1 || d.FSLayers != nil:
		return nil, nil, errors.New("manifest: Docker's schema version 1 is not supported; the image must be pushed again by a newer tool")
	case d.SchemaVersion != 2:
		return nil, nil, fmt.Errorf("manifest: schemaVersion is %d, want 2", d.SchemaVersion)
	case d.Manifests != nil && (d.Layers != nil || d.Config != nil):
		return nil, nil, errors.New("manifest: has both manifests and layers or config")
	case d.MediaType != "" && declared != "" && d.MediaType != declared:
		return nil, nil, fmt.Errorf("manifest: mediaType is %.100q, but it was announced as %.100q", d.MediaType, declared)
	case d.MediaType == "":
		d.MediaType = declared
	}
	if d.Manifests != nil {
		x, err := parseIndex(text, cmp.Or(d.MediaType, mediaTypeIndex))
		return nil, x, err
	}
	m, err := parseImageManifest(text, cmp.Or(d.MediaType, mediaTypeManifest))
	return m, nil, err
}

func parseIndex(text []byte, mediaType string) (*index, error) {
	if mediaType != mediaTypeIndex && mediaType != mediaTypeDockerList {
		return nil, fmt.Errorf("index: unknown mediaType %.100q", mediaType)
	}
	var x index
	if err := parseJSON(text, &x); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	for i, d := range x.Manifests {
		if err := checkDescriptor(d); err != nil {
			return nil, fmt.Errorf("index: /manifests/%d: %w", i, err)
		}
	}
	x.MediaType = mediaType
	return &x, nil
}

func parseImageManifest(text []byte, mediaType string) (*manifest, error) {
	if mediaType != mediaTypeManifest && mediaType != mediaTypeDockerManifest {
		return nil, fmt.Errorf("manifest: unknown mediaType %.100q", mediaType)
	}
	var m manifest
	if err := parseJSON(text, &m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if t := m.Config.MediaType; t != mediaTypeConfig && t != mediaTypeDockerConfig {
		return nil, fmt.Errorf("manifest: /config: mediaType %.100q is not that of an image's configuration", t)
	}
	if err := checkDescriptor(m.Config); err != nil {
		return nil, fmt.Errorf("manifest: /config: %w", err)
	}
	for i, d := range m.Layers {
		err := checkDescriptor(d)
		if err == nil && !isLayer(d.MediaType) {
			err = fmt.Errorf("unknown mediaType %.100q of a layer", d.MediaType)
		}
		if err != nil {
			return nil, fmt.Errorf("manifest: /layers/%d: %w", i, err)
		}
	}
	m.MediaType = mediaType
	return &m, nil
}

func checkDescriptor(d Descriptor) error {
	switch {
	case d.Digest.IsZero():
		return errors.New("has no digest")
	case d.Size < 0:
		return fmt.Errorf("size is %d", d.Size)
	case len(d.URLs) > 0:
		return errors.New("refers to a foreign URL, and those are not followed")
	}
	return nil
}

// isLayer tells whether t is a layer's media type. How a layer is compressed
// is seen from its first bytes; the suffix need only be one that may be.
func isLayer(t string) bool {
	switch t {
	case mediaTypeLayer, mediaTypeLayer + "+gzip", mediaTypeLayer + "+zstd",
		mediaTypeDockerLayer, mediaTypeDockerLayer + ".gzip", mediaTypeDockerLayer + ".zstd":
		return true
	}
	return false
}

// parseConfig reads an image's configuration, which must name as many layers
// as its manifest does.
func parseConfig(text []byte, layers int) (*Config, error) {
	var c Config
	if err := parseJSON(text, &c); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if t := c.RootFS.Type; t != "layers" {
		return nil, fmt.Errorf("configuration: /rootfs/type is %.40q, want \"layers\"", t)
	}
	if n := len(c.RootFS.DiffIDs); n != layers {
		return nil, fmt.Errorf("configuration: /rootfs/diff_ids has %d entries, but the manifest has %d layers", n, layers)
	}
	for i, d := range c.RootFS.DiffIDs {
		if d.IsZero() {
			return nil, fmt.Errorf("configuration: /rootfs/diff_ids/%d is empty", i)
		}
	}
	return &c, nil
}
