package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// loaderEnv makes the test binary load an archive and report, as a process of
// its own.
const loaderEnv = "MINICTR_TEST_LOAD"

func TestMain(m *testing.M) {
	if archive := os.Getenv(loaderEnv); archive != "" {
		os.Exit(loadAs(archive, os.Getenv(loaderEnv+"_ROOT")))
	}
	os.Exit(m.Run())
}

func loadAs(archive, root string) int {
	s, err := Open(root)
	if err == nil {
		_, err = s.Load(context.Background(), archive, Options{})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// loader returns a process that loads the archive; before is what runs it.
func loader(t *testing.T, archive, root string, before ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := append(before, self)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), loaderEnv+"="+archive, loaderEnv+"_ROOT="+root)
	return cmd
}

// bigArchive has an image of some files in several layers.
func bigArchive(t *testing.T) string {
	t.Helper()
	var layers [][]byte
	for i := range 6 {
		var entries []tar.Header
		for j := range 50 {
			entries = append(entries, file(fmt.Sprintf("d%d/f%d", i, j), strings.Repeat("x", 1000+i)))
		}
		layers = append(layers, tarOf(t, entries...))
	}
	l := newLayout(t)
	name := filepath.Join(t.TempDir(), "big.tar")
	if err := os.WriteFile(name, l.add(l.image(host(), layers...), "big").tar(""), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestConcurrentLoads(t *testing.T) {
	needRoot(t)
	archive, root := bigArchive(t), filepath.Join(t.TempDir(), "store")
	var loaders []*exec.Cmd
	var outputs [4]bytes.Buffer
	for i := range outputs {
		cmd := loader(t, archive, root)
		cmd.Stderr = &outputs[i]
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		loaders = append(loaders, cmd)
	}
	for i, cmd := range loaders {
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, &outputs[i])
		}
	}
	s, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	images, err := s.List()
	if err != nil || len(images) != 1 {
		t.Errorf("got %v, %v", images, err)
	}
	if err := s.Remove("big"); err != nil {
		t.Error(err)
	}
	wantEmpty(t, s)
}

