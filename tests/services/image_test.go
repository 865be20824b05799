package services_test

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// wanted are the packages that the image is made of, with what they depend on.
var wanted = []string{"base-files", "base-passwd", "busybox-static", "nginx", "postgresql", "redis-server"}

// unwanted are names that packages begin with whose programs only maintainers'
// scripts run, or a database that compiles its queries: half of all there is.
var unwanted = []string{"libllvm", "libperl", "libz3", "locales", "perl"}

// An entry is a file that no package has, for the scripts of packages make it.
type entry struct {
	tar.Header

	text string
}

// users have the ids that a file of the archive is given to.
const users = `redis:x:100:100::/var/lib/redis:/bin/false
postgres:x:101:101::/var/lib/postgresql:/bin/sh
`

func additions() ([]entry, error) {
	passwd, err := os.ReadFile("/usr/share/base-passwd/passwd.master")
	groups, err2 := os.ReadFile("/usr/share/base-passwd/group.master")
	dir := func(name string, id int) entry {
		return entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o700, Uid: id, Gid: id}}
	}
	link := func(name, to string) entry {
		return entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}}
	}
	file := func(name, text string) entry {
		return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(text))}, text}
	}
	return []entry{
		file("etc/passwd", string(passwd)+users),
		file("etc/group", string(groups)+"redis:x:100:\npostgres:x:101:\n"),
		link("bin/sh", "busybox"),
		link("etc/nginx/sites-enabled/default", "../sites-available/default"),
		link("var/log/nginx/access.log", "/dev/stdout"),
		link("var/log/nginx/error.log", "/dev/stderr"),
		file("var/www/html/index.html", "the image's page\n"),
		dir("var/lib/redis", 100),
		dir("var/lib/postgresql", 101),
		dir("var/lib/postgresql/data", 101),
	}, errors.Join(err, err2)
}

// outside is a command on the network that the tests have left: their parent's.
func outside(dir string, words ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{fmt.Sprintf("--net=/proc/%d/ns/net", os.Getppid())}, words...)...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	return cmd
}

// download gets the packages as this machine's apt finds them, whatever of them
// is installed here.
func download(dir string) error {
	out, err := outside(dir, append([]string{
		"apt-get", "install", "-qq", "--print-uris", "--no-install-recommends", "-o", "Dir::State::status=/dev/null",
	}, wanted...)...).Output()
	if err != nil {
		return fmt.Errorf("apt-get install --print-uris: %w", err)
	}
	get := []string{"apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root"}
	for line := range strings.Lines(string(out)) { // 'http://...' NAME_VERSION_ARCHITECTURE.deb SIZE HASH
		fields := strings.Fields(line)
		if len(fields) < 3 || slices.ContainsFunc(unwanted, func(p string) bool { return strings.HasPrefix(fields[1], p) }) {
			continue
		}
		name, _, _ := strings.Cut(fields[1], "_")
		get = append(get, name)
	}
	if out, err := outside(dir, get...).Output(); err != nil {
		return fmt.Errorf("apt-get download: %w\n%s", err, out)
	}
	return nil
}

// writeImage writes the archive of a root file system, and returns where the
// programs of PostgreSQL are in it.
func writeImage(to io.Writer, dir string) (programs string, err error) {
	packages, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return "", err
	}
	w := tar.NewWriter(to)
	for _, p := range packages {
		found, err := unpack(w, p)
		if err != nil {
			return "", fmt.Errorf("%s: %w", filepath.Base(p), err)
		}
		programs += found
	}
	list, err := additions()
	for _, e := range list {
		err = errors.Join(err, w.WriteHeader(&e.Header))
		_, failed := io.WriteString(w, e.text)
		err = errors.Join(err, failed)
	}
	return programs, errors.Join(err, w.Close())
}

// unpack adds what a package has that a program reads.
func unpack(w *tar.Writer, deb string) (programs string, err error) {
	cmd := exec.Command("dpkg-deb", "--fsys-tarfile", deb)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, cmd.Wait()) }()
	for r := tar.NewReader(out); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, out)
			return programs, err
		}
		if err != nil {
			return "", err
		}
		if path.Base(h.Name) == "initdb" {
			programs = path.Dir(path.Clean("/" + h.Name))
		}
		if !needed(h.Name) {
			continue
		}
		if err := w.WriteHeader(h); err != nil {
			return "", err
		}
		if _, err := io.Copy(w, r); err != nil {
			return "", err
		}
	}
}

// needed leaves out what people read, and what needs an unwanted package.
func needed(name string) bool {
	return !slices.ContainsFunc([]string{"/usr/share/doc/", "/usr/share/man/", "/usr/share/locale/", "/bitcode/", "/llvmjit"},
		func(part string) bool { return strings.Contains(name, part) })
}
