package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// changeAll changes a mounted overlay in every way that a container can. The
// image is that of overlayLayers, and ordinaryLayer on top.
func changeAll(root string) error {
	at := func(name string) string { return filepath.Join(root, name) }
	huge, err := os.Create(at("sparse"))
	if err != nil {
		return err
	}
	_, err = huge.WriteAt([]byte("in the middle"), 50<<20)
	socket, e := net.Listen("unix", at("socket"))
	return errors.Join(
		err, huge.Truncate(100<<20), huge.Close(),
		e, socket.Close(),
		os.Remove(at("a/keep")),
		os.RemoveAll(at("opaque")), os.Mkdir(at("opaque"), 0o700), os.WriteFile(at("opaque/mine"), []byte("4"), 0o604),
		os.RemoveAll(at("redone")), os.WriteFile(at("redone"), nil, 0o644), // a file in the place of a directory
		os.Remove(at("tofile")), os.MkdirAll(at("tofile/deep/er"), 0o755), // and the other way round
		os.Remove(at("bin/soft")), os.Symlink("../a", at("bin/soft")),
		os.Chmod(at("tmp"), 0o1770|os.ModeSticky), os.Chmod(at("zeros"), 0o600),
		os.Lchown(at("old"), 4294967294, 17),
		os.WriteFile(at("etc/one"), []byte("one"), 0o4755), os.Chmod(at("etc/one"), 0o755|os.ModeSetuid), os.Link(at("etc/one"), at("etc/two")), os.Link(at("etc/one"), at("a/three")),
		unix.Mkfifo(at("fifo"), 0o640),
		unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))), unix.Mknod(at("disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(8, 1))),
		unix.Lsetxattr(at("etc/one"), "user.note", []byte("x\x00y"), 0), unix.Lsetxattr(at("etc/two"), "security.capability", []byte(capability), 0),
		unix.Lsetxattr(at("opaque"), "trusted.mine", []byte("of a directory"), 0),
		os.WriteFile(at("etc/\xff\n name"), []byte("odd"), 0o644),
		os.Chtimes(at("etc/one"), testTime, testTime), os.Chtimes(at("fifo"), testTime, time.Unix(-5, 7)),
	)
}

