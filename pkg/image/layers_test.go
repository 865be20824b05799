package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// slowSource gives a blob's beginning, and then nothing until its context ends.
type slowSource struct {
	countingSource
	slow Digest
	t    *testing.T
}

type slowBody struct {
	ctx    context.Context
	begin  io.Reader
	closed bool
	t      *testing.T
}

func (s *slowSource) Open(ctx context.Context, d Descriptor) (io.ReadCloser, error) {
	body, err := s.countingSource.Open(ctx, d)
	if d.Digest == s.slow {
		return &slowBody{ctx: ctx, begin: io.LimitReader(body, d.Size/2), t: s.t}, err
	}
	return body, err
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.closed {
		b.t.Error("it is read after it was closed")
	}
	if n, err := b.begin.Read(p); n > 0 || err == nil {
		return n, nil
	}
	<-b.ctx.Done()
	time.Sleep(time.Millisecond)
	return 0, b.ctx.Err()
}

func (b *slowBody) Close() error { b.closed = true; return nil }

// TestFailsEarly has a layer fail while its blob still arrives: nothing reads it
// any more when that is told, and nobody is told of its progress.
func TestFailsEarly(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	l := newLayout(t)
	random := make([]byte, 2<<20)
	for i, r := 0, rand.New(rand.NewPCG(1, 2)); i < len(random); i++ {
		random[i] = byte(r.Uint32())
	}
	d := l.image(host(), tarOf(t, file("a", "x"), file("../b", ""), file("c", string(random))))
	m, _, err := parseManifest(l.blobs[d.Digest], "")
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	for range 20 {
		returned := false
		src := &slowSource{countingSource{blobs: l.blobs}, m.Layers[0].Digest, t}
		opts := Options{Progress: func(Progress) {
			if returned {
				t.Error("progress is told of after the end")
			}
		}}
		_, err := s.Add(t.Context(), src, d.MediaType, l.blobs[d.Digest], Reference{Domain: "example.org", Path: "x"}, opts)
		returned = true
		if err == nil || !strings.Contains(err.Error(), "leaves the root") {
			t.Fatalf("got %v", err)
		}
	}
	if after := runtime.NumGoroutine(); after > before+1 {
		t.Errorf("%d goroutines, and %d before", after, before)
	}
}

// TestInherited unpacks below directories that give what is made in them more
// than the archive says: a group, or access control lists.
func TestInherited(t *testing.T) {
	needRoot(t)
	const acl = "\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x02\x00\x07\x00\xe8\x03\x00\x00\x04\x00\x05\x00\xff\xff\xff\xff\x10\x00\x07\x00\xff\xff\xff\xff\x20\x00\x05\x00\xff\xff\xff\xff"
	outer := t.TempDir()
	if err := unix.Setxattr(outer, aclDefault, []byte(acl), 0); err != nil {
		t.Skipf("this file system has no access control lists: %v", err)
	}
	layer := tarOf(t,
		tar.Header{Name: "./", Mode: 0o2755, Gid: 50},
		tar.Header{Name: "f", Gname: "x", Mode: 0o644}, tar.Header{Name: "d/", Mode: 0o755},
		tar.Header{Name: "acl/", Mode: 0o755, PAXRecords: map[string]string{paxXattr + aclDefault: acl}},
		tar.Header{Name: "acl/secret", Gname: "x", Mode: 0o660}, file("acl/new/f", ""),
		tar.Header{Name: "group/", Mode: 0o2755, Gid: 51}, file("group/new/f", ""))
	dir := filepath.Join(outer, "layer")
	if _, err := untar(t.Context(), bytes.NewReader(layer), dir, newBudget(DefaultLimits), DefaultLimits); err != nil {
		t.Fatal(err)
	}
	got := snapshot(t, dir)
	for name, want := range map[string]string{
		".":          "mode 42755 uid 0 gid 50 ",
		"f":          "mode 100644 uid 0 gid 0 ",
		"d":          "mode 40755 uid 0 gid 0 ",
		"acl/secret": "mode 100660 uid 0 gid 0 ",
		"acl/new":    "mode 40755 uid 0 gid 0 ",
		"group/new":  "mode 40755 uid 0 gid 0 ",
	} {
		if !strings.HasPrefix(got[name], want) || name != "." && strings.Contains(got[name], "posix_acl") {
			t.Errorf("%s: got %s, want %s", name, got[name], want)
		}
	}
}

