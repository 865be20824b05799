package image

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"
)

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"os":"linux","architecture":"amd64","variant":"v2","rootfs":{"type":"layers","diff_ids":[]},"created":"2020-01-02T03:04:05Z"}`), 0)
	f.Add(fmt.Appendf(nil, `{"config":{"Env":["A=B"],"Volumes":{"/v":{}},"Labels":{"a":"b"}},"rootfs":{"type":"layers","diff_ids":["sha256:%064d"]},"history":[{"empty_layer":true}]}`, 7), 1)
	f.Add([]byte(`{"config":null,"rootfs":null,"history":null}`), 0)
	f.Fuzz(func(t *testing.T, text []byte, layers int) {
		before := allocated()
		c, err := parseConfig(text, layers)
		if grown := allocated() - before; grown > int64(100*len(text)+1<<20) {
			t.Errorf("%d bytes take %d of memory", len(text), grown)
		}
		if err != nil {
			return
		}
		if len(c.RootFS.DiffIDs) != layers {
			t.Errorf("%d layers instead of %d", len(c.RootFS.DiffIDs), layers)
		}
		// Written once, it stays as it is. What is empty may be left out then.
		again, err := parseConfig(jsonOf(t, c), layers)
		if err != nil {
			t.Fatal(err)
		}
		third, err := parseConfig(jsonOf(t, again), layers)
		if err != nil || !reflect.DeepEqual(again, third) || !reflect.DeepEqual(c.RootFS, again.RootFS) || !slices.Equal(c.Config.Env, again.Config.Env) {
			t.Errorf("%+v\nbecomes %+v\nand %+v, %v", c, again, third, err)
		}
	})
}

// allocated is how many bytes of memory were ever asked for.
func allocated() int64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

// mostMemory is what unpacking a few kilobytes may take: the largest window
// that a compressed archive may ask for, and all the rest.
var mostMemory = max(DefaultLimits.Window, maxDictionary) + 32<<20

// FuzzUnpack makes layers of raw bytes. Since few of them are a tar by chance,
// the checksums may be made right, and the whole be compressed.
func FuzzUnpack(f *testing.F) {
	if os.Getuid() != 0 {
		f.Skip("needs root")
	}
	pax := tar.Header{Name: "x/y", PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b", "path": "x/y", "mtime": "1.5"}, Format: tar.FormatPAX}
	plain := tarOf(f, file("a/b", "content"), tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../.."},
		tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "a/b"}, file("a/.wh.c", ""), pax, file(strings.Repeat("long/", 40), ""))
	for _, format := range sparseFormats {
		f.Add(uint8(0), sparseLayer(f, format))
		f.Add(uint8(1), sparseLayer(f, format))
	}
	for how := range uint8(5) {
		f.Add(how, plain)
		f.Add(uint8(0), compressed(f, how, plain))
	}
	f.Add(uint8(0), append(gzipOf(f, plain[:700]), gzipOf(f, plain[700:])...))
	f.Add(uint8(0), append([]byte("\x50\x2a\x4d\x18\x04\x00\x00\x00skip"), zstdOf(f, plain)...))
	f.Add(uint8(0), wideXz(f, plain, 39))
	f.Fuzz(func(t *testing.T, how uint8, raw []byte) {
		if len(raw) > 16<<10 {
			t.Skip("a bomb of so many bytes takes too long")
		}
		outside := t.TempDir()
		private := filepath.Join(outside, "a", "b")
		if err := os.MkdirAll(private, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(outside+"/file", []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		want := snapshot(t, outside)
		blob, before := bytes.NewReader(compressed(t, how, raw)), allocated()
		st := &stage{limits: DefaultLimits, budget: newBudget(DefaultLimits)}
		_, _ = st.unpackArchive(t.Context(), nil, blob, filepath.Join(private, "layer")) // most are wrong
		if grown := allocated() - before; grown > mostMemory {
			t.Errorf("%d bytes take %d of memory", blob.Size(), grown)
		}
		if err := os.RemoveAll(filepath.Join(private, "layer")); err != nil {
			t.Fatal(err)
		}
		got := snapshot(t, outside)
		got["a/b"] = want["a/b"] // its time
		diff(t, got, want)
	})
}

// compressed is raw as it is, with the checksums that a tar has, or that
// compressed.
func compressed(t testing.TB, how uint8, raw []byte) []byte {
	t.Helper()
	raw = bytes.Clone(raw)
	if how %= 5; how == 0 {
		return raw
	}
	for block := raw; len(block) >= 512; block = block[512:] {
		if string(block[257:262]) != "ustar" {
			continue
		}
		copy(block[148:156], "        ")
		sum := 0
		for _, b := range block[:512] {
			sum += int(b)
		}
		copy(block[148:], fmt.Sprintf("%06o\x00", sum))
	}
	switch how {
	case 2:
		return gzipOf(t, raw)
	case 3:
		return zstdOf(t, raw)
	case 4:
		var buf bytes.Buffer
		w, err := xz.NewWriter(&buf)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(raw); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
	return raw
}

// wideXz says that it needs a dictionary of that size: 39 is 3 GiB.
func wideXz(t testing.TB, plain []byte, size byte) []byte {
	t.Helper()
	packed := compressed(t, 4, plain)
	header := packed[12:] // of the first block: its size in words, flags, and the filter
	end := int(header[0]) * 4
	if header[1] != 0 || header[2] != 0x21 {
		t.Fatalf("another filter: %x", header[:end])
	}
	header[4] = size
	binary.LittleEndian.PutUint32(header[end:], crc32.ChecksumIEEE(header[:end]))
	return packed
}

// FuzzLoad makes archives of raw bytes. What is no image leaves the store as it
// was, and what is one is whole.
func FuzzLoad(f *testing.F) {
	if os.Getuid() != 0 {
		f.Skip("needs root")
	}
	l := newLayout(f)
	l.add(l.image(host(), tarOf(f, file("f", "x"))), "a:1")
	config := jsonOf(f, Config{Platform: host(), RootFS: RootFS{Type: "layers", DiffIDs: []Digest{digestBytes(tarOf(f))}}})
	docker := tarOf(f, file("c.json", string(config)), file("l/layer.tar", string(tarOf(f))), tar.Header{Name: "k", Typeflag: tar.TypeSymlink, Linkname: "./l/layer.tar"},
		file("manifest.json", `[{"Config":"c.json","RepoTags":["b:2"],"Layers":["k"]}]`))
	for how := range uint8(5) {
		f.Add(how, l.tar("./"))
		f.Add(how, docker)
		f.Add(uint8(0), compressed(f, how, docker))
	}
	f.Add(uint8(0), wideXz(f, docker, 39))
	f.Fuzz(func(t *testing.T, how uint8, raw []byte) {
		if len(raw) > 16<<10 {
			t.Skip("a bomb of so many bytes takes too long")
		}
		s := openStore(t)
		blob, before := bytes.NewReader(compressed(t, how, raw)), allocated()
		images, err := s.LoadStream(t.Context(), blob, Options{})
		if grown := allocated() - before; grown > mostMemory {
			t.Errorf("%d bytes take %d of memory", blob.Size(), grown)
		}
		if err != nil {
			wantEmpty(t, s)
			return
		}
		list, err := s.List()
		if err != nil || len(list) == 0 || len(images) == 0 {
			t.Errorf("loaded %v; the store has %v, %v", images, list, err)
		}
		for _, img := range list {
			if _, err := img.LayerDirs(); err != nil {
				t.Error(err)
			}
		}
	})
}