// TestCommit makes a layer of what the kernel's overlayfs has written, in every
// way there is. The image that has it on top is the same tree, entry by entry;
// and so is the archive of the merged directories.
func TestCommit(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	base := load(t, s, "base", append(overlayLayers(t), ordinaryLayer(t))...)
	dir, mounted := t.TempDir(), t.TempDir()
	for _, d := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	layers, err := base.LayerDirs()
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]string
	inMountNamespace(t, func() error {
		options := "lowerdir=" + strings.Join(layers, ":") + ",upperdir=" + dir + "/upper,workdir=" + dir + "/work"
		if err := errors.Join(unix.Chdir("/"), unix.Mount("overlay", mounted, "overlay", 0, options)); err != nil {
			return err
		}
		err := changeAll(mounted)
		want = snapshot(t, mounted)
		return errors.Join(err, unix.Unmount(mounted, 0))
	})
	delete(want, ".") // the root is the image's
	delete(want, "socket")
	if len(want) < 60 {
		t.Fatalf("only %d files", len(want))
	}

	var layer, again, whole bytes.Buffer
	if err := errors.Join(PackUpper(&layer, dir+"/upper", []string{}), PackUpper(&again, dir+"/upper", []string{}), Pack(&whole, append([]string{dir + "/upper"}, layers...), time.Time{})); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(layer.Bytes(), again.Bytes()) {
		t.Error("the same directory makes two archives")
	}
	config := base.Config.Made(testTime, History{CreatedBy: "a test", Author: "me"})
	img, err := s.Commit(t.Context(), base, &layer, "changed", config, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if h := img.Config.History; len(h) != 1 || h[0].CreatedBy != "a test" || img.Config.Author != "me" || len(img.Layers) != len(base.Layers)+1 {
		t.Errorf("got %+v", img.Config)
	}
	if last := img.Layers[len(img.Layers)-1]; last.MediaType != mediaTypeLayer+"+gzip" || last.Size > 300_000 { // 100 MB are a hole
		t.Errorf("got %+v", last)
	}
	inOverlay(t, img, mounted, func() {
		got := snapshot(t, mounted)
		delete(got, ".")
		diff(t, got, want)
	})
	flat, err := s.Import(t.Context(), &whole, "flat", Config{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if layers, err = flat.LayerDirs(); err != nil {
		t.Fatal(err)
	}
	got := snapshot(t, layers[0])
	delete(got, ".")
	diff(t, got, want)
}

func TestPackRefuses(t *testing.T) {
	needRoot(t)
	for what, make := range map[string]func(dir string) error{
		`"sub/.wh.name": in a layer this name says`: func(dir string) error {
			return errors.Join(os.Mkdir(dir+"/sub", 0o755), os.WriteFile(dir+"/sub/.wh.name", nil, 0o644))
		},
		"overlayfs keeps only a reference": func(dir string) error {
			return errors.Join(os.Mkdir(dir+"/moved", 0o755), unix.Lsetxattr(dir+"/moved", "trusted.overlay.redirect", []byte("/other"), 0))
		},
	} {
		dir := t.TempDir()
		if err := make(dir); err != nil {
			t.Fatal(err)
		}
		if err := PackUpper(io.Discard, dir, []string{}); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

// TestPackNewest checks that a tree is the same archive whenever it was made.
func TestPackNewest(t *testing.T) {
	var got [2]bytes.Buffer
	for i := range got {
		dir := t.TempDir()
		err := errors.Join(os.WriteFile(dir+"/b", nil, 0o644), os.WriteFile(dir+"/a", nil, 0o644), os.Chtimes(dir+"/a", time.Time{}, time.Now().Add(time.Duration(i)*time.Hour)))
		if err = errors.Join(err, Pack(&got[i], []string{dir}, testTime)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got[0].Bytes(), got[1].Bytes()) {
		t.Error("two archives")
	}
}

// TestReplace checks that what this package has no word for stays.
func TestReplace(t *testing.T) {
	old := `{"architecture":"amd64","os":"linux","os.version":"7","author":"old","container":"c","container_config":{"Cmd":["x"]},"moby":1,
		"config":{"Cmd":["old"],"User":"u","Healthcheck":{"Test":["CMD","true"]},"Shell":["/bin/bash"]},"rootfs":{"type":"layers","diff_ids":[]}}`
	var config Config
	if err := json.Unmarshal([]byte(old), &config); err != nil {
		t.Fatal(err)
	}
	config.Author, config.Config.Cmd, config.Config.User = "new", []string{"new"}, ""
	got, err := config.replace([]byte(old))
	want := `{"architecture":"amd64","author":"new","config":{"Cmd":["new"],"Healthcheck":{"Test":["CMD","true"]},"Shell":["/bin/bash"]},` +
		`"moby":1,"os":"linux","os.version":"7","rootfs":{"type":"layers","diff_ids":[]}}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
}

func TestChange(t *testing.T) {
	for _, c := range []struct{ old, changes, want string }{
		{`{}`, `CMD ["a", "b c"]`, `{"Cmd":["a","b c"]}`},
		{`{}`, `cmd echo "$A"`, `{"Cmd":["/bin/sh","-c","echo \"$A\""]}`},
		{`{"Cmd":["old"]}`, `ENTRYPOINT ["new"]`, `{"Entrypoint":["new"]}`},
		{`{"Cmd":["old"]}`, `CMD []|ENTRYPOINT ["x"]|CMD ["y"]`, `{"Entrypoint":["x"],"Cmd":["y"]}`},
		{`{"Cmd":["old"]}`, `CMD ["y"]|ENTRYPOINT ["x"]`, `{"Entrypoint":["x"],"Cmd":["y"]}`},
		{`{"Env":["A=1","AB=2"]}`, `ENV A=x\ y B="2 'q' \"3\"" C=`, `{"Env":["A=x y","AB=2","B=2 'q' \"3\"","C="]}`},
		{`{}`, "ENV\tA=1\n\tB=2|ENV\nC\t3 4", `{"Env":["A=1","B=2","C=3 4"]}`},
		{`{}`, `ENV A some words`, `{"Env":["A=some words"]}`},
		{`{}`, `EXPOSE 80 53/udp`, `{"ExposedPorts":{"53/udp":{},"80/tcp":{}}}`},
		{`{"Labels":{"a":"1"}}`, `LABEL a=2 b="x y"`, `{"Labels":{"a":"2","b":"x y"}}`},
		{`{}`, `VOLUME /a "/b c"|VOLUME ["/d"]`, `{"Volumes":{"/a":{},"/b c":{},"/d":{}}}`},
		{`{"WorkingDir":"/srv"}`, `WORKDIR www/`, `{"WorkingDir":"/srv/www"}`},
		{`{"WorkingDir":"/srv"}`, `WORKDIR /x`, `{"WorkingDir":"/x"}`},
		{`{"User":"a"}`, `USER b:c|STOPSIGNAL SIGINT`, `{"User":"b:c","StopSignal":"SIGINT"}`},
		{`{}`, `RUN make`, `change "RUN make": is none of CMD`},
		{`{}`, `CMD`, `is not INSTRUCTION VALUE`},
		{`{}`, `CMD ['a']`, `a list is written as`},
		{`{}`, `LABEL a="b`, `a quotation has no end`},
		{`{}`, `ENV A=1 B`, `"B" is not NAME=VALUE`},
	} {
		var config ContainerConfig
		if err := json.Unmarshal([]byte(c.old), &config); err != nil {
			t.Fatal(err)
		}
		err := config.Change(strings.Split(c.changes, "|")...)
		if got := string(jsonOf(t, config)); err == nil && got != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %s: got %s, %v\nwant %s", c.old, c.changes, got, err, c.want)
		}
	}
}

// TestChanges counts what each layer does to those below it.
func TestChanges(t *testing.T) {
	needRoot(t)
	img := load(t, openStore(t), "",
		tarOf(t, file("dir/a", "aaaa"), file("dir/b", "bb"), file("opaque/x", "xxx"), file("other", "o")),
		tarOf(t, file(".wh.dir", ""), file("opaque/.wh..wh..opq", ""), file("opaque/y", "y"), file("other", "oo")),
		tarOf(t, file("other/in", "it"), file(".wh.nothing", "")))
	changes, err := img.Changes()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []LayerChange{
		{Unpacked: 10, Adds: 6},
		{Unpacked: 3, Adds: 1, Replaces: 1, Removes: 4, Hides: 10},
		{Unpacked: 2, Adds: 1, Replaces: 1, Hides: 2},
	} {
		got := changes[i]
		if got.Blob.Digest != img.Layers[i].Digest {
			t.Errorf("layer %d: got the blob %s", i, got.Blob.Digest)
		}
		if got.Blob = (Descriptor{}); got.Unpacked != want.Unpacked || got.Adds != want.Adds || got.Replaces != want.Replaces || got.Removes != want.Removes || got.Hides != want.Hides {
			t.Errorf("layer %d: got %+v\nwant %+v", i, got, want)
		}
	}
}

// TestSave writes archives of an image of every compression, and loads them
// elsewhere.
func TestSave(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	l := newLayout(t)
	config := Config{Platform: host(), RootFS: RootFS{Type: "layers"}}
	m := manifest{SchemaVersion: 2, MediaType: mediaTypeManifest}
	for i, pack := range []func([]byte) []byte{func(b []byte) []byte { return b }, func(b []byte) []byte { return gzipOf(t, b) }, func(b []byte) []byte { return zstdOf(t, b) }} {
		plain := tarOf(t, file("f", strings.Repeat("x", i+1)))
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digestBytes(plain))
		m.Layers = append(m.Layers, l.put(mediaTypeLayer+[]string{"", "+gzip", "+zstd"}[i], pack(plain)))
	}
	m.Layers, config.RootFS.DiffIDs = append(m.Layers, m.Layers[0]), append(config.RootFS.DiffIDs, config.RootFS.DiffIDs[0]) // one twice
	images, err := s.LoadStream(t.Context(), bytes.NewReader(l.add(l.manifest(m, config), "a/image:1").tar("")), Options{})
	if err != nil {
		t.Fatal(err)
	}
	id := images[0].ID.String()
	if err := errors.Join(s.Tag("a/image:1", "a/image:2"), s.Tag("a/image:1", "other:1")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		format      Format
		asked, want string
	}{
		{FormatOCI, "a/image:1", "docker.io/a/image:1"},
		{FormatOCI, "other", "docker.io/library/other:1"},
		{FormatOCI, id, ""},
		{FormatDocker, "a/image:1", "docker.io/a/image:1"},
		{FormatDocker, "other a/image:1 other:1", "docker.io/a/image:1 docker.io/library/other:1"},
		{FormatDocker, id[:20], ""},
	} {
		var archive, again bytes.Buffer
		names := strings.Fields(c.asked)
		if err := errors.Join(s.Save(t.Context(), &archive, c.format, names...), s.Save(t.Context(), &again, c.format, names...)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(archive.Bytes(), again.Bytes()) {
			t.Errorf("%s %s: two archives", c.format, c.asked)
		}
		got, err := openStore(t).LoadStream(t.Context(), &archive, Options{})
		if err != nil {
			t.Fatalf("%s %s: %v", c.format, c.asked, err)
		}
		if len(got[0].Names) != len(strings.Fields(c.want)) || strings.Join(got[0].Names, " ") != c.want || got[0].ID.String() != id {
			t.Errorf("%s %s: got %s %q, want %s %q", c.format, c.asked, got[0].ID, got[0].Names, id, c.want)
		}
		if same := got[0].Manifest.Digest == images[0].Manifest.Digest; same != (c.format == FormatOCI) {
			t.Errorf("%s: the same manifest: %t", c.format, same)
		}
	}
	if err := s.Save(t.Context(), io.Discard, "tar", id); err == nil || !strings.Contains(err.Error(), "neither oci-archive nor docker-archive") {
		t.Errorf("got %v", err)
	}
	// A blob that is damaged is no part of an archive.
	blob := s.blobPath(images[0].Layers[1].Digest)
	content, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)-1] ^= 1
	if err := os.WriteFile(blob, content, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, format := range []Format{FormatOCI, FormatDocker} {
		if err := s.Save(t.Context(), io.Discard, format, id); err == nil {
			t.Errorf("%s: saved a damaged layer", format)
		}
	}
}

func TestPrune(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	shared := tarOf(t, file("shared", strings.Repeat("s", 100_000)))
	kept := load(t, s, "kept", shared, tarOf(t, file("kept", "k")))
	load(t, s, "gone", shared, tarOf(t, file("gone", strings.Repeat("g", 1<<20))))
	nameless := load(t, s, "", tarOf(t, file("x", "x")))
	removed, freed, err := s.Prune(func(img *Image) bool { return len(img.Names) > 0 })
	if err != nil || len(removed) != 1 || removed[0].ID != nameless.ID || freed <= 0 || freed > 64<<10 {
		t.Errorf("got %v, %d, %v", removed, freed, err)
	}
	removed, freed, err = s.Prune(func(img *Image) bool { return img.ID == kept.ID })
	if err != nil || len(removed) != 1 || freed < 1<<20 || freed > 1<<20+100_000 {
		t.Errorf("got %v, %d, %v", removed, freed, err)
	}
	if left, err := s.List(); err != nil || len(left) != 1 || !exists(s.layerPath(kept.Config.RootFS.DiffIDs[0])) {
		t.Errorf("got %v, %v", left, err)
	}
}
