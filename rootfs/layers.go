package rootfs

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
)

// A layer is a change to the file system, as a tar archive.
type layer struct {
	about string
	files func() ([]file, error)
}

// A file is a member of a layer: a directory if the name ends with a slash, a
// symbolic link if it has a target, else a regular file.
type file struct {
	name   string
	mode   int64
	owner  int // user and group
	target string
	text   string
	from   string // path of the file that holds the content instead of text
}

func layers() []layer {
	return []layer{
		{"the directories and a few files in /etc", base},
		{"the commands", bin},
		{"deletes a file and a directory of the first layer", last},
	}
}

func base() ([]file, error) {
	return []file{
		{name: "bin/", mode: 0o755},
		{name: "dev/", mode: 0o755},
		{name: "etc/", mode: 0o755},
		{name: "etc/deleted", mode: 0o644, text: "The last layer deletes this file; it stays in this one.\n"},
		{name: "etc/group", mode: 0o644, text: "root:x:0:\ntty:x:5:\nstudent:x:1000:\nnobody:x:65534:\n"},
		{name: "etc/hosts", mode: 0o644, text: "127.0.0.1\tlocalhost\n::1\tlocalhost\n"},
		{name: "etc/os-release", mode: 0o644, text: "ID=tiny\nNAME=tiny\nPRETTY_NAME=\"minictr's built-in image\"\n"},
		{name: "etc/passwd", mode: 0o644, text: "root:x:0:0:root:/root:/bin/sh\n" +
			"student:x:1000:1000:student:/home/student:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"},
		{name: "home/", mode: 0o755},
		{name: "home/student/", mode: 0o755, owner: 1000},
		{name: "proc/", mode: 0o555},
		{name: "root/", mode: 0o700},
		{name: "run/", mode: 0o755},
		{name: "sbin", mode: 0o777, target: "bin"},
		{name: "sys/", mode: 0o555},
		{name: "tmp/", mode: 0o1777},
		{name: "usr/", mode: 0o755},
		{name: "usr/bin", mode: 0o777, target: "../bin"},
		{name: "usr/share/", mode: 0o755},
		{name: "usr/share/layers/", mode: 0o755},
		{name: "usr/share/layers/first", mode: 0o644, text: "The last layer hides all that this directory held.\n"},
		{name: "var/", mode: 0o755},
		{name: "var/tmp/", mode: 0o1777},
	}, nil
}

func bin() ([]file, error) {
	files := []file{{name: "bin/" + multiCall, mode: 0o755, from: self}}
	for _, name := range commands() {
		files = append(files, file{name: "bin/" + name, mode: 0o777, target: multiCall})
	}
	for _, p := range programs() {
		content, err := p.binary()
		if err != nil {
			return nil, err
		}
		files = append(files, file{name: "bin/" + p.name, mode: 0o755, text: string(content)})
	}
	return files, nil
}

// last has both kinds of whiteout, see "Representing Changes" of
// https://github.com/opencontainers/image-spec/blob/main/layer.md.
func last() ([]file, error) {
	return []file{
		{name: "etc/.wh.deleted", mode: 0o644},
		{name: "etc/motd", mode: 0o644, text: `This image has three layers. The first holds /etc/deleted, and the last has
a "whiteout" for it, so you don't see it here. The image got no smaller by that:
the file is still in its layer, and everyone who has the image can read it.
`},
		{name: "usr/share/layers/", mode: 0o755},
		{name: "usr/share/layers/.wh..wh..opq", mode: 0o644},
		{name: "usr/share/layers/last", mode: 0o644, text: "This directory is opaque: of the layers below, nothing shows in it.\n"},
	}, nil
}

// write writes the layer as a tar archive.
func (l layer) write(w io.Writer) error {
	files, err := l.files()
	if err != nil {
		return err
	}
	out := tar.NewWriter(w)
	for _, f := range files {
		if err := f.write(out); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return out.Close()
}

func (f *file) write(out *tar.Writer) error {
	header := &tar.Header{
		Name: f.name, Mode: f.mode, ModTime: epoch, Uid: f.owner, Gid: f.owner,
		Linkname: f.target, Size: int64(len(f.text)), Typeflag: tar.TypeReg,
	}
	switch {
	case f.target != "":
		header.Typeflag = tar.TypeSymlink
	case f.name[len(f.name)-1] == '/':
		header.Typeflag = tar.TypeDir
	}
	var content io.Reader = bytes.NewReader([]byte(f.text))
	if f.from != "" {
		in, err := os.Open(f.from)
		if err != nil {
			return err
		}
		defer in.Close() // opened to read
		info, err := in.Stat()
		if err != nil {
			return err
		}
		header.Size, content = info.Size(), in
	}
	if err := out.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.Copy(out, content)
	return err
}
