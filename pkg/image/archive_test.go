package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// dockerArchive writes what docker save does, with the manifest last and a
// layer that is a link to another.
func dockerArchive(t *testing.T, manifest string) []byte {
	t.Helper()
	lower, upper := tarOf(t, file("f", "lower"), file("g", "lower")), tarOf(t, file("f", "upper"))
	config := Config{Platform: host(), RootFS: RootFS{Type: "layers", DiffIDs: []Digest{digestBytes(lower), digestBytes(upper)}}}
	again := Config{Platform: host(), RootFS: RootFS{Type: "layers", DiffIDs: []Digest{digestBytes(lower)}}}
	return tarOf(t,
		file("./one/layer.tar", string(lower)),
		file("./two/layer.tar", string(gzipOf(t, upper))),
		tar.Header{Name: "./three/layer.tar", Typeflag: tar.TypeSymlink, Linkname: "../one/layer.tar"},
		tar.Header{Name: "./four.tar", Typeflag: tar.TypeLink, Linkname: "./three/layer.tar"},
		tar.Header{Name: "./loop.tar", Typeflag: tar.TypeSymlink, Linkname: "loop.tar"},
		file("./config.json", string(jsonOf(t, config))),
		file("./again.json", string(jsonOf(t, again))),
		file("./manifest.json", manifest),
	)
}

