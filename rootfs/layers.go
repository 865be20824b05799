package rootfs

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"github.com/minictr/minictr/pkg/forkexec"
)

// A Config is what the image says of the process that it is for, config.md of
// the image-spec.
type Config struct {
	User, WorkingDir string
	Env, Cmd         []string
	Labels           map[string]string
	Layers           int `json:"-"`
}

// LabelID is the label that holds the ID of the program that made the image.
const LabelID = "minictr.program"

// Describe tells what Write writes, without doing it.
func Describe() Config {
	id, _ := ID() // a program that can't be the image's can still tell
	return Config{
		User: "root", WorkingDir: "/", Cmd: []string{"/bin/sh"}, Env: []string{"PATH=/bin"},
		Labels: map[string]string{LabelID: id}, Layers: 3,
	}
}

// ReadFile returns a small text file of the image, by its path there. The
// error for any other path is fs.ErrNotExist.
func ReadFile(name string) ([]byte, error) {
	inside := path.Clean("/" + name)[1:]
	whiteout := path.Join(path.Dir(inside), ".wh."+path.Base(inside))
	for _, f := range slices.Concat(top(), base()) {
		if f.name == whiteout {
			break
		}
		if f.name == inside && f.target == "" {
			return []byte(f.text), nil
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// A file is a member of a layer: a directory if the name ends with a slash, a
// symbolic link if it has a target, else a regular file.
type file struct {
	name   string
	mode   int64
	owner  int // user and group
	target string
	text   string
}

// base has the directories and a few files in /etc.
func base() []file {
	var files []file
	for _, name := range []string{"bin", "dev", "etc", "home", "run", "usr", "usr/share", "usr/share/layers", "var"} {
		files = append(files, file{name: name + "/", mode: 0o755})
	}
	return append(files, []file{
		{name: "home/student/", mode: 0o755, owner: 1000},
		{name: "proc/", mode: 0o555},
		{name: "root/", mode: 0o700},
		{name: "sys/", mode: 0o555},
		{name: "tmp/", mode: 0o1777},
		{name: "var/tmp/", mode: 0o1777},
		{name: "sbin", mode: 0o777, target: "bin"},
		{name: "usr/bin", mode: 0o777, target: "../bin"},
		{name: "etc/deleted", mode: 0o644, text: "The last layer deletes this file; it stays in this one.\n"},
		{name: "etc/group", mode: 0o644, text: "root:x:0:\ntty:x:5:\nstudent:x:1000:\nnobody:x:65534:\n"},
		{name: "etc/hosts", mode: 0o644, text: "127.0.0.1\tlocalhost\n::1\tlocalhost\n"},
		{name: "etc/os-release", mode: 0o644, text: "ID=tiny\nNAME=tiny\nPRETTY_NAME=\"minictr's built-in image\"\n"},
		{name: "etc/passwd", mode: 0o644, text: "root:x:0:0:root:/root:/bin/sh\n" +
			"student:x:1000:1000:student:/home/student:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"},
		{name: "usr/share/layers/first", mode: 0o644, text: "The last layer hides all that this directory held.\n"},
	}...)
}

// bin has the commands: a copy of this program, links to it, and the programs
// that are none of Go.
func bin() ([]file, error) {
	program, err := os.ReadFile(self)
	if err != nil {
		return nil, fmt.Errorf("rootfs: %w", err)
	}
	files := []file{{name: "bin/" + multiCall, mode: 0o755, text: string(program)}}
	for _, name := range commands() {
		files = append(files, file{name: "bin/" + name, mode: 0o777, target: multiCall})
	}
	for _, p := range programs() {
		content, err := forkexec.Program(p.steps)
		if err != nil {
			return nil, fmt.Errorf("rootfs: program %s: %w", p.name, err)
		}
		files = append(files, file{name: "bin/" + p.name, mode: 0o755, text: string(content)})
	}
	return files, nil
}

// top has both kinds of whiteout, see "Representing Changes" of
// https://github.com/opencontainers/image-spec/blob/main/layer.md.
func top() []file {
	return []file{
		{name: "etc/.wh.deleted", mode: 0o644},
		{name: "etc/motd", mode: 0o644, text: `This image has three layers. The first holds /etc/deleted, and the last has
a "whiteout" for it, so you don't see it here. The image got no smaller by that:
the file is still in its layer, and everyone who has the image can read it.
`},
		{name: "usr/share/layers/", mode: 0o755},
		{name: "usr/share/layers/.wh..wh..opq", mode: 0o644},
		{name: "usr/share/layers/last", mode: 0o644, text: "This directory is opaque: of the layers below, nothing shows in it.\n"},
	}
}

// archive is a layer: its files as a tar archive.
func archive(files []file) ([]byte, error) {
	var data bytes.Buffer
	out := tar.NewWriter(&data)
	for _, f := range files {
		header := &tar.Header{ // a directory by its slash
			Name: f.name, Mode: f.mode, ModTime: epoch, Uid: f.owner, Gid: f.owner,
			Linkname: f.target, Size: int64(len(f.text)),
		}
		if f.target != "" {
			header.Typeflag = tar.TypeSymlink
		}
		if err := out.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		if _, err := io.WriteString(out, f.text); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	err := out.Close()
	return data.Bytes(), err
}
