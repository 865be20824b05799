package integration_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	// hostileDisk is the size of the file system that a store is on: what is
	// kept of what a registry sends is less, where limits say so.
	hostileDisk = 32 << 20
	// hostileMemory is what a pull may take: 24 MB for the collector to begin
	// with, and what a document of 4 MiB becomes. The worst take 38 MB in all.
	hostileMemory = 64 << 20
	// windows are those of zstd, each as large as the limit, in three layers at
	// once: the worst there is.
	windows = 3 * 128 << 20
)

// A villain is a registry that means to fill memory or the disk.
type villain struct {
	name, want string // and what the error has to say
	image      func(b blobs) (manifest map[string]any)
	answer     func(w http.ResponseWriter, r *http.Request) bool // true if it has
	limits     string                                            // of registries.json
	memory     int64                                             // besides hostileMemory
}

// TestHostileRegistry pulls from such registries, into a store on a small disk.
// Nothing is left there, and what is not stopped by the end of the disk has a
// limit of its own.
func TestHostileRegistry(t *testing.T) {
	_ = newHost(t)
	plain := archiveOf(t, []tar.Header{{Name: "f", Mode: 0o644, Gname: "content"}})
	var many []tar.Header
	for i := range 5000 {
		many = append(many, tar.Header{Name: fmt.Sprint(i), Mode: 0o644})
	}
	keys := ""
	for i := range 40 {
		keys += fmt.Sprintf(`"%9d":"",`, i)
	}
	index := func(entries string) func(blobs) map[string]any {
		return func(b blobs) map[string]any {
			return b.put("application/vnd.oci.image.index.v1+json", filled(`{"schemaVersion":2,"manifests":[`+entries+`{}]}`))
		}
	}
	manifest := func(config, layers string) func(blobs) map[string]any {
		return func(b blobs) map[string]any {
			return b.put(manifestType, filled(`{"schemaVersion":2,"config":{"mediaType":"`+configType+`",`+config+`},"layers":[`+layers+`]}`))
		}
	}
	image := func(config string, layers ...[]byte) func(blobs) map[string]any {
		return func(b blobs) map[string]any { return b.raw(t, config, layers...) }
	}
	for _, v := range []villain{
		{name: "endless manifest", want: "more than 4194304 bytes in a manifest", answer: on("/manifests/", "", "{")},
		{name: "endless error", want: "status 404", answer: func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(http.StatusNotFound)
			return endless(w, `{"errors":[`)
		}},
		{name: "endless token", want: "more than 65536 bytes in a token", answer: func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				return endless(w, "{")
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}},
		{name: "endless headers", want: "exceeded 65536 bytes", answer: on("/manifests/", "HTTP/1.1 200 OK\r\n", "X: x\r\n")},
		{name: "endless interim answers", want: "exceeded 65536 bytes", answer: on("/manifests/", "HTTP/1.1 103 Early Hints\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nX: x\r\n\r\n")},
		{name: "endless layer", want: "size is more, want", image: image("", plain), answer: on("/blobs/sha256:"+sum(plain), "", string(plain))},
		{name: "endless configuration", want: "size is more, want", image: image("", plain), answer: on("/blobs/", "", "{")},
		{name: "large by its own word", want: "size is 1000000000000000, want", image: image("", plain), answer: on("/blobs/", "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000\r\n\r\n", "x")},
		{name: "large layer", want: "more than 68719476736 bytes in an image's layers", image: manifest(
			`"size":1,"digest":"sha256:`+sum(plain)+`"`, `{"mediaType":"`+layerType+`","size":1000000000000000,"digest":"sha256:`+sum(plain)+`"}`)},
		{name: "index of too many", want: "more than 10000 elements", image: index(`«{"size":#},»`)},
		{name: "index of annotations", want: "has no digest", image: index(`«{"annotations":{` + keys + `"":""}},»`)},
		{name: "manifest of annotations", want: "has no digest", image: manifest(`"annotations":{«"#":"",»"":""}`, "")},
		{name: "manifest of URLs", want: "more than 500000 values", image: manifest(`"urls":[«"",»""]`, "")},
		{name: "configuration of ports", want: "rootfs/type", image: image(`{"config":{"ExposedPorts":{«"#":{},»"":{}}}}`)},
		{name: "configuration of words", want: "more than 500000 values", image: image(`{"config":{"Env":[«"",»""]}}`)},
		{name: "deep configuration", want: "exceeded max depth", image: image(`{"x":«[»`)},
		{name: "too many layers", want: "more than 500 layers", image: image("{}", make([][]byte, 501)...)},
		{name: "too many entries", want: "more than 1000 entries", image: image("", archiveOf(t, many)), limits: `"entries":1000`},
		{name: "gzip bomb", want: "more than 16777216 bytes in an image's files", image: image("", gzipBomb(t, 64<<20)), limits: `"bytes":16777216`},
		{name: "gzip bomb without a limit", want: "no space left on device", image: image("", gzipBomb(t, 64<<20))},
		{name: "zstd bombs", want: "more than 16777216 bytes in an image's layers", image: image("", zstdBomb(t, 0, 1<<30), zstdBomb(t, 512, 1<<30)), limits: `"bytes":16777216`, memory: windows},
		{name: "zstd bombs of holes", want: "diffID is", image: image("", zstdBomb(t, 129<<20, 129<<20), zstdBomb(t, 130<<20, 130<<20), zstdBomb(t, 131<<20, 131<<20)), memory: windows},
		{name: "zstd's window", want: "window size exceeded", image: image("", zstdBomb(t, 129<<20, 129<<20)), limits: `"window":8388608`},
	} {
		t.Run(v.name, v.pulled)
	}
}

