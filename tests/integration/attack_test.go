package integration_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/spec"
	"github.com/minictr/minictr/tests/alone"
)

// tree is all that is below a directory: names, types and the files' content.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var list strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fmt.Fprintln(&list, d.Type(), path)
		if d.Type().IsRegular() {
			content, err := os.ReadFile(path)
			fmt.Fprintf(&list, "%x\n", sha256.Sum256(content))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list.String()
}

// interpretedBy is an ELF program whose loader is another file, elf(5).
func interpretedBy(loader string) []byte {
	le := binary.LittleEndian
	file := make([]byte, 64+2*56)
	copy(file, "\x7fELF\x02\x01\x01")
	le.PutUint16(file[16:], 3)  // ET_DYN
	le.PutUint16(file[18:], 62) // EM_X86_64
	if hardware() == "aarch64" {
		le.PutUint16(file[18:], 183)
	}
	le.PutUint32(file[20:], 1)
	le.PutUint64(file[32:], 64) // program headers
	le.PutUint16(file[52:], 64)
	le.PutUint16(file[54:], 56)
	le.PutUint16(file[56:], 2)
	size := uint64(len(file) + len(loader) + 1)
	for i, v := range []uint64{3 | 4<<32, uint64(len(file)), 0, 0, size - uint64(len(file)), size - uint64(len(file)), 1} { // PT_INTERP
		le.PutUint64(file[64+8*i:], v)
	}
	for i, v := range []uint64{1 | 5<<32, 0, 0, 0, size, size, 0x1000} { // PT_LOAD
		le.PutUint64(file[120+8*i:], v)
	}
	return append(append(file, loader...), 0)
}

func hardware() string {
	var u unix.Utsname
	_ = unix.Uname(&u) // it can't fail with a good address
	return unix.ByteSliceToString(u.Machine[:])
}

// TestRuntimeBinary is CVE-2019-5736: programs that lead the kernel to the
// file of whoever executes them find the stub, and never the host's program.
func TestRuntimeBinary(t *testing.T) {
	h := newHost(t)
	before := tree(t, program)
	for _, c := range []struct {
		name    string
		content []byte
		file    string
	}{
		{"script", []byte("#!/proc/self/exe\n"), "evil"},
		{"script with an argument", []byte("#!/proc/self/exe run\n"), "evil"},
		{"script of a script", []byte("#!/bin/evil2\n"), "evil"},
		{"script of PID 1", []byte("#!/proc/1/exe\n"), "evil"},
		{"loader", interpretedBy("/proc/self/exe"), "evil"},
		{"link", nil, "evil"},
	} {
		for _, init := range [...]bool{false, true} {
			t.Run(fmt.Sprintf("%s, init %t", c.name, init), func(t *testing.T) {
				s := newSpec("evil", "evil")
				if init {
					spec.SetInit(s)
				}
				dir := newBundle(t, s, "evil")
				bin := filepath.Join(dir, "rootfs/bin")
				if err := os.WriteFile(bin+"/evil2", []byte("#!/proc/self/exe\n"), 0o755); err != nil {
					t.Fatal(err)
				}
				if c.content == nil {
					if err := os.Symlink("/proc/self/exe", bin+"/evil"); err != nil {
						t.Fatal(err)
					}
				} else if err := os.WriteFile(bin+"/evil", c.content, 0o755); err != nil {
					t.Fatal(err)
				}
				tr, _ := h.straceAny(t, "run", "--bundle", dir, "evil")
				_, pid := tr.born(t)
				own, calls := false, tr[pid]
				for _, child := range tr {
					if init && len(child) > 0 && child[0].text == "setsid()" {
						calls = child
					}
				}
				for _, call := range calls {
					own = own || strings.HasPrefix(call.text, "execve(") && call.errno == ""
					// What follows its first execve is the program's: the stub has three
					// kinds of calls, and the Go runtime begins with others.
					if own && (strings.HasPrefix(call.text, "arch_prctl(") || strings.HasPrefix(call.text, "mmap(") || strings.HasPrefix(call.text, "sched_")) {
						t.Fatalf("a program with a runtime runs inside: %s", call.text)
					}
				}
			})
		}
	}
	// A program that looks for a way out through every process that it sees.
	const attack = `for p in self 1 2 3 4 5 6 7 8 9; do { echo x > /proc/$p/exe; } 2>/dev/null; done
		for p in /proc/[0-9]*; do readlink $p/exe; done`
	said := h.inside(t, nil, attack)[attack]
	for line := range strings.Lines(said) {
		if file := strings.TrimSpace(line); file != "/bin/tiny" && !strings.HasPrefix(file, "status ") && !strings.HasSuffix(file, "no such file or directory") {
			t.Errorf("it sees the program %s", file)
		}
	}
	if after := tree(t, program); after != before {
		t.Errorf("the runtime's file has changed: %s\n%s", before, after)
	}
}

