package sys

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// removeWith removes a file while the process may have so few descriptors open.
func removeWith(t *testing.T, descriptors uint64, name string) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: descriptors, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	err := RemoveAll(name)
	if err := errors.Join(err, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(name); !errors.Is(err, unix.ENOENT) {
		t.Errorf("it is still there: %v", err)
	}
}

// TestRemoveDeep removes a tree that is deeper than a process may have open
// descriptors.
func TestRemoveDeep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	for range 3000 {
		if err == nil {
			err = unix.Mkdirat(at, "deep-1", 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
		next, e := unix.Openat(at, "deep-1", unix.O_PATH|unix.O_DIRECTORY, 0)
		err = errors.Join(e, unix.Close(at))
		at = next
	}
	if err := errors.Join(err, unix.Mknodat(at, "f", unix.S_IFREG, 0), unix.Close(at)); err != nil {
		t.Fatal(err)
	}
	removeWith(t, 256, dir)
}

// TestRemoveUnopened removes an empty directory that can't be opened.
func TestRemoveUnopened(t *testing.T) {
	removeWith(t, 0, t.TempDir())
}

// TestRemoveMount has a file system mounted in the directory: that stays as it is.
func TestRemoveMount(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir, other := t.TempDir(), t.TempDir()
	for _, name := range []string{filepath.Join(dir, "a/file"), filepath.Join(dir, "c/file"), filepath.Join(other, "file")} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	mount := filepath.Join(dir, "b")
	if err := errors.Join(os.Mkdir(mount, 0o700), unix.Mount(other, mount, "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	if err := RemoveAll(dir); !errors.Is(err, unix.EXDEV) {
		t.Errorf("got %v", err)
	}
	if err := unix.Unmount(mount, 0); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(dir + "/*")
	if _, e := os.Stat(filepath.Join(other, "file")); err != nil || e != nil || len(left) != 1 {
		t.Errorf("left are %q; %v, %v", left, err, e)
	}
}