// pulled has the program pull.
func (v villain) pulled(t *testing.T) {
	dir, b := temp(t), blobs{}
	h := host{root: dir + "/root", run: dir + "/run"}
	file := dir + "/minictr/registries.json"
	err := errors.Join(os.Mkdir(h.root, 0o700), os.Mkdir(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(`{"limits":{`+v.limits+`}}`), 0o600),
		unix.Mount("tmpfs", h.root, "tmpfs", 0, fmt.Sprintf("size=%d", hostileDisk)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(h.root, 0); err != nil {
			t.Error(err)
		}
	}()
	var top map[string]any
	if v.image != nil {
		top = v.image(b)
	}
	cmd := h.command("pull", b.serve(t, top, func(w http.ResponseWriter, r *http.Request) bool { return v.answer != nil && v.answer(w, r) }))
	cmd.Env = append(cmd.Env, "XDG_CONFIG_HOME="+dir)
	// The peak of a process begins with that of the memory that it leaves by
	// execve(2), which is ours: proc_pid_clear_refs(5) has it begin anew.
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
	r := finish(t, cmd)
	if r.status != statusFailed || !strings.Contains(r.stderr, v.want) {
		t.Errorf("want %q: %.1000v", v.want, r)
	}
	peak := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
	if peak > hostileMemory+v.memory {
		t.Errorf("it took %d MB of memory", peak>>20)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(h.root, &st); err != nil {
		t.Fatal(err)
	}
	disk := int64(st.Blocks-st.Bfree) * st.Bsize
	if disk > 64<<10 {
		t.Errorf("%d bytes are left on the disk", disk)
	}
	for _, name := range []string{"tmp", "layers", "images", "blobs/sha256"} {
		if left, err := os.ReadDir(filepath.Join(h.root, name)); err != nil && !errors.Is(err, fs.ErrNotExist) || len(left) > 0 {
			t.Errorf("%s: %v %v", name, left, err)
		}
	}
	t.Logf("%d MB of memory, %d kB of disk: %s", peak>>20, disk>>10, r.stderr)
}

// endless writes until nobody reads any more.
func endless(w io.Writer, text string) bool {
	text = strings.Repeat(text, 1000)
	for {
		if _, err := io.WriteString(w, text); err != nil {
			return true
		}
	}
}

// on answers what is asked for with a part of the path, without an end. It
// begins with the bytes of head in the place of HTTP's, if there are some.
func on(path, head, text string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, path) {
			return false
		}
		if head == "" {
			return endless(w, text)
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, head)
		return endless(conn, text)
	}
}

const (
	configType = "application/vnd.oci.image.config.v1+json"
	layerType  = "application/vnd.oci.image.layer.v1.tar"
)

func sum(content []byte) string { return fmt.Sprintf("%x", sha256.Sum256(content)) }

// raw adds an image of these layers, and of a configuration, or one that is right.
func (b blobs) raw(t *testing.T, config string, layers ...[]byte) map[string]any {
	var list, diffIDs []any
	for _, layer := range layers {
		list, diffIDs = append(list, b.put(layerType, layer)), append(diffIDs, "sha256:"+sum(layer))
	}
	if config == "" {
		config = string(marshal(t, map[string]any{"os": "linux", "architecture": runtime.GOARCH, "rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs}}))
	}
	return b.put(manifestType, marshal(t, map[string]any{"schemaVersion": 2, "config": b.put(configType, filled(config)), "layers": list}))
}

// filled repeats what is between « and » until a document is as long as it may
// be. A # becomes a number, another one each time.
func filled(text string) []byte {
	before, text, _ := strings.Cut(text, "«")
	again, after, _ := strings.Cut(text, "»")
	document := []byte(before)
	for i := 0; again != "" && len(document)+len(again)+len(after) < 4<<20-10; i++ {
		document = append(document, strings.Replace(again, "#", strconv.Itoa(i), 1)...)
	}
	return append(document, after...)
}

// headOf is that of a tar with one file of n bytes.
func headOf(t *testing.T, n int64) []byte {
	var head bytes.Buffer
	if err := tar.NewWriter(&head).WriteHeader(&tar.Header{Name: "f", Mode: 0o644, Size: n}); err != nil {
		t.Fatal(err)
	}
	return head.Bytes()
}

// gzipBomb is the tar of a file of n bytes.
func gzipBomb(t *testing.T, n int64) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, err := z.Write(headOf(t, n))
	for range n >> 20 {
		_, e := z.Write(bytes.Repeat([]byte("x"), 1<<20))
		err = errors.Join(err, e)
	}
	if err = errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// zstdBomb is the tar of a file, in a frame of n zero bytes more with the largest
// window that is allowed: 4 bytes for 128 kB of them (RFC 8878, section 3.1.1).
func zstdBomb(t *testing.T, size, n int64) []byte {
	const raw, repeat, last, most, log = 0 << 1, 1 << 1, 1, 128 << 10, 27
	block := func(size, kind uint32) []byte { return binary.LittleEndian.AppendUint32(nil, size<<3|kind)[:3] }
	blocks := bytes.Repeat(append(block(most, repeat), 0), int(n/most))
	return slices.Concat([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3}, block(512, raw), headOf(t, size), blocks, block(0, raw|last))
}
