// Package policy_test holds this repository to its own rules: which package
// may know which, how long the code may grow, and what a file may not hold.
package policy_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/minictr/minictr"

// policy is a statement of policy, not a description: which of our packages a
// package may import. It says what the layers of this program are. Whoever
// finds no line here may import nothing of ours; a new line needs a reason in
// ARCHITECTURE.md. Tests may import more.
var policy = []struct{ from, to string }{
	// The core: from config.json to a running process.
	{"pkg/sys", ""},
	{"pkg/lang", ""},
	{"pkg/format", "pkg/lang"},
	{"pkg/plan", "pkg/lang"},
	{"pkg/seccomp", ""},
	{"pkg/spec", "pkg/sys"},
	{"pkg/forkexec", "pkg/plan"},
	{"pkg/netlink", "pkg/sys"},
	{"pkg/namespace", "pkg/plan pkg/netlink pkg/sys"},
	{"pkg/cgroup", "pkg/plan pkg/sys"},
	{"pkg/process", "pkg/plan pkg/seccomp"},
	{"pkg/rootless", "pkg/plan pkg/forkexec pkg/namespace pkg/netlink pkg/sys"},
	{"pkg/container", "pkg/plan pkg/forkexec pkg/namespace pkg/process pkg/rootless pkg/seccomp pkg/cgroup pkg/spec pkg/sys"},

	// Who else makes cgroups.
	{"pkg/systemd", "pkg/cgroup pkg/container"},

	// What joins containers to each other and to the world.
	{"pkg/network", "pkg/plan pkg/namespace pkg/netlink pkg/sys"},

	// Images: they know nothing of containers, and meet them in a bundle.
	{"pkg/overlay", "pkg/sys"},
	{"pkg/image", "pkg/overlay pkg/sys"},
	{"pkg/registry", "pkg/image"},
	{"pkg/volume", "pkg/image pkg/sys"}, // an empty one begins with what an image has
	{"rootfs/applet", ""},
	{"rootfs/shell", "rootfs/applet"},
	{"rootfs", "pkg/plan pkg/forkexec rootfs/applet rootfs/shell"},

	// Another wall: a hypervisor, and a kernel behind it.
	{"pkg/vm", "pkg/overlay"},

	// The same program behind each wall, by this program's own commands.
	{"pkg/compare", "pkg/plan pkg/forkexec"},

	// Experiments, whose containers this program's own commands make.
	{"pkg/lesson", "pkg/lang pkg/sys"},

	// A plan that is carried out step by step.
	{"pkg/step", "pkg/lang pkg/plan pkg/forkexec"},

	// The wall around any process.
	{"pkg/wall", "pkg/lang pkg/plan pkg/cgroup pkg/seccomp pkg/sys"},

	// What containers wrote.
	{"pkg/logfile", "pkg/sys"},

	// The everyday commands, and what people type.
	{"pkg/engine", "pkg/lang pkg/format pkg/cgroup pkg/plan pkg/forkexec pkg/seccomp pkg/container pkg/namespace pkg/network pkg/image pkg/registry pkg/rootless pkg/spec pkg/sys pkg/vm rootfs pkg/overlay pkg/volume pkg/logfile"},
	{"cmd/minictr", "pkg/lang pkg/format pkg/lesson pkg/wall pkg/plan pkg/forkexec pkg/namespace pkg/seccomp pkg/cgroup pkg/container pkg/image pkg/registry pkg/rootless pkg/spec pkg/sys pkg/systemd pkg/vm pkg/compare pkg/step pkg/engine rootfs pkg/volume pkg/logfile pkg/network"},
}

// core names the packages that anything else may build upon.
var core = strings.Fields("pkg/plan pkg/forkexec pkg/netlink pkg/namespace pkg/process pkg/rootless pkg/seccomp pkg/cgroup pkg/container pkg/spec pkg/sys")

// only lists packages whose import needs a reason, and where there is one.
var only = []struct{ imported, by string }{
	{"unsafe", "pkg/forkexec"},   // the child may not allocate, and memory is laid out for the kernel
	{"net/http", "pkg/registry"}, // its protocol
	{"text/template", ""},        // it would keep every method of the program, and slow down its start
	// The shell that it embeds asks for an *exec.ExitError; QEMU; commands; scripts; ps(1).
	{"os/exec", "rootfs/shell pkg/vm pkg/compare pkg/lesson cmd/minictr"},
	{"C", ""}, // one static binary
	{"github.com/spf13/pflag", "cmd/minictr"}, // the command line is known to the command alone
}

// A pkg is what go list tells of a package.
type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
	CgoFiles   []string
}

// name is the path of the package in this repository.
func (p pkg) name() string { return strings.TrimPrefix(p.ImportPath, module+"/") }

func list(t *testing.T) (all []pkg) {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps,CgoFiles", "./...")
	cmd.Dir = top
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	for decoder := json.NewDecoder(out); ; {
		var p pkg
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(p.name(), "tests/") {
			all = append(all, p)
		}
	}
	if err := cmd.Wait(); err != nil || len(all) == 0 {
		t.Fatalf("go list: %d packages, %v", len(all), err)
	}
	return all
}

func TestDirections(t *testing.T) {
	for _, p := range list(t) {
		i := slices.IndexFunc(policy, func(l struct{ from, to string }) bool { return l.from == p.name() })
		if i < 0 {
			t.Errorf("%s stands in no line of the policy", p.name())
			continue
		}
		for _, imported := range p.Imports {
			name, ours := strings.CutPrefix(imported, module+"/")
			if ours && !slices.Contains(strings.Fields(policy[i].to), name) {
				t.Errorf("%s imports %s", p.name(), name)
			}
		}
	}
}

func TestReservedImports(t *testing.T) {
	for _, p := range list(t) {
		for _, o := range only {
			if slices.Contains(p.Imports, o.imported) && !slices.Contains(strings.Fields(o.by), p.name()) {
				t.Errorf("%s imports %s", p.name(), o.imported)
			}
			if o.imported != "unsafe" && slices.Contains(core, p.name()) && slices.Contains(p.Deps, o.imported) {
				t.Errorf("%s depends on %s", p.name(), o.imported)
			}
		}
		if len(p.CgoFiles) > 0 {
			t.Errorf("%s uses cgo: %v", p.name(), p.CgoFiles)
		}
		if strings.HasPrefix(p.name(), "pkg/") && strings.Count(p.name(), "/") > 1 {
			t.Errorf("%s lies below another package", p.name())
		}
	}
}
