package main

import (
	"archive/tar"
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// system writes the archive of a root file system for virtual machines in
// which tests run: Debian's busybox, strace, and a few files that tests read.
func system(file string) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	t := tar.NewWriter(f)
	defer func() { err = errors.Join(err, t.Close()) }()
	for _, dir := range []string{"bin", "etc", "home", "proc", "sys", "dev", "run", "root", "var", "tmp"} {
		mode := int64(0o755)
		if dir == "tmp" {
			mode = 0o1777
		}
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: mode}); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n", "etc/group": "root:x:0:\nnogroup:x:65534:\n",
		"etc/shadow": "root:*:20000:0:99999:7:::\n", "etc/hostname": "vm\n", "etc/hosts": "127.0.0.1 localhost\n",
	} {
		if err := add(t, name, 0o644, []byte(text)); err != nil {
			return err
		}
	}
	commands, err := output(".", "/bin/busybox", "--list")
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(commands) {
		if name != "busybox" {
			if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox"}); err != nil {
				return err
			}
		}
	}
	libraries, err := output(".", "ldd", "/usr/bin/strace")
	if err != nil {
		return err
	}
	files := []string{"/bin/busybox", "/usr/bin/strace"}
	for word := range strings.FieldsSeq(libraries) {
		if filepath.IsAbs(word) {
			files = append(files, word)
		}
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := add(t, file[1:], 0o755, content); err != nil {
			return err
		}
	}
	return nil
}

func add(t *tar.Writer, name string, mode int64, content []byte) error {
	err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content))})
	if err == nil {
		_, err = t.Write(content)
	}
	return err
}
