package integration_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/forkexec"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/seccomp"
	"github.com/minictr/minictr/pkg/spec"
)

// newSpec is the default wall with the default filter, in a cgroup of that
// name, around a program.
func newSpec(name string, args ...string) *specs.Spec {
	s := spec.Default()
	s.Hostname = name
	s.Process.Args = args
	s.Linux.CgroupsPath = "/" + cgroupName(name)
	s.Linux.Seccomp = seccomp.Default(s.Process.Capabilities.Bounding, seccomp.Native())
	return s
}

// newBundle makes a bundle in a directory of that name, with the commands of
// the built-in image. A nil spec is written later.
func newBundle(t *testing.T, s *specs.Spec, name string) string {
	t.Helper()
	dir := filepath.Join(temp(t), name)
	newRoot(t, filepath.Join(dir, "rootfs"))
	if s != nil {
		writeSpec(t, dir, s)
	}
	return dir
}

func writeSpec(t *testing.T, dir string, s *specs.Spec) {
	t.Helper()
	if err := spec.Write(dir, s); err != nil {
		t.Fatal(err)
	}
}

// newRoot makes a root file system with the commands of the built-in image,
// and two that are few system calls: done ends at once and stay never does.
func newRoot(t *testing.T, root string) {
	t.Helper()
	for _, dir := range []string{"bin", "dev", "etc", "proc", "root", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// A copy: a program in a container must never lead to the host's.
	binary, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"bin/tiny": binary, "bin/done": tinyProgram(t), "bin/stay": tinyProgram(t, stay)}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(root, name), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"sh", "cat", "echo", "env", "false", "grep", "hostname", "id", "ls", "mkdir", "ps", "pwd", "readlink", "sleep", "stat", "true", "uname", "wc", "mv", "ln", "rm", "tty"} {
		if err := os.Symlink("tiny", filepath.Join(root, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
}

// stay waits for a signal that ends the process.
var stay = &plan.Step{Call: plan.Call{
	Name: "ppoll", Number: unix.SYS_PPOLL,
	Args: []plan.Arg{plan.Num{}, plan.Num{}, plan.Num{}, plan.Num{}, plan.Num{}},
}}

// tinyProgram is a static program of a few hundred bytes.
func tinyProgram(t *testing.T, steps ...*plan.Step) []byte {
	t.Helper()
	file, err := forkexec.Program(steps)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// userNamespace gives a container a user namespace in which root is nobody
// outside.
func userNamespace(s *specs.Spec) {
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	s.Linux.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
}
