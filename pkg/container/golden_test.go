package container_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/minictr/minictr/pkg/cgroup"
	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/lang"
	"github.com/minictr/minictr/pkg/namespace"
	"github.com/minictr/minictr/pkg/network"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/process"
	"github.com/minictr/minictr/pkg/spec"
)

var update = flag.Bool("update", false, "rewrite the golden plans")

// host is a machine that compiling is told of: the same plans come out
// wherever the tests run.
func host(kind string, s *specs.Spec) container.Host {
	h := container.Host{
		Host: namespace.Host{
			Relay:  true,
			Bundle: "/bundle", Rootfs: "/bundle/rootfs",
			Files: map[string]bool{"/srv/data": false, "/srv/hosts": true, "/bundle/relative": false},
		},
		Process: process.Host{LastCap: 40, Foreground: true},
	}
	if s.Process.User.UID != 0 {
		h.Process.OwnStdio = []int{1, 2}
	}
	var layout cgroup.Layout
	for name := range strings.FieldsSeq(map[string]string{
		"hybrid": "cpu,cpuacct cpuset memory devices freezer pids systemd unified", "v2": "unified", "systemd": "unified", "none": "",
	}[kind]) {
		one := cgroup.Hierarchy{Name: name, Mount: "/sys/fs/cgroup/" + name, Self: "/", Controllers: strings.Split(name, ",")}
		switch {
		case name == "systemd":
			one.Controllers = []string{"name=systemd"}
		case name == "unified" && kind != "hybrid":
			one.V2, one.Mount, one.Controllers = true, "/sys/fs/cgroup", []string{"cpuset", "cpu", "io", "memory", "hugetlb", "pids"}
		case name == "unified":
			one.V2, one.Controllers = true, nil
		}
		layout.Hierarchies = append(layout.Hierarchies, one)
	}
	g, err := layout.Group("/minictr/golden")
	if kind == "systemd" {
		g, err = layout.Scope("golden.slice:minictr:box", "box")
	}
	if err != nil {
		panic(err)
	}
	h.Cgroup = g
	for _, p := range g.Places {
		h.Cgroups = append(h.Cgroups, namespace.Cgroup{Name: p.Name, Source: p.Dir, V2: p.V2})
	}
	return h
}

// base is the default wall, as run has it for an image of two layers.
func base(t *testing.T) map[string]any {
	t.Helper()
	s := spec.Default()
	s.Hostname = "golden"
	s.Linux.CgroupsPath = "/minictr/golden"
	s.Process.Args = []string{"/bin/sh", "-c", "true"}
	s.Mounts = append([]specs.Mount{{Destination: "/", Type: "overlay", Source: "overlay", Options: []string{"lowerdir=l/0:l/1", "upperdir=upper", "workdir=work"}}}, s.Mounts...)
	s.Linux.Seccomp = &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno,
		Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchAARCH64},
		Syscalls:      []specs.LinuxSyscall{{Names: []string{"read", "write", "exit_group", "execve"}, Action: specs.ActAllow}},
	}
	return document(t, s)
}