func TestLoadDockerArchive(t *testing.T) {
	needRoot(t)
	const manifest = `[{"Config":"config.json","RepoTags":["a:1","b.example/c"],"Layers":["three/layer.tar","two/layer.tar"]},
		{"Config":"again.json","RepoTags":null,"Layers":["four.tar"]}]`
	archive := dockerArchive(t, manifest)
	compressed := map[string][]byte{"plain": archive, "gzip": gzipOf(t, archive), "zstd": zstdOf(t, archive)}
	half := len(archive) / 2
	compressed["gzip of two members"] = append(gzipOf(t, archive[:half]), gzipOf(t, archive[half:])...)
	compressed["zstd after a skippable frame"] = append([]byte("\x50\x2a\x4d\x18\x04\x00\x00\x00skip"), zstdOf(t, archive)...)
	for _, program := range []string{"xz", "bzip2"} {
		cmd := exec.Command(program, "-c")
		cmd.Stdin = bytes.NewReader(archive)
		out, err := cmd.Output()
		if errors.Is(err, exec.ErrNotFound) {
			t.Logf("without %s", program)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		compressed[program] = out
	}
	for name, content := range compressed {
		t.Run(name, func(t *testing.T) {
			s := openStore(t)
			images, err := s.LoadStream(t.Context(), bytes.NewReader(content), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if len(images) != 2 || strings.Join(images[0].Names, " ") != "docker.io/library/a:1 b.example/c:latest" || len(images[1].Names) != 0 {
				t.Fatalf("got %+v", images)
			}
			f, err := images[0].ReadFile("f")
			g, gErr := images[0].ReadFile("g")
			if string(f) != "upper" || string(g) != "lower" || errors.Join(err, gErr) != nil {
				t.Errorf("got %q, %v, %q, %v", f, err, g, gErr)
			}
			if types := images[0].Layers; types[0].MediaType != mediaTypeLayer || types[1].MediaType != mediaTypeLayer+"+gzip" {
				t.Errorf("got %+v", types)
			}
			if img, err := s.Get(images[1].ID.Short()); err != nil || img.ID != images[1].ID {
				t.Errorf("got %v, %v", img, err)
			}
		})
	}
}

func TestLoadArchiveRefuses(t *testing.T) {
	needRoot(t)
	tests := []struct {
		name    string
		archive []byte
		want    string
	}{
		{"empty", nil, "the archive is empty"},
		{"garbage", []byte(strings.Repeat("x", 2000)), "invalid tar header"},
		{"cut", dockerArchive(t, "[]")[:5000], "unexpected EOF"},
		{"root file system", tarOf(t, file("./", ""), file("./etc/passwd", "")), `but "./etc/passwd"`},
		{"null", dockerArchive(t, "null"), "manifest.json lists no image"},
		{"empty list", dockerArchive(t, "[]"), "manifest.json lists no image"},
		{"no list", dockerArchive(t, `{"Config":1}`), "manifest.json: /: can't be a JSON object"},
		{"no config", dockerArchive(t, `[{"Layers":["one/layer.tar"]}]`), `/0: /Config: the archive has no file ""`},
		{"no layer", dockerArchive(t, `[{"Config":"config.json","Layers":["one/layer.tar","../two"]}]`), `/Layers/1: the archive has no file "../two"`},
		{"layer in a loop", dockerArchive(t, `[{"Config":"config.json","Layers":["loop.tar"]}]`), `has no file "loop.tar"`},
		{"fewer layers", dockerArchive(t, `[{"Config":"config.json","Layers":["one/layer.tar"]}]`), "diff_ids has 2 entries, but the manifest has 1 layers"},
		{"other order", dockerArchive(t, `[{"Config":"config.json","Layers":["two/layer.tar","one/layer.tar"]}]`), "diffID is"},
		{"wrong name", dockerArchive(t, `[{"Config":"config.json","RepoTags":["A"],"Layers":[]}]`), "must be in lower case"},
		{"twice", tarOf(t, file("manifest.json", "[]"), file("./manifest.json", "[]")), "is there twice"},
		{"other layout", tarOf(t, file("oci-layout", `{"imageLayoutVersion":"2.0.0"}`), file("index.json", "{}")), `imageLayoutVersion is "2.0.0"`},
		{"index without images", tarOf(t, file("index.json", `{"schemaVersion":2,"manifests":[]}`)), "index.json lists no image"},
		{"cut gzip", gzipOf(t, dockerArchive(t, "[]"))[:300], "unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := openStore(t)
			_, err := s.LoadStream(t.Context(), bytes.NewReader(tt.archive), Options{})
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			wantEmpty(t, s)
		})
	}
	_, err := openStore(t).LoadStream(t.Context(), bytes.NewReader(tests[3].archive), Options{})
	if _, isNotImage := errors.AsType[*NotImageError](err); !isNotImage {
		t.Errorf("%v is no NotImageError", err)
	}
}

func TestLoadLayout(t *testing.T) {
	needRoot(t)
	l := newLayout(t)
	inner := l.put(mediaTypeIndex, jsonOf(t, index{SchemaVersion: 2, Manifests: l.twoPlatforms()}))
	outer := l.put(mediaTypeIndex, jsonOf(t, index{SchemaVersion: 2, Manifests: []Descriptor{inner}}))
	l.add(outer, "nested:1")
	for _, d := range l.twoPlatforms() {
		l.add(d, "direct:1")
	}
	silent := l.image(host(), tarOf(t, file("arch", "silent")))
	silent.Platform = nil
	l.add(silent, "")
	tagged := l.image(host(), tarOf(t, file("arch", "tagged")))
	tagged.Annotations = map[string]string{annotationRefName: "latest"}
	l.add(tagged, "")
	named := l.image(host(), tarOf(t, file("arch", "named")))
	named.Annotations = map[string]string{annotationRefName: "named:2"}
	l.add(named, "")
	l.list.Manifests[len(l.list.Manifests)-1] = named

	want := "docker.io/library/nested:1=ours docker.io/library/direct:1=ours =silent =tagged docker.io/library/named:2=named"
	check := func(s *Store, images []*Image, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, img := range images {
			content, err := img.ReadFile("arch")
			if err != nil {
				t.Error(err)
			}
			got = append(got, strings.Join(img.Names, ",")+"="+string(content))
		}
		// The first two are one image, which has both names.
		both := "docker.io/library/nested:1,docker.io/library/direct:1=ours"
		if g := strings.Join(got, " "); g != strings.Replace(want, "docker.io/library/nested:1=ours docker.io/library/direct:1=ours", both+" "+both, 1) {
			t.Errorf("got  %s\nwant %s", g, want)
		}
		if list, err := s.List(); err != nil || len(list) != 4 {
			t.Errorf("got %d images, %v", len(list), err)
		}
	}
	s := openStore(t)
	images, err := s.Load(t.Context(), l.write(), Options{})
	check(s, images, err)
	for _, prefix := range []string{"", "./", "/"} {
		s := openStore(t)
		images, err := s.LoadStream(t.Context(), bytes.NewReader(l.tar(prefix)), Options{})
		check(s, images, err)
	}
}

func TestLoadDirectoryRefuses(t *testing.T) {
	s := openStore(t)
	dir := t.TempDir()
	if _, err := s.Load(t.Context(), dir, Options{}); err == nil || !strings.Contains(err.Error(), "no OCI image layout") {
		t.Errorf("got %v", err)
	}
	if _, err := s.Load(t.Context(), filepath.Join(dir, "none"), Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func FuzzParseManifest(f *testing.F) {
	l := newLayout(f)
	f.Add(l.blobs[l.image(host(), tarOf(f, file("f", ""))).Digest], mediaTypeManifest)
	f.Add(jsonOf(f, index{SchemaVersion: 2, Manifests: l.twoPlatforms()}), mediaTypeIndex)
	f.Add([]byte(`{"schemaVersion":2,"config":{},"manifests":null}`), "")
	f.Fuzz(func(t *testing.T, text []byte, declared string) {
		m, x, err := parseManifest(text, declared)
		if err != nil {
			return
		}
		if (m == nil) == (x == nil) {
			t.Fatal("neither a manifest nor an index, or both")
		}
		if m != nil {
			_, _ = parseConfig(text, len(m.Layers)) // must not panic
			return
		}
		_, _ = choose(x.Manifests, host())
		for _, group := range groupByName(x.Manifests) {
			_, _ = namesOf(group[0])
		}
	})
}
