package vm

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// list parses an archive, without cpio's help.
func list(t *testing.T, data []byte) map[string]string {
	t.Helper()
	files := make(map[string]string)
	contents := make(map[uint64]string) // of files with several names
	for {
		var f [13]uint64
		if len(data) < 110 || string(data[:6]) != "070701" {
			t.Fatalf("no header: %.20q", data)
		}
		for i := range f {
			if _, err := fmt.Sscanf(string(data[6+8*i:14+8*i]), "%x", &f[i]); err != nil {
				t.Fatal(err)
			}
		}
		inode, mode, size, length := f[0], f[1], int(f[6]), int(f[11])
		name := string(data[110 : 110+length-1])
		data = data[(110+length+3)&^3:]
		if name == "TRAILER!!!" {
			return files
		}
		content := string(data[:size])
		data = data[(size+3)&^3:]
		if f[4] > 1 && mode&unix.S_IFMT == unix.S_IFREG {
			if size > 0 {
				contents[inode] = content
			}
			content = contents[inode]
		}
		if _, there := files[name]; there {
			t.Errorf("%s is in the archive twice", name)
		}
		files[name] = fmt.Sprintf("%o %s", mode, content)
	}
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestLayers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: whiteouts are device nodes")
	}
	top, middle, bottom := t.TempDir(), t.TempDir(), t.TempDir()
	write(t, bottom, "etc/passwd", "bottom")
	write(t, bottom, "etc/group", "bottom")
	write(t, bottom, "gone/file", "bottom")
	write(t, bottom, "new/hidden", "bottom")
	write(t, bottom, "was-dir/file", "bottom")
	write(t, bottom, "back/lower", "bottom")
	write(t, middle, "etc/passwd", "middle")
	write(t, middle, "new/shown", "middle")
	write(t, middle, "was-dir", "middle")
	write(t, middle, "twin", "twins")
	write(t, top, "back/upper", "top")
	for _, err := range []error{
		unix.Mknod(middle+"/gone", unix.S_IFCHR, 0),
		unix.Mknod(middle+"/back", unix.S_IFCHR, 0),
		unix.Lsetxattr(middle+"/new", "trusted.overlay.opaque", []byte("y"), 0),
		os.Link(middle+"/twin", middle+"/twin2"),
		os.Symlink("passwd", middle+"/etc/link"),
		unix.Mknod(middle+"/null", unix.S_IFCHR|0o644, int(unix.Mkdev(1, 3))),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	a := newArchive(&b)
	if err := a.layers("root", []string{top, middle, bottom}); err != nil {
		t.Fatal(err)
	}
	if err := a.copy("root/brought/here", top); err != nil {
		t.Fatal(err)
	}
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
	got := list(t, b.Bytes())
	want := map[string]string{
		"root": "40755 ", "root/etc": "40755 ", "root/etc/passwd": "100644 middle", "root/etc/group": "100644 bottom",
		"root/etc/link": "120777 passwd", "root/new": "40755 ", "root/new/shown": "100644 middle", "root/was-dir": "100644 middle",
		"root/twin": "100644 twins", "root/twin2": "100644 twins", "root/null": "20644 ",
		"root/back": "40755 ", "root/back/upper": "100644 top",
		"root/brought": "40755 ", "root/brought/here": "40755 ", "root/brought/here/back": "40755 ", "root/brought/here/back/upper": "100644 top",
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s is %q, want %q", name, got[name], want[name])
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("also in it: %q", got)
	}
	sameAsOverlay(t, want, top, middle, bottom)
}

// sameAsOverlay checks that the list is what overlayfs itself shows.
func sameAsOverlay(t *testing.T, want map[string]string, layers ...string) {
	t.Helper()
	script := `mount -t overlay -o lowerdir="$1" overlay "$2" && cd "$2" && find . -mindepth 1`
	out, err := exec.Command("unshare", "--mount", "sh", "-c", script, "sh", strings.Join(layers, ":"), t.TempDir()).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	shown := strings.Fields(string(out))
	for _, name := range shown {
		if _, ok := want[filepath.Join("root", name)]; !ok {
			t.Errorf("overlayfs shows %s", name)
		}
	}
	n := 0
	for name := range want {
		if strings.HasPrefix(name, "root/") && !strings.HasPrefix(name, "root/brought") {
			n++
		}
	}
	if len(shown) != n {
		t.Errorf("overlayfs shows %d files, not %d", len(shown), n)
	}
}

// TestFileTwice is that of two files for one place the later is there.
func TestFileTwice(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a", "first")
	write(t, dir, "b", "second")
	if err := os.Link(filepath.Join(dir, "b"), filepath.Join(dir, "c")); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	c := Config{Files: []File{{dir + "/b", "/x"}, {dir + "/a", "/x/"}, {dir + "/b", "/x"}}}
	if err := c.write(newArchive(&b)); err != nil {
		t.Fatal(err)
	}
	if got := list(t, b.Bytes())[newRoot+"/x"]; got != "100644 second" {
		t.Errorf("got %q", got)
	}
}

func TestCompareReleases(t *testing.T) {
	sorted := []string{"vmlinuz-5.15.0-9", "vmlinuz-6.1.0-9-cloud", "vmlinuz-6.1.0-56-cloud", "vmlinuz-6.12.3", "vmlinuz-6.12.10"}
	for i := range sorted[1:] {
		if compareReleases(sorted[i], sorted[i+1]) >= 0 || compareReleases(sorted[i+1], sorted[i]) <= 0 {
			t.Errorf("%s is not before %s", sorted[i], sorted[i+1])
		}
		if compareReleases(sorted[i], sorted[i]) != 0 {
			t.Errorf("%s is not itself", sorted[i])
		}
	}
}

func TestModules(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "kernel/fs/overlay-fs.ko", "ELF\x00depends=crc-lib,built_in\x00name=overlay")
	write(t, dir, "kernel/lib/crc_lib.ko", "ELF\x00depends=\x00")
	got, err := Kernel{Modules: dir}.modules([]string{"overlay_fs", "nowhere", "crc-lib"})
	if err != nil || len(got) != 2 || got[0].name != "crc_lib" || got[1].name != "overlay_fs" {
		t.Errorf("%v, %v", got, err)
	}
}
