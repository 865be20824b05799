package cgroup

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/plan"
)

var update = flag.Bool("update", false, "write the plans in testdata anew")

// Each file of testdata is one text: for some resources, the plan or the
// error on each kind of host that is named there.
func TestPlans(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { golden(t, file) })
	}
}

func golden(t *testing.T, file string) {
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r specs.LinuxResources
	d := json.NewDecoder(bytes.NewReader(a.Files[0].Data))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		t.Fatal(err)
	}
	for i, f := range a.Files[1:] {
		h, ok := hosts[f.Name]
		if !ok {
			t.Fatalf("no host %q", f.Name)
		}
		got := compile(t, h.layout(), &r)
		if file != "testdata/nothing.txtar" {
			got = added(got, compile(t, h.layout(), nil))
		}
		if want := string(f.Data); got != want && !*update {
			t.Errorf("%s:\n%s\nwant:\n%s", f.Name, got, want)
		}
		a.Files[i+1].Data = []byte(got)
	}
	if *update {
		createFile(t, file, string(txtar.Format(a)))
	}
}

// added is what the plan has and the plan without any limit has not.
func added(plan, without string) string {
	var out strings.Builder
	for line := range strings.Lines(plan) {
		if !strings.Contains(without, line) {
			out.WriteString(line)
		}
	}
	return out.String()
}

// compile returns the plan for a container's cgroup as text, or the error.
func compile(t *testing.T, l Layout, r *specs.LinuxResources) string {
	t.Helper()
	g, err := l.Group("/minictr/x")
	if err != nil {
		t.Fatal(err)
	}
	b := plan.New()
	if err := g.Create(b, r); err != nil {
		return "error: " + err.Error() + "\n"
	}
	g.Enter(b)
	var out strings.Builder
	for _, s := range b.Plan().Sections {
		fmt.Fprintf(&out, "[%s] %s\n", s.Where, s.Title)
		for _, step := range s.Steps {
			if step.Why == "" || step.Spec == "" || (step.Act == nil) != (s.Where == plan.Child) {
				t.Errorf("%s: incomplete step %+v", step.Call, step)
			}
			fmt.Fprintf(&out, "%s\n    # %s: %s\n", step.Call, step.Spec, step.Why)
		}
	}
	return out.String()
}
