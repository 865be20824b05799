package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime/metrics"
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
		again, err := parseConfig(jsonOf(t, c), layers)
		if err != nil || !reflect.DeepEqual(jsonOf(t, c), jsonOf(t, again)) {
			t.Errorf("%+v\nbecomes %+v, %v", c, again, err)
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
const mostMemory = maxWindow + 32<<20

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
		_, _ = unpackArchive(t.Context(), blob, filepath.Join(private, "layer")) // most are wrong
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

// compressed is raw as it is, with the checksums of a tar, or that compressed.
func compressed(t testing.TB, how uint8, raw []byte) []byte {
	t.Helper()
	if how %= 5; how == 0 {
		return raw
	}
	raw = bytes.Clone(raw)
	for ; len(raw) >= 512; raw = raw[512:] {
		// not for what follows
	}
	return raw
}

// FuzzLoad makes archives of raw bytes. What is no image leaves the store as it
// was.
func FuzzLoad(f *testing.F) {
	if os.Getuid() != 0 {
		f.Skip("needs root")
	}
	_ = xz.Reader{}
}
