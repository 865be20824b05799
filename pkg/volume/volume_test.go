package volume

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain has this program be what the tests start, when they ask for it.
func TestMain(m *testing.M) {
	if root := os.Getenv("VOLUME_TEST_ROOT"); root != "" {
		s := &Store{Root: root}
		switch os.Getenv("VOLUME_TEST_DO") {
		case "create":
			v, err := s.Create(Volume{Name: "same", Labels: map[string]string{"by": fmt.Sprint(os.Getpid())}})
			if err != nil {
				panic(err)
			}
			fmt.Println(v.Created.Format(time.RFC3339Nano), v.Labels)
		case "work":
			work(s, os.Getenv("VOLUME_TEST_LAYER"))
		}
		return
	}
	os.Exit(m.Run())
}

// work makes, fills and removes volumes until it is killed.
func work(s *Store, layer string) {
	for i := range 1_000_000 {
		name := fmt.Sprintf("v%d", i%3)
		if _, err := s.Create(Volume{Name: name}); err != nil {
			panic(err)
		}
		if err := s.Fill(context.Background(), name, []string{layer}, "/data"); err != nil {
			panic(err)
		}
		if i%4 == 0 {
			if err := s.Remove(name, nobody); err != nil && !errors.Is(err, ErrNotExist) {
				panic(err)
			}
		}
	}
}

func nobody() (map[string][]string, error) { return nil, nil }

// again is this program, to do something in another process.
func again(t *testing.T, s *Store, do, layer string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "VOLUME_TEST_ROOT="+s.Root, "VOLUME_TEST_DO="+do, "VOLUME_TEST_LAYER="+layer)
	return cmd
}

// TestCreateAtOnce has eight processes make the same volume: one of them does,
// and all agree.
func TestCreateAtOnce(t *testing.T) {
	s := &Store{Root: filepath.Join(t.TempDir(), "volumes")}
	answers := make(chan string)
	for range 8 {
		go func() {
			out, err := again(t, s, "create", "").CombinedOutput()
			answers <- fmt.Sprint(string(out), err)
		}()
	}
	first := <-answers
	for range 7 {
		if next := <-answers; next != first {
			t.Errorf("one got %s, and another %s", first, next)
		}
	}
	if list, err := s.List(); err != nil || len(list) != 1 || !strings.HasSuffix(first, "<nil>") {
		t.Errorf("%v, %v, %s", list, err, first)
	}
}

// TestKilled kills a process that makes, fills and removes volumes: each is whole
// or not there, what is half is gone with the next command, and the next Fill
// goes on.
func TestKilled(t *testing.T) {
	s := &Store{Root: filepath.Join(t.TempDir(), "volumes")}
	layer := makeLayer(t)
	want := tell(t, filepath.Join(layer, "data"))
	hidden, half := 0, 0
	for range 40 {
		cmd := again(t, s, "work", layer)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5*time.Millisecond + rand.N(25*time.Millisecond))
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		left, _ := filepath.Glob(s.Root + "/.*")
		full, _ := filepath.Glob(s.Root + "/*/*full*")
		hidden, half = hidden+len(left), half+len(full)
		for i := range 3 {
			name := fmt.Sprintf("v%d", i)
			if _, err := s.Create(Volume{Name: name}); err != nil {
				t.Fatal(err)
			}
			if err := s.Fill(t.Context(), name, []string{layer}, "/data"); err != nil {
				t.Fatal(err)
			}
			if got := tell(t, s.Path(name)); got != want {
				t.Fatalf("%s has\n%s\nwant\n%s", name, got, want)
			}
		}
		left, _ = filepath.Glob(s.Root + "/.*")
		list, err := s.List()
		if len(left) > 0 || len(list) != 3 || err != nil {
			t.Fatalf("left are %q, and there are %d volumes; %v", left, len(list), err)
		}
	}
	t.Logf("seen: %d volumes half made or removed, %d half filled", hidden, half)
}

