package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/ulikunitz/xz"
)

// mkimage makes an image of directories, a layer each:
//
//	mkimage [-name NAME] [-config FILE] [-layers COMPRESSION] [-as FORM] [-with COMPRESSION] OUT LAYER...
//
// FORM is docker (an archive of docker save), oci (the archive of an OCI
// layout), layout (a directory) or rootfs (a plain archive of one layer). A
// compression is gzip, zstd or xz. The file is an ImageConfig of the
// image-spec, which says what to run.
func mkimage(ts *testscript.TestScript, neg bool, args []string) {
	flags := flag.NewFlagSet("mkimage", flag.ContinueOnError)
	name := flags.String("name", "", "")
	config := flags.String("config", "", "")
	layers := flags.String("layers", "", "")
	form := flags.String("as", "oci", "")
	with := flags.String("with", "", "")
	if err := flags.Parse(args); err != nil || neg || flags.NArg() < 2 {
		ts.Fatalf("usage: mkimage [-name NAME] [-config FILE] [-layers COMPRESSION] [-as FORM] [-with COMPRESSION] OUT LAYER...")
	}
	l := &layout{}
	if *config != "" {
		ts.Check(json.Unmarshal([]byte(ts.ReadFile(*config)), &l.image.Config))
	}
	for _, dir := range flags.Args()[1:] {
		plain, err := archiveOf(ts.MkAbs(dir))
		ts.Check(err)
		ts.Check(l.layer(plain, *layers))
	}
	files, err := l.files(*form, *name)
	ts.Check(err)
	out := ts.MkAbs(flags.Arg(0))
	if *form == "layout" {
		for _, f := range files {
			path := filepath.Join(out, f.name)
			ts.Check(os.MkdirAll(filepath.Dir(path), 0o755))
			ts.Check(os.WriteFile(path, f.content, 0o644))
		}
		return
	}
	archive := l.plain
	if *form != "rootfs" {
		archive, err = archiveOfFiles(files)
		ts.Check(err)
	}
	archive, err = compress(archive, *with)
	ts.Check(err)
	ts.Check(os.WriteFile(out, archive, 0o644))
}

// A member is a file of an image's archive or directory.
type member struct {
	name    string
	content []byte
}

// A layout is an image in the making.
type layout struct {
	image  ispec.Image
	layers []ispec.Descriptor
	blobs  []member
	plain  []byte // the last layer
}

func (l *layout) blob(mediaType string, content []byte) ispec.Descriptor {
	d := ispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
	l.blobs = append(l.blobs, member{"blobs/sha256/" + d.Digest.Encoded(), content})
	return d
}

func (l *layout) document(mediaType string, v any) (ispec.Descriptor, error) {
	text, err := json.Marshal(v)
	return l.blob(mediaType, text), err
}

func (l *layout) layer(plain []byte, compression string) error {
	content, err := compress(plain, compression)
	mediaType := ispec.MediaTypeImageLayer
	if compression == "gzip" || compression == "zstd" {
		mediaType += "+" + compression
	}
	l.plain = plain
	l.layers = append(l.layers, l.blob(mediaType, content))
	l.image.RootFS.DiffIDs = append(l.image.RootFS.DiffIDs, digest.FromBytes(plain))
	return err
}

// files are those of the image in a form.
func (l *layout) files(form, name string) ([]member, error) {
	l.image.OS, l.image.Architecture, l.image.RootFS.Type = "linux", runtime.GOARCH, "layers"
	config, err := l.document(ispec.MediaTypeImageConfig, l.image)
	if err != nil {
		return nil, err
	}
	if form == "docker" {
		entry := map[string]any{"Config": "blobs/sha256/" + config.Digest.Encoded()}
		var paths []string
		for _, d := range l.layers {
			paths = append(paths, "blobs/sha256/"+d.Digest.Encoded())
		}
		entry["Layers"] = paths
		if name != "" {
			entry["RepoTags"] = []string{name}
		}
		text, err := json.Marshal([]any{entry})
		return append(l.blobs, member{"manifest.json", text}), err
	}
	manifest, err := l.document(ispec.MediaTypeImageManifest, ispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ispec.MediaTypeImageManifest, Config: config, Layers: l.layers,
	})
	if err != nil {
		return nil, err
	}
	if name != "" {
		manifest.Annotations = map[string]string{ispec.AnnotationRefName: name}
	}
	index, err := json.Marshal(ispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ispec.Descriptor{manifest}})
	return append(l.blobs, member{"index.json", index}, member{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)}), err
}

// archiveOf is the tar of a directory.
func archiveOf(dir string) ([]byte, error) {
	var buf bytes.Buffer
	out := tar.NewWriter(&buf)
	err := errors.Join(out.AddFS(os.DirFS(dir)), out.Close())
	return buf.Bytes(), err
}

func archiveOfFiles(files []member) ([]byte, error) {
	var buf bytes.Buffer
	out := tar.NewWriter(&buf)
	for _, f := range files {
		if err := out.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.content))}); err != nil {
			return nil, err
		}
		if _, err := out.Write(f.content); err != nil {
			return nil, err
		}
	}
	err := out.Close()
	return buf.Bytes(), err
}

func compress(plain []byte, how string) ([]byte, error) {
	var buf bytes.Buffer
	var out io.WriteCloser
	var err error
	switch how {
	case "":
		return plain, nil
	case "gzip":
		out = gzip.NewWriter(&buf)
	case "zstd":
		out, err = zstd.NewWriter(&buf)
	case "xz":
		out, err = xz.NewWriter(&buf)
	default:
		err = fmt.Errorf("unknown compression %q", how)
	}
	if err != nil {
		return nil, err
	}
	if _, err := out.Write(plain); err != nil {
		return nil, err
	}
	err = out.Close()
	return buf.Bytes(), err
}

// hexOf is the SHA-256 of some bytes, as file names of blobs have it.
func hexOf(content []byte) string { return fmt.Sprintf("%x", sha256.Sum256(content)) }
