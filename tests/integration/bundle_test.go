package integration_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/forkexec"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/seccomp"
	"github.com/minictr/minictr/pkg/spec"
	"github.com/minictr/minictr/tests/alone"
)

// newSpec is the default wall with the default filter, in a cgroup of that
// name, around a program.
func newSpec(name string, args ...string) *specs.Spec {
	s := spec.Default()
	s.Hostname = name
	s.Process.Args = args
	s.Linux.CgroupsPath = "/" + alone.Cgroup(name)
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

// copyOfProgram is what all roots have a link of. It is a copy because nothing
// in a container may lead to the host's program.
var copyOfProgram = sync.OnceValues(func() (string, error) {
	binary, err := os.ReadFile(program)
	name := filepath.Join(scratch, "copy")
	return name, errors.Join(err, os.WriteFile(name, binary, 0o755))
})

// newRoot makes a root file system with the commands of the built-in image,
// and two that are few system calls: done ends at once and pause never does.
func newRoot(t *testing.T, root string) {
	t.Helper()
	for _, dir := range []string{"bin", "dev", "etc", "proc", "root", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	copied, err := copyOfProgram()
	if err == nil {
		err = os.Link(copied, filepath.Join(root, "bin/tiny"))
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"bin/done": tinyProgram(t), "bin/pause": tinyProgram(t, stay)} {
		if err := os.WriteFile(filepath.Join(root, name), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"sh", "cat", "chmod", "echo", "env", "false", "grep", "hostname", "id", "ls", "mkdir", "ps", "pwd", "readlink", "sleep", "stat", "true", "uname", "wc", "mv", "ln", "rm", "tty"} {
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
	s.Linux.Sysctl = nil // of the default, it names groups that are nobody here
}
