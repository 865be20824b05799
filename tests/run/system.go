package main

import (
	"archive/tar"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// system writes the archive of a root file system for virtual machines in
// which tests run: Debian's busybox, other programs of Debian's with their
// libraries, and a few files that tests and these programs read.
func (s *suite) system(file string, programs ...string) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	t := tar.NewWriter(f)
	defer func() { err = errors.Join(err, t.Close()) }()
	for _, dir := range []string{"bin", "etc", "etc/containers", "home", "proc", "sys", "dev", "run", "root", "var", "tmp"} {
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
		"etc/subuid": "", "etc/subgid": "", "etc/containers/policy.json": `{"default": [{"type": "insecureAcceptAnything"}]}`,
	} {
		if err := add(t, name, 0o644, []byte(text)); err != nil {
			return err
		}
	}
	commands, err := s.say(".", "/bin/busybox", "--list")
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
	if err := addFile(t, "/bin/busybox"); err != nil {
		return err
	}
	return s.addPrograms(t, programs)
}

// addPrograms adds programs of this system, with the libraries that they need.
func (s *suite) addPrograms(t *tar.Writer, programs []string) error {
	added := make(map[string]bool)
	for _, name := range programs {
		program, err := exec.LookPath(name)
		if err != nil {
			return err
		}
		libraries, err := s.say(".", "ldd", program)
		if err != nil {
			return err
		}
		for word := range strings.FieldsSeq(program + " " + libraries) {
			if !filepath.IsAbs(word) || added[word] {
				continue
			}
			added[word] = true
			if err := addFile(t, word); err != nil {
				return err
			}
		}
	}
	return nil
}

// addFile adds a file of the host. A program may be one that changes its user.
func addFile(t *tar.Writer, file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	mode := int64(info.Mode().Perm())
	if info.Mode()&os.ModeSetuid != 0 {
		mode |= syscall.S_ISUID
	}
	return add(t, file[1:], mode, content)
}

func add(t *tar.Writer, name string, mode int64, content []byte) error {
	err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content))})
	if err == nil {
		_, err = t.Write(content)
	}
	return err
}
