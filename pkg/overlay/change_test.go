package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

// TestChanges changes a tree through overlayfs, and lists what has changed.
func TestChanges(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	top := t.TempDir()
	at := func(name string) string { return filepath.Join(top, name) }
	var err error
	for _, dir := range []string{"low/a/b", "low/gone/x", "low/again/x", "low/same", "low/kind", "mid/a", "mid/again", "up", "work", "merged"} {
		err = errors.Join(err, os.MkdirAll(at(dir), 0o755))
	}
	for _, file := range []string{"low/a/b/file", "low/a/old", "low/gone/x/y", "low/again/x/y", "low/again/keep", "low/kind/in", "low/hidden", "mid/again/mid", "mid/own"} {
		err = errors.Join(err, os.WriteFile(at(file), []byte("text"), 0o644))
	}
	if err = errors.Join(err, unix.Mknod(at("mid/hidden"), unix.S_IFCHR, 0)); err != nil {
		t.Fatal(err)
	}
	err = sys.OnThread(func() error {
		if err := errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")); err != nil {
			return err
		}
		options := fmt.Sprintf("lowerdir=%s:%s,upperdir=%s,workdir=%s", at("mid"), at("low"), at("up"), at("work"))
		if err := unix.Mount("overlay", at("merged"), "overlay", 0, options); err != nil {
			return err
		}
		in := func(name string) string { return at("merged/" + name) }
		return errors.Join(
			os.WriteFile(in("new"), nil, 0o644), os.Remove(in("a/old")), os.WriteFile(in("a/b/file"), []byte("longer text"), 0o644),
			os.RemoveAll(in("gone")), os.RemoveAll(in("again")), os.MkdirAll(in("again/x"), 0o755), os.WriteFile(in("again/fresh"), nil, 0o644),
			os.Mkdir(in("tree"), 0o755), os.WriteFile(in("tree/leaf"), nil, 0o644), os.WriteFile(in("tree.d"), nil, 0o644),
			os.Chmod(in("same"), 0o755), os.RemoveAll(in("kind")), os.WriteFile(in("kind"), nil, 0o644),
			os.WriteFile(in("hidden"), nil, 0o644), os.WriteFile(in("passing"), nil, 0o644), os.Remove(in("passing")), os.Chmod(in("own"), 0o600),
			unix.Unmount(at("merged"), 0))
	})
	if err != nil {
		t.Fatal(err)
	}
	list, err := Changes(at("up"), []string{at("mid"), at("low")})
	want := "C /a, C /a/b, C /a/b/file, D /a/old, C /again, A /again/fresh, D /again/keep, D /again/mid, C /again/x, D /again/x/y, D /gone, A /hidden, C /kind, A /new, C /own, A /tree, A /tree.d, A /tree/leaf"
	var got []string
	for _, c := range list {
		got = append(got, c.String())
	}
	if err != nil || strings.Join(got, ", ") != want {
		t.Errorf("got  %s, %v\nwant %s", strings.Join(got, ", "), err, want)
	}
}