// TestKilledLoads kills loads at many moments. The store stays whole, and the
// next operation leaves nothing of them.
func TestKilledLoads(t *testing.T) {
	needRoot(t)
	archive, root := bigArchive(t), filepath.Join(t.TempDir(), "store")
	started := time.Now()
	if err := loader(t, archive, root).Run(); err != nil {
		t.Fatal(err)
	}
	whole := time.Since(started)
	s, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("big"); err != nil {
		t.Fatal(err)
	}
	const tries = 10
	for i := range tries {
		cmd := loader(t, archive, root)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(whole * time.Duration(i) / tries)
		if err := errors.Join(cmd.Process.Kill(), ignoreExit(cmd.Wait())); err != nil {
			t.Fatal(err)
		}
		images, err := s.List()
		if err != nil {
			t.Fatalf("after try %d: %v", i, err)
		}
		for _, img := range images {
			if content, err := img.ReadFile("d5/f49"); err != nil || len(content) != 1005 {
				t.Fatalf("after try %d: got %d bytes, %v", i, len(content), err)
			}
			if err := s.Remove("big"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := loader(t, archive, root).Run(); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("big"); err != nil {
		t.Fatal(err)
	}
	wantEmpty(t, s)
}

func ignoreExit(err error) error {
	if _, isExit := errors.AsType[*exec.ExitError](err); isExit {
		return nil
	}
	return err
}

// TestSweep leaves what a killed operation may, while another is at work and
// while none is.
func TestSweep(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	img := load(t, s, "kept", tarOf(t, file("f", "x")))
	hex := strings.Repeat("0", 64)
	junk := []string{"tmp/stage-1/layers/" + hex, "layers/" + hex + "/bin", "images/" + hex + "/l", "blobs/sha256/" + hex}
	for _, name := range junk {
		if err := os.MkdirAll(s.path(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	other, err := s.lock("lock", unix.LOCK_SH)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Tag("kept", "also"); err != nil {
		t.Fatal(err)
	}
	for _, name := range junk {
		if !exists(s.path(name)) {
			t.Errorf("%s was taken from an operation at work", name)
		}
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	load(t, s, "new", tarOf(t, file("g", "x")))
	for _, name := range junk {
		if exists(s.path(name)) {
			t.Errorf("%s is left", name)
		}
	}
	if content, err := img.ReadFile("f"); err != nil || string(content) != "x" {
		t.Errorf("got %q, %v", content, err)
	}
}

// TestDiskFull loads into a file system that is too small.
func TestDiskFull(t *testing.T) {
	needRoot(t)
	dir, archives := t.TempDir(), t.TempDir()
	var large []tar.Header
	for i := range 64 {
		large = append(large, file(fmt.Sprint(i), strings.Repeat(fmt.Sprint(i), 64<<10)))
	}
	for name, entries := range map[string][]tar.Header{"small": {file("f", "x")}, "large": large} {
		l := newLayout(t)
		if err := os.WriteFile(filepath.Join(archives, name), l.add(l.image(host(), tarOf(t, entries...)), name).tar(""), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	inMountNamespace(t, func() error {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=3m"); err != nil {
			return err
		}
		s, err := Open(dir)
		if err != nil {
			return err
		}
		// Other threads are not in this mount namespace; other processes are.
		if out, err := loader(t, filepath.Join(archives, "small"), dir).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		out, err := loader(t, filepath.Join(archives, "large"), dir).CombinedOutput()
		if err == nil || !strings.Contains(string(out), unix.ENOSPC.Error()) {
			t.Errorf("got %v: %s", err, out)
		}
		if images, err := s.List(); err != nil || len(images) != 1 || len(images[0].Names) != 1 || images[0].Names[0] != "docker.io/library/small:latest" {
			t.Errorf("got %v, %v", images, err)
		}
		if entries, err := os.ReadDir(s.path("tmp")); err != nil || len(entries) != 0 {
			t.Errorf("got %v, %v", entries, err)
		}
		return unix.Unmount(dir, 0)
	})
}

// TestCommitOrder reads from a trace what a power cut depends on: nothing has
// its place before it is on the disk, and index.json comes last.
func TestCommitOrder(t *testing.T) {
	needRoot(t)
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("needs Debian's package strace")
	}
	archive, dir := bigArchive(t), t.TempDir()
	root, trace := filepath.Join(dir, "store"), filepath.Join(dir, "trace")
	if _, err := Open(root); err != nil {
		t.Fatal(err)
	}
	cmd := loader(t, archive, root, "strace", "-f", "-y", "-e", "trace=syncfs,fsync,rename,renameat,renameat2", "-o", trace)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.SplitSeq(string(text), "\n") {
		step := commitStep(line, root)
		if step != "" && (len(got) == 0 || got[len(got)-1] != step) {
			got = append(got, step)
		}
	}
	want := "syncfs tmp; move blobs; move layers; move images; fsync blobs; fsync layers; fsync images; fsync tmp; move index.json; fsync root"
	if s := strings.Join(got, "; "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
}

var (
	syncCall   = regexp.MustCompile(`(syncfs|fsync)\(\d+<([^>]*)>`)
	renameCall = regexp.MustCompile(`rename\w*\(.*"([^"]*)"[^"]*$`)
)

// commitStep names a line of strace's by the part of the store it changes.
func commitStep(line, root string) string {
	part := func(path string) string {
		first, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(path, root), "/"), "/")
		if first == "" {
			return "root"
		}
		return first
	}
	if call := syncCall.FindStringSubmatch(line); call != nil {
		return call[1] + " " + part(call[2])
	}
	if call := renameCall.FindStringSubmatch(line); call != nil && part(call[1]) != "tmp" {
		return "move " + part(call[1])
	}
	return ""
}