// TestLinksInRoot lays symbolic links where the wall mounts: what they lead to
// on the host is not touched, and each try ends in a container or one line.
func TestLinksInRoot(t *testing.T) {
	h := newHost(t)
	for _, at := range []string{"proc", "sys", "dev", "dev/pts", "dev/shm", "sys/fs/cgroup", "mnt", "mnt/sub", "work"} {
		for _, to := range []string{"OUTSIDE", "../../../../../../../../../../OUTSIDE", "/", "/proc/self/root/OUTSIDE", "/proc/1/cwd", "loop", "/nosuch"} {
			t.Run(at+" to "+to, func(t *testing.T) {
				outside := temp(t)
				s := newSpec("links", "/bin/done")
				s.Process.Cwd = "/work/deep"
				s.Mounts = append(
					s.Mounts, specs.Mount{Destination: "/mnt/sub/new", Type: "tmpfs", Source: "x"},
					specs.Mount{Destination: "/mnt/bind/../bind/file", Type: "bind", Source: "/etc/hostname", Options: []string{"bind"}},
				)
				dir := newBundle(t, s, "links")
				link := filepath.Join(dir, "rootfs", at)
				if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.RemoveAll(link); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(strings.ReplaceAll(to, "OUTSIDE", outside), link); err != nil {
					t.Fatal(err)
				}
				for _, name := range []string{"deep", "sub", "fs/cgroup"} {
					if err := os.MkdirAll(filepath.Join(outside, name), 0o755); err != nil {
						t.Fatal(err)
					}
				}
				before := tree(t, outside)
				refusedOrContained(t, h.minictr(t, "run", "--bundle", dir, "links"))
				if after := tree(t, outside); after != before {
					t.Errorf("outside has changed:\n%s\n%s", before, after)
				}
			})
		}
	}
}

// refusedOrContained is how an attack on the way in may end.
func refusedOrContained(t *testing.T, r result) {
	t.Helper()
	clear := strings.HasPrefix(r.stderr, "minictr: ") && strings.Contains(r.stderr, "step ") && strings.Count(r.stderr, "\n") == 1
	if r.status != 0 && (!r.refused() || !clear) {
		t.Errorf("neither a container nor a clear error: %v", r)
	}
}

// TestDestinations are mounts that ask for a place outside by name.
func TestDestinations(t *testing.T) {
	h := newHost(t)
	outside := temp(t)
	for _, destination := range []string{"/../.." + outside + "/x", "../../../../../.." + outside + "/x", "/mnt/../../../" + outside + "/x", outside + "/x"} {
		t.Run(destination, func(t *testing.T) {
			s := newSpec("dest", "ls", "-d", filepath.Join("/", outside, "x"))
			s.Mounts = append(s.Mounts, specs.Mount{Destination: destination, Type: "tmpfs", Source: "x"})
			if r := h.minictr(t, "run", "--bundle", newBundle(t, s, "dest"), "dest"); r.status != 0 {
				t.Errorf("it is a place inside as well: %v", r)
			}
		})
	}
	if list, err := os.ReadDir(outside); err != nil || len(list) != 0 {
		t.Errorf("made outside: %v %v", list, err)
	}
}

// TestWorkingDirectory is CVE-2024-21626: the working directory is not reached
// through a descriptor of the runtime.
func TestWorkingDirectory(t *testing.T) {
	h := newHost(t)
	var places []string
	for fd := range 32 {
		places = append(places, fmt.Sprintf("/proc/self/fd/%d", fd), fmt.Sprintf("/proc/self/fd/%d/../../..", fd))
	}
	places = append(places, "/proc/1/cwd", "/proc/self/cwd", "/proc/self/root", "/proc/thread-self/root/..")
	dir := newBundle(t, nil, "cwd")
	for _, cwd := range places {
		s := newSpec("cwd", "ls")
		s.Process.Cwd = cwd
		_ = os.Remove(dir + "/config.json")
		writeSpec(t, dir, s)
		r := h.minictr(t, "run", "--bundle", dir, "cwd")
		refusedOrContained(t, r)
		if strings.Contains(r.stdout, "boot") || strings.Contains(r.stdout, "usr") || strings.Contains(r.stdout, "state.json") {
			t.Errorf("%s is the host's: %v", cwd, r)
		}
	}
	// A link of the image leads to where it would lead inside.
	if err := os.Symlink("../../../../tmp", dir+"/rootfs/link"); err != nil {
		t.Fatal(err)
	}
	s := newSpec("cwd", "pwd")
	s.Process.Cwd = "/link/new"
	_ = os.Remove(dir + "/config.json")
	writeSpec(t, dir, s)
	if out := h.must(t, "run", "--bundle", dir, "cwd"); out != "/tmp/new\n" {
		t.Errorf("%q", out)
	}
}