func document(t *testing.T, v any) (d map[string]any) {
	t.Helper()
	data, err := json.Marshal(v)
	if err == nil {
		err = decode(data, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// decode keeps numbers as they are written: 2⁶⁴-1 is no float64.
func decode(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return d.Decode(v)
}

// merge applies a JSON merge patch, RFC 7386.
func merge(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	out := make(map[string]any)
	if have, ok := target.(map[string]any); ok {
		maps.Copy(out, have)
	}
	for key, value := range p {
		if value == nil {
			delete(out, key)
		} else {
			out[key] = merge(out[key], value)
		}
	}
	return out
}

// joined is a container's attachment to a network, from a golden plan's file.
func joined(t *testing.T, data string) namespace.Network {
	t.Helper()
	if data == "" {
		return nil
	}
	a := new(network.Attachment)
	if err := decode([]byte(data), a); err != nil {
		t.Fatal(err)
	}
	return a
}

func compile(t *testing.T, kind string, config any, attachment namespace.Network) *plan.Plan {
	t.Helper()
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	s, err := spec.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	h := host(kind, s)
	h.Network = attachment
	p, err := container.Compile(s, h)
	if err != nil {
		t.Fatal(err)
	}
	again, err := container.Compile(s, h)
	if err != nil || text(t, again) != text(t, p) {
		t.Errorf("compiling twice gives two plans (%v)", err)
	}
	checkReasons(t, p, config)
	return p
}

func text(t *testing.T, p *plan.Plan) string {
	t.Helper()
	var b bytes.Buffer
	if err := p.Format(&b, plan.Reasons, lang.English); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// checkReasons wants of every step one sentence, and a place in config.json
// that is there.
func checkReasons(t *testing.T, p *plan.Plan, config any) {
	t.Helper()
	for _, s := range p.Sections {
		if _, ok := lang.Translate(s.Title); !ok {
			t.Errorf("%s: no Korean for %q", s.Brick, s.Title)
		}
	}
	for number := 1; number <= p.Len(); number++ {
		step := p.Step(number)
		if len(strings.Fields(step.Why)) < 2 {
			t.Errorf("step %d, %s: no reason: %q", number, step, step.Why)
		}
		if _, ok := lang.Translate(step.Why); !ok {
			t.Errorf("step %d, %s: no Korean for %q", number, step, step.Why)
		}
		if step.Spec == "" || !resolves(config, step.Spec) {
			t.Errorf("step %d, %s: %q is not in config.json", number, step, step.Spec)
		}
	}
}

// resolves follows a JSON pointer, RFC 6901.
func resolves(v any, pointer string) bool {
	for part := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		switch have := v.(type) {
		case map[string]any:
			var ok bool
			if v, ok = have[part]; !ok {
				return false
			}
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(have) {
				return false
			}
			v = have[i]
		default:
			return false
		}
	}
	return true
}

// Each file of testdata/plans is one change of the default config.json, as a
// merge patch, and how the plan changes with it. default.txt has no change,
// and the whole plan.
func TestPlans(t *testing.T) {
	files, err := filepath.Glob("testdata/plans/*.txt")
	if err != nil || len(files) < 25 {
		t.Fatalf("%d golden plans, %v", len(files), err)
	}
	original := base(t)
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			parts := map[string]string{"host": "hybrid\n", "config.json": "{}"}
			for _, f := range archive.Files {
				parts[f.Name] = string(f.Data)
			}
			var patch any
			if err := decode([]byte(parts["config.json"]), &patch); err != nil {
				t.Fatal(err)
			}
			p := compile(t, strings.TrimSpace(parts["host"]), merge(original, patch), joined(t, parts["network"]))
			got := text(t, p)
			if !reflect.DeepEqual(patch, map[string]any{}) || parts["network"] != "" || strings.TrimSpace(parts["host"]) != "hybrid" {
				var b bytes.Buffer
				if err := plan.Diff(&b, compile(t, "hybrid", original, nil), p, lang.English); err != nil {
					t.Fatal(err)
				}
				got = b.String()
			}
			if *update {
				rewrite(t, name, archive, got)
			} else if got != parts["plan"] {
				t.Errorf("the plan is another now; go test -update shows how\n%s", got)
			}
		})
	}
}

// The wall at a glance fits a screen of 80 columns and 24 lines, with the
// prompt and what the command says after it, and its last column is straight.
func TestBricksFitAScreen(t *testing.T) {
	for l, most := range map[lang.Language]int{lang.English: 20, lang.Korean: 20, lang.Both: 40} {
		var b bytes.Buffer
		if err := compile(t, "hybrid", base(t), nil).Format(&b, plan.Bricks, l); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(b.String()), "\n")
		if len(lines) > most {
			t.Errorf("%s: %d lines", l, len(lines))
		}
		rows := 0
		for _, line := range lines {
			if n := lang.Width(line); n > 80 {
				t.Errorf("%s: %d columns: %s", l, n, line)
			}
			title, unit, row := strings.Cut(line, " call")
			if !row || strings.Contains(unit, " ") || !strings.Contains(line, "child") {
				continue
			}
			rows++
			if n := lang.Width(title); n != 73 {
				t.Errorf("%s: the last column ends at %d: %s", l, n, line)
			}
		}
		if rows < 8 {
			t.Errorf("%s: %d rows of calls", l, rows)
		}
	}
}

func rewrite(t *testing.T, name string, archive *txtar.Archive, got string) {
	t.Helper()
	files := archive.Files[:0]
	for _, f := range archive.Files {
		if f.Name != "plan" {
			files = append(files, f)
		}
	}
	archive.Files = append(files, txtar.File{Name: "plan", Data: []byte(got)})
	if err := os.WriteFile(name, txtar.Format(archive), 0o600); err != nil {
		t.Fatal(err)
	}
}
