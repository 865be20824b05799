package image

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestOpenRefusesUnknownFormat(t *testing.T) {
	s := openStore(t)
	if err := os.WriteFile(s.path("version"), []byte("minictr image store 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(s.root)
	if err == nil || !strings.Contains(err.Error(), `format "minictr image store 1" is unknown`) {
		t.Errorf("got %v", err)
	}
	if content, _ := os.ReadFile(s.path("version")); string(content) != "minictr image store 1\n" {
		t.Errorf("the file version was changed to %q", content)
	}
}

func TestNames(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	shared := tarOf(t, file("shared", "x"))
	one := load(t, s, "example.com/one:1", shared, tarOf(t, file("one", "1")))
	two := load(t, s, "two", shared, tarOf(t, file("two", "2")))
	gets := func(name string, want *Image) {
		t.Helper()
		img, err := s.Get(name)
		if want == nil {
			if _, isNotFound := errors.AsType[*NotFoundError](err); !isNotFound {
				t.Errorf("%s: got %v, %v", name, img, err)
			}
			return
		}
		if err != nil || img.ID != want.ID {
			t.Errorf("%s: got %v, %v", name, img, err)
		}
	}
	gets("two", two)
	gets("docker.io/library/two:latest", two)
	gets("example.com/one", one) // the only tag
	gets("example.com/one:latest", nil)
	gets("one", nil)
	gets(one.ID.String(), one)
	gets(one.ID.Hex(), one)
	gets(one.ID.Short(), one)
	gets("example.com/one@"+one.Manifest.Digest.String(), one)
	gets("0123456789abcdef", nil)
	if _, err := s.Get("no/../name"); err == nil || !strings.Contains(err.Error(), "not part of a name") {
		t.Errorf("got %v", err)
	}
	if _, err := s.Get(""); err == nil {
		t.Error("found an image without a name")
	}

	if err := s.Tag("two", "example.com/one:2"); err != nil {
		t.Fatal(err)
	}
	gets("example.com/one:2", two)
	gets("example.com/one", nil) // has two tags now, and neither is latest
	if err := s.Tag("two", "example.com/one:1"); err != nil {
		t.Fatal(err)
	}
	gets("example.com/one:1", two)
	gets(one.ID.Short(), one) // nameless, but there
	if img, err := s.Get(one.ID.Hex()); err != nil || len(img.Names) != 0 {
		t.Errorf("got %v, %v", img, err)
	}
	if img, err := s.Get("two"); err != nil || !slices.Equal(img.Names, []string{"docker.io/library/two:latest", "example.com/one:2", "example.com/one:1"}) {
		t.Errorf("got %v, %v", img, err)
	}
	if err := s.Tag("two", "a@"+one.ID.String()); err == nil {
		t.Error("gave a name with a digest")
	}
}

func TestRemove(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	shared := tarOf(t, file("shared", "x"))
	only := tarOf(t, file("only", "1"))
	one := load(t, s, "one", shared, only)
	load(t, s, "two", shared, tarOf(t, file("two", "2")))
	if err := s.Tag("one", "uno"); err != nil {
		t.Fatal(err)
	}
	remove := func(name string) {
		t.Helper()
		if err := s.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	remove("one")
	if img, err := s.Get("uno"); err != nil || img.ID != one.ID {
		t.Fatalf("got %v, %v", img, err)
	}
	remove("uno")
	if exists(s.layerPath(digestBytes(only))) || exists(s.imagePath(one.ID)) || exists(s.blobPath(one.ID)) {
		t.Error("parts of the image are left")
	}
	if !exists(s.layerPath(digestBytes(shared))) {
		t.Error("the other image has lost a layer")
	}
	if _, err := s.Get(one.ID.Hex()); err == nil {
		t.Error("the image is still there")
	}
	two, err := s.Get("two")
	if err != nil {
		t.Fatal(err)
	}
	remove(two.ID.Short())
	wantEmpty(t, s)
	if err := s.Remove("two"); err == nil {
		t.Error("removed what is not there")
	}
}

// TestDamaged is that a damaged image is no obstacle for the others, can be
// removed by its name, and brought again.
func TestDamaged(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	bad := load(t, s, "bad", tarOf(t, file("bad", "1")))
	good := load(t, s, "good", tarOf(t, file("good", "2")))
	if err := os.Truncate(s.blobPath(bad.ID), 1); err != nil {
		t.Fatal(err)
	}
	images, err := s.List()
	var damaged *DamagedError
	if len(images) != 1 || images[0].ID != good.ID || !errors.As(err, &damaged) || damaged.Manifest != bad.Manifest.Digest {
		t.Errorf("got %v, %v", images, err)
	}
	load(t, s, "third", tarOf(t, file("third", "3")))
	if !exists(s.layerPath(bad.Config.RootFS.DiffIDs[0])) {
		t.Error("a damaged image has lost what may be all right")
	}
	if err := s.Remove("bad"); err != nil {
		t.Fatal(err)
	}
	if images, err := s.List(); len(images) != 2 || err != nil {
		t.Errorf("got %v, %v", images, err)
	}
	load(t, s, "bad", tarOf(t, file("bad", "1")))
	if img, err := s.Get("bad"); err != nil || img.ID != bad.ID {
		t.Errorf("got %v, %v", img, err)
	}
}

func TestImport(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	plain := tarOf(t, file("etc/hostname", "imported\n"))
	var config Config
	config.Config.Cmd = []string{"/bin/sh"}
	for _, content := range [][]byte{plain, gzipOf(t, plain)} {
		img, err := s.Import(t.Context(), bytes.NewReader(content), "debian", config, Options{})
		if err != nil {
			t.Fatal(err)
		}
		content, err := img.ReadFile("etc/hostname")
		if err != nil || string(content) != "imported\n" || img.Config.Config.Cmd[0] != "/bin/sh" || img.Config.Architecture != host().Architecture {
			t.Errorf("got %q, %v, %+v", content, err, img.Config)
		}
	}
	if _, err := s.Import(t.Context(), bytes.NewReader(plain), "Debian", config, Options{}); err == nil {
		t.Error("took a wrong name")
	}
}

// TestLowerFits checks that the most layers fit into mount(2)'s one page.
func TestLowerFits(t *testing.T) {
	needRoot(t)
	var layers [][]byte
	for i := range int(DefaultLimits.Layers) {
		layers = append(layers, tarOf(t, file("layer", fmt.Sprint(i))))
	}
	img := load(t, openStore(t), "", layers...)
	dir, lower, err := img.Lower()
	if err != nil || len(lower) != int(DefaultLimits.Layers) || len(strings.Join(lower, ":")) > 3000 {
		t.Errorf("%d layers take %d bytes", len(lower), len(strings.Join(lower, ":")))
	}
	if content, err := os.ReadFile(filepath.Join(dir, lower[0], "layer")); err != nil || string(content) != fmt.Sprint(int(DefaultLimits.Layers)-1) {
		t.Errorf("on top is %q, %v", content, err)
	}
}

// TestLowerOnce checks what overlayfs would refuse: a layer that is there
// twice, and no layer at all.
func TestLowerOnce(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	a, b := tarOf(t, file("f", "a")), tarOf(t, file("f", "b"))
	img := load(t, s, "", a, b, a)
	if dirs, err := img.LayerDirs(); err != nil || len(dirs) != 2 {
		t.Errorf("got %v, %v", dirs, err)
	}
	if content, err := img.ReadFile("f"); err != nil || string(content) != "a" {
		t.Errorf("got %q, %v", content, err)
	}
	empty := load(t, s, "")
	if dirs, err := empty.LayerDirs(); err != nil || len(dirs) != 1 {
		t.Errorf("got %v, %v", dirs, err)
	} else if _, err := os.Stat(dirs[0]); err != nil {
		t.Error(err)
	}
}