// TestRenamedDestination has a process exchange a directory of the root with a
// link to outside, again and again, while containers begin that mount, make
// directories and work there: CVE-2021-30465 and its kin.
func TestRenamedDestination(t *testing.T) {
	h := newHost(t)
	outside := temp(t)
	s := newSpec("race", "done")
	s.Process.Cwd = "/place/new/work"
	s.Mounts = append(
		s.Mounts, specs.Mount{Destination: "/place/a/b", Type: "tmpfs", Source: "x"},
		specs.Mount{Destination: "/place/c/file", Type: "bind", Source: "/etc/hostname", Options: []string{"bind"}},
	)
	s.Linux.Devices = []specs.LinuxDevice{{Path: "/place/d/null", Type: "c", Major: 1, Minor: 3}}
	dir := newBundle(t, s, "race")
	root := filepath.Join(dir, "rootfs")
	if err := os.Mkdir(root+"/place", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, root+"/link"); err != nil {
		t.Fatal(err)
	}
	before := machine(h)
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				stopped <- n
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, root+"/place", unix.AT_FDCWD, root+"/link", unix.RENAME_EXCHANGE)
				if n%17 == 0 { // others have to come to something, too
					time.Sleep(50 * time.Microsecond)
				}
			}
		}
	}()
	began := 0
	for range 300 {
		if err := h.runBundle("race", dir, nil); err == nil {
			began++
		} else if !strings.HasPrefix(err.Error(), "step ") {
			t.Error(err)
		}
	}
	close(stop)
	t.Logf("%d of 300 containers began, and %d times the names were exchanged", began, <-stopped)
	if list, err := os.ReadDir(outside); err != nil || len(list) != 0 {
		t.Errorf("made outside: %v %v", list, err)
	}
	before.compare(t, h, "after the race")
}

// TestNames are IDs and paths of cgroups that lead elsewhere.
func TestNames(t *testing.T) {
	h := newHost(t)
	dir := newBundle(t, newSpec("names", "done"), "names")
	for _, id := range []string{"..", "../victim", "a/b", "/etc", "", "a\nb", strings.Repeat("x", 200)} {
		if r := h.minictr(t, "run", "--bundle", dir, "--", id); r.status != statusFailed || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%q: %v", id, r)
		}
		if r := h.minictr(t, "rm", "-f", "--", id); r.status != statusFailed || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%q: %v", id, r)
		}
	}
	for _, path := range []string{"/../x", "/a/../../x", "..", "../x"} {
		s := newSpec("names", "done")
		s.Linux.CgroupsPath = path
		_ = os.Remove(dir + "/config.json")
		writeSpec(t, dir, s)
		if r := h.minictr(t, "run", "--bundle", dir, "names"); r.status != statusFailed || !strings.Contains(r.stderr, "/linux/cgroupsPath") {
			t.Errorf("%q: %v", path, r)
		}
	}
}

// TestHostNodes has the container's root change the mode of every device node
// and every masked file that it sees. Some of them are the host's own.
func TestHostNodes(t *testing.T) {
	h := newHost(t)
	before := alone.Nodes()
	t.Cleanup(func() { // whatever happens, the machine must go on
		for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
			_ = os.Chmod("/dev/"+name, 0o666)
		}
	})
	attack := "for f in /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /dev/console " +
		strings.Join(spec.Default().Linux.MaskedPaths, " ") + "; do chmod 0667 $f; done 2>/dev/null; true"
	h.must(t, "run", "tiny", "sh", "-c", attack)
	h.must(t, "run", "-t", "--without", "caps", "--without", "seccomp", "tiny", "sh", "-c", attack)
	s := newSpec("nodes", "sh", "-c", attack)
	userNamespace(s)
	h.must(t, "run", "--bundle", newBundle(t, s, "nodes"), "nodes")
	if after := alone.Nodes(); !slices.Equal(after, before) {
		t.Errorf("the host's nodes were\n%q\nand are\n%q", before, after)
	}
}