// TestThroughLinks changes directories that are open under another name.
func TestThroughLinks(t *testing.T) {
	needRoot(t)
	link := func(name, target string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}
	}
	later := time.Unix(77, 0)
	s := openStore(t)
	img := load(t, s, "x",
		tarOf(t, tar.Header{Name: "r/private/", Mode: 0o700, Uid: 33, Gid: 33}),
		tarOf(t, tar.Header{Name: "d/sub/", Mode: 0o755}, link("l", "d/sub"), link("d/sub/up", ".."), file("l/up/sub/x", ""),
			tar.Header{Name: "l/up/sub/", Mode: 0o2755, Gid: 50, ModTime: later, Format: tar.FormatPAX}, tar.Header{Name: "l/f", Gname: "x", Mode: 0o644},
			tar.Header{Name: "r/", Mode: 0o755}, link("s", "r"), file("s/private/x", "")))
	mount := t.TempDir()
	inOverlay(t, img, mount, func() {
		got := snapshot(t, mount)
		for name, want := range map[string]string{
			"d/sub":     "mode 42755 uid 0 gid 50 mtime 77.",
			"d/sub/f":   "mode 100644 uid 0 gid 0 ",
			"r/private": "mode 40700 uid 33 gid 33 ",
		} {
			if !strings.HasPrefix(got[name], want) {
				t.Errorf("%s: got %s, want %s", name, got[name], want)
			}
		}
	})
}

// TestBytesOnce has a file that fits, and is counted once.
func TestBytesOnce(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	s.Limits = func() (Limits, error) { return Limits{Bytes: 100_000}, nil }
	load(t, s, "x", tarOf(t, file("f", strings.Repeat("x", 80_000))))
}

// TestArchiveNames has an archive of names that are too long to be kept.
func TestArchiveNames(t *testing.T) {
	s := openStore(t)
	long := tar.Header{Name: "x", Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("y", 1<<19), Format: tar.FormatPAX}
	_, err := s.LoadStream(t.Context(), bytes.NewReader(tarOf(t, long)), Options{})
	if _, found := errors.AsType[*LimitError](err); !found {
		t.Errorf("got %v", err)
	}
}

// TestUnpackRemoved unpacks an image that has just been removed.
func TestUnpackRemoved(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	img := load(t, s, "x", tarOf(t, file("f", "x")))
	lock, err := s.lock("lock", unix.LOCK_SH) // so that it is not swept
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Remove("x"), lock.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = img.Unpack(t.Context(), filepath.Join(t.TempDir(), "tree"), false)
	if _, found := errors.AsType[*NotFoundError](err); !found {
		t.Errorf("got %v", err)
	}
}

// TestMakeDirHere takes the place of a directory that is somebody's, as "." is,
// and nothing else that is not its own.
func TestMakeDirHere(t *testing.T) {
	dir := t.TempDir()
	here := filepath.Join(dir, "here")
	if err := os.Mkdir(here, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(here)
	if err := MakeDir(".", func(partial string) error { return os.WriteFile(partial+"/f", nil, 0o600) }); err != nil || !exists(here+"/f") {
		t.Errorf("got %v", err)
	}
	mine := filepath.Join(dir, ".other.minictr-partial")
	if err := os.WriteFile(mine, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := MakeDir(filepath.Join(dir, "other"), func(string) error { return nil }); err == nil || !exists(mine) {
		t.Errorf("got %v", err)
	}
}
