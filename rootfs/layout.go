package rootfs

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"time"
)

// epoch is the time of every file and of the image, so that one program
// always makes the same bytes.
var epoch = time.Unix(0, 0).UTC()

// Write writes the image as a tar archive of an OCI image layout. The same
// program always writes the same bytes. Layers are not compressed: they are
// unpacked at once.
func Write(w io.Writer) error {
	if _, err := ID(); err != nil {
		return err
	}
	commands, err := bin()
	if err != nil {
		return err
	}
	out := &layout{tar: tar.NewWriter(w)}
	var layers []descriptor
	var digests []string // not compressed, so digest and diff ID are one
	for _, files := range [][]file{base(), commands, top()} {
		layers = append(layers, out.blob("application/vnd.oci.image.layer.v1.tar", out.kept(archive(files))))
		digests = append(digests, layers[len(layers)-1].Digest)
	}
	const manifestType = "application/vnd.oci.image.manifest.v1+json"
	manifest := out.blob(manifestType, out.json(object{
		"schemaVersion": 2, "mediaType": manifestType, "layers": layers,
		"config": out.blob("application/vnd.oci.image.config.v1+json", out.json(object{
			"created": epoch, "architecture": runtime.GOARCH, "os": "linux", "config": Describe(),
			"rootfs": object{"type": "layers", "diff_ids": digests},
		})),
	}))
	manifest.Platform = object{"architecture": runtime.GOARCH, "os": "linux"}
	manifest.Annotations = object{"org.opencontainers.image.ref.name": Name, "io.containerd.image.name": Name}
	out.file("index.json", out.json(object{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []descriptor{manifest},
	}))
	out.file("oci-layout", out.json(object{"imageLayoutVersion": "1.0.0"}))
	if out.err == nil {
		out.err = out.tar.Close()
	}
	if out.err != nil {
		return fmt.Errorf("rootfs: %w", out.err)
	}
	return nil
}

// An object is one of JSON; its keys are written in order. The types of
// image-spec are not used because their package compiles regular expressions
// at the start of every program that links it.
type object map[string]any

// A descriptor points to a blob, see descriptor.md of the image-spec.
type descriptor struct {
	MediaType   string `json:"mediaType"`
	Digest      string `json:"digest"`
	Size        int    `json:"size"`
	Platform    object `json:"platform,omitempty"`
	Annotations object `json:"annotations,omitempty"`
}

// A layout is an image layout while it is written. The first error stays.
type layout struct {
	tar *tar.Writer
	err error
}

func (l *layout) file(name string, data []byte) {
	if l.err == nil {
		l.err = l.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: epoch})
	}
	if l.err == nil {
		_, l.err = l.tar.Write(data)
	}
}

// blob adds data under its digest.
func (l *layout) blob(mediaType string, data []byte) descriptor {
	sum := sha256.Sum256(data)
	digest := hex.EncodeToString(sum[:])
	l.file("blobs/sha256/"+digest, data)
	return descriptor{MediaType: mediaType, Digest: "sha256:" + digest, Size: len(data)}
}

func (l *layout) json(v object) []byte { return l.kept(json.Marshal(v)) }

// kept is the data, whose error is kept.
func (l *layout) kept(data []byte, err error) []byte {
	if l.err == nil {
		l.err = err
	}
	return data
}
