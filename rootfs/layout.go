package rootfs

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"time"
)

// LabelID is the label of the image's configuration that holds the ID of the
// program that made it.
const LabelID = "minictr.program"

// epoch is the time of every file and of the image, so that one program
// always makes the same bytes.
var epoch = time.Unix(0, 0).UTC()

// A Description is what a plan needs to know of the image.
type Description struct {
	User, WorkingDir string
	Cmd, Env         []string
	Layers           int
}

// Describe describes the image without making it.
func Describe() Description {
	return Description{
		User: "root", WorkingDir: "/", Cmd: []string{"/bin/sh"}, Env: []string{"PATH=/bin", "HOME=/root"},
		Layers: len(layers()),
	}
}

// ReadFile reads a file of the image's first layer, where the small ones are,
// without making it. The error is fs.ErrNotExist if there is none.
func ReadFile(name string) ([]byte, error) {
	files, err := base()
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if "/"+f.name == path.Clean("/"+name) {
			return []byte(f.text), nil
		}
	}
	return nil, fmt.Errorf("rootfs: %s: %w", name, fs.ErrNotExist)
}

// Write writes the image as a tar archive of an OCI image layout. The same
// program always writes the same bytes. Layers are not compressed: they are
// unpacked at once.
func Write(w io.Writer) error {
	id, err := ID()
	if err != nil {
		return err
	}
	if err := writeLayout(w, id); err != nil {
		return fmt.Errorf("rootfs: %w", err)
	}
	return nil
}

func writeLayout(w io.Writer, id string) error {
	out := archive{tar.NewWriter(w)}
	platform := object{"architecture": runtime.GOARCH, "os": "linux"}
	var blobs []descriptor
	var digests []string
	var history []object
	for _, l := range layers() {
		d, err := out.blob("application/vnd.oci.image.layer.v1.tar", l.write)
		if err != nil {
			return fmt.Errorf("layer %q: %w", l.about, err)
		}
		blobs, digests = append(blobs, d), append(digests, d.Digest) // not compressed, so digest and diff ID are one
		history = append(history, object{"created": epoch, "created_by": l.about})
	}
	about := Describe()
	config, err := out.document("application/vnd.oci.image.config.v1+json", object{
		"created": epoch, "architecture": platform["architecture"], "os": platform["os"], "history": history,
		"rootfs": object{"type": "layers", "diff_ids": digests},
		"config": object{
			"User": about.User, "WorkingDir": about.WorkingDir, "Cmd": about.Cmd, "Env": about.Env,
			"Labels": object{LabelID: id},
		},
	})
	if err != nil {
		return err
	}
	const manifestType = "application/vnd.oci.image.manifest.v1+json"
	manifest, err := out.document(manifestType, object{
		"schemaVersion": 2, "mediaType": manifestType, "config": config, "layers": blobs,
	})
	if err != nil {
		return err
	}
	manifest.Platform = platform
	manifest.Annotations = object{"org.opencontainers.image.ref.name": Name, "io.containerd.image.name": Name}
	if err := out.json("index.json", object{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []descriptor{manifest},
	}); err != nil {
		return err
	}
	if err := out.json("oci-layout", object{"imageLayoutVersion": "1.0.0"}); err != nil {
		return err
	}
	return out.tar.Close()
}

// An object is one of JSON; its keys are written in order. The types of
// image-spec are not used because their package compiles regular expressions
// at the start of every program that links it.
type object map[string]any

// A descriptor points to a blob, see descriptor.md of the image-spec.
type descriptor struct {
	MediaType   string `json:"mediaType"`
	Digest      string `json:"digest"`
	Size        int64  `json:"size"`
	Platform    object `json:"platform,omitempty"`
	Annotations object `json:"annotations,omitempty"`
}

// An archive is the layout while it is written.
type archive struct{ tar *tar.Writer }

// blob adds what write writes, under its digest: it is written twice, once to
// know its digest and size.
func (a archive) blob(mediaType string, write func(io.Writer) error) (descriptor, error) {
	hash, count := sha256.New(), new(counter)
	if err := write(io.MultiWriter(hash, count)); err != nil {
		return descriptor{}, err
	}
	sum := hex.EncodeToString(hash.Sum(nil))
	d := descriptor{MediaType: mediaType, Digest: "sha256:" + sum, Size: int64(*count)}
	return d, a.file("blobs/sha256/"+sum, d.Size, write)
}

type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

func (a archive) file(name string, size int64, write func(io.Writer) error) error {
	if err := a.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, ModTime: epoch}); err != nil {
		return err
	}
	return write(a.tar)
}

// document adds a blob of JSON.
func (a archive) document(mediaType string, v object) (descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return descriptor{}, err
	}
	return a.blob(mediaType, content(data))
}

func (a archive) json(name string, v object) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return a.file(name, int64(len(data)), content(data))
}

func content(data []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
}
