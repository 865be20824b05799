package alone

import (
	"os"
	"path/filepath"
	"testing"
)

// Delegate makes a cgroup of version 2 that a user may divide, and in it one
// for the processes that do: next to processes the kernel hands no controllers
// on. The caller takes both away.
func Delegate(t *testing.T, user int, name string) (dir, own string) {
	t.Helper()
	const top = "/sys/fs/cgroup"
	if err := os.WriteFile(filepath.Join(top, "cgroup.subtree_control"), []byte("+cpu +memory +pids"), 0); err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(top, name)
	own = filepath.Join(dir, "own")
	for _, d := range []string{dir, own} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{"", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"} {
			if err := os.Lchown(filepath.Join(d, file), user, user); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir, own
}