// makeLayer makes a layer with a directory data.
func makeLayer(t *testing.T) string {
	t.Helper()
	layer := t.TempDir()
	at := func(name string) string { return filepath.Join(layer, name) }
	err := errors.Join(
		os.MkdirAll(at("data/dir"), 0o755), os.WriteFile(at("data/dir/file"), []byte("text"), 0o640),
		os.WriteFile(at("data/suid"), []byte("text"), 0o755), os.Link(at("data/suid"), at("data/dir/hard")),
		os.Symlink("/nowhere", at("data/link")), unix.Mkfifo(at("data/pipe"), 0o600), os.Symlink("/data", at("also")))
	if os.Getuid() == 0 {
		err = errors.Join(err, os.Lchown(at("data"), 7, 8), os.Lchown(at("data/dir/file"), 1000, 1001), os.Lchown(at("data/link"), 5, 5))
	}
	err = errors.Join(err, os.Chmod(at("data/suid"), 0o755|os.ModeSetuid), os.Chmod(at("data"), 0o750),
		os.Chtimes(at("data/dir/file"), time.Unix(1e9, 5), time.Unix(1e9, 6)), os.Chtimes(at("data/dir"), time.Unix(1e9, 0), time.Unix(2e9, 0)),
		os.Chtimes(at("data"), time.Unix(1e9, 0), time.Unix(1e9, 7)))
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

// tell tells all of a tree that a copy has to keep.
func tell(t *testing.T, dir string) string {
	t.Helper()
	var text strings.Builder
	err := filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		var stat unix.Stat_t
		if err = errors.Join(err, unix.Lstat(name, &stat)); err == nil {
			link, _ := os.Readlink(name)
			if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
				stat.Nlink, stat.Size = 0, 0 // the file system's
			}
			fmt.Fprintf(&text, "%s %o %d:%d %d %d %v %s\n", strings.TrimPrefix(name, dir), stat.Mode, stat.Uid, stat.Gid, stat.Nlink, stat.Size, stat.Mtim, link)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// TestFill fills volumes from layers, as far as those have something.
func TestFill(t *testing.T) {
	s := &Store{Root: filepath.Join(t.TempDir(), "volumes")}
	layer, empty := makeLayer(t), t.TempDir()
	want := tell(t, filepath.Join(layer, "data"))
	for i, c := range []struct {
		layers []string
		path   string
		filled bool
	}{
		{[]string{layer}, "/data", true},
		{[]string{empty, layer}, "data/", true},
		{[]string{layer}, "/also", true},
		{[]string{layer}, "/also/../data/dir/..", true},
		{[]string{layer}, "/none", false},
		{[]string{layer}, "/data/dir/file", false},
		{[]string{empty}, "/data", false},
	} {
		v, err := s.Create(Volume{})
		if err != nil || !v.Anonymous {
			t.Fatal(v, err)
		}
		if err := s.Fill(t.Context(), v.Name, c.layers, c.path); err != nil {
			t.Error(i, err)
		}
		got := tell(t, s.Path(v.Name))
		if filled := got == want; filled != c.filled || !filled && strings.Count(got, "\n") > 1 {
			t.Errorf("%d: %s has\n%s", i, c.path, got)
		}
	}
}

// TestFillKeeps has a volume keep what is in it.
func TestFillKeeps(t *testing.T) {
	s := &Store{Root: filepath.Join(t.TempDir(), "volumes")}
	if _, err := s.Create(Volume{Name: "v"}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Path("v"), "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before := tell(t, s.Path("v"))
	if err := s.Fill(t.Context(), "v", []string{makeLayer(t)}, "/data"); err != nil || tell(t, s.Path("v")) != before {
		t.Errorf("%v, %s", err, tell(t, s.Path("v")))
	}
}

// TestRemove keeps what is used.
func TestRemove(t *testing.T) {
	s := &Store{Root: filepath.Join(t.TempDir(), "volumes")}
	for _, name := range []string{"a", "b", "c"} {
		if _, err := s.Create(Volume{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	users := func() (map[string][]string, error) { return map[string][]string{"a": {"box", "other"}}, nil }
	if err := s.Remove("a", users); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "[box, other]") {
		t.Error(err)
	}
	if err := s.Remove("b", users); err != nil {
		t.Error(err)
	}
	if err := s.Remove("b", users); !errors.Is(err, ErrNotExist) {
		t.Error(err)
	}
	removed, _, err := s.Prune(users, func(*Volume) bool { return true })
	if list, e := s.List(); err != nil || e != nil || len(removed) != 1 || removed[0].Name != "c" || len(list) != 1 || list[0].Name != "a" {
		t.Errorf("removed %v, left %v; %v", removed, list, errors.Join(err, e))
	}
	for _, bad := range []string{"", ".", "..", ".a", "a/b", "-a", "ä", strings.Repeat("a", 201)} {
		if _, err := s.Get(bad); err == nil || errors.Is(err, ErrNotExist) {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := s.Create(Volume{Name: bad}); err == nil && bad != "" {
			t.Errorf("%q was made", bad)
		}
	}
}
